//! Sentences for shoppers: Chinese for `zh*`, English for everyone else.

fn in_language(locale: &str, en: &str, zh: &str) -> String {
    if locale.starts_with("zh") { zh } else { en }.into()
}

pub fn not_valid(locale: &str) -> String {
    in_language(locale, "This code is not valid.", "此优惠码无效。")
}

pub fn not_looked_at(locale: &str) -> String {
    in_language(locale, "This code could not be checked, because there are too many discounts right now.", "当前优惠过多，暂时无法核对此优惠码。")
}

pub fn outdone(locale: &str) -> String {
    in_language(locale, "Another discount, which cannot be combined with this code, is better.", "此优惠码不能与当前更优惠的折扣同时使用。")
}

pub fn used_up(locale: &str) -> String {
    in_language(locale, "This code has been used up.", "此优惠码已被领完。")
}

pub fn used_by_customer(locale: &str) -> String {
    in_language(locale, "You have already used this code as often as it allows.", "您使用此优惠码的次数已达上限。")
}
