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

/// Of a code whose offer is not among those that apply; `winner` is the largest that does.
pub fn outdone(locale: &str, is_exclusive: bool, winner: Option<&str>) -> String {
    let zh = locale.starts_with("zh");
    match (is_exclusive, winner, zh) {
        (true, Some(winner), false) => format!("This code cannot be combined with other discounts, and “{winner}” saves you at least as much."),
        (true, Some(winner), true) => format!("此优惠码不能与其他优惠同时使用，当前的“{winner}”优惠不低于它。"),
        (false, Some(winner), false) => format!("“{winner}” saves you more and cannot be combined with this code."),
        (false, Some(winner), true) => format!("“{winner}”更优惠，且不能与此优惠码同时使用。"),
        (_, None, false) => "This code takes nothing off this cart.".into(),
        (_, None, true) => "此优惠码对当前购物车没有优惠。".into(),
    }
}

pub fn used_up(locale: &str) -> String {
    in_language(locale, "This code has been used up.", "此优惠码已被领完。")
}

pub fn used_by_customer(locale: &str) -> String {
    in_language(locale, "You have already used this code as often as it allows.", "您使用此优惠码的次数已达上限。")
}
