//! From stored documents to what the interface answers in one locale. Pure.

use souk_sdk::Money;
use souk_sdk::commerce::catalog as wit;
use souk_sdk::commerce::catalog_records::Identity;

use crate::current::{Base, Summarised};
use crate::document::{Product, Stored, Tree, created_ms};

/// Pictures of the shop's own are square and of one size.
const OWN_IMAGE_PIXELS: u16 = 640;

/// Where and for whom a projection is made.
pub struct View<'a> {
    pub locale: &'a str,
    pub default_locale: &'a str,
    pub currency: &'a str,
}

impl View<'_> {
    fn money(&self, amount: i64) -> Money {
        Money::new(amount, self.currency)
    }

    fn text(&self, text: &crate::document::Text) -> String {
        text.pick(self.locale, self.default_locale).to_owned()
    }

    /// A former price that is no higher is none: nothing became cheaper.
    fn former(&self, variant: &crate::document::Variant) -> Option<Money> {
        variant.compare_at_price.filter(|former| *former > variant.price).map(|former| self.money(former))
    }

    pub fn product(&self, stored: &Stored) -> wit::Product {
        let product = &stored.product;
        let variant = |variant: &crate::document::Variant| wit::Variant {
            sku: variant.sku.clone(),
            options: variant.options.clone(),
            title: self.variant_title(product, variant),
            price: self.money(variant.price),
            compare_at: self.former(variant),
            weight_g: variant.weight_g,
            barcode: variant.barcode.clone(),
        };
        let option = |option: &crate::document::ProductOption| wit::ProductOption {
            name: self.text(&option.name),
            values: (option.values.iter())
                .map(|value| wit::OptionValue { id: value.id.clone(), name: self.text(&value.name) })
                .collect(),
        };
        wit::Product {
            handle: product.handle.clone(),
            title: self.text(&product.name),
            subtitle: self.text(&product.subtitle),
            description: self.text(&product.description),
            brand: product.brand.clone(),
            category: product.category.clone(),
            tags: product.tags.clone(),
            attributes: (product.attributes.iter())
                .map(|it| wit::Attribute { name: self.text(&it.name), value: self.text(&it.value) })
                .collect(),
            options: product.options.iter().map(option).collect(),
            variants: product.variants.iter().map(variant).collect(),
            images: product.images.iter().map(|source| self.image(product, source)).collect(),
            tax_class: product.tax_class.clone(),
            created_ms: created_ms(product).unwrap_or_default(),
            revision: stored.revision,
        }
    }

    pub fn summarised(&self, product: &Product) -> Summarised {
        Summarised { summary: self.summary(product), bases: Base::of(product) }
    }

    fn summary(&self, product: &Product) -> wit::ProductSummary {
        let cheapest = product.variants.iter().min_by_key(|variant| variant.price);
        let price_max = product.variants.iter().map(|variant| variant.price).max().unwrap_or_default();
        wit::ProductSummary {
            handle: product.handle.clone(),
            title: self.text(&product.name),
            subtitle: self.text(&product.subtitle),
            category: product.category.clone(),
            image: product.images.first().map(|source| self.image(product, source)),
            price_min: self.money(cheapest.map_or(0, |variant| variant.price)),
            price_max: self.money(price_max),
            compare_at: cheapest.and_then(|variant| self.former(variant)),
            variant_count: product.variants.len() as u32,
            only_sku: if let [only] = product.variants.as_slice() { Some(only.sku.clone()) } else { None },
        }
    }

    pub fn sellable(&self, product: &Product, sku: &str, tree: &Tree) -> Option<wit::Sellable> {
        let variant = product.variants.iter().find(|variant| variant.sku == sku)?;
        Some(wit::Sellable {
            sku: variant.sku.clone(),
            product: product.handle.clone(),
            title: self.text(&product.name),
            variant_title: self.variant_title(product, variant),
            image: product.images.first().map(|source| self.image(product, source)),
            price: self.money(variant.price),
            weight_g: variant.weight_g,
            category: product.category.clone(),
            categories: tree.chain(&product.category),
            tags: product.tags.clone(),
            tax_class: product.tax_class.clone(),
        })
    }

    pub fn identity(&self, product: &Product, sku: &str) -> Option<Identity> {
        let variant = product.variants.iter().find(|variant| variant.sku == sku)?;
        Some(Identity {
            product: product.handle.clone(),
            title: self.text(&product.name),
            variant_title: self.variant_title(product, variant),
            digest: product.digest_of(variant),
        })
    }

    pub fn category(&self, category: &crate::document::Category, product_count: u32) -> wit::Category {
        let name = self.text(&category.name);
        wit::Category {
            handle: category.handle.clone(),
            description: self.text(&category.description),
            parent: category.parent.clone(),
            image: (!category.is_bare()).then(|| wit::Image {
                url: format!("/media/category-{}.webp", category.handle),
                alt: name.clone(),
                width: OWN_IMAGE_PIXELS,
                height: OWN_IMAGE_PIXELS,
            }),
            name,
            product_count,
        }
    }

    /// The values' names, as a list and not a sentence: it needs no translation.
    fn variant_title(&self, product: &Product, variant: &crate::document::Variant) -> String {
        let names = product.options.iter().zip(&variant.options).map(|(option, id)| {
            let value = option.values.iter().find(|value| value.id == *id);
            value.map_or(id.as_str(), |value| value.name.pick(self.locale, self.default_locale))
        });
        names.collect::<Vec<_>>().join(" / ")
    }

    /// The size of a picture elsewhere is not known: 0.
    fn image(&self, product: &Product, source: &str) -> wit::Image {
        let own = !source.contains("://") && !source.starts_with('/');
        let (url, side) = if own { (format!("/media/{source}"), OWN_IMAGE_PIXELS) } else { (source.to_owned(), 0) };
        wit::Image { url, alt: self.text(&product.name), width: side, height: side }
    }
}
