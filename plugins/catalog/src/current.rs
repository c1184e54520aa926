//! What products cost everybody now. The catalogue keeps base prices; what comes
//! of them is said by `souk:commerce/pricing` alone, which also prices the lines
//! of carts. It is asked for one piece of each variant whenever a product is read,
//! so what is shown changes at the instant that the price does.

use serde::{Deserialize, Serialize};
use souk_sdk::Money;
use souk_sdk::commerce::catalog::{Product, ProductSummary};
use souk_sdk::commerce::pricing::{Price, Request};

use crate::document;

/// What a variant costs before any price list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    pub sku: String,
    pub price: i64,
    /// The retailer's own, also where it is no higher.
    pub former: Option<i64>,
}

impl Base {
    pub fn of(product: &document::Product) -> Vec<Self> {
        let base = |variant: &document::Variant| Self { sku: variant.sku.clone(), price: variant.price, former: variant.compare_at_price };
        product.variants.iter().map(base).collect()
    }
}

/// A summary with what its variants cost at base, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summarised {
    pub summary: ProductSummary,
    pub bases: Vec<Base>,
}

/// The cheapest and the dearest variant: what listings and searches go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub min: i64,
    pub max: i64,
}

impl Span {
    fn over(prices: impl Iterator<Item = i64> + Clone) -> Self {
        Self { min: prices.clone().min().unwrap_or_default(), max: prices.max().unwrap_or_default() }
    }

    pub fn of_bases(bases: &[Base]) -> Self {
        Self::over(bases.iter().map(|base| base.price))
    }
}

struct Current {
    unit: Money,
    compare_at: Option<Money>,
}

/// A former price that is no higher is none: nothing became cheaper. During a sale the
/// regular price is what it was before.
fn current(base: &Money, former: Option<Money>, price: Price) -> Current {
    // The cart does not sell at such a price; there is none to show.
    let is_sound = |money: &Money| money.currency == base.currency && money.amount >= 0;
    let unit = if is_sound(&price.unit) { price.unit } else { base.clone() };
    let is_higher = |other: &Money| is_sound(other) && other.amount > unit.amount;
    let compare_at = Some(price.regular).filter(is_higher).or(former.filter(is_higher));
    Current { unit, compare_at }
}

pub fn product(product: &mut Product) {
    let requests = product.variants.iter().map(|variant| request(&variant.sku, variant.price.clone())).collect();
    for (variant, price) in product.variants.iter_mut().zip(prices(requests)) {
        let Current { unit, compare_at } = current(&variant.price, variant.compare_at.take(), price);
        (variant.price, variant.compare_at) = (unit, compare_at);
    }
}

pub fn summaries(found: Vec<Option<Summarised>>) -> Vec<Option<ProductSummary>> {
    let requests = found.iter().flatten().flat_map(|it| it.bases.iter().map(|base| request(&base.sku, Money::new(base.price, &it.summary.price_min.currency))));
    let mut prices = prices(requests.collect()).into_iter();
    let priced = found.into_iter().map(|found| {
        let Summarised { mut summary, bases } = found?;
        let currency = summary.price_min.currency.clone();
        let of = |(base, price): (&Base, Price)| current(&Money::new(base.price, &currency), base.former.map(|former| Money::new(former, &currency)), price);
        let all: Vec<Current> = bases.iter().zip(prices.by_ref().take(bases.len())).map(of).collect();
        let span = Span::over(all.iter().map(|current| current.unit.amount));
        summary.compare_at = all.into_iter().min_by_key(|current| current.unit.amount).and_then(|cheapest| cheapest.compare_at);
        (summary.price_min.amount, summary.price_max.amount) = (span.min, span.max);
        Some(summary)
    });
    priced.collect()
}

/// One for each list of bases.
pub fn spans(all: &[Vec<Base>], currency: &str) -> Vec<Span> {
    let requests = all.iter().flatten().map(|base| request(&base.sku, Money::new(base.price, currency)));
    let mut prices = prices(requests.collect()).into_iter();
    let span = |bases: &Vec<Base>| {
        let of = |(base, price): (&Base, Price)| current(&Money::new(base.price, currency), None, price).unit.amount;
        let units: Vec<i64> = bases.iter().zip(prices.by_ref().take(bases.len())).map(of).collect();
        Span::over(units.into_iter())
    };
    all.iter().map(span).collect()
}

fn request(sku: &str, base: Money) -> Request {
    Request { sku: sku.into(), quantity: 1, base }
}

#[cfg(not(test))]
fn prices(requests: Vec<Request>) -> Vec<Price> {
    if requests.is_empty() { Vec::new() } else { souk_sdk::commerce::pricing::prices(&requests) }
}

#[cfg(test)]
use fake::prices;

/// In native tests there is no other plugin.
#[cfg(test)]
pub mod fake {
    use std::cell::Cell;

    use super::{Price, Request};
    use souk_sdk::Money;

    thread_local! {
        /// Taken off what costs this or more.
        pub static SALE: Cell<(i64, i64)> = const { Cell::new((0, i64::MAX)) };
    }

    pub fn prices(requests: Vec<Request>) -> Vec<Price> {
        let (off, from) = SALE.get();
        let price = |Request { base, .. }: Request| {
            let off = if base.amount >= from { off } else { 0 };
            Price { unit: Money::new(base.amount - off, &base.currency), regular: base, source: "sale".into() }
        };
        requests.into_iter().map(price).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cny(amount: i64) -> Money {
        Money::new(amount, "CNY")
    }

    #[test]
    fn what_is_struck_through_is_higher_and_the_regular_price_during_a_sale() {
        for (unit, regular, former, shown) in [
            (100, 100, None, (100, None)),
            (100, 100, Some(120), (100, Some(120))),
            (100, 100, Some(90), (100, None)),
            (50, 100, Some(120), (50, Some(100))),
            (110, 100, Some(105), (110, None)),
        ] {
            let price = Price { unit: cny(unit), regular: cny(regular), source: "s".into() };
            let current = current(&cny(100), former.map(cny), price);
            assert_eq!((current.unit.amount, current.compare_at.map(|money| money.amount)), shown);
        }
        let foreign = Price { unit: Money::new(1, "USD"), regular: Money::new(200, "USD"), source: "s".into() };
        let current = current(&cny(100), None, foreign);
        assert_eq!((current.unit, current.compare_at), (cny(100), None));
    }
}
