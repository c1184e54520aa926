//! What is bought and what it costs, as carts and orders show it alike.

use maud::{Markup, html};
use souk_sdk::commerce::cart::{Line, Totals};
use souk_sdk::commerce::checkout;
use souk_sdk::commerce::promotions::Applied;
use souk_sdk::commerce::tax::TaxLine;
use souk_sdk::commerce::types::Address;
use souk_sdk::money::Money;

use crate::layout::{Loading, Site, picture};

pub fn lines(site: &Site, lines: &[Line]) -> Markup {
    html! {
        ul.lines.short {
            @for line in lines {
                li {
                    div.thumb { (picture(line.image.as_ref(), &line.title, Loading::Later)) }
                    div {
                        p { b { (line.title) } }
                        @if !line.variant_title.is_empty() { p.sub { (line.variant_title) } }
                        p.sub { (line.quantity) @if !is_unpriced(line) { " × " (site.amount(&line.unit_price)) } }
                    }
                    (line_price(site, line))
                }
            }
        }
    }
}

/// What is not for sale has no price: that is not the same as a price of nothing.
pub fn is_unpriced(line: &Line) -> bool {
    line.unit_price.amount == 0 && (line.product.is_empty() || line.available <= 0)
}

/// Before discounts, which are listed below the lines once; with what it would be without sale.
pub fn line_price(site: &Site, line: &Line) -> Markup {
    let regular = line.regular_price.times(i64::from(line.quantity)).ok().filter(|regular| regular.amount > line.subtotal.amount);
    html! {
        p.price {
            @if is_unpriced(line) {
                span aria-hidden="true" { "—" }
            } @else {
                @if regular.is_some() { span.hidden { (site.texts.now_price) " " } }
                (site.amount(&line.subtotal))
                @if let Some(regular) = &regular { " " span.hidden { (site.texts.former_price) " " } s { (regular.format(site.locale)) } }
            }
        }
    }
}

/// What the sum of a cart or an unpaid order is called.
pub fn to_pay(site: &Site) -> &'static str {
    site.say("Total", "应付总额")
}

/// The rows sum to the total: each discount by its name, and delivery before those on it.
pub fn totals(site: &Site, sum_label: &str, totals: &Totals, applied: &[Applied], taxes: &[TaxLine]) -> Markup {
    let row = |label: &str, amount: &Money, sign: &str| html! { div { dt { (label) } dd { (sign) (amount.format(site.locale)) } } };
    html! {
        dl.totals {
            (row(site.say("Subtotal", "商品金额"), &totals.subtotal, ""))
            @for applied in applied { div.applied { dt { (applied.title) } dd { "−" (applied.amount.format(site.locale)) } } }
            @if let Some(shipping) = &totals.shipping {
                div { dt { (site.say("Delivery", "运费")) } dd { (delivery(site, shipping, &totals.shipping_discount)) } }
            }
            @for (name, amount) in tax_sums(taxes, false) { (row(&name, &amount, "")) }
            div.sum { dt { (sum_label) } dd { (totals.total.format(site.locale)) } }
            @for (name, amount) in tax_sums(taxes, true) {
                div.contained { dt { (if site.is_chinese() { format!("其中{name}") } else { format!("of which {name}") }) } dd { (amount.format(site.locale)) } }
            }
        }
    }
}

/// Before the discounts on it.
fn delivery(site: &Site, shipping: &Money, discount: &Money) -> String {
    let before = shipping.add(discount).unwrap_or_else(|_| shipping.clone());
    if before.amount == 0 { site.say("Free", "免运费").into() } else { before.format(site.locale) }
}

/// Taxes of one name together.
fn tax_sums(taxes: &[TaxLine], included: bool) -> Vec<(String, Money)> {
    let mut sums: Vec<(String, Money)> = Vec::new();
    for tax in taxes.iter().filter(|tax| tax.included == included && tax.amount.amount != 0) {
        match sums.iter_mut().find(|(name, _)| *name == tax.name) {
            // The cart summed the same amounts without going over the range.
            Some((_, sum)) => *sum = sum.add(&tax.amount).unwrap_or_else(|_| sum.clone()),
            None => sums.push((tax.name.clone(), tax.amount.clone())),
        }
    }
    sums
}

/// As a parcel's label has it: in the order of its country, and where it is
/// written in Chinese or Japanese signs, without signs between its parts.
pub fn address(site: &Site, address: &Address) -> Markup {
    let written = [&address.city, &address.district, &address.street].iter().any(|part| part.chars().any(is_han));
    // The province of a Chinese address in its own signs, whoever reads it.
    let form = checkout::address_form(&address.country, if written { "zh-CN" } else { site.locale });
    let parts = form.iter().filter_map(|field| {
        let text = match field.name.as_str() {
            "region" => field.subdivisions.iter().find(|known| known.code == address.region).map_or(address.region.as_str(), |known| known.name.as_str()),
            "city" => &address.city,
            "district" => &address.district,
            "street" => &address.street,
            "postal-code" => &address.postal_code,
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    });
    let place = joined(&parts.collect::<Vec<_>>());
    let country = checkout::countries(site.locale).into_iter().find(|country| country.code == address.country).map(|country| country.name);
    html! {
        address {
            b { (address.name) } @if !address.phone.is_empty() { " " (address.phone) } br;
            @if !address.company.is_empty() { (address.company) br; }
            (place) br;
            (country.unwrap_or_else(|| address.country.clone()))
        }
    }
}

fn is_han(character: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&character)
}

/// Between two parts in Han signs nothing, beside a number a blank, else a comma.
/// A city that is its own province is named once.
fn joined(parts: &[&str]) -> String {
    let mut text = String::new();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 && parts[place - 1] == *part && part.chars().all(is_han) {
            continue;
        }
        let (last, first) = (text.chars().next_back(), part.chars().next());
        match (last, first) {
            (Some(last), Some(first)) if is_han(last) && is_han(first) => {}
            (Some(last), Some(first)) if is_han(last) || is_han(first) => text.push(' '),
            (Some(_), _) => text.push_str(", "),
            (None, _) => {}
        }
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn parts_are_joined_as_their_script_has_it() {
        for (parts, text) in [
            (&["浙江省", "杭州市", "西湖区", "龙井路 1 号"][..], "浙江省杭州市西湖区龙井路 1 号"),
            (&["北京市", "北京市", "朝阳区", "建国路 1 号"], "北京市朝阳区建国路 1 号"),
            (&["New York", "New York", "10001"], "New York, New York, 10001"),
            (&["100-0001", "東京都", "千代田区千代田1-1"], "100-0001 東京都千代田区千代田1-1"),
            (&["1 Infinite Loop", "Cupertino", "California", "95014"], "1 Infinite Loop, Cupertino, California, 95014"),
            (&[], ""),
        ] {
            assert_eq!(joined(parts), text);
        }
    }
}
