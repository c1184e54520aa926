//! `list-products` and `list-stock`: rows for `souk list`.

use serde::Serialize;
use souk_sdk::commerce::stock_counts::{Policy, Stock};
use souk_sdk::{Money, config};

use crate::document::{Status, Stored, is_handle, is_sku};
use crate::store;

const LIMIT_MAX: u32 = 501;

#[derive(Serialize)]
struct ProductRow {
    handle: String,
    name: String,
    status: Status,
    category: String,
    /// The lowest of its variants.
    price: Money,
    variants: usize,
}

#[derive(Serialize)]
struct StockRow {
    sku: String,
    product: String,
    on_hand: i64,
    policy: Policy,
    price: Money,
}

/// Where to go on, and how many at most.
fn page(arguments: &[(String, String)]) -> Result<(Option<&str>, u32), String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    let limit = argument("limit").map_or(Ok(50), str::parse::<u32>).map_err(|_| "limit: give a number".to_owned())?;
    Ok((argument("after"), limit.clamp(1, LIMIT_MAX)))
}

pub fn products(arguments: &[(String, String)]) -> Result<Vec<u8>, String> {
    let (after, limit) = page(arguments)?;
    if let Some(after) = after.filter(|after| !is_handle(after) || store::stored(after).is_none()) {
        return Err(format!("after: no product has the handle `{after}`: begin anew without it"));
    }
    let shop = config::shop();
    let locale = shop.locales.first().map_or("", String::as_str);
    let row = |handle: String| {
        let Stored { product, .. } = store::stored(&handle)?;
        let price = product.variants.iter().map(|variant| variant.price).min().unwrap_or(0);
        Some(ProductRow {
            status: store::status(&handle),
            name: product.name.pick(locale, locale).to_owned(),
            category: product.category,
            price: Money::new(price, &shop.currency),
            variants: product.variants.len(),
            handle,
        })
    };
    json(&store::all_handles(after, limit).into_iter().filter_map(row).collect::<Vec<_>>())
}

pub fn stock(arguments: &[(String, String)], get: &dyn Fn(&[String]) -> Vec<Stock>) -> Result<Vec<u8>, String> {
    let (after, limit) = page(arguments)?;
    if let Some(after) = after.filter(|after| !is_sku(after) || store::owner_of(after).is_none()) {
        return Err(format!("after: no product has the sku `{after}`: begin anew without it"));
    }
    let currency = config::shop().currency;
    let owned = store::skus(after, limit);
    let skus: Vec<String> = owned.iter().map(|(sku, _)| sku.clone()).collect();
    let rows = owned.into_iter().zip(get(&skus)).map(|((sku, product), stock)| {
        let stored = store::stored(&product);
        let price = stored.iter().flat_map(|stored| &stored.product.variants).find(|variant| variant.sku == sku).map_or(0, |variant| variant.price);
        StockRow { sku, product, on_hand: stock.quantity, policy: stock.policy, price: Money::new(price, &currency) }
    });
    json(&rows.collect::<Vec<_>>())
}

fn json(rows: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec_pretty(rows).map_err(|error| error.to_string())
}
