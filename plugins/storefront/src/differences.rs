//! What is not as the shopper has last seen it, in whole sentences with what it
//! was and what it is.

use std::collections::BTreeMap;

use maud::{Markup, html};
use souk_sdk::commerce::cart::{Line, View};
use souk_sdk::commerce::cart_review::{Change, ChangeKind, Reviewed};
use souk_sdk::commerce::catalog;
use souk_sdk::money::Money;
use souk_sdk::web::Fields;

use crate::layout::Site;

/// What changed by itself since the shopper put it into the cart.
pub fn since_chosen(site: &Site, reviewed: &Reviewed) -> Vec<String> {
    let reason = |code: &str| reviewed.view.rejected.iter().find(|rejected| rejected.code == code).map(|rejected| rejected.reason.as_str());
    reviewed.changes.iter().map(|change| sentence(site, change, reason(&change.subject).unwrap_or_default())).collect()
}

fn sentence(site: &Site, change: &Change, reason: &str) -> String {
    let (title, before) = (&change.title, change.before.format(site.locale));
    match (change.kind, site.is_chinese()) {
        (ChangeKind::Price, _) => price(site, title, &change.before, &change.now),
        (ChangeKind::Discount, false) => format!("{title} takes nothing off any more; it was {before}. {reason}"),
        (ChangeKind::Discount, true) => format!("优惠码 {title} 已不能使用，原优惠 {before}。{reason}"),
        (ChangeKind::Unavailable, false) => format!("{title} is no longer sold. It was {before}."),
        (ChangeKind::Unavailable, true) => format!("{title}已下架，原价 {before}。"),
    }
}

fn price(site: &Site, title: &str, before: &Money, now: &Money) -> String {
    let difference = signed(site, before, now);
    let (before, now) = (before.format(site.locale), now.format(site.locale));
    if site.is_chinese() {
        format!("{title}：单价由 {before} 变为 {now}（{difference}）。")
    } else {
        format!("{title}: the price was {before} and is now {now} ({difference} each).")
    }
}

/// `+¥4.00`
fn signed(site: &Site, before: &Money, now: &Money) -> String {
    let difference = now.amount.saturating_sub(before.amount);
    let amount = Money::new(difference.saturating_abs(), &now.currency).format(site.locale);
    if difference < 0 { format!("−{amount}") } else { format!("+{amount}") }
}

/// What a page showed, carried by its form: another window may have changed the
/// cart since. It decides nothing, and so needs no signature.
pub struct Seen {
    /// By sku: how many, and the price of one.
    lines: BTreeMap<String, (u32, i64)>,
    discount: i64,
    /// None before a delivery is chosen.
    delivery: Option<i64>,
    total: i64,
}

const LINE: &str = "seen-line";
const TOTALS: &str = "seen-totals";
/// As many as a cart has at most.
const LINES_MAX: usize = 200;

impl Seen {
    pub fn inputs(view: &View) -> Markup {
        let totals = &view.totals;
        let delivery = totals.shipping.as_ref().map(|price| price.amount.to_string()).unwrap_or_default();
        html! {
            @for line in &view.lines { input type="hidden" name=(LINE) value=(format!("{}:{}:{}", line.quantity, line.unit_price.amount, line.sku)); }
            input type="hidden" name=(TOTALS) value=(format!("{}:{delivery}:{}", totals.discount.amount, totals.total.amount));
        }
    }

    /// None where the form does not carry it, or not as [`inputs`](Self::inputs) wrote it.
    pub fn of(form: &Fields) -> Option<Self> {
        let mut totals = form.get(TOTALS)?.splitn(3, ':');
        let discount = totals.next()?.parse().ok()?;
        let delivery = totals.next()?.parse().ok();
        let total = totals.next()?.parse().ok()?;
        let line = |text: &str| {
            let mut parts = text.splitn(3, ':');
            let (quantity, price) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some((parts.next()?.to_owned(), (quantity, price)))
        };
        Some(Self { lines: form.all(LINE).take(LINES_MAX).filter_map(line).collect(), discount, delivery, total })
    }

    /// `title` names what is not in the cart any more.
    pub fn against(&self, site: &Site, view: &View, title: impl Fn(&str) -> String) -> Vec<String> {
        let zh = site.is_chinese();
        let money = |amount: i64| Money::new(amount, &view.currency);
        let mut told = Vec::new();
        for (sku, (quantity, _)) in &self.lines {
            if !view.lines.iter().any(|line| line.sku == *sku) {
                let title = title(sku);
                told.push(if zh { format!("{title}（{quantity} 件）已不在购物车中，可能是在其他窗口移除的。") } else { format!("{title} ({quantity}) is no longer in the cart. It was taken out in another window.") });
            }
        }
        for line in &view.lines {
            told.extend(self.line_against(site, line));
        }
        if self.discount != view.totals.discount.amount {
            let (before, now) = (money(self.discount).format(site.locale), view.totals.discount.format(site.locale));
            told.push(if zh { format!("优惠金额由 {before} 变为 {now}。") } else { format!("The discount was {before} and is now {now}.") });
        }
        if let (Some(before), Some(now)) = (self.delivery, &view.totals.shipping)
            && before != now.amount
        {
            let (before, now) = (money(before).format(site.locale), now.format(site.locale));
            told.push(if zh { format!("运费由 {before} 变为 {now}。") } else { format!("Delivery was {before} and is now {now}.") });
        }
        if self.total != view.totals.total.amount {
            let difference = signed(site, &money(self.total), &view.totals.total);
            let (before, now) = (money(self.total).format(site.locale), view.totals.total.format(site.locale));
            told.push(if zh { format!("应付总额由 {before} 变为 {now}（{difference}）。") } else { format!("The total was {before} and is now {now} ({difference}).") });
        }
        told
    }

    fn line_against(&self, site: &Site, line: &Line) -> Vec<String> {
        let (zh, title, quantity) = (site.is_chinese(), &line.title, line.quantity);
        let Some((before, unit)) = self.lines.get(&line.sku) else {
            return vec![if zh { format!("购物车中新增了{title}（{quantity} 件）。") } else { format!("{title} ({quantity}) was added to the cart.") }];
        };
        let mut told = Vec::new();
        if *before != quantity {
            told.push(if zh { format!("{title}的数量由 {before} 变为 {quantity}。") } else { format!("{title}: there were {before}, and now there are {quantity}.") });
        }
        if *unit != line.unit_price.amount {
            told.push(price(site, title, &Money::new(*unit, &line.unit_price.currency), &line.unit_price));
        }
        told
    }
}

/// What a sku is called that is not in the cart, or not any more.
pub fn title_of(site: &Site, sku: &str) -> String {
    let sold = catalog::sellables(&[sku.to_owned()], site.locale).into_iter().flatten().next();
    sold.map_or_else(|| sku.to_owned(), |sellable| sellable.title)
}

/// Nothing where there is nothing to say. The first sentence says what happened.
pub fn list(heading: &str, told: &[String]) -> Markup {
    html! {
        @if !told.is_empty() {
            div.alert.changes role="alert" {
                p { b { (heading) } }
                ul { @for sentence in told { li { (sentence) } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_sdk::commerce::cart::Totals;
    use souk_sdk::testing;
    use souk_sdk::web::Request;

    use super::*;

    fn cny(amount: i64) -> Money {
        Money::new(amount, "CNY")
    }

    fn line(sku: &str, title: &str, quantity: u32, unit: i64) -> Line {
        let total = cny(unit * i64::from(quantity));
        Line {
            id: sku.into(), sku: sku.into(), product: "p".into(), title: title.into(), variant_title: String::new(), image: None, quantity,
            unit_price: cny(unit), regular_price: cny(unit), subtotal: total.clone(), discount: cny(0), total, available: 9, weight_g: 1,
        }
    }

    fn view(lines: Vec<Line>, discount: i64, delivery: i64) -> View {
        let subtotal: i64 = lines.iter().map(|line| line.subtotal.amount).sum();
        View {
            id: "cart".into(), currency: "CNY".into(), item_count: 0, lines, codes: vec![], applied: vec![], rejected: vec![], taxes: vec![],
            totals: Totals {
                subtotal: cny(subtotal), discount: cny(discount), shipping: Some(cny(delivery)), shipping_discount: cny(0), tax_added: cny(0),
                tax_included: cny(0), total: cny(subtotal - discount + delivery),
            },
            contact: None, shipping_address: None, billing_address: None, shipping_method: None, fingerprint: String::new(), revision: 1,
        }
    }

    /// As a browser sends the form of a page that showed this.
    fn sent(view: &View) -> Fields {
        let inputs = Seen::inputs(view).into_string();
        let attribute = |input: &str, name: &str| input.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value.replace("&amp;", "&"));
        let pairs = inputs.split("<input").skip(1).filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)));
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        pairs.for_each(|(name, value)| _ = encoded.append_pair(&name, &value));
        Fields::parse(encoded.finish().as_bytes())
    }

    #[test]
    fn each_difference_is_one_sentence_with_both_amounts() {
        let before = view(vec![line("A:&1", "Tea", 1, 1_000), line("B", "Cup", 2, 500), line("C", "Pot", 1, 300)], 100, 900);
        let after = view(vec![line("B", "Cup", 1, 600), line("D", "Tin", 1, 100)], 0, 1_200);
        let english = Request { locale: "en".into(), locale_prefix: "/en".into(), ..testing::get("x", "/") };
        let told = Seen::of(&sent(&before)).unwrap().against(&Site::of(&english), &after, |sku| format!("<{sku}>"));
        assert_eq!(told.len(), 8, "{told:#?}");
        assert_eq!(told[0], "<A:&1> (1) is no longer in the cart. It was taken out in another window.");
        assert_eq!(told[2], "Cup: there were 2, and now there are 1.");
        assert!(told[3].contains("5.00") && told[3].contains("6.00") && told[3].contains("+"), "{told:?}");
        assert!(told[7].contains("was") && told[7].contains("31.00") && told[7].contains("19.00") && told[7].contains("−"), "{told:?}");
        let chinese = Request { locale: "zh-CN".into(), locale_prefix: "/zh".into(), ..testing::get("x", "/") };
        let told = Seen::of(&sent(&before)).unwrap().against(&Site::of(&chinese), &before, |_| String::new());
        assert_eq!(told, Vec::<String>::new(), "what is as it was is not told");
    }

    #[test]
    fn a_form_without_it_or_with_nonsense_in_it_tells_nothing() {
        for body in ["", "seen-totals=x", "seen-totals=1:2"] {
            assert!(Seen::of(&Fields::parse(body.as_bytes())).is_none(), "{body}");
        }
        assert!(Seen::of(&Fields::parse(b"seen-totals=1::2&seen-line=a&seen-line=1")).unwrap().lines.is_empty());
    }
}
