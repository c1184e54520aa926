//! A page that counts its visitors.

use maud::html;
use souk_sdk::storage::Counter;
use souk_sdk::web::{self, Request, Response};

const VISITS: Counter = Counter::new("visits");

struct {Type};

impl web::Guest for {Type} {
    fn handle(request: Request) -> Response {
        web::answer(|| {
            let visits = VISITS.add(&request.path, 1)?;
            Ok(web::html(html! { p { "Hello, visitor " (visits) } }))
        })
    }
}

souk_sdk::export!({Type}: web::handler);

#[cfg(test)]
mod tests {
    use souk_sdk::testing;
    use souk_sdk::web::Guest;

    use super::*;

    #[test]
    fn visits_are_counted() {
        {Type}::handle(testing::get("page", "/{name}"));
        let answer = {Type}::handle(testing::get("page", "/{name}"));
        assert_eq!(answer.body, b"<p>Hello, visitor 2</p>");
    }
}
