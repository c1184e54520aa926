//! What is bought and what it costs, as carts and orders show it alike.

use maud::{Markup, html};
use souk_sdk::commerce::cart::{Line, Totals};
use souk_sdk::commerce::checkout;
use souk_sdk::commerce::tax::TaxLine;
use souk_sdk::commerce::types::Address;
use souk_sdk::money::Money;

use crate::layout::{Site, picture};

pub fn lines(site: &Site, lines: &[Line]) -> Markup {
    html! {
        ul.lines.short {
            @for line in lines {
                li {
                    div.thumb { (picture(line.image.as_ref(), true)) }
                    div {
                        p { b { (line.title) } }
                        @if !line.variant_title.is_empty() { p.sub { (line.variant_title) } }
                        p.sub { (line.quantity) " × " (line.unit_price.format(site.locale)) }
                    }
                    (line_price(site, line))
                }
            }
        }
    }
}

pub fn line_price(site: &Site, line: &Line) -> Markup {
    html! {
        p.price {
            (line.total.format(site.locale))
            @if line.discount.amount > 0 { " " span.hidden { (site.texts.former_price) " " } s { (line.subtotal.format(site.locale)) } }
        }
    }
}

pub fn totals(site: &Site, totals: &Totals, taxes: &[TaxLine]) -> Markup {
    let row = |label: &str, amount: &Money, sign: &str| html! { div { dt { (label) } dd { (sign) (amount.format(site.locale)) } } };
    html! {
        dl.totals {
            (row(site.say("Goods", "商品金额"), &totals.subtotal, ""))
            @if totals.discount.amount > 0 { (row(site.say("Discount", "优惠"), &totals.discount, "−")) }
            @if let Some(shipping) = &totals.shipping {
                @if shipping.amount == 0 {
                    div { dt { (site.say("Delivery", "运费")) } dd { (site.say("free", "免运费")) } }
                } @else {
                    (row(site.say("Delivery", "运费"), shipping, ""))
                }
            }
            @for (name, amount) in tax_sums(taxes, false) { (row(&name, &amount, "")) }
            div.sum { dt { (site.say("To pay", "应付总额")) } dd { (totals.total.format(site.locale)) } }
            @for (name, amount) in tax_sums(taxes, true) {
                div.contained { dt { (if site.is_chinese() { format!("其中{name}") } else { format!("of which {name}") }) } dd { (amount.format(site.locale)) } }
            }
        }
    }
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

/// As a parcel's label has it, the largest part first in Chinese.
pub fn address(site: &Site, address: &Address) -> Markup {
    let form = checkout::address_form(&address.country, site.locale);
    let regions = form.iter().find(|field| field.name == "region").map(|field| field.subdivisions.as_slice()).unwrap_or_default();
    let region = regions.iter().find(|known| known.code == address.region).map_or(address.region.as_str(), |known| known.name.as_str());
    let place = if site.is_chinese() {
        [region, &address.city, &address.district, &address.street].concat()
    } else {
        let parts = [&address.street, &address.district, &address.city, region, &address.postal_code];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    };
    let country = checkout::countries(site.locale).into_iter().find(|country| country.code == address.country).map(|country| country.name);
    html! {
        address {
            b { (address.name) } @if !address.phone.is_empty() { " " (address.phone) } br;
            @if !address.company.is_empty() { (address.company) br; }
            (place) br;
            (country.unwrap_or_else(|| address.country.clone()))
            @if site.is_chinese() && !address.postal_code.is_empty() { " " (address.postal_code) }
        }
    }
}
