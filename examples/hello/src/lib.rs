use souk_sdk::host::storage;
use souk_sdk::web::handler::Guest;
use souk_sdk::web::types::{Request, Response};

struct Hello;
impl Guest for Hello {
    fn handle(request: Request) -> Response {
        let n = storage::counter_add("visits", &request.path, 1, None).unwrap();
        Response { status: 200, headers: vec![], body: format!("Hello {n}").into_bytes(), cache: None, await_effects: false }
    }
}
souk_sdk::export!(Hello: web::handler);
