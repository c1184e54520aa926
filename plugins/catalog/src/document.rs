//! What is stored of products and categories, and the rules it keeps to. Pure:
//! used by imports and by what is shown, knows no storage.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use souk_sdk::crypto;

/// As long as the systems that products come from allow; keys have room for it.
pub const HANDLE_BYTES_MAX: usize = 255;
/// Of a category, which begins the keys of listings.
pub const CATEGORY_BYTES_MAX: usize = 100;
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
            let normal: String = text.replace("\r\n", "\n").chars().filter(|sign| !is_unseen(*sign)).collect();
            *text = normal.trim().to_owned();
        }
        self.0.retain(|_, text| !text.is_empty());
    }
}

/// What no text of a shop has: signs that control a device, and those that turn the letters of what stands
/// around them. Marks of right-to-left scripts are none of these.
fn is_unseen(sign: char) -> bool {
    (sign.is_control() && !matches!(sign, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(&sign)
}

/// Whether it can be the name of a file of `media/` or a whole address: nothing leads out of the folder.
fn is_image(image: &str) -> bool {
    let scheme = image.split_once("://").map(|(scheme, _)| scheme.to_lowercase());
    let path = image.split(['?', '#']).next().unwrap_or_default();
    image.len() <= 2_000
        && !image.contains(|sign: char| is_unseen(sign) || sign.is_whitespace() || matches!(sign, ';' | '\\' | '"' | '<' | '>'))
        && scheme.is_none_or(|scheme| ["http", "https"].contains(&scheme.as_str()))
        && !["javascript:", "data:", "vbscript:", "file:"].iter().any(|scheme| image.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        && path.split('/').all(|part| !matches!(part, "." | ".."))
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

/// After all that the catalogue's own file puts into an order.
const MADE_POSITION: u32 = 1_000;

impl Category {
    /// For products that name one that is not there.
    pub fn made(handle: &str, name: Text) -> Self {
        Self { handle: handle.into(), parent: None, name, description: Text::default(), position: MADE_POSITION }
    }

    /// Whether the catalogue says no more of it than a name: then there is no picture of it either.
    pub fn is_bare(&self) -> bool {
        self.position == MADE_POSITION && self.parent.is_none() && self.description == Text::default()
    }
}

/// A product as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    pub revision: u64,
    /// Locales that projections were written for.
    pub locales: Vec<String>,
    pub product: Product,
}

/// Whether a product can be found and bought; active where nothing is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    #[default]
    Active,
    Unlisted,
    Draft,
    Archived,
}

impl Status {
    pub const ALL: [(&'static str, Self); 4] =
        [("active", Self::Active), ("unlisted", Self::Unlisted), ("draft", Self::Draft), ("archived", Self::Archived)];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, status)| *status == self).map_or("active", |(name, _)| name)
    }

    /// Has a page, and can be bought.
    pub fn is_sold(self) -> bool {
        matches!(self, Self::Active | Self::Unlisted)
    }

    /// Stands in listings, search and sitemap.
    pub fn is_listed(self) -> bool {
        self == Self::Active
    }
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

/// Lower-case letters of any script, digits, hyphens and underscores: part of
/// addresses and of keys.
pub fn is_handle(text: &str) -> bool {
    (1..=HANDLE_BYTES_MAX).contains(&text.len()) && text.chars().all(is_handle_char)
}

fn is_handle_char(c: char) -> bool {
    match c {
        '-' | '_' => true,
        c if c.is_ascii() => c.is_ascii_lowercase() || c.is_ascii_digit(),
        c => c.is_alphanumeric() && c.to_lowercase().eq([c]),
    }
}

pub fn is_sku(text: &str) -> bool {
    (1..=SKU_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The handle under which a product of another system is kept: its own in small
/// letters where that is one, else its words with a mark that tells it from
/// others of the same words. The same for the same text, always.
pub fn handle_of(text: &str) -> String {
    let text = text.trim().to_lowercase();
    if is_handle(&text) { text } else { marked(&words(&text), &text, HANDLE_BYTES_MAX) }
}

/// The handle of a category that a file only names. Names of the same words are the same.
pub fn category_of(name: &str) -> String {
    let name = name.trim().to_lowercase();
    let words = words(&name);
    if (1..=CATEGORY_BYTES_MAX).contains(&words.len()) { words } else { marked(&words, &name, CATEGORY_BYTES_MAX) }
}

/// Words of letters and digits, joined by hyphens.
pub fn words(text: &str) -> String {
    let text = text.to_lowercase();
    let words = text.split(|c: char| c == '-' || !is_handle_char(c)).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// The sku under which a variant of another system is kept: see [`handle_of`].
pub fn sku_of(text: &str) -> String {
    let text = text.trim();
    if is_sku(text) { text.to_owned() } else { marked(&in_ascii(text), text, SKU_CHARS_MAX) }
}

/// For a variant to which nobody gave a sku: made of what it is, not of the row on which it stands.
pub fn sku_of_variant(handle: &str, values: &[&str]) -> String {
    let whole = std::iter::once(handle).chain(values.iter().copied()).collect::<Vec<_>>();
    let text = whole.join("-").to_uppercase();
    let plain = whole.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    if plain && is_sku(&text) { text } else { marked(&in_ascii(&text), &whole.join("\n"), SKU_CHARS_MAX) }
}

/// For a variant whose sku belongs to another one already.
pub fn sku_beside(sku: &str, handle: &str, values: &[&str]) -> String {
    let whole = [&[sku, handle], values].concat().join("\n");
    marked(sku, &whole, SKU_CHARS_MAX)
}

fn in_ascii(text: &str) -> String {
    let parts = text.split(|c: char| !c.is_ascii_graphic()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

/// `words`, cut where they are too long, and a mark of the whole text.
fn marked(words: &str, whole: &str, bytes_max: usize) -> String {
    let mark: String = crypto::digest(whole.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    match words[..words.floor_char_boundary(bytes_max - mark.len() - 1)].trim_end_matches('-') {
        "" => mark,
        words => format!("{words}-{mark}"),
    }
}

/// What an import leaves of a product that it does not name.
#[derive(Debug, Default, PartialEq)]
pub struct Missing {
    /// Skus of variants, and pictures.
    pub variants: Vec<String>,
    pub images: Vec<String>,
}

impl Product {
    pub fn new(handle: &str) -> Self {
        Self {
            handle: handle.into(),
            category: String::new(),
            name: Text::default(),
            subtitle: Text::default(),
            description: Text::default(),
            brand: String::new(),
            tags: Vec::new(),
            attributes: Vec::new(),
            options: Vec::new(),
            variants: Vec::new(),
            images: Vec::new(),
            tax_class: DEFAULT_TAX_CLASS.into(),
            position: 0,
            created_at: String::new(),
        }
    }

    /// What `old` has beside this. A variant of the same values, or one whose place another took, is not missing.
    pub fn missing_of(&self, old: &Self) -> Missing {
        let is_here = |variant: &Variant| self.variants.iter().any(|own| own.sku == variant.sku || own.options == variant.options);
        Missing {
            variants: old.variants.iter().filter(|variant| !is_here(variant)).map(|variant| variant.sku.clone()).collect(),
            images: old.images.iter().filter(|image| !self.images.contains(image)).cloned().collect(),
        }
    }

    /// Keeps of `old` what is missing here: variants in their order, pictures behind those
    /// that there are. Errs where its
    /// variants have other options, and would have to go.
    pub fn keep(&mut self, old: &Self, missing: &Missing) -> Result<(), Fault> {
        self.images.extend(missing.images.iter().cloned());
        if missing.variants.is_empty() {
            return Ok(());
        }
        if self.options.len() != old.options.len() {
            let skus = missing.variants.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
            let problem = match missing.variants.len() {
                1 => format!("it has a variant with other options, which is not in this import: {skus}"),
                count => format!("it has {count} variants with other options, which are not in this import: {skus}"),
            };
            return Err(Fault::new("options", problem, "add them with their options, or give --prune, which takes them out of the shop"));
        }
        for variant in old.variants.iter().filter(|variant| missing.variants.contains(&variant.sku)) {
            for ((option, before), id) in self.options.iter_mut().zip(&old.options).zip(&variant.options) {
                if !option.values.iter().any(|value| value.id == *id) {
                    option.values.extend(before.values.iter().find(|value| value.id == *id).cloned());
                }
            }
            self.variants.push(variant.clone());
        }
        // A file of some of them says nothing of the order of all; new ones come last.
        self.variants.sort_by_key(|variant| old.variants.iter().position(|before| before.sku == variant.sku).unwrap_or(usize::MAX));
        Ok(())
    }

    /// Changes with what a shopper takes a variant for: in all languages, and in none of them alone.
    pub fn digest_of(&self, variant: &Variant) -> String {
        let values: Vec<(&Text, Option<&Text>)> = (self.options.iter().zip(&variant.options))
            .map(|(option, id)| (&option.name, option.values.iter().find(|value| value.id == *id).map(|value| &value.name)))
            .collect();
        // Text always has a JSON form.
        let bytes = serde_json::to_vec(&(&self.handle, &self.name, values)).unwrap_or_default();
        crypto::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

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
        // A table separates them by commas.
        let tags = std::mem::take(&mut self.tags).into_iter().flat_map(|tags| tags.split(',').map(|tag| tag.trim().to_owned()).collect::<Vec<_>>());
        self.tags = tags.filter(|tag| !tag.is_empty() && seen.insert(tag.clone())).collect();
        for image in &mut self.images {
            *image = image.trim().trim_start_matches("/media/").to_owned();
        }
        let mut seen = BTreeSet::new();
        self.images.retain(|image| !image.is_empty() && seen.insert(image.clone()));
    }

    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, problem: String, remedy: &str| faults.push(Fault::new(field, problem, remedy));
        if !is_handle(&self.handle) {
            fault("handle", format!("`{}` is not a handle", self.handle), "use small letters, digits and hyphens, 255 bytes at most");
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
        if let Some(image) = self.images.iter().find(|image| !is_image(image)) {
            let remedy = "give the name of a file in media/ or an address of http or https, without blanks, quotes and semicolons";
            fault("images", format!("`{:.60}` is neither a file of the shop nor an address", image.escape_debug().to_string()), remedy);
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
        if !is_handle(handle) || handle.len() > CATEGORY_BYTES_MAX {
            faults.push(Fault::new("handle", format!("`{handle}` is not a handle"), "use small letters, digits and hyphens, 100 bytes at most"));
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
