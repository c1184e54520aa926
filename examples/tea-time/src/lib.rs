//! A discount on everything for those who know the code.

use souk_sdk::config;
use souk_sdk::extend::discount::{Answer, Cart, Effect, Failure, Guest, Portion, Proposal, Rejection, Stacking};

const CODE: &str = "TEATIME";

config! {
    struct Settings {
        /// Taken off each line.
        percent: u32 = 10, in 1..=90;
    }
}

struct TeaTime;

impl Guest for TeaTime {
    fn propose(cart: Cart) -> Result<Vec<Answer>, Failure> {
        if !cart.codes.iter().any(|code| code == CODE) {
            return Ok(Vec::new());
        }
        if cart.lines.is_empty() {
            let reason = "Put something in the cart first.".into();
            return Ok(vec![Answer::Reject(Rejection { provider: String::new(), code: CODE.into(), reason })]);
        }
        let percent = Settings::load().percent;
        let all = cart.lines.iter().map(|line| Portion { line_id: line.id.clone(), quantity: line.quantity });
        Ok(vec![Answer::Propose(Proposal {
            provider: String::new(), // written by the host
            id: CODE.into(),
            title: format!("Tea time: {percent} % off"),
            code: Some(CODE.into()),
            effect: Effect::Percent((percent * 10_000, all.collect())),
            stacking: Stacking::Combines,
            limit: None,
        })])
    }
}

souk_sdk::export!(TeaTime: extend::discount);

#[cfg(test)]
mod tests {
    use souk_sdk::extend::discount::Line;
    use souk_sdk::serde_json::json;
    use souk_sdk::{Money, testing};

    use super::*;

    #[test]
    fn the_code_takes_its_percentage_off_every_line() {
        testing::set_config(json!({ "percent": 20 }));
        let line = Line {
            id: "1".into(),
            sku: "TEA".into(),
            product: "tea".into(),
            quantity: 3,
            unit_price: Money::new(1_000, "CNY"),
            categories: Vec::new(),
            tags: Vec::new(),
        };
        let cart = Cart {
            lines: vec![line],
            subtotal: Money::new(3_000, "CNY"),
            shipping: Money::zero("CNY"),
            codes: vec![CODE.into()],
            customer: None,
            now_ms: 0,
            locale: "en".into(),
        };
        let answers = TeaTime::propose(cart).unwrap();
        let [Answer::Propose(proposal)] = answers.as_slice() else { panic!("{answers:?}") };
        let all = vec![Portion { line_id: "1".into(), quantity: 3 }];
        assert_eq!(proposal.effect, Effect::Percent((200_000, all)));
    }
}
