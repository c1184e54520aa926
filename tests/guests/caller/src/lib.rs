//! `GET /call/{what}/{times}`: calls `nothing`, a `capability` of the host, a
//! `service` of the same graph or the `provider`s of an extension point (with a
//! `?code=`, if there is one), and answers what came last.

use souk_sdk::commerce::tax;
use souk_sdk::extend::discount::{self, Answer, Cart, Line};
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{Money, clock, config};

struct Caller;

impl web::Guest for Caller {
    fn handle(request: Request) -> Response {
        web::answer(|| {
            let times: u32 = request.param("times").parse().map_err(|_| Problem::field("times", "number", "Give a number."))?;
            let mut last = config::shop().currency;
            match request.param("what") {
                "nothing" => {}
                "capability" => {
                    for _ in 0..times {
                        std::hint::black_box(clock::now_ms());
                    }
                }
                "service" => {
                    for _ in 0..times {
                        last = tax::quote(&[], None, &request.locale).len().to_string();
                    }
                }
                "provider" => {
                    let cart = cart(&request.locale, request.query().get("code"));
                    for _ in 0..times {
                        last = match discount::propose(&cart) {
                            Ok(answers) => match answers.first() {
                                Some(Answer::Reject(rejection)) => rejection.reason.clone(),
                                Some(Answer::Propose(proposal)) => proposal.id.clone(),
                                None => return Err(Problem::new(500, "The provider answered nothing")),
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
fn cart(locale: &str, code: Option<&str>) -> Cart {
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
        codes: code.map(str::to_owned).into_iter().collect(),
        customer: None,
        now_ms: 0,
        locale: locale.into(),
    }
}

souk_sdk::export!(Caller: web::handler);
