//! `set-price`: one variant's price, without a file.

use souk_sdk::{Money, config};

use crate::document::{PRICE_MAX, Stored, is_sku};
use crate::store::{self, Writer};

const USE: &str = "use: set-price sku=SKU price=12.50 [compare-at=15.00 | compare-at=none]";

pub fn set(arguments: &[(String, String)]) -> Result<String, String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    if let Some((unknown, _)) = arguments.iter().find(|(name, _)| !["sku", "price", "compare-at"].contains(&name.as_str())) {
        return Err(format!("there is no `{unknown}` here; {USE}"));
    }
    let Some(sku) = argument("sku") else { return Err(format!("which variant? {USE}")) };
    if argument("price").is_none() && argument("compare-at").is_none() {
        return Err(format!("what is it to cost? {USE}"));
    }
    let currency = config::shop().currency;
    let amount = |field: &str, text: &str| {
        let amount = Money::from_decimal(text, &currency).ok().map(|money| money.amount).filter(|amount| (0..=PRICE_MAX).contains(amount));
        amount.ok_or_else(|| format!("{field}: `{text}` is not an amount of {currency}: write it like 12.50, without a symbol"))
    };
    let owner = Some(sku).filter(|sku| is_sku(sku)).and_then(store::owner_of);
    let Some(old) = owner.and_then(|handle| store::stored(&handle)) else { return Err(format!("no product has the sku `{sku}`: `souk store export` lists them")) };
    let Stored { mut product, .. } = old.clone();
    let Some(variant) = product.variants.iter_mut().find(|variant| variant.sku == sku) else { return Err(format!("no product has the sku `{sku}`")) };
    let before = (variant.price, variant.compare_at_price);
    if let Some(text) = argument("price") {
        variant.price = amount("price", text)?;
    }
    match argument("compare-at") {
        None => {}
        Some("none" | "") => variant.compare_at_price = None,
        Some(text) => variant.compare_at_price = Some(amount("compare-at", text)?),
    }
    let after = (variant.price, variant.compare_at_price);
    let shown = |(price, compare_at): (i64, Option<i64>)| {
        let decimal = |amount: i64| Money::new(amount, &currency).to_decimal();
        let compare_at = compare_at.map_or(String::new(), |amount| format!(", compared at {}", decimal(amount)));
        format!("{} {currency}{compare_at}", decimal(price))
    };
    if after == before {
        return Ok(format!("{sku} of {} costs {} already", product.handle, shown(after)));
    }
    let (handle, tree) = (product.handle.clone(), store::tree());
    let mut writer = Writer::new(tree.clone(), tree);
    writer.product(Some(&old), product, store::status(&handle));
    writer.finish();
    Ok(format!("{sku} of {handle} costs {} now; before: {}", shown(after), shown(before)))
}
