//! A discount on everything for those who know the code.

use souk_sdk::config;
use souk_sdk::extend::discount::{Answer, Cart, Effect, Failure, Guest, Portion, Proposal, Stacking};

config! {
    /// What the retailer can change, under [config.{name}] in souk.toml.
    struct Settings {
        /// What shoppers enter, in upper case.
        code: String = "{CODE}";
        /// Taken off each line.
        percent: u32 = 10, in 1..=90;
    }
}

struct {Type};

impl Guest for {Type} {
    fn propose(cart: Cart) -> Result<Vec<Answer>, Failure> {
        let settings = Settings::load();
        if !cart.codes.contains(&settings.code) {
            return Ok(Vec::new());
        }
        let all = cart.lines.iter().map(|line| Portion { line_id: line.id.clone(), quantity: line.quantity });
        Ok(vec![Answer::Propose(Proposal {
            provider: String::new(), // written by the host
            id: settings.code.clone(),
            title: format!("{} % off", settings.percent),
            effect: Effect::Percent((settings.percent * 10_000, all.collect())), // millionths
            code: Some(settings.code),
            stacking: Stacking::Combines,
            limit: None,
        })])
    }
}

souk_sdk::export!({Type}: extend::discount);

#[cfg(test)]
mod tests {
    use souk_sdk::extend::discount::Line;
    use souk_sdk::serde_json::json;
    use souk_sdk::{Money, testing};

    use super::*;

    fn cart(codes: &[&str]) -> Cart {
        let line = Line {
            id: "1".into(),
            sku: "TEA".into(),
            product: "tea".into(),
            quantity: 3,
            unit_price: Money::new(1_000, "CNY"),
            categories: Vec::new(),
            tags: Vec::new(),
        };
        Cart {
            lines: vec![line],
            subtotal: Money::new(3_000, "CNY"),
            shipping: Money::zero("CNY"),
            codes: codes.iter().map(|code| (*code).to_owned()).collect(),
            customer: None,
            now_ms: 0,
            locale: "en".into(),
        }
    }

    #[test]
    fn the_code_takes_its_percentage_off_every_line() {
        testing::set_config(json!({ "percent": 20 }));
        let answers = {Type}::propose(cart(&["{CODE}"])).unwrap();
        let [Answer::Propose(proposal)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!(proposal.effect, Effect::Percent((200_000, vec![Portion { line_id: "1".into(), quantity: 3 }])));
        assert!({Type}::propose(cart(&["ANOTHER"])).unwrap().is_empty());
    }
}
