//! `GET /reader/{token}`: the number of an order. It can do no more to one.

use souk_sdk::commerce::orders;
use souk_sdk::web::{self, Request, Response};

struct Reader;

impl web::Guest for Reader {
    fn handle(request: Request) -> Response {
        match orders::by_token(request.param("token")) {
            Some(order) => web::json(&order.number),
            None => web::not_found(),
        }
    }
}

souk_sdk::export!(Reader: web::handler);
