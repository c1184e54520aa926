//! What is stored of products and categories, and the rules it keeps to. Pure:
//! used by imports and by what is shown, knows no storage.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub const HANDLE_CHARS_MAX: usize = 100;
pub const SKU_CHARS_MAX: usize = 100;
pub const VARIANTS_MAX: usize = 500;
pub const TEXT_BYTES_MAX: usize = 32 * 1024;
/// With it, `price × 999 × 200 lines` is far from the end of 64 bits.
pub const PRICE_MAX: i64 = 1_000_000_000_000;
pub const DEFAULT_TAX_CLASS: &str = "standard";
/// Categories above one another.
pub const DEPTH_MAX: usize = 8;

/// A text in each of the shop's languages, by locale.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text(pub BTreeMap<String, String>);

impl Text {
    /// The locale's text, else one of its language, else the default locale's, else any.
    pub fn pick(&self, locale: &str, default: &str) -> &str {
        let language = language(locale);
        let found = (self.0.get(locale))
            .or_else(|| self.0.iter().find(|(other, _)| crate::document::language(other) == language).map(|(_, text)| text))
            .or_else(|| self.0.get(default))
            .or_else(|| self.0.values().next());
        found.map_or("", String::as_str)
    }

    /// Blank texts say nothing: without them another language is shown.
    fn normalise(&mut self) {
        for text in self.0.values_mut() {
            let normal = text.replace("\r\n", "\n");
            *text = normal.trim().to_owned();
        }
        self.0.retain(|_, text| !text.is_empty());
    }
}

fn language(locale: &str) -> &str {
    locale.split(['-', '_']).next().unwrap_or_default()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Attribute {
    pub name: Text,
    pub value: Text,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OptionValue {
    pub id: String,
    pub name: Text,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProductOption {
    pub name: Text,
    pub values: Vec<OptionValue>,
}

/// Prices are minor units of the shop's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Variant {
    pub sku: String,
    #[serde(default)]
    pub options: Vec<String>,
    pub price: i64,
    #[serde(default)]
    pub compare_at_price: Option<i64>,
    #[serde(default)]
    pub weight_g: u32,
    #[serde(default)]
    pub barcode: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Product {
    pub handle: String,
    pub category: String,
    pub name: Text,
    #[serde(default)]
    pub subtitle: Text,
    #[serde(default)]
    pub description: Text,
    #[serde(default)]
    pub brand: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    #[serde(default)]
    pub options: Vec<ProductOption>,
    pub variants: Vec<Variant>,
    /// Files under `/media/`, or whole addresses.
    #[serde(default)]
    pub images: Vec<String>,
    #[serde(default = "default_tax_class")]
    pub tax_class: String,
    #[serde(default)]
    pub position: u32,
    /// RFC 3339, UTC; empty in an import means now, or unchanged.
    #[serde(default)]
    pub created_at: String,
}

fn default_tax_class() -> String {
    DEFAULT_TAX_CLASS.into()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Category {
    pub handle: String,
    #[serde(default)]
    pub parent: Option<String>,
    pub name: Text,
    #[serde(default)]
    pub description: Text,
    #[serde(default)]
    pub position: u32,
}

/// A product as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    pub revision: u64,
    /// Locales that projections were written for.
    pub locales: Vec<String>,
    pub product: Product,
}

/// What is wrong with one field, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    pub field: String,
    pub problem: String,
    pub remedy: String,
}

impl Fault {
    pub fn new(field: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

pub fn created_ms(product: &Product) -> Option<u64> {
    let at: jiff::Timestamp = product.created_at.parse().ok()?;
    at.as_millisecond().try_into().ok()
}

/// Lower-case words joined by hyphens: part of addresses and of keys.
pub fn is_handle(text: &str) -> bool {
    (1..=HANDLE_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

pub fn is_sku(text: &str) -> bool {
    (1..=SKU_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Product {
    /// One form for what means the same, so that content can be compared.
    pub fn normalise(&mut self) {
        for text in [&mut self.name, &mut self.subtitle, &mut self.description] {
            text.normalise();
        }
        for attribute in &mut self.attributes {
            attribute.name.normalise();
            attribute.value.normalise();
        }
        self.brand = self.brand.trim().to_owned();
        for (place, option) in self.options.iter_mut().enumerate() {
            option.name.normalise();
            // In the order the variants use them; those that none uses go.
            let used: Vec<&str> = self.variants.iter().filter_map(|it| it.options.get(place).map(String::as_str)).collect();
            let rank = |id: &str| used.iter().position(|other| *other == id);
            option.values.retain(|value| rank(&value.id).is_some());
            option.values.sort_by_key(|value| rank(&value.id));
            for value in &mut option.values {
                value.name.normalise();
            }
        }
        for variant in &mut self.variants {
            variant.barcode = variant.barcode.take().filter(|barcode| !barcode.trim().is_empty());
        }
        let mut seen = BTreeSet::new();
        self.tags.retain_mut(|tag| {
            *tag = tag.trim().to_owned();
            !tag.is_empty() && seen.insert(tag.clone())
        });
        self.images.retain(|image| !image.trim().is_empty());
    }

    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, problem: String, remedy: &str| faults.push(Fault::new(field, problem, remedy));
        if !is_handle(&self.handle) {
            fault("handle", format!("`{}` is not a handle", self.handle), "use 1 to 100 of a-z, 0-9 and hyphens");
        }
        if self.name.0.is_empty() {
            fault("name", "there is no name".into(), "give a name in at least one language");
        }
        for (field, text) in [("name", &self.name), ("subtitle", &self.subtitle), ("description", &self.description)] {
            if text.0.values().any(|text| text.len() > TEXT_BYTES_MAX) {
                fault(field, format!("the text has more than {TEXT_BYTES_MAX} bytes"), "shorten it");
            }
        }
        if !self.created_at.is_empty() && created_ms(self).is_none() {
            fault("created-at", format!("`{}` is not an instant", self.created_at), "write it as 2026-03-01T00:00:00Z");
        }
        if self.images.iter().any(|image| image.len() > 2_000 || image.contains(['\n', ' ', ';'])) {
            fault("images", "an image is not a file name or an address".into(), "remove blanks and semicolons from it");
        }
        if !(1..=VARIANTS_MAX).contains(&self.variants.len()) {
            fault("variants", format!("there are {} variants", self.variants.len()), "give 1 to 500 variants");
        }
        let (mut skus, mut combinations) = (BTreeSet::new(), BTreeSet::new());
        for (place, variant) in self.variants.iter().enumerate() {
            let field = |name: &str| format!("variants[{place}].{name}");
            if !is_sku(&variant.sku) {
                fault(&field("sku"), format!("`{}` is not a sku", variant.sku), "use 1 to 100 ASCII characters without blanks");
            }
            if !skus.insert(&variant.sku) {
                fault(&field("sku"), format!("`{}` occurs twice", variant.sku), "give each variant a sku of its own");
            }
            if !combinations.insert(&variant.options) {
                fault(&field("options"), "another variant has the same options".into(), "change one of them");
            }
            if !(0..=PRICE_MAX).contains(&variant.price) {
                fault(&field("price"), format!("{} is not a price", variant.price), "use minor units from 0 to 10^12");
            }
            if variant.compare_at_price.is_some_and(|price| !(0..=PRICE_MAX).contains(&price)) {
                fault(&field("compare-at-price"), "it is not a price".into(), "use minor units from 0 to 10^12");
            }
            if variant.options.len() != self.options.len() {
                let problem = format!("{} values for {} options", variant.options.len(), self.options.len());
                fault(&field("options"), problem, "give one value for each option, in their order");
            }
            for (option, id) in self.options.iter().zip(&variant.options) {
                if !option.values.iter().any(|value| value.id == *id) {
                    fault(&field("options"), format!("`{id}` is no value of its option"), "use the id of one of the option's values");
                }
            }
        }
        for (place, option) in self.options.iter().enumerate() {
            if option.name.0.is_empty() || option.values.iter().any(|value| value.name.0.is_empty()) {
                fault(&format!("options[{place}]"), "the option or one of its values has no name".into(), "name it");
            }
            let ids: BTreeSet<&str> = option.values.iter().map(|value| value.id.as_str()).collect();
            if ids.len() != option.values.len() {
                fault(&format!("options[{place}].values"), "an id occurs twice".into(), "give each value an id of its own");
            }
        }
        faults
    }
}

/// All categories.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    categories: BTreeMap<String, Category>,
    /// Place in the shop's order, by handle.
    ranks: BTreeMap<String, usize>,
}

impl Tree {
    pub fn new(categories: impl IntoIterator<Item = Category>) -> Self {
        let mut tree = Self::default();
        tree.extend(categories);
        tree
    }

    pub fn extend(&mut self, categories: impl IntoIterator<Item = Category>) {
        for mut category in categories {
            category.name.normalise();
            category.description.normalise();
            self.categories.insert(category.handle.clone(), category);
        }
        self.ranks = self.in_order().into_iter().enumerate().map(|(rank, it)| (it.handle.clone(), rank)).collect();
    }

    /// Sorts listings across categories.
    pub fn rank(&self, handle: &str) -> usize {
        self.ranks.get(handle).copied().unwrap_or(self.ranks.len())
    }

    /// Whether order and ancestors of all categories are the same.
    pub fn same_shape(&self, other: &Self) -> bool {
        let parents = |tree: &Self| tree.categories.values().map(|it| it.parent.clone()).collect::<Vec<_>>();
        self.ranks == other.ranks && parents(self) == parents(other)
    }

    pub fn get(&self, handle: &str) -> Option<&Category> {
        self.categories.get(handle)
    }

    /// From the category up to its root; cut off where a cycle would begin.
    pub fn chain(&self, handle: &str) -> Vec<String> {
        let mut chain = Vec::new();
        let mut at = self.categories.get(handle);
        while let Some(category) = at.filter(|_| chain.len() <= DEPTH_MAX) {
            chain.push(category.handle.clone());
            at = category.parent.as_ref().and_then(|parent| self.categories.get(parent));
        }
        chain
    }

    /// Each is followed by what is below it, siblings in the shop's order.
    pub fn in_order(&self) -> Vec<&Category> {
        let mut children: BTreeMap<Option<&str>, Vec<&Category>> = BTreeMap::new();
        for category in self.categories.values() {
            children.entry(category.parent.as_deref()).or_default().push(category);
        }
        for siblings in children.values_mut() {
            siblings.sort_by_key(|category| (category.position, &category.handle));
        }
        // Depth first; what is left to visit lies on a stack, so the next comes last.
        let mut open: Vec<&Category> = children.remove(&None).into_iter().flatten().rev().collect();
        let mut ordered = Vec::new();
        while let Some(category) = open.pop() {
            ordered.push(category);
            open.extend(children.remove(&Some(category.handle.as_str())).into_iter().flatten().rev());
        }
        ordered
    }

    pub fn faults(&self, handle: &str) -> Vec<Fault> {
        let Some(category) = self.categories.get(handle) else { return Vec::new() };
        let mut faults = Vec::new();
        if !is_handle(handle) {
            faults.push(Fault::new("handle", format!("`{handle}` is not a handle"), "use 1 to 100 of a-z, 0-9 and hyphens"));
        }
        if category.name.0.is_empty() {
            faults.push(Fault::new("name", "there is no name", "give a name in at least one language"));
        }
        if let Some(parent) = category.parent.as_deref().filter(|parent| !self.categories.contains_key(*parent)) {
            faults.push(Fault::new("parent", format!("there is no category `{parent}`"), "import the parent too, or correct its handle"));
        }
        if self.chain(handle).len() > DEPTH_MAX {
            faults.push(Fault::new("parent", "it is below itself, or more than 8 levels deep", "choose another parent"));
        }
        faults
    }
}
