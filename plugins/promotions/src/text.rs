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

/// Of a code whose offer is not among `winners`, those that apply; whether it cannot be had beside them.
pub fn outdone(locale: &str, is_apart: bool, winners: &[&str]) -> String {
    let zh = locale.starts_with("zh");
    let names = winners.iter().map(|title| format!("“{title}”")).collect::<Vec<_>>().join(" + ");
    match (is_apart, winners.len(), zh) {
        (_, 0, false) => "This code takes nothing off this cart.".into(),
        (_, 0, true) => "此优惠码对当前购物车没有优惠。".into(),
        (true, 1, false) => format!("This code cannot be combined with {names}, which saves you at least as much."),
        (true, _, false) => format!("This code cannot be combined with {names}, which together save you at least as much."),
        (true, _, true) => format!("此优惠码不能与{names}同时使用，当前优惠不低于它。"),
        (false, _, false) => format!("This code takes nothing more off beside {names}."),
        (false, _, true) => format!("已享受{names}，使用此优惠码不会更便宜。"),
    }
}

pub fn used_up(locale: &str) -> String {
    in_language(locale, "This code has been used up.", "此优惠码已被领完。")
}

pub fn used_by_customer(locale: &str) -> String {
    in_language(locale, "You have already used this code as often as it allows.", "您使用此优惠码的次数已达上限。")
}
