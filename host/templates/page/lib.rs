//! A page that greets its visitors, and counts them.

use maud::html;
use serde::Deserialize;
use souk_sdk::storage::Counter;
use souk_sdk::web::{self, Problem, Query, Request, Response, Text};

const VISITS: Counter = Counter::new("visits");

struct {Type};

impl web::Guest for {Type} {
    fn handle(request: Request) -> Response {
        match request.route.as_str() {
            "page" => web::call(page, &request),
            _ => web::not_found(),
        }
    }
}

/// What may stand behind the question mark.
#[derive(Deserialize)]
struct Greeting {
    name: Option<Text<40>>,
}

fn page(Query(greeting): Query<Greeting>, request: &Request) -> Result<Response, Problem> {
    let visits = VISITS.add(&request.path, 1)?;
    let name = greeting.name.as_deref().unwrap_or("visitor");
    Ok(web::html(html! { p { "Hello, " (name) ". You are number " (visits) "." } }))
}

souk_sdk::export!({Type}: web::handler);

#[cfg(test)]
mod tests {
    use souk_sdk::testing;
    use souk_sdk::web::Guest;

    use super::*;

    #[test]
    fn visitors_are_greeted_and_counted() {
        {Type}::handle(testing::get("page", "/{name}"));
        let answer = {Type}::handle(testing::get("page", "/{name}?name=Li+Lei"));
        assert_eq!(answer.body, b"<p>Hello, Li Lei. You are number 2.</p>");
        let refused = {Type}::handle(testing::get("page", &format!("/{name}?name={}", "x".repeat(41))));
        assert_eq!(refused.status, 422);
    }
}
