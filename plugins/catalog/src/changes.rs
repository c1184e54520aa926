//! What an import changes of a product or a category, for people: each field from what to what. Pure.

use souk_sdk::config::ShopFacts;
use souk_sdk::money::Money;

use crate::document::{Category, Product, Text, Variant};

/// A longer text is shown by its beginning.
const SHOWN_CHARS_MAX: usize = 40;
/// Of one product.
const CHANGES_MAX: usize = 20;

pub fn of(before: &Product, after: &Product, shop: &ShopFacts) -> Vec<String> {
    let mut changes = Vec::new();
    let mut change = |field: &str, before: &str, after: &str| {
        if before != after {
            changes.push(format!("{field} {} → {}", shown(before), shown(after)));
        }
    };
    for locale in &shop.locales {
        let of = |text: &Text| text.0.get(locale).cloned().unwrap_or_default();
        for (field, before, after) in [("name", &before.name, &after.name), ("subtitle", &before.subtitle, &after.subtitle), ("description", &before.description, &after.description)] {
            change(&format!("{field} [{locale}]"), &of(before), &of(after));
        }
    }
    change("brand", &before.brand, &after.brand);
    change("category", &before.category, &after.category);
    change("tags", &before.tags.join(", "), &after.tags.join(", "));
    change("tax class", &before.tax_class, &after.tax_class);
    change("position", &before.position.to_string(), &after.position.to_string());
    change("created at", &before.created_at, &after.created_at);
    change("pictures", &before.images.join(", "), &after.images.join(", "));
    let money = |amount: Option<i64>| amount.map_or_else(String::new, |amount| Money::new(amount, &shop.currency).to_decimal());
    for variant in &after.variants {
        let Some(old) = before.variants.iter().find(|old| old.sku == variant.sku) else {
            change("variant", "", &variant.sku);
            continue;
        };
        let sku = &variant.sku;
        change(&format!("{sku}: price"), &money(Some(old.price)), &money(Some(variant.price)));
        change(&format!("{sku}: compare-at price"), &money(old.compare_at_price), &money(variant.compare_at_price));
        change(&format!("{sku}: weight in grams"), &old.weight_g.to_string(), &variant.weight_g.to_string());
        change(&format!("{sku}: barcode"), old.barcode.as_deref().unwrap_or_default(), variant.barcode.as_deref().unwrap_or_default());
        change(&format!("{sku}: options"), &values(before, old, shop), &values(after, variant, shop));
    }
    for gone in before.variants.iter().filter(|old| !after.variants.iter().any(|variant| variant.sku == old.sku)) {
        change("variant", &gone.sku, "");
    }
    if before.attributes != after.attributes {
        changes.push(format!("attributes: {} → {} of them, or other texts", before.attributes.len(), after.attributes.len()));
    }
    let more = changes.len().saturating_sub(CHANGES_MAX);
    if more > 0 {
        changes.truncate(CHANGES_MAX);
        changes.push(format!("… and {more} more"));
    }
    changes
}

pub fn of_category(before: &Category, after: &Category, locales: &[String]) -> Vec<String> {
    let mut fields: Vec<(String, String, String)> = Vec::new();
    for locale in locales {
        let of = |text: &Text| text.0.get(locale).cloned().unwrap_or_default();
        fields.push((format!("name [{locale}]"), of(&before.name), of(&after.name)));
        fields.push((format!("description [{locale}]"), of(&before.description), of(&after.description)));
    }
    let parent = |category: &Category| category.parent.clone().unwrap_or_default();
    fields.push(("parent".into(), parent(before), parent(after)));
    fields.push(("position".into(), before.position.to_string(), after.position.to_string()));
    fields.into_iter().filter(|(_, before, after)| before != after).map(|(field, before, after)| format!("{field} {} → {}", shown(&before), shown(&after))).collect()
}

fn values(product: &Product, variant: &Variant, shop: &ShopFacts) -> String {
    let default = shop.locales.first().map_or("", String::as_str);
    let name = |(option, id): (&crate::document::ProductOption, &String)| {
        option.values.iter().find(|value| value.id == *id).map_or_else(|| id.clone(), |value| value.name.pick(default, default).to_owned())
    };
    product.options.iter().zip(&variant.options).map(name).collect::<Vec<_>>().join(" / ")
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        _ if text.is_empty() => "(none)".into(),
        Some((end, _)) => format!("“{}…”", &text[..end]),
        None => format!("“{text}”"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_told_from_what_to_what_and_no_more_than_fit() {
        let shop = ShopFacts { name: String::new(), currency: "CNY".into(), locales: vec!["en".into()], ..souk_sdk::config::shop() };
        let variant = |sku: &str, price| Variant { sku: sku.into(), options: Vec::new(), price, compare_at_price: None, weight_g: 0, barcode: None };
        let before = Product { brand: "Lane".into(), variants: vec![variant("A", 1_000)], ..Product::new("cup") };
        let after = Product { brand: "茶".repeat(60), variants: vec![variant("A", 1_250)], ..before.clone() };
        assert_eq!(of(&before, &before, &shop), Vec::<String>::new());
        assert_eq!(of(&before, &after, &shop), [format!("brand “Lane” → “{}…”", "茶".repeat(40)), "A: price “10.00” → “12.50”".into()]);
        let many = Product { variants: (0..30).map(|number| variant(&format!("S{number}"), 1)).collect(), ..before.clone() };
        let told = of(&before, &many, &shop);
        assert_eq!((told.len(), told.last().map(String::as_str)), (CHANGES_MAX + 1, Some("… and 11 more")));
    }
}
