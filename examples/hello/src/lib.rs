//! The smallest plugin: one route, one counter.

use maud::html;
use souk_sdk::storage::Counter;
use souk_sdk::web::{self, Problem, Request, Response};

const VISITS: Counter = Counter::new("visits");

struct Hello;

impl web::Guest for Hello {
    fn handle(request: Request) -> Response {
        web::call(hello, &request)
    }
}

fn hello(request: &Request) -> Result<Response, Problem> {
    let visits = VISITS.add(&request.path, 1)?;
    Ok(web::html(html! { p { "Hello, visitor " (visits) } }))
}

souk_sdk::export!(Hello: web::handler);

#[cfg(test)]
mod tests {
    use souk_sdk::testing;
    use souk_sdk::web::Guest;

    use super::*;

    #[test]
    fn visits_are_counted() {
        Hello::handle(testing::get("hello", "/hello"));
        let answer = Hello::handle(testing::get("hello", "/hello"));
        assert_eq!(answer.body, b"<p>Hello, visitor 2</p>");
    }
}
