//! `GET /call/{what}/{times}`: calls `nothing`, a `service` of the same graph
//! or the `provider` of an extension point, and answers what came last.

use souk_sdk::commerce::tax;
use souk_sdk::extend::discount::{self, Answer, Cart, Line};
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{Money, config};

struct Caller;

impl web::Guest for Caller {
    fn handle(request: Request) -> Response {
        web::answer(|| {
            let times: u32 = request.param("times").parse().map_err(|_| Problem::field("times", "number", "Give a number."))?;
            let mut last = config::shop().currency;
            match request.param("what") {
                "nothing" => {}
                "service" => {
                    for _ in 0..times {
                        last = tax::quote(&[], None, &request.locale).len().to_string();
                    }
                }
                "provider" => {
                    let cart = cart(&request.locale);
                    for _ in 0..times {
                        last = match discount::propose(&cart) {
                            Ok(answers) => match answers.first() {
                                Some(Answer::Reject(rejection)) => rejection.reason.clone(),
                                _ => return Err(Problem::new(500, "The provider answered something else")),
                            },
                            Err(failure) => return Err(Problem::new(500, "The provider failed").detail(failure.message)),
                        };
                    }
                }
                _ => return Ok(web::not_found()),
            }
            Ok(web::json(&last))
        })
    }
}

/// As small as a cart can be that is one.
fn cart(locale: &str) -> Cart {
    let money = Money::new(1_000, "CNY");
    let line = Line {
        id: "1".into(),
        sku: "TEA-100".into(),
        product: "tea".into(),
        quantity: 2,
        unit_price: money.clone(),
        categories: vec!["food".into()],
        tags: Vec::new(),
    };
    Cart {
        lines: vec![line],
        subtotal: money.clone(),
        shipping: money,
        codes: Vec::new(),
        customer: None,
        now_ms: 0,
        locale: locale.into(),
    }
}

souk_sdk::export!(Caller: web::handler);
