//! One coupon: how it is read, and what it says to a cart. Pure.

use serde::{Deserialize, Serialize};
use souk_sdk::extend::discount::{Answer, Cart, Effect, Portion, Proposal, Rejection, Stacking, UsageLimit};
use souk_sdk::money::Money;
use souk_sdk::{entry, zone};
use time::OffsetDateTime;

const CODE_BYTES_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 60;
/// As of a price.
const AMOUNT_MAX: i64 = 1_000_000_000_000;
const CATEGORY_BYTES_MAX: usize = 100;
const PPM_OF_PERCENT: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Coupon {
    pub code: String,
    name: Name,
    kind: Kind,
    /// Per cent, or minor units.
    #[serde(default)]
    value: i64,
    /// Worth of all goods from which it counts, in minor units.
    #[serde(default)]
    minimum: i64,
    /// Uses in all, and by one customer.
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    per_customer: Option<u32>,
    /// Without any other discount beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    exclusive: bool,
    /// Goods of this category and all below it; none is all goods.
    #[serde(default)]
    category: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    starts_at: Option<OffsetDateTime>,
    /// The first instant at which it does not count any more.
    #[serde(default, with = "time::serde::rfc3339::option")]
    ends_at: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    en: String,
    #[serde(rename = "zh-CN")]
    zh: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Percent,
    Fixed,
    FreeShipping,
}

impl Coupon {
    /// As an operator writes it: times without an offset are of the shop's zone.
    pub fn read(mut json: serde_json::Value, zone: &str) -> Result<Self, String> {
        for field in ["starts-at", "ends-at"] {
            if let Some(time) = json.get_mut(field)
                && let Some(text) = time.as_str()
            {
                *time = zone::utc(text, zone).map_err(|problem| format!("{field}: {problem}"))?.into();
            }
        }
        let mut coupon: Self = serde_json::from_value(json).map_err(|error| error.to_string())?;
        coupon.code = entry::code(&coupon.code);
        let fault = if coupon.code.is_empty() || coupon.code.len() > CODE_BYTES_MAX || coupon.code.contains(|c: char| c.is_control() || c.is_whitespace()) {
            "code: use 1 to 64 bytes without blanks, for instance TEA-10"
        } else if [&coupon.name.en, &coupon.name.zh].iter().any(|name| name.trim().is_empty()) {
            "name: give one in en and in zh-CN"
        } else if [&coupon.name.en, &coupon.name.zh].iter().any(|name| name.chars().count() > NAME_CHARS_MAX || name.contains(char::is_control)) {
            "name: use at most 60 characters on one line, in en and in zh-CN"
        } else if coupon.limit == Some(0) {
            "limit: nobody could use it: give 1 or more, or none for no limit; remove-coupon takes the coupon away"
        } else if coupon.per_customer == Some(0) {
            "per-customer: nobody could use it: give 1 or more, or none for no limit"
        } else if coupon.category.as_ref().is_some_and(|category| !is_handle(category)) {
            "category: give the handle of one, for instance green-tea, or leave it out for all goods"
        } else if coupon.kind == Kind::Percent && !(1..=100).contains(&coupon.value) {
            "value: use 1 to 100 per cent"
        } else if coupon.kind == Kind::Fixed && coupon.value <= 0 {
            "amount: use more than 0 (in a file: value, in the smallest unit of the currency)"
        } else if coupon.value > AMOUNT_MAX {
            "amount: use at most 10^12 of the smallest unit of the currency"
        } else if !(0..=AMOUNT_MAX).contains(&coupon.minimum) {
            "minimum: use 0 to 10^12 of the smallest unit of the currency"
        } else if coupon.starts_at.zip(coupon.ends_at).is_some_and(|(starts, ends)| starts >= ends) {
            "ends-at: is not after starts-at"
        } else {
            return Ok(coupon);
        };
        Err(format!("{} {fault}", coupon.code).trim_start().to_owned())
    }

    pub fn answer(&self, cart: &Cart) -> Answer {
        match self.effect(cart) {
            Ok(effect) => Answer::Propose(Proposal {
                provider: String::new(),
                id: self.code.clone(),
                title: if is_chinese(cart) { self.name.zh.clone() } else { self.name.en.clone() },
                code: Some(self.code.clone()),
                effect,
                stacking: if self.exclusive { Stacking::Exclusive } else { Stacking::Combines },
                limit: (self.limit.is_some() || self.per_customer.is_some()).then_some(UsageLimit { total: self.limit, per_customer: self.per_customer }),
            }),
            Err(reason) => Answer::Reject(Rejection { provider: String::new(), code: self.code.clone(), reason }),
        }
    }

    fn effect(&self, cart: &Cart) -> Result<Effect, String> {
        let say = |en: &str, zh: &str| Err(if is_chinese(cart) { zh.to_owned() } else { en.to_owned() });
        let now = i128::from(cart.now_ms);
        let ms = |at: OffsetDateTime| at.unix_timestamp_nanos() / 1_000_000;
        if self.starts_at.is_some_and(|starts| now < ms(starts)) {
            return say("This code cannot be used yet.", "此优惠码尚未生效。");
        }
        if self.ends_at.is_some_and(|ends| now >= ms(ends)) {
            return say("This code has expired.", "此优惠码已过期。");
        }
        if cart.subtotal.amount < self.minimum {
            let minimum = Money::new(self.minimum, &cart.subtotal.currency).format(&cart.locale);
            return say(&format!("This code counts for goods of {minimum} or more."), &format!("商品金额满 {minimum} 方可使用此优惠码。"));
        }
        let goods = cart.lines.iter().filter(|line| self.category.as_ref().is_none_or(|category| line.categories.contains(category)));
        let portions: Vec<Portion> = goods.map(|line| Portion { line_id: line.id.clone(), quantity: line.quantity }).collect();
        if portions.is_empty() {
            return say("This code is for goods that are not in the cart.", "购物车中没有适用此优惠码的商品。");
        }
        Ok(match self.kind {
            // Checked to be at most 100 when it was read.
            Kind::Percent => Effect::Percent((u32::try_from(self.value).unwrap_or(0) * PPM_OF_PERCENT, portions)),
            Kind::Fixed => Effect::Amount((Money::new(self.value, &cart.subtotal.currency), portions)),
            Kind::FreeShipping => Effect::ShippingPercent(100 * PPM_OF_PERCENT),
        })
    }
}

/// Whether a category may have it.
fn is_handle(text: &str) -> bool {
    (1..=CATEGORY_BYTES_MAX).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn is_chinese(cart: &Cart) -> bool {
    cart.locale.starts_with("zh")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use souk_sdk::extend::discount::Line;

    use super::*;

    fn coupon(change: impl FnOnce(&mut Value)) -> Result<Coupon, String> {
        let mut json = json!({
            "code": " tea10 ", "name": { "en": "10 % off tea", "zh-CN": "茶叶九折" }, "kind": "percent", "value": 10, "minimum": 5_000, "limit": 100,
            "per-customer": 1, "category": "tea", "starts-at": "2026-01-01T00:00:00+08:00", "ends-at": "2026-02-01T00:00:00+08:00",
        });
        change(&mut json);
        Coupon::read(json, "Asia/Shanghai")
    }

    const NEW_YEAR_IN_SHANGHAI_MS: u64 = 1_767_196_800_000;

    fn cart(change: impl FnOnce(&mut Cart)) -> Cart {
        let line = |id: &str, category: &str| Line {
            id: id.into(),
            sku: id.into(),
            product: id.into(),
            quantity: 2,
            unit_price: Money::new(2_500, "CNY"),
            categories: vec![category.into(), "food".into()],
            tags: Vec::new(),
        };
        let mut cart = Cart {
            lines: vec![line("green", "tea"), line("cup", "kitchen")],
            subtotal: Money::new(10_000, "CNY"),
            shipping: Money::new(0, "CNY"),
            codes: vec!["TEA10".into()],
            customer: None,
            now_ms: NEW_YEAR_IN_SHANGHAI_MS,
            locale: "en".into(),
        };
        change(&mut cart);
        cart
    }

    fn reason(coupon: &Coupon, cart: &Cart) -> Option<String> {
        match coupon.answer(cart) {
            Answer::Reject(rejection) => Some(rejection.reason),
            Answer::Propose(_) => None,
        }
    }

    #[test]
    fn it_takes_its_part_off_the_goods_it_is_for() {
        let Answer::Propose(proposal) = coupon(|_| ()).unwrap().answer(&cart(|_| ())) else { panic!("rejected") };
        assert_eq!((proposal.id.as_str(), proposal.title.as_str()), ("TEA10", "10 % off tea"));
        assert_eq!(proposal.effect, Effect::Percent((100_000, vec![Portion { line_id: "green".into(), quantity: 2 }])));
        assert_eq!(proposal.limit, Some(UsageLimit { total: Some(100), per_customer: Some(1) }));
    }

    #[test]
    fn its_code_is_tidied_as_the_form_tidies_it_and_it_may_stand_alone() {
        let typed = coupon(|json| json["code"] = json!(" ｔｅａ‐１０ ")).unwrap();
        assert_eq!(typed.code, entry::code("TEA-10"));
        let stacking = |coupon: Coupon| if let Answer::Propose(proposal) = coupon.answer(&cart(|_| ())) { proposal.stacking } else { panic!("rejected") };
        assert_eq!(stacking(typed), Stacking::Combines);
        assert_eq!(stacking(coupon(|json| json["exclusive"] = json!(true)).unwrap()), Stacking::Exclusive);
    }

    #[test]
    fn it_counts_from_its_first_instant_until_before_its_last() {
        let coupon = coupon(|_| ()).unwrap();
        assert_eq!(reason(&coupon, &cart(|cart| cart.now_ms -= 1)).unwrap(), "This code cannot be used yet.");
        assert_eq!(reason(&coupon, &cart(|_| ())), None);
        let end_ms = NEW_YEAR_IN_SHANGHAI_MS + 31 * 86_400_000;
        assert_eq!(reason(&coupon, &cart(|cart| cart.now_ms = end_ms - 1)), None);
        assert_eq!(reason(&coupon, &cart(|cart| (cart.now_ms, cart.locale) = (end_ms, "zh-CN".into()))).unwrap(), "此优惠码已过期。");
    }

    #[test]
    fn what_is_missing_is_said() {
        let coupon = coupon(|_| ()).unwrap();
        assert_eq!(reason(&coupon, &cart(|cart| cart.subtotal.amount = 4_999)).unwrap(), "This code counts for goods of CN¥50.00 or more.");
        assert!(reason(&coupon, &cart(|cart| drop(cart.lines.remove(0)))).unwrap().contains("not in the cart"));
    }

    #[test]
    fn faults_name_their_field() {
        for (field, value) in [
            ("value", json!(0)),
            ("value", json!(101)),
            ("code", json!(" ")),
            ("code", json!("TEA 10")),
            ("limit", json!(0)),
            ("per-customer", json!(0)),
            ("category", json!("green tea")),
            ("name", json!({ "en": "n".repeat(61), "zh-CN": "茶" })),
            ("name", json!({ "en": "two\nlines", "zh-CN": "茶" })),
            ("minimum", json!(-1)),
            ("ends-at", json!("2026-01-01T00:00:00+08:00")),
            ("name", json!({ "en": "", "zh-CN": "" })),
        ] {
            let fault = coupon(|json| json[field] = value.clone()).unwrap_err();
            assert!(fault.contains(field), "{field}: {fault}");
        }
        assert!(coupon(|json| json["prcent"] = json!(1)).unwrap_err().contains("prcent"));
        assert!(coupon(|json| json["starts-at"] = json!("soon")).unwrap_err().contains("2026-11-11T00:00"));
    }

    #[test]
    fn times_without_an_offset_are_of_the_shops_zone() {
        let of = |text: &str| coupon(|json| json["starts-at"] = json!(text)).unwrap();
        assert_eq!(of("2026-01-01T00:00"), of("2026-01-01T00:00:00+08:00"));
        assert_eq!(of("2026-01-01T00:00"), of("2025-12-31T16:00:00Z"));
        assert_eq!(reason(&of("2026-01-01T00:00"), &cart(|_| ())), None);
    }
}
