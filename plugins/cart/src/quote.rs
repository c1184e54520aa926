//! From priced lines, discounts and taxes to the totals and their fingerprint.
//! Pure: what the services answer comes in.

use std::collections::BTreeMap;

use serde::Serialize;
use souk_sdk::commerce::cart::{Contact, Line, Totals, View};
use souk_sdk::commerce::cart_review::{Change, ChangeKind};
use souk_sdk::commerce::catalog::Sellable;
use souk_sdk::commerce::catalog_records::Identity;
use souk_sdk::commerce::pricing::Price;
use souk_sdk::commerce::promotions::Allocation;
use souk_sdk::commerce::tax::TaxLine;
use souk_sdk::commerce::types::Address;
use souk_sdk::crypto;
use souk_sdk::money::{Money, MoneyError};

use crate::basket;

/// The id under which shipping is taxed.
pub const SHIPPING: &str = "shipping";

/// A line as it can be bought now, before discounts. What is not sold any more
/// keeps the name by which the shopper knows it.
pub fn line(stored: &basket::Line, sellable: Option<&Sellable>, identity: Option<&Identity>, price: Option<&Price>, available: i64, currency: &str) -> Result<Line, MoneyError> {
    let zero = Money::zero(currency);
    // Without a price in the shop's currency it is not for sale.
    let offer = sellable.zip(price.filter(|price| price.unit.currency == currency && price.unit.amount >= 0));
    let (unit_price, regular_price) = offer.map_or((zero.clone(), zero.clone()), |(_, price)| (price.unit.clone(), price.regular.clone()));
    let subtotal = unit_price.times(i64::from(stored.quantity))?;
    Ok(Line {
        id: stored.sku.clone(),
        sku: stored.sku.clone(),
        // None where it is not sold any more.
        product: sellable.map(|sellable| sellable.product.clone()).unwrap_or_default(),
        title: sellable.map(|sellable| &sellable.title).or(identity.map(|identity| &identity.title)).unwrap_or(&stored.sku).clone(),
        variant_title: sellable.map(|sellable| &sellable.variant_title).or(identity.map(|identity| &identity.variant_title)).cloned().unwrap_or_default(),
        image: sellable.and_then(|sellable| sellable.image.clone()),
        quantity: stored.quantity,
        unit_price,
        regular_price,
        total: subtotal.clone(),
        subtotal,
        discount: zero,
        available: if offer.is_some() { available } else { 0 },
        weight_g: sellable.map_or(0, |sellable| sellable.weight_g),
    })
}

/// Takes the discounts off the lines.
pub fn discount(lines: &mut [Line], allocations: &[Allocation]) -> Result<(), MoneyError> {
    for line in lines {
        let own = allocations.iter().filter(|allocation| allocation.line_id == line.id).map(|allocation| &allocation.amount);
        line.discount = Money::sum(&line.subtotal.currency, own)?;
        line.total = line.subtotal.sub(&line.discount)?;
    }
    Ok(())
}

/// Goods after discounts.
pub fn goods(lines: &[Line], currency: &str) -> Result<Money, MoneyError> {
    Money::sum(currency, lines.iter().map(|line| &line.total))
}

/// Goods after other discounts than the lines have.
pub fn goods_after(lines: &[Line], allocations: &[Allocation], currency: &str) -> Result<Money, MoneyError> {
    let mut lines = lines.to_vec();
    discount(&mut lines, allocations)?;
    goods(&lines, currency)
}

pub fn weight_g(lines: &[Line]) -> u32 {
    lines.iter().fold(0, |sum: u32, line| sum.saturating_add(line.weight_g.saturating_mul(line.quantity)))
}

/// `shipping` is the price before `shipping_discount`.
pub fn totals(lines: &[Line], shipping: Option<&Money>, shipping_discount: &Money, taxes: &[TaxLine], currency: &str) -> Result<Totals, MoneyError> {
    let tax = |included: bool| Money::sum(currency, taxes.iter().filter(|tax| tax.included == included).map(|tax| &tax.amount));
    let subtotal = Money::sum(currency, lines.iter().map(|line| &line.subtotal))?;
    let discount = Money::sum(currency, lines.iter().map(|line| &line.discount))?;
    let shipping = shipping.map(|price| price.sub(shipping_discount)).transpose()?;
    let tax_added = tax(false)?;
    let mut total = subtotal.sub(&discount)?.add(&tax_added)?;
    if let Some(shipping) = &shipping {
        total = total.add(shipping)?;
    }
    Ok(Totals { subtotal, discount, shipping, shipping_discount: shipping_discount.clone(), tax_added, tax_included: tax(true)?, total })
}

/// Why a code does not count without which the cart costs less.
pub fn takes_nothing_off(locale: &str) -> String {
    if locale.starts_with("zh") { "使用此优惠码不会更便宜，因此未计入。" } else { "With its taxes this cart costs no less with the code, so the code is left out." }.into()
}

/// What became different without the shopper: `lines` are those of the view, as
/// they are stored; `taken_off` is what each code took off when that was last said.
pub fn changes(view: &View, lines: &[basket::Line], taken_off: &BTreeMap<String, Money>) -> Vec<Change> {
    let line = |(stored, line): (&basket::Line, &Line)| {
        let before = stored.price.clone().filter(|before| before.currency == view.currency)?;
        let kind = if line.product.is_empty() { ChangeKind::Unavailable } else { ChangeKind::Price };
        let changed = before != line.unit_price && (kind == ChangeKind::Unavailable || line.available > 0);
        changed.then(|| Change { kind, subject: line.id.clone(), title: line.title.clone(), before, now: line.unit_price.clone() })
    };
    let code = |(code, before): (&String, &Money)| {
        let applies = view.applied.iter().any(|applied| applied.code.as_ref() == Some(code));
        let nothing = Money::zero(&view.currency);
        (!applies && before.currency == view.currency).then(|| Change { kind: ChangeKind::Discount, subject: code.clone(), title: code.clone(), before: before.clone(), now: nothing })
    };
    lines.iter().zip(&view.lines).filter_map(line).chain(taken_off.iter().filter_map(code)).collect()
}

/// What a shopper agrees to, without anything that depends on the language: what
/// is bought, for how much, who gets it and how. How it is paid is said when it is placed.
#[derive(Serialize)]
struct Seen<'a> {
    /// With the digest of what the sku stands for.
    lines: Vec<(&'a str, Option<&'a str>, u32, i64, i64)>,
    applied: Vec<(&'a str, i64)>,
    taxes: Vec<(&'a str, u32, i64, bool)>,
    contact: Option<&'a Contact>,
    shipping_address: Option<&'a Address>,
    billing_address: Option<&'a Address>,
    method: Option<(&'a str, i64)>,
    totals: &'a Totals,
}

/// `identities` are those of the lines, in their order.
pub fn fingerprint(view: &View, identities: &[Option<Identity>]) -> String {
    let digest = |place: usize| identities.get(place).and_then(Option::as_ref).map(|identity| identity.digest.as_str());
    let lines = view.lines.iter().enumerate();
    let seen = Seen {
        lines: lines.map(|(place, line)| (line.sku.as_str(), digest(place), line.quantity, line.unit_price.amount, line.discount.amount)).collect(),
        applied: view.applied.iter().map(|applied| (applied.id.as_str(), applied.amount.amount)).collect(),
        taxes: view.taxes.iter().map(|tax| (tax.line_id.as_str(), tax.rate_ppm, tax.amount.amount, tax.included)).collect(),
        contact: view.contact.as_ref(),
        shipping_address: view.shipping_address.as_ref(),
        billing_address: view.billing_address.as_ref(),
        method: view.shipping_method.as_ref().map(|method| (method.id.as_str(), method.price.amount)),
        totals: &view.totals,
    };
    // Plain numbers and text always have a JSON form.
    let bytes = serde_json::to_vec(&seen).unwrap_or_default();
    crypto::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_sdk::commerce::promotions::Applied;

    use super::*;

    fn money(amount: i64) -> Money {
        Money::new(amount, "CNY")
    }

    fn priced(sku: &str, quantity: u32, unit: i64) -> Line {
        let sellable = Sellable {
            sku: sku.into(),
            product: "tea".into(),
            title: "Tea".into(),
            variant_title: String::new(),
            image: None,
            price: money(unit),
            weight_g: 100,
            category: "tea".into(),
            categories: vec!["tea".into()],
            tags: Vec::new(),
            tax_class: String::new(),
        };
        let price = Price { unit: money(unit), regular: money(unit), source: "base".into() };
        line(&basket::Line { sku: sku.into(), quantity, price: None }, Some(&sellable), None, Some(&price), 10, "CNY").unwrap()
    }

    fn view(lines: Vec<Line>, totals: Totals) -> View {
        View {
            id: "cart".into(),
            currency: "CNY".into(),
            item_count: lines.iter().map(|line| line.quantity).sum(),
            lines,
            codes: Vec::new(),
            applied: Vec::new(),
            rejected: Vec::new(),
            taxes: Vec::new(),
            totals,
            contact: None,
            shipping_address: None,
            billing_address: None,
            shipping_method: None,
            fingerprint: String::new(),
            revision: 1,
        }
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_what_is_shown(
            goods in prop::collection::vec((1_u32..=999, 0_i64..1_000_000, 0_u32..=100), 0..20),
            shipping in prop::option::of((0_i64..100_000, 0_u32..=100)),
            rate in 0_i64..300_000,
            included: bool,
        ) {
            let mut lines: Vec<Line> = goods.iter().enumerate().map(|(place, (quantity, unit, _))| priced(&place.to_string(), *quantity, *unit)).collect();
            let allocations: Vec<Allocation> = lines.iter().zip(&goods).map(|(line, (.., percent))| Allocation {
                line_id: line.id.clone(),
                amount: line.subtotal.mul_ratio(i64::from(*percent), 100).unwrap(),
            }).collect();
            discount(&mut lines, &allocations).unwrap();
            let taxes: Vec<TaxLine> = lines.iter().map(|line| TaxLine {
                line_id: line.id.clone(), name: "VAT".into(), rate_ppm: rate as u32, amount: line.total.mul_ratio(rate, 1_000_000).unwrap(), included,
            }).collect();
            let price = shipping.map(|(price, _)| money(price));
            let off = shipping.map_or(money(0), |(price, percent)| money(price).mul_ratio(i64::from(percent), 100).unwrap());
            let totals = totals(&lines, price.as_ref(), &off, &taxes, "CNY").unwrap();

            let sum: i64 = lines.iter().map(|line| line.subtotal.amount - line.discount.amount).sum();
            let tax: i64 = taxes.iter().map(|tax| tax.amount.amount).sum();
            let shipping = price.map_or(0, |price| price.amount - off.amount);
            prop_assert_eq!(totals.total.amount, sum + shipping + if included { 0 } else { tax });
            prop_assert_eq!(totals.tax_added.amount + totals.tax_included.amount, tax);
            prop_assert!(lines.iter().all(|line| line.total.amount >= 0));
        }

        /// With a rate that goes by what goods cost after `automatic` discounts, whatever a code takes off besides.
        #[test]
        fn a_code_never_makes_a_total_higher(
            goods in prop::collection::vec((1_u32..=9, 0_i64..10_000, 0_u32..=50, 0_u32..=50), 1..8),
            rate in 0_i64..5_000,
            free_from in 0_i64..100_000,
            tax_ppm in 0_i64..300_000,
        ) {
            let lines: Vec<Line> = goods.iter().enumerate().map(|(place, (quantity, unit, ..))| priced(&place.to_string(), *quantity, *unit)).collect();
            let off = |percent: &dyn Fn(&(u32, i64, u32, u32)) -> u32| -> Vec<Allocation> {
                let amount = |line: &Line, of| line.subtotal.mul_ratio(i64::from(percent(of)), 100).unwrap();
                lines.iter().zip(&goods).map(|(line, of)| Allocation { line_id: line.id.clone(), amount: amount(line, of) }).collect()
            };
            let automatic = off(&|of| of.2);
            let total = |allocations: &[Allocation]| {
                let mut lines = lines.clone();
                discount(&mut lines, allocations).unwrap();
                let judged = goods_after(&lines, &automatic, "CNY").unwrap();
                let shipping = if judged.amount >= free_from { money(0) } else { money(rate) };
                let taxed = lines.iter().map(|line| (&line.id, &line.total)).chain([(&lines[0].id, &shipping)]);
                let taxes: Vec<TaxLine> = taxed.map(|(id, amount)| TaxLine {
                    line_id: id.clone(), name: "VAT".into(), rate_ppm: tax_ppm as u32, amount: amount.mul_ratio(tax_ppm, 1_000_000).unwrap(), included: false,
                }).collect();
                totals(&lines, Some(&shipping), &money(0), &taxes, "CNY").unwrap().total.amount
            };
            prop_assert!(total(&off(&|of| of.2 + of.3)) <= total(&automatic));
        }

        #[test]
        fn the_fingerprint_changes_with_what_is_paid(quantity in 1_u32..999, unit in 0_i64..100_000, more in 1_i64..1_000) {
            let of = |quantity, unit| {
                let lines = vec![priced("A", quantity, unit)];
                let totals = totals(&lines, None, &money(0), &[], "CNY").unwrap();
                fingerprint(&view(lines, totals), &[])
            };
            prop_assert_eq!(of(quantity, unit), of(quantity, unit));
            prop_assert_ne!(of(quantity, unit), of(quantity, unit + more));
            prop_assert_ne!(of(quantity, unit), of(quantity + 1, unit));
        }
    }

    #[test]
    fn what_changed_without_the_shopper_is_told_until_they_choose_again() {
        let lines = vec![priced("A", 1, 120), priced("B", 2, 100), priced("C", 1, 50)];
        let totals = totals(&lines, None, &money(0), &[], "CNY").unwrap();
        let mut view = view(lines, totals);
        let stored = |sku: &str, price: Option<i64>| basket::Line { sku: sku.into(), quantity: 1, price: price.map(money) };
        // A rose, B stayed, C was put in before prices were noted.
        let stored = [stored("A", Some(100)), stored("B", Some(100)), stored("C", None)];
        let taken_off = BTreeMap::from([("TEN".to_owned(), money(10))]);
        let told: Vec<_> = changes(&view, &stored, &taken_off).into_iter().map(|c| (c.kind, c.subject, c.before.amount, c.now.amount)).collect();
        assert_eq!(told, [(ChangeKind::Price, "A".into(), 100, 120), (ChangeKind::Discount, "TEN".into(), 10, 0)]);
        view.applied.push(Applied { id: "x/TEN".into(), title: "Ten".into(), code: Some("TEN".into()), amount: money(5) });
        view.lines[0].product.clear();
        view.lines[0].unit_price = money(0);
        let told = changes(&view, &stored, &taken_off);
        assert_eq!((told.len(), told[0].kind), (1, ChangeKind::Unavailable));
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_language() {
        let lines = vec![priced("A", 1, 100)];
        let totals = totals(&lines, None, &money(0), &[], "CNY").unwrap();
        let english = view(lines, totals);
        let mut chinese = english.clone();
        chinese.lines[0].title = "茶".into();
        assert_eq!(fingerprint(&english, &[]), fingerprint(&chinese, &[]));
    }

    /// The total is the same in all of them.
    #[test]
    fn the_fingerprint_holds_all_that_a_shopper_agrees_to() {
        let lines = vec![priced("A", 1, 100)];
        let totals = totals(&lines, None, &money(0), &[], "CNY").unwrap();
        let agreed = View { shipping_address: Some(address()), contact: Some(contact()), ..view(lines, totals) };
        let identity = |digest: &str| vec![Some(Identity { product: "cup".into(), title: "Cup".into(), variant_title: "Green".into(), digest: digest.into() })];
        let changed = |change: fn(&mut View)| {
            let mut view = agreed.clone();
            change(&mut view);
            fingerprint(&view, &identity("green"))
        };
        let of = [
            changed(|_| ()),
            fingerprint(&agreed, &identity("blue")),
            changed(|view| view.contact.as_mut().unwrap().email = "other@shop.example".into()),
            changed(|view| view.shipping_address.as_mut().unwrap().street = "2 Lake Road".into()),
            changed(|view| view.shipping_address.as_mut().unwrap().name = "Han".into()),
            changed(|view| view.billing_address = Some(address())),
            changed(|view| view.lines[0].sku = "B".into()),
            changed(|view| view.shipping_method = Some(method("post"))),
            changed(|view| view.shipping_method = Some(method("air"))),
        ];
        assert_eq!(of.iter().collect::<std::collections::BTreeSet<_>>().len(), of.len());
    }

    fn contact() -> Contact {
        Contact { email: "li.lei@shop.example".into(), phone: String::new() }
    }

    fn address() -> Address {
        let none = String::new;
        Address { country: "CN".into(), name: "Li Lei".into(), phone: none(), company: none(), region: none(), city: none(), district: none(), street: "1 Lake Road".into(), postal_code: none() }
    }

    fn method(id: &str) -> souk_sdk::commerce::shipping::Method {
        souk_sdk::commerce::shipping::Method { id: id.into(), name: id.into(), description: String::new(), price: money(0), days_min: 1, days_max: 2 }
    }

    #[test]
    fn what_is_not_sold_any_more_stays_without_a_price_and_cannot_be_bought() {
        let gone = line(&basket::Line { sku: "OLD".into(), quantity: 2, price: None }, None, None, None, 5, "CNY").unwrap();
        assert_eq!((gone.available, gone.total.amount, gone.title.as_str()), (0, 0, "OLD"));
        let known = Identity { product: "shelf".into(), title: "Pine shelf".into(), variant_title: "Large".into(), digest: String::new() };
        let withdrawn = line(&basket::Line { sku: "OLD".into(), quantity: 2, price: None }, None, Some(&known), None, 5, "CNY").unwrap();
        assert_eq!((withdrawn.available, withdrawn.title.as_str(), withdrawn.variant_title.as_str()), (0, "Pine shelf", "Large"));
        let foreign = Price { unit: Money::new(5, "USD"), regular: Money::new(5, "USD"), source: "base".into() };
        let line = line(&basket::Line { sku: "A".into(), quantity: 2, price: None }, None, None, Some(&foreign), 5, "CNY").unwrap();
        assert_eq!((line.available, line.total), (0, money(0)));
    }
}
