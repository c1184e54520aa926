//! Products as a CSV table: Shopify's product export in both generations of its
//! headers, and our own, which is the newer one with a column for the category
//! and one for each further language (`Title [en]`). A product is the rows of
//! its handle; what a file has no column for stays as it is. Pure.
//!
//! A variant is known by its sku; one without a sku by its option values. Where
//! a product stands in the file says nothing.

use std::collections::{BTreeMap, BTreeSet};

use souk_sdk::commerce::stock_counts::{Count, Policy};
use souk_sdk::money::{Money, exponent};
use souk_sdk::table::{self, Row, Table, guarded};

use crate::document::{
    Attribute, Category, Fault, OptionValue, Product, ProductOption, Status, Text, Tree, Variant, category_of, handle_of, is_handle, sku_beside, sku_of, sku_of_variant, words,
};
use crate::html;
use crate::import::Candidate;

/// Where products go of which a file says no category.
const OTHER: &str = "other";
const OPTIONS_MAX: usize = 3;
/// What the file of rejected rows says beside what it was given.
const REASON: &str = "Why it was rejected";

/// Names are compared without regard to case, the newer ones first: they are
/// the ones that are written.
const HANDLE: &[&str] = &["URL handle", "Handle"];
const TITLE: &[&str] = &["Title"];
const SUBTITLE: &[&str] = &["Subtitle"];
/// Our own is text as it is …
const PLAIN_DESCRIPTION: &[&str] = &["Description (text)"];
/// … Shopify's is HTML.
const DESCRIPTION: &[&str] = &["Description", "Body (HTML)"];
const VENDOR: &[&str] = &["Vendor"];
const CATEGORY: &[&str] = &["Category"];
const TYPE: &[&str] = &["Type", "Custom product type"];
const TAGS: &[&str] = &["Tags"];
const STATUS: &[&str] = &["Status"];
const PUBLISHED: &[&str] = &["Published on online store", "Published"];
/// Our own: a line for each in the cell, `name: value`.
const ATTRIBUTES: &[&str] = &["Attributes"];
const TAX_CLASS: &[&str] = &["Tax class"];
/// Its place among those of its category.
const POSITION: &[&str] = &["Position"];
/// What "newest" goes by.
const CREATED: &[&str] = &["Created at"];
const SKU: &[&str] = &["SKU", "Variant SKU"];
const PRICE: &[&str] = &["Price", "Variant Price"];
const COMPARE_AT: &[&str] = &["Compare-at price", "Variant Compare At Price"];
const WEIGHT: &[&str] = &["Weight value (grams)", "Variant Grams"];
const BARCODE: &[&str] = &["Barcode", "Variant Barcode"];
const IMAGE: &[&str] = &["Product image URL", "Image Src"];
const IMAGE_POSITION: &[&str] = &["Image position", "Product image position"];
const VARIANT_IMAGE: &[&str] = &["Variant image URL", "Variant Image"];
const QUANTITY: &[&str] = &["Inventory quantity", "Variant Inventory Qty", "Stock", "Quantity"];
const TRACKER: &[&str] = &["Inventory tracker", "Variant Inventory Tracker"];
const POLICY: &[&str] = &["Continue selling when out of stock", "Variant Inventory Policy"];

pub struct Shop<'a> {
    pub currency: &'a str,
    /// The default first.
    pub locales: &'a [String],
}

/// What the shop has already.
pub struct Known<'a> {
    pub categories: &'a Tree,
    pub product: &'a dyn Fn(&str) -> Option<Product>,
    /// The product that has a sku.
    pub owner: &'a dyn Fn(&str) -> Option<String>,
}

/// What a file asks for.
pub struct File {
    table: Table,
    /// Those that it needs and the shop has not.
    pub categories: Vec<Category>,
    pub products: Vec<Candidate>,
}

struct Columns<'t>(&'t Table);

impl Columns<'_> {
    fn has(&self, names: &[&str]) -> bool {
        self.0.find(names).is_some()
    }

    fn cell<'r>(&self, row: &'r Row, names: &[&str]) -> Option<&'r str> {
        self.0.find(names).map(|place| row.cell(place))
    }

    fn filled<'r>(&self, row: &'r Row, names: &[&str]) -> Option<&'r str> {
        self.cell(row, names).filter(|cell| !cell.is_empty())
    }

    /// Of a column and of its further languages, in their order; nothing where there is no column.
    fn texts<'r>(&self, row: &'r Row, names: &[&str], shop: &Shop) -> Vec<Option<&'r str>> {
        let text = |(place, locale): (usize, &String)| {
            let in_language: Vec<String> = names.iter().map(|name| localized(name, locale)).collect();
            let plain = if place == 0 { self.cell(row, names) } else { None };
            self.cell(row, &in_language.iter().map(String::as_str).collect::<Vec<_>>()).or(plain)
        };
        shop.locales.iter().enumerate().map(text).collect()
    }

    /// Those without a column are kept.
    fn text(&self, row: &Row, names: &[&str], shop: &Shop, kept: &Text) -> Text {
        let mut text = kept.clone();
        for (locale, cell) in shop.locales.iter().zip(self.texts(row, names, shop)) {
            if let Some(cell) = cell {
                text.0.insert(locale.clone(), cell.to_owned());
            }
        }
        text.0.retain(|_, text| !text.is_empty());
        text
    }
}

pub fn localized(name: &str, locale: &str) -> String {
    format!("{name} [{locale}]")
}

fn of_option(number: usize, what: &str) -> String {
    format!("Option{number} {what}")
}

/// A product's rows.
struct Group<'t> {
    handle: String,
    /// As it is written.
    written: String,
    rows: Vec<&'t Row>,
}

pub fn read(table: Table, shop: &Shop, known: &Known) -> Result<File, String> {
    let columns = Columns(&table);
    if !columns.has(HANDLE) && !columns.has(TITLE) {
        let problem = "there is no column `URL handle` (or `Handle`), and none `Title`: is this the header?";
        return Err(format!("line {}: {problem}", table.line));
    }
    no_doubled(&table, is_read)?;
    let mut reader = Reader { shop, known, columns: &columns, categories: BTreeMap::new(), claimed: BTreeMap::new() };
    let products = groups(&table, &columns).into_iter().map(|group| reader.candidate(&group)).collect();
    let categories = reader.categories.into_values().collect();
    Ok(File { categories, products, table })
}

/// Errs where a column that is read is there twice.
pub fn no_doubled(table: &Table, is_read: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let doubled = table.header.iter().find(|name| is_read(name) && !seen.insert(name.to_lowercase()));
    doubled.map_or(Ok(()), |name| Err(format!("line {}: two columns are named `{name:.60}`, and which of them is meant cannot be told: rename or delete one", table.line)))
}

fn is_read(name: &str) -> bool {
    const READ: [&[&str]; 24] = [
        HANDLE, TITLE, SUBTITLE, PLAIN_DESCRIPTION, DESCRIPTION, VENDOR, CATEGORY, TYPE, TAGS, STATUS, PUBLISHED, ATTRIBUTES, TAX_CLASS, POSITION, CREATED, SKU, PRICE, COMPARE_AT, WEIGHT,
        BARCODE, IMAGE, QUANTITY, TRACKER, POLICY,
    ];
    let plain = name.split_once(" [").map_or(name, |(plain, _)| plain);
    READ.iter().flat_map(|names| names.iter()).any(|known| known.eq_ignore_ascii_case(plain)) || plain.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("option"))
}

fn groups<'t>(table: &'t Table, columns: &Columns) -> Vec<Group<'t>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let named = columns.has(HANDLE);
    for row in &table.rows {
        let written = columns.cell(row, HANDLE).unwrap_or_default();
        let handle = match (written, columns.cell(row, TITLE).unwrap_or_default()) {
            ("", "") if !named => groups.last().map_or_else(String::new, |group| group.handle.clone()),
            ("", "") => String::new(),
            // Systems that need no handle make it of the title.
            ("", title) => handle_of(&words(title)),
            (written, _) => handle_of(written),
        };
        // Rows that belong to nothing are looked at one by one.
        let place = if handle.is_empty() { groups.len() } else { *places.entry(handle.clone()).or_insert(groups.len()) };
        match groups.get_mut(place) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { handle, written: written.to_owned(), rows: vec![row] }),
        }
    }
    groups
}

struct Reader<'a, 't> {
    shop: &'a Shop<'a>,
    known: &'a Known<'a>,
    columns: &'a Columns<'t>,
    /// New ones, by handle.
    categories: BTreeMap<String, Category>,
    /// Skus of this file, with the product that has each.
    claimed: BTreeMap<String, String>,
}

impl Reader<'_, '_> {
    fn candidate(&mut self, group: &Group) -> Candidate {
        let lines: Vec<u64> = group.rows.iter().map(|row| row.line).collect();
        let mut candidate = Candidate {
            line: lines.first().copied().unwrap_or_default(),
            lines,
            handle: group.handle.clone(),
            product: Err(Vec::new()),
            status: None,
            counts: Vec::new(),
            notes: Vec::new(),
        };
        if group.handle.is_empty() {
            candidate.product = Err(vec![Fault::new("URL handle", "the row names no product", "give it the handle or the title of one")]);
            return candidate;
        }
        if !group.written.is_empty() && group.written != group.handle {
            candidate.notes.push(format!("`{:.60}` becomes `{}`, which is its address here", group.written, group.handle));
        }
        let mut faults = Vec::new();
        let product = self.product(group, &mut candidate, &mut faults);
        candidate.product = if faults.is_empty() { Ok(product) } else { Err(faults) };
        candidate
    }

    fn product(&mut self, group: &Group, candidate: &mut Candidate, faults: &mut Vec<Fault>) -> Product {
        let old = if is_handle(&group.handle) { (self.known.product)(&group.handle) } else { None };
        let mut product = old.clone().unwrap_or_else(|| Product::new(&group.handle));
        let (columns, shop) = (self.columns, self.shop);
        let Some(first) = group.rows.first() else { return product };
        candidate.status = status(first, columns).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        product.name = columns.text(first, TITLE, shop, &product.name);
        product.subtitle = columns.text(first, SUBTITLE, shop, &product.subtitle);
        product.description = description(first, columns, shop, &product.description);
        if let Some(vendor) = columns.cell(first, VENDOR) {
            product.brand = vendor.into();
        }
        if let Some(tags) = columns.cell(first, TAGS) {
            product.tags = tags.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
        }
        product.attributes = attributes(first, columns, shop, &product.attributes).unwrap_or_else(|fault| {
            faults.push(fault);
            Vec::new()
        });
        if let Some(class) = columns.filled(first, TAX_CLASS) {
            product.tax_class = class.into();
        }
        if let Some(text) = columns.filled(first, POSITION) {
            product.position = text.strip_suffix(".0").unwrap_or(text).parse().unwrap_or_else(|_| {
                faults.push(fault(first, "Position", format!("`{text:.60}` is no place"), "use a whole number from 0"));
                0
            });
        }
        if let Some(created) = columns.filled(first, CREATED) {
            product.created_at = created.into();
        }
        let images = images(group, columns);
        if !images.is_empty() {
            product.images = images;
        }
        product.category = self.category(first, &product.category);
        self.variants(&mut product, group, old.as_ref(), candidate, faults);
        product
    }

    /// Our own column, else Shopify's type, which becomes a category of its own.
    fn category(&mut self, row: &Row, kept: &str) -> String {
        let name_of = |category: &Category, name: &str| category.name.0.values().any(|known| known.eq_ignore_ascii_case(name));
        let known = |name: &str| {
            let handle = self.known.categories.get(name).map(|category| category.handle.clone());
            handle.or_else(|| self.known.categories.in_order().into_iter().find(|category| name_of(category, name)).map(|category| category.handle.clone()))
        };
        if let Some(named) = self.columns.filled(row, CATEGORY) {
            return known(named).unwrap_or_else(|| named.into());
        }
        let kind = self.columns.cell(row, TYPE).unwrap_or_default();
        if kind.is_empty() && !kept.is_empty() {
            return kept.into();
        }
        let (handle, names) = match kind {
            "" => (OTHER.to_owned(), Vec::from([("en", "Other"), ("zh-CN", "其他")])),
            kind => {
                if let Some(handle) = known(kind) {
                    return handle;
                }
                (category_of(kind), self.shop.locales.first().map(|locale| (locale.as_str(), kind)).into_iter().collect())
            }
        };
        if self.known.categories.get(&handle).is_none() {
            let name = Text(names.into_iter().map(|(locale, name)| (locale.to_owned(), name.to_owned())).collect());
            self.categories.entry(handle.clone()).or_insert_with(|| Category::made(&handle, name));
        }
        handle
    }

    fn variants(&mut self, product: &mut Product, group: &Group, old: Option<&Product>, candidate: &mut Candidate, faults: &mut Vec<Fault>) {
        let columns = self.columns;
        let has_options = old.is_some_and(|old| !old.options.is_empty());
        let speaks_of_options = if has_options { group.rows.iter().any(|row| has_values(row, columns)) } else { columns.has(&[&of_option(1, "value")]) };
        let mut options = if speaks_of_options { self.options(group, old) } else { old.map(|old| old.options.iter().cloned().enumerate().collect()).unwrap_or_default() };
        let rows: Vec<&Row> = (group.rows.iter().enumerate()).filter(|(place, row)| is_variant(row, columns) || (*place == 0 && old.is_none())).map(|(_, row)| *row).collect();
        if rows.is_empty() {
            // Nothing is said of variants.
            return;
        }
        let handle = product.handle.clone();
        let chosen: Vec<Vec<String>> = rows.iter().map(|row| options.iter_mut().filter(|_| speaks_of_options).map(|(number, option)| value_id(option, *number, row, columns, self.shop)).collect()).collect();
        let typed: Vec<ProductOption> = options.into_iter().map(|(_, option)| option).collect();
        // As two systems would compare them: by what a person reads.
        let default = self.shop.locales.first().map_or("", String::as_str);
        let values: Vec<Vec<String>> = chosen.iter().map(|ids| names(&typed, ids, default)).collect();
        let of_values = |values: &[String]| {
            let comparable = old.filter(|old| speaks_of_options || old.options.is_empty());
            comparable.and_then(|old| old.variants.iter().find(|variant| names(&old.options, &variant.options, default) == *values))
        };
        let written: Vec<String> = rows.iter().map(|row| columns.filled(row, SKU).map_or_else(String::new, sku_of)).collect();
        let skus = self.skus(&handle, &written, &values, old, &of_values);

        let mut variants: Vec<Variant> = Vec::new();
        for (place, (row, chosen)) in rows.iter().zip(chosen).enumerate() {
            let sku = skus[place].clone();
            if let Some(told) = columns.filled(row, SKU).filter(|told| *told != sku) {
                candidate.notes.push(format!("line {}: the sku `{told:.60}` cannot be one here, or is another variant's: this one has `{sku}`", row.line));
            }
            let known = old.and_then(|old| old.variants.iter().find(|variant| variant.sku == sku)).or_else(|| of_values(&values[place]));
            if !speaks_of_options && known.is_none() && !typed.is_empty() {
                let problem = format!("the product has no variant `{sku}`, and the file has no columns for options");
                faults.push(fault(row, "SKU", problem, "add the columns Option1 name and Option1 value"));
            }
            self.claimed.insert(sku.clone(), handle.clone());
            candidate.counts.extend(count(row, columns, &sku, faults));
            let options = if speaks_of_options { chosen } else { known.map(|known| known.options.clone()).unwrap_or_default() };
            variants.push(Variant { sku, options, ..self.variant(row, known, faults) });
        }
        product.options = typed;
        product.variants = variants;
    }

    /// The sku of each row: what its variant has already, what is written, or one
    /// made of what the variant is.
    fn skus<'o>(&self, handle: &str, written: &[String], values: &[Vec<String>], old: Option<&'o Product>, of_values: &impl Fn(&[String]) -> Option<&'o Variant>) -> Vec<String> {
        let beside = |sku: &str, values: &[String]| sku_beside(sku, handle, &values.iter().map(String::as_str).collect::<Vec<_>>());
        // Those that are surely meant come first: the same values, and no other sku.
        let same = |(written, values): (&String, &Vec<String>)| {
            let known = of_values(values)?;
            (written.is_empty() || *written == known.sku || beside(written, values) == known.sku).then(|| known.sku.clone())
        };
        let mut skus: Vec<Option<String>> = written.iter().zip(values).map(same).collect();
        for (place, written) in written.iter().enumerate().filter(|(_, written)| !written.is_empty()) {
            // A value got another name.
            let is_known = old.is_some_and(|old| old.variants.iter().any(|variant| variant.sku == *written));
            if skus[place].is_none() && is_known && !skus.iter().flatten().any(|sku| sku == written) {
                skus[place] = Some(written.clone());
            }
        }
        for place in 0..skus.len() {
            if skus[place].is_some() {
                continue;
            }
            let own: Vec<&str> = values[place].iter().map(String::as_str).collect();
            let wanted = if written[place].is_empty() { sku_of_variant(handle, &own) } else { written[place].clone() };
            let is_taken = skus.iter().flatten().any(|sku| *sku == wanted)
                || self.claimed.get(&wanted).is_some_and(|owner| owner != handle)
                || (self.known.owner)(&wanted).is_some_and(|owner| owner != handle);
            skus[place] = Some(if is_taken { beside(&wanted, &values[place]) } else { wanted });
        }
        skus.into_iter().flatten().collect()
    }

    fn options(&self, group: &Group, old: Option<&Product>) -> Vec<(usize, ProductOption)> {
        let Some(first) = group.rows.first() else { return Vec::new() };
        let mut options = Vec::new();
        for number in 1..=OPTIONS_MAX {
            let (name_column, value_column) = (of_option(number, "name"), of_option(number, "value"));
            let known = old.and_then(|old| old.options.get(number - 1));
            let name = self.columns.text(first, &[&name_column], self.shop, known.map_or(&Text::default(), |option| &option.name));
            // Shopify's way of saying that there is only one variant.
            let is_stand_in = name.0.values().any(|name| name == "Title") && group.rows.iter().any(|row| self.columns.cell(row, &[&value_column]) == Some("Default Title"));
            let is_named = !self.columns.text(first, &[&name_column], self.shop, &Text::default()).0.is_empty();
            if is_named && !is_stand_in {
                options.push((number, ProductOption { name, values: known.map(|option| option.values.clone()).unwrap_or_default() }));
            }
        }
        options
    }

    /// All of a variant but its sku and its options.
    fn variant(&self, row: &Row, known: Option<&Variant>, faults: &mut Vec<Fault>) -> Variant {
        let columns = self.columns;
        let mut money = |field: &str, text: &str| amount(text, self.shop.currency).unwrap_or_else(|| {
            let problem = format!("`{text:.60}` is not an amount of {}", self.shop.currency);
            faults.push(fault(row, field, problem, "write it like 12.50, without a symbol"));
            0
        });
        let compare_at_price = match columns.cell(row, COMPARE_AT) {
            Some("") => None,
            // Nothing was ever reduced from nothing.
            Some(text) => Some(money("Compare-at price", text)).filter(|amount| *amount > 0),
            None => known.and_then(|known| known.compare_at_price),
        };
        let price = match (columns.filled(row, PRICE), known) {
            (Some(text), _) => money("Price", text),
            (None, Some(known)) => known.price,
            (None, None) => {
                faults.push(fault(row, "Price", "there is no price".into(), "write one; 0 makes it a gift"));
                0
            }
        };
        let weight_g = match columns.cell(row, WEIGHT) {
            Some("") => 0,
            Some(text) => match text.parse::<f64>() {
                // As a spreadsheet writes whole grams.
                Ok(grams) if (0.0..=1e9).contains(&grams) => grams.round() as u32,
                _ => {
                    faults.push(fault(row, "Weight value (grams)", format!("`{text:.60}` is not a weight"), "give grams from 0 to 10^9"));
                    0
                }
            },
            None => known.map_or(0, |known| known.weight_g),
        };
        let barcode = match columns.cell(row, BARCODE) {
            Some(code) if is_rounded(code) => {
                let problem = format!("`{code:.60}` is what a spreadsheet made of a number: its last digits are lost");
                faults.push(fault(row, "Barcode", problem, "write the whole code, as text"));
                None
            }
            Some(code) => Some(code.to_owned()).filter(|code| !code.is_empty()),
            None => known.and_then(|known| known.barcode.clone()),
        };
        Variant { sku: String::new(), options: Vec::new(), price, compare_at_price, weight_g, barcode }
    }
}

/// What a person calls the values of a variant.
fn names(options: &[ProductOption], ids: &[String], locale: &str) -> Vec<String> {
    let name = |(option, id): (&ProductOption, &String)| {
        let value = option.values.iter().find(|value| value.id == *id);
        value.map_or_else(|| id.clone(), |value| value.name.pick(locale, locale).to_owned())
    };
    options.iter().zip(ids).map(name).collect()
}

fn fault(row: &Row, field: &str, problem: String, remedy: &str) -> Fault {
    Fault::new(format!("line {}: {field}", row.line), problem, remedy)
}

fn has_values(row: &Row, columns: &Columns) -> bool {
    (1..=OPTIONS_MAX).any(|number| columns.filled(row, &[&of_option(number, "value")]).is_some())
}

/// Others have only another picture of the product.
fn is_variant(row: &Row, columns: &Columns) -> bool {
    has_values(row, columns) || [SKU, PRICE, QUANTITY].iter().any(|names| columns.filled(row, names).is_some())
}

/// The same lines in each language, in the same order; a language without a column keeps its own.
fn attributes(row: &Row, columns: &Columns, shop: &Shop, kept: &[Attribute]) -> Result<Vec<Attribute>, Fault> {
    let texts = columns.texts(row, ATTRIBUTES, shop);
    if texts.iter().all(Option::is_none) {
        return Ok(kept.to_vec());
    }
    let lines: Vec<Option<Vec<&str>>> = texts.iter().map(|text| text.map(|text| text.lines().filter(|line| !line.trim().is_empty()).collect())).collect();
    let count = lines.iter().flatten().map(Vec::len).max().unwrap_or(0);
    if let Some(fewer) = lines.iter().flatten().map(Vec::len).find(|lines| *lines != count && *lines != 0) {
        let problem = format!("there are {count} in one language and {fewer} in another");
        return Err(fault(row, "Attributes", problem, "write the same lines in the same order in each language, `:` alone for one that has no text"));
    }
    let mut all = if kept.len() == count { kept.to_vec() } else { vec![Attribute { name: Text::default(), value: Text::default() }; count] };
    for (locale, lines) in shop.locales.iter().zip(&lines).filter_map(|(locale, lines)| Some((locale, lines.as_ref()?))) {
        for (place, attribute) in all.iter_mut().enumerate() {
            let line = lines.get(place).copied().unwrap_or(":");
            let Some((name, value)) = line.split_once(':') else {
                return Err(fault(row, "Attributes", format!("`{line:.60}` has no colon"), "write a line for each, `name: value`"));
            };
            for (text, told) in [(&mut attribute.name, name), (&mut attribute.value, value)] {
                text.0.insert(locale.clone(), told.trim().replace(COLON, ":").replace(BREAK, "\n"));
                text.0.retain(|_, text| !text.is_empty());
            }
        }
    }
    Ok(all)
}

/// Within a name or a value of an attribute, for what would end it.
const COLON: char = '\u{a789}';
const BREAK: &str = " ⏎ ";

fn attribute_lines(attributes: &[Attribute], locale: &str) -> String {
    let part = |text: &Text| text.0.get(locale).map_or("", String::as_str).replace('\n', BREAK);
    let lines = attributes.iter().map(|attribute| format!("{}: {}", part(&attribute.name).replace(':', &COLON.to_string()), part(&attribute.value)));
    let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    // One that has nothing to say in this language.
    if lines.iter().all(|line| line == ":") { String::new() } else { lines.join("\n") }
}

/// `None` leaves it as it is.
fn status(row: &Row, columns: &Columns) -> Result<Option<Status>, Fault> {
    let told = match columns.filled(row, STATUS) {
        None => None,
        Some(word) => match Status::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
            Some((_, status)) => Some(*status),
            None => return Err(fault(row, "Status", format!("`{word:.60}` is no status"), "use active, unlisted, draft or archived")),
        },
    };
    match columns.filled(row, PUBLISHED) {
        None => Ok(told),
        Some(word) if ["false", "no", "0"].iter().any(|no| no.eq_ignore_ascii_case(word)) => Ok(Some(told.unwrap_or_default().max(Status::Draft))),
        Some(word) if ["true", "yes", "1"].iter().any(|yes| yes.eq_ignore_ascii_case(word)) => Ok(Some(told.unwrap_or_default())),
        Some(word) => Err(fault(row, "Published", format!("`{word:.60}` does not say whether"), "use TRUE or FALSE")),
    }
}

fn description(row: &Row, columns: &Columns, shop: &Shop, kept: &Text) -> Text {
    let has = |names: &[&str]| columns.has(names) || shop.locales.iter().any(|locale| names.iter().any(|name| columns.has(&[&localized(name, locale)])));
    if has(PLAIN_DESCRIPTION) {
        return columns.text(row, PLAIN_DESCRIPTION, shop, kept);
    }
    if !has(DESCRIPTION) {
        return kept.clone();
    }
    let mut text = columns.text(row, DESCRIPTION, shop, kept);
    for (locale, text) in &mut text.0 {
        if html::is_html(text) && kept.0.get(locale) != Some(text) {
            *text = html::to_text(text);
        }
    }
    text.0.retain(|_, text| !text.is_empty());
    text
}

/// In the order of their positions, those without one behind.
fn images(group: &Group, columns: &Columns) -> Vec<String> {
    let position = |row: &Row| columns.filled(row, IMAGE_POSITION).and_then(|text| text.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let mut images: Vec<(u32, &str)> = group.rows.iter().filter_map(|row| Some((position(row), columns.filled(row, IMAGE)?))).collect();
    images.sort_by_key(|(position, _)| *position);
    let of_variants = group.rows.iter().filter_map(|row| columns.filled(row, VARIANT_IMAGE)).map(|image| (0, image));
    let mut seen = BTreeSet::new();
    let addresses = images.into_iter().chain(of_variants).map(|(_, image)| image.trim_start_matches("/media/").replace(' ', "%20").replace(';', "%3B"));
    addresses.filter(|image| seen.insert(image.clone())).collect()
}

/// What a row says of the stock; `None` where it says nothing.
fn count(row: &Row, columns: &Columns, sku: &str, faults: &mut Vec<Fault>) -> Option<Count> {
    let quantity = columns.filled(row, QUANTITY).and_then(|text| {
        // As a spreadsheet writes whole numbers.
        let number = text.strip_suffix(".0").unwrap_or(text).parse::<i64>();
        if number.is_err() {
            faults.push(fault(row, "Inventory quantity", format!("`{text:.60}` is not a quantity"), "use a whole number"));
        }
        number.ok()
    });
    let untracked = columns.cell(row, TRACKER).map(str::is_empty);
    let policy = match columns.filled(row, POLICY) {
        _ if untracked == Some(true) => Some(Policy::Untracked),
        Some(word) if ["continue", "true", "yes"].iter().any(|yes| yes.eq_ignore_ascii_case(word)) => Some(Policy::ContinueSelling),
        Some(word) if ["deny", "false", "no"].iter().any(|no| no.eq_ignore_ascii_case(word)) => Some(Policy::Deny),
        Some(word) => {
            faults.push(fault(row, "Continue selling when out of stock", format!("`{word:.60}` is neither"), "use continue or deny"));
            None
        }
        None => untracked.map(|_| Policy::Deny),
    };
    (quantity.is_some() || policy.is_some()).then(|| Count { sku: sku.to_owned(), quantity, policy })
}

/// Minor units of a price as systems and spreadsheets write it.
fn amount(text: &str, currency: &str) -> Option<i64> {
    let digits = exponent(currency) as usize;
    // A spreadsheet of a country with decimal commas; `1,234` could be either, and is neither.
    let with_point = match text.split_once(',') {
        Some((whole, part)) if !text.contains('.') && (1..=digits).contains(&part.len()) => format!("{whole}.{part}"),
        _ => text.to_owned(),
    };
    // Zeros that the currency has no place for.
    let short = match with_point.split_once('.') {
        Some((whole, part)) if part.len() > digits && part[digits..].bytes().all(|byte| byte == b'0') => {
            if digits == 0 { whole.to_owned() } else { format!("{whole}.{}", &part[..digits]) }
        }
        _ => with_point,
    };
    Money::from_decimal(&short, currency).ok().map(|money| money.amount).filter(|amount| *amount >= 0)
}

/// `6.90123E+12`
fn is_rounded(code: &str) -> bool {
    let Some((digits, power)) = code.split_once(['E', 'e']) else { return false };
    digits.contains(['.', ',']) && digits.parse::<f64>().is_ok() && power.strip_prefix('+').is_some_and(|power| power.parse::<u8>().is_ok())
}

/// The id of the row's value of an option, added to it if it is new.
fn value_id(option: &mut ProductOption, number: usize, row: &Row, columns: &Columns, shop: &Shop) -> String {
    let name = columns.text(row, &[&of_option(number, "value")], shop, &Text::default());
    let default = shop.locales.first().map_or("", String::as_str);
    let same = |value: &OptionValue| value.name.pick(default, default) == name.pick(default, default);
    if let Some(known) = option.values.iter_mut().find(|value| same(value)) {
        known.name.0.extend(name.0);
        return known.id.clone();
    }
    let base = Some(words(name.pick(default, default))).filter(|words| !words.is_empty()).unwrap_or_else(|| format!("v{}", option.values.len() + 1));
    let mut id = base.clone();
    let mut more = 1;
    while option.values.iter().any(|value| value.id == id) {
        more += 1;
        id = format!("{base}-{more}");
    }
    option.values.push(OptionValue { id: id.clone(), name });
    id
}

impl File {
    pub fn rejects(&self, reasons: &BTreeMap<u64, String>) -> String {
        rejected(&self.table, reasons)
    }
}

/// The rows of these lines as a file that can be put right and imported: as they were given, and why each was rejected.
pub fn rejected(table: &Table, reasons: &BTreeMap<u64, String>) -> String {
    let width = table.header.iter().position(|name| name == REASON).unwrap_or(table.header.len());
    let mut rows = vec![table.header.iter().take(width).cloned().chain([REASON.to_owned()]).collect::<Vec<_>>()];
    for row in &table.rows {
        if let Some(reason) = reasons.get(&row.line) {
            let cells = (0..width).map(|place| row.cells.get(place).cloned().unwrap_or_default());
            rows.push(cells.chain([guarded(reason)]).collect());
        }
    }
    // All of it comes from text.
    String::from_utf8(table::write(rows)).unwrap_or_default()
}

/// The file that [`read`] reads back. Stock is the inventory's and not in it:
/// a file is edited for hours, and shoppers buy meanwhile.
pub fn write(products: impl Iterator<Item = (Product, Status)>, shop: &Shop) -> Vec<u8> {
    let in_languages = |name: &str| {
        let more = shop.locales.iter().skip(1).map(|locale| localized(name, locale));
        std::iter::once(name.to_owned()).chain(more).collect::<Vec<_>>()
    };
    let mut header = vec![HANDLE[0].to_owned()];
    for name in [TITLE[0], SUBTITLE[0], PLAIN_DESCRIPTION[0]] {
        header.extend(in_languages(name));
    }
    header.extend([VENDOR[0], CATEGORY[0], TAGS[0], STATUS[0], TAX_CLASS[0], POSITION[0], CREATED[0]].map(str::to_owned));
    header.extend(in_languages(ATTRIBUTES[0]));
    for number in 1..=OPTIONS_MAX {
        header.extend(in_languages(&of_option(number, "name")));
        header.extend(in_languages(&of_option(number, "value")));
    }
    header.extend([SKU[0], PRICE[0], COMPARE_AT[0], WEIGHT[0], BARCODE[0], IMAGE[0]].map(str::to_owned));
    table::write(std::iter::once(header).chain(products.flat_map(|(product, status)| rows(&product, status, shop))))
}

/// A number that a spreadsheet would round, or take the zeros from, is text.
pub fn as_text(cell: &str) -> String {
    let is_number = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && (cell.len() > 11 || cell.starts_with('0')) { format!("'{cell}") } else { guarded(cell) }
}

fn rows(product: &Product, status: Status, shop: &Shop) -> Vec<Vec<String>> {
    let texts = |text: Option<&Text>| {
        let of = |locale: &String| guarded(text.and_then(|text| text.0.get(locale)).map_or("", String::as_str));
        shop.locales.iter().map(of).collect::<Vec<_>>()
    };
    let row = |place: usize| {
        let head = (place == 0).then_some(product);
        let variant = product.variants.get(place);
        let mut record = vec![guarded(&product.handle)];
        for text in [head.map(|it| &it.name), head.map(|it| &it.subtitle), head.map(|it| &it.description)] {
            record.extend(texts(text));
        }
        record.push(guarded(head.map_or("", |it| &it.brand)));
        record.push(guarded(head.map_or("", |it| &it.category)));
        record.push(guarded(&head.map_or(String::new(), |it| it.tags.join(", "))));
        record.push(head.map_or("", |_| status.name()).to_owned());
        record.push(guarded(head.map_or("", |it| &it.tax_class)));
        record.push(head.map_or(String::new(), |it| it.position.to_string()));
        record.push(guarded(head.map_or("", |it| &it.created_at)));
        record.extend(shop.locales.iter().map(|locale| guarded(&head.map_or(String::new(), |it| attribute_lines(&it.attributes, locale)))));
        for option in 0..OPTIONS_MAX {
            record.extend(texts(head.and_then(|it| it.options.get(option)).map(|option| &option.name)));
            let id = variant.and_then(|variant| variant.options.get(option));
            let value = id.and_then(|id| product.options.get(option)?.values.iter().find(|value| value.id == *id));
            record.extend(texts(value.map(|value| &value.name)));
        }
        let amount = |amount: i64| Money::new(amount, shop.currency).to_decimal();
        record.push(as_text(variant.map_or("", |it| &it.sku)));
        record.push(variant.map_or(String::new(), |it| amount(it.price)));
        record.push(variant.and_then(|it| it.compare_at_price).map_or(String::new(), amount));
        record.push(variant.map_or(String::new(), |it| it.weight_g.to_string()));
        record.push(as_text(variant.and_then(|it| it.barcode.as_deref()).unwrap_or_default()));
        record.push(guarded(product.images.get(place).map_or("", String::as_str)));
        record
    };
    (0..product.variants.len().max(product.images.len())).map(row).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOCALES: [&str; 2] = ["zh-CN", "en"];

    fn locales() -> Vec<String> {
        LOCALES.map(String::from).to_vec()
    }

    fn tree() -> Tree {
        let name = Text([("zh-CN", "茶"), ("en", "Tea")].into_iter().map(|(locale, name)| (locale.to_owned(), name.to_owned())).collect());
        Tree::new([Category { handle: "tea".into(), parent: None, name, description: Text::default(), position: 1 }])
    }

    /// What a file makes of a shop that has these products.
    fn read_over(csv: &[u8], stored: &[Product]) -> Result<File, String> {
        let table = Table::read(csv, None).map_err(|error| error.to_string())?;
        let owner = |sku: &str| stored.iter().find(|product| product.variants.iter().any(|variant| variant.sku == sku)).map(|product| product.handle.clone());
        let product = |handle: &str| stored.iter().find(|product| product.handle == handle).cloned();
        read(table, &Shop { currency: "CNY", locales: &locales() }, &Known { categories: &tree(), product: &product, owner: &owner })
    }

    fn over(csv: &str, stored: &[Product]) -> Vec<Product> {
        let ready = |candidate: Candidate| {
            let mut product = candidate.product.unwrap_or_else(|faults| panic!("{}: {faults:?}", candidate.handle));
            product.normalise();
            assert_eq!(product.faults(), [], "{}", candidate.handle);
            product
        };
        read_over(csv.as_bytes(), stored).unwrap().products.into_iter().map(ready).collect()
    }

    fn only(csv: &str) -> Product {
        let mut products = over(csv, &[]);
        assert_eq!(products.len(), 1);
        products.remove(0)
    }

    fn faults(csv: &str, stored: &[Product]) -> Vec<Vec<String>> {
        let told = |candidate: Candidate| candidate.product.err().unwrap_or_default().into_iter().map(|fault| format!("{}: {}", fault.field, fault.problem)).collect();
        read_over(csv.as_bytes(), stored).unwrap().products.into_iter().map(told).collect()
    }

    fn skus(product: &Product) -> Vec<(&str, String)> {
        let values = |variant: &Variant| names(&product.options, &variant.options, "zh-CN").join("/");
        product.variants.iter().map(|variant| (variant.sku.as_str(), values(variant))).collect()
    }

    const OLD: &str = "\u{feff}Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Variant SKU,Variant Grams,Variant Price,Variant Compare At Price,Variant Barcode,Image Src,Status\r\n\
        green-tea,Green tea,\"<p>Fresh.</p><p>From <b>Hangzhou</b>,\nby hand.</p>\",Lane,Tea,\"tea, green\",TRUE,Weight,50 g,GT-50,50,68.00,80.00,690,https://cdn.example/a.jpg,active\r\n\
        green-tea,,,,,,,,100 g,GT-100,100.0,128,,,https://cdn.example/b.jpg,\r\n\
        green-tea,,,,,,,,,,,,,,https://cdn.example/c.jpg,\r\n";
    const NEW: &str = "Title,URL handle,Description,Vendor,Type,Tags,Published on online store,Status,SKU,Barcode,Option1 name,Option1 value,Price,Compare-at price,Weight value (grams),Product image URL\n\
        Green tea,green-tea,\"<p>Fresh.</p><p>From <b>Hangzhou</b>,\nby hand.</p>\",Lane,Tea,\"tea, green\",TRUE,Active,GT-50,'690,Weight,50 g,68.00,80.00,50,https://cdn.example/a.jpg\n\
        ,green-tea,,,,,,,GT-100,,,100 g,128.000,,100,https://cdn.example/b.jpg\n\
        ,green-tea,,,,,,,,,,,,,,https://cdn.example/c.jpg\n";

    #[test]
    fn both_generations_of_shopifys_headers_say_the_same() {
        let product = only(OLD);
        assert_eq!(product, only(NEW));
        assert_eq!((product.category.as_str(), product.brand.as_str(), product.tags.len(), product.images.len()), ("tea", "Lane", 2, 3));
        let prices: Vec<(&str, i64, Option<i64>, u32)> = product.variants.iter().map(|it| (it.sku.as_str(), it.price, it.compare_at_price, it.weight_g)).collect();
        assert_eq!(prices, [("GT-50", 6_800, Some(8_000), 50), ("GT-100", 12_800, None, 100)]);
        assert_eq!(product.options[0].values.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["50-g", "100-g"]);
        assert_eq!(product.description.pick("zh-CN", "zh-CN"), "Fresh.\n\nFrom Hangzhou, by hand.");
        assert_eq!(product.variants[0].barcode.as_deref(), Some("690"));
    }

    /// Where a row stands says nothing: what it sells is what it names.
    #[test]
    fn variants_without_skus_are_known_by_their_values() {
        let file = |values: &[&str]| {
            let row = |(place, value): (usize, &&str)| format!("cup,{},{},{value},,12.50\n", if place == 0 { "Cup" } else { "" }, if place == 0 { "Colour" } else { "" });
            format!("Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price\n{}", values.iter().enumerate().map(row).collect::<String>())
        };
        let cup = only(&file(&["Blue", "Green", "茶色"]));
        assert_eq!(skus(&cup)[..2], [("CUP-BLUE", "Blue".to_owned()), ("CUP-GREEN", "Green".into())]);
        let later = over(&file(&["茶色", "Green", "Red"]), std::slice::from_ref(&cup)).remove(0);
        assert_eq!(skus(&later), [skus(&cup)[2].clone(), skus(&cup)[1].clone(), ("CUP-RED", "Red".into())]);
        // As they were numbered once.
        let mut numbered = cup;
        for (place, variant) in numbered.variants.iter_mut().enumerate() {
            variant.sku = format!("CUP-{}", place + 1);
        }
        let later = over(&file(&["Green"]), &[numbered]).remove(0);
        assert_eq!(skus(&later), [("CUP-2", "Green".to_owned())]);
    }

    #[test]
    fn doubled_and_strange_skus_get_one_that_stays_the_same() {
        let file = "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price\n\
            tee,Tee,Size,S,TEE,1\ntee,,,M,TEE,1\ntee,,,L,货 1,1\nmug,Mug,,,TEE,2\n";
        let first = over(file, &[]);
        let all: Vec<&str> = first.iter().flat_map(|product| &product.variants).map(|variant| variant.sku.as_str()).collect();
        assert_eq!((all[0], all.iter().collect::<BTreeSet<_>>().len()), ("TEE", 4), "{all:?}");
        assert_eq!(over(file, &first), first);
        let turned = "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price\n\
            mug,Mug,,,TEE,2\ntee,Tee,Size,L,货 1,1\ntee,,,M,TEE,1\ntee,,,S,TEE,1\n";
        let again = over(turned, &first);
        assert_eq!(again[0], first[1]);
        assert_eq!(skus(&again[1]).into_iter().rev().collect::<Vec<_>>(), skus(&first[0]));
        // What says nothing of options leaves them.
        assert_eq!(over("Handle,Option1 Name,Option1 Value,Variant SKU,Variant Price\ntee,,,TEE,1\n", &first)[0].options[0].name, first[0].options[0].name);
        // A value that got another name is the same variant, by its sku.
        let renamed = over("Handle,Option1 Name,Option1 Value,Variant SKU,Variant Price\nmug,,,TEE,3\n", &first).remove(0);
        assert_eq!(renamed.variants[0].price, 300);
    }

    #[test]
    fn one_variant_without_options_and_types_that_are_no_categories_yet() {
        let file = read_over("Handle,Title,Type,Option1 Name,Option1 Value,Variant Price\ncup,Cup,Tea Ware,Title,Default Title,12.5\npot,Pot,茶具,,,1\ngreen,Green,tea,,,1\n".as_bytes(), &[]).unwrap();
        let products: Vec<&Product> = file.products.iter().map(|candidate| candidate.product.as_ref().unwrap()).collect();
        assert_eq!((products[0].options.len(), products[0].variants[0].sku.as_str(), products[0].variants[0].price), (0, "CUP", 1_250));
        assert_eq!(products.iter().map(|product| product.category.as_str()).collect::<Vec<_>>(), ["tea-ware", "茶具", "tea"]);
        assert_eq!(file.categories.iter().map(|category| (category.handle.as_str(), category.name.pick("en", "en"))).collect::<Vec<_>>(), [("tea-ware", "Tea Ware"), ("茶具", "茶具")]);
    }

    #[test]
    fn a_handle_of_another_system_is_kept_or_shortened_and_told() {
        let long = "hand-made-".repeat(25);
        let longer = "茶".repeat(250);
        let csv = format!("Handle,Title,Price\n{long},A,1\nGREEN-Tea,B,1\n龙井_绿茶,C,1\n{longer},D,1\nA & B,E,1\nA + B,F,1\n,From its Title,1\n");
        let file = read_over(csv.as_bytes(), &[]).unwrap();
        let handles: Vec<&str> = file.products.iter().map(|candidate| candidate.handle.as_str()).collect();
        assert_eq!((handles[0], handles[1], handles[2], handles[6]), (long.as_str(), "green-tea", "龙井_绿茶", "from-its-title"));
        assert!(handles[3].starts_with("茶茶") && handles[3].len() <= 255 && handles[4] != handles[5], "{handles:?}");
        assert!(file.products[3].notes[0].contains(handles[3]));
        assert!(handles.iter().all(|handle| is_handle(handle)));
        assert_eq!(handle_of(&longer), handles[3]);
    }

    #[test]
    fn each_status_is_obeyed_in_both_directions() {
        let status = |row: &str| read_over(format!("Handle,Title,Price,Status,Published\na,A,1,{row}\n").as_bytes(), &[]).unwrap().products.remove(0).status;
        for (row, wanted) in [
            ("active,true", Some(Status::Active)), ("active,FALSE", Some(Status::Draft)), ("Archived,true", Some(Status::Archived)), ("draft,", Some(Status::Draft)),
            ("unlisted,", Some(Status::Unlisted)), ("archived,false", Some(Status::Archived)), (",TRUE", Some(Status::Active)), (",", None),
        ] {
            assert_eq!(status(row), wanted, "{row}");
        }
        assert!(faults("Handle,Title,Price,Status\na,A,1,sold\n", &[])[0][0].contains("`sold` is no status"));
    }

    #[test]
    fn nothing_is_taken_for_something_else_and_faults_name_their_line() {
        let header = "Handle,Title,Price,Weight value (grams),Barcode,Inventory quantity";
        for (row, told) in [
            ("kettle,Kettle,,,,3", Some("line 2: Price: there is no price")),
            ("gift,Gift,0,,,", None),
            ("b,B,¥5,,,", Some("line 2: Price")),
            ("c,C,-1,,,", Some("line 2: Price")),
            ("d,D,1.234,,,", Some("line 2: Price")),
            ("d,D,\"1,234\",,,", Some("line 2: Price")),
            ("e,E,\"12,50\",,,", None),
            ("f,F,1,heavy,,", Some("line 2: Weight")),
            ("g,G,1,,6.90123E+12,", Some("last digits are lost")),
            ("h,H,1,,,many", Some("line 2: Inventory quantity")),
            (",,1,,,", Some("names no product")),
        ] {
            let faults = faults(&format!("{header}\n{row}\n"), &[]).remove(0);
            assert_eq!(faults.is_empty(), told.is_none(), "{row}: {faults:?}");
            assert!(told.is_none_or(|told| faults[0].contains(told)), "{row}: {faults:?}");
        }
        let known = only("Handle,Title,Price\nkettle,Kettle,30\n");
        assert_eq!(over("Handle,Price\nkettle,\n", std::slice::from_ref(&known)), [known.clone()], "an empty price leaves the price");
        assert_eq!(over("Handle,Status\nkettle,archived\n", std::slice::from_ref(&known)), [known]);
        assert!(read_over(b"name,cost\na,1\n", &[]).err().unwrap().contains("URL handle"));
        assert!(read_over(b"Handle,Title,Price,price\na,A,1,2\n", &[]).err().unwrap().contains("two columns are named `price`"));
        assert!(read_over(b"Handle,Title,Price,Note,Note,,\na,A,1,2,3,,\n", &[]).is_ok(), "of what is not read there may be many");
        let drawn = only("Handle,Title,Price\na,\u{202e}A\u{0}\u{7}\u{1b}[31m\u{200f},1\n");
        assert_eq!(drawn.name.pick("en", "en"), "A[31m\u{200f}");
        for image in ["../../souk.toml", "a/../b.webp", "javascript:alert(1)", "file:///etc/passwd", "a\\b", "x\"y", "data:image/png", "a\u{7}"] {
            let odd = Product { images: vec![image.into()], ..drawn.clone() };
            assert_eq!(odd.faults().iter().filter(|fault| fault.field == "images").count(), 1, "{image}");
        }
        for image in ["a.webp", "sub/a..b.webp", "https://cdn.example/a.jpg?v=1../2", "/media/a.webp"] {
            assert!(Product { images: vec![image.into()], ..drawn.clone() }.faults().is_empty(), "{image}");
        }
    }

    #[test]
    fn pictures_come_in_the_order_of_their_positions() {
        let product = only("Handle,Title,Price,Image Src,Image Position,Variant Image\na,A,1,two.webp,2,three.webp\na,,,one.webp,1,\na,,,a b;c.webp,,\n");
        assert_eq!(product.images, ["one.webp", "two.webp", "a%20b%3Bc.webp", "three.webp"]);
    }

    #[test]
    fn what_a_row_says_of_stock() {
        let counts = |row: &str| {
            let csv = format!("Handle,Title,Variant SKU,Variant Price,Variant Inventory Tracker,Variant Inventory Qty,Variant Inventory Policy\na,A,A,1,{row}\n");
            let count = read_over(csv.as_bytes(), &[]).unwrap().products.remove(0).counts.remove(0);
            (count.quantity, count.policy)
        };
        assert_eq!(counts("shopify,-2,deny"), (Some(-2), Some(Policy::Deny)));
        assert_eq!(counts("shopify,4.0,continue"), (Some(4), Some(Policy::ContinueSelling)));
        assert_eq!(counts(",0,deny"), (Some(0), Some(Policy::Untracked)));
        assert_eq!(counts("shopify,,"), (None, Some(Policy::Deny)));
    }

    #[test]
    fn what_was_rejected_can_be_put_right_and_says_why() {
        let csv = "sep=;\r\nHandle;Title;Price\r\na;A;1\r\nb;\"B;\r\nb\";x\r\n;;\r\n";
        let file = read_over(csv.as_bytes(), &[]).unwrap();
        let reasons = BTreeMap::from([(4, "line 4: Price".to_owned())]);
        let rejects = file.rejects(&reasons);
        assert_eq!(rejects, "\u{feff}Handle,Title,Price,Why it was rejected\nb,\"B;\r\nb\",x,line 4: Price\n");
        let again = read_over(rejects.replace(",x,", ",2,").as_bytes(), &[]).unwrap();
        assert!(again.products[0].product.is_ok());
        assert_eq!(again.rejects(&BTreeMap::from([(2, "why".to_owned())])).matches("rejected").count(), 1);
    }

    fn text() -> impl Strategy<Value = Text> {
        let one = prop_oneof!["[ -~茶é\n]{0,12}", "(=|\\+|-|@|'|<p>|&amp;|,|;|\"| ){0,5}", "'?[0-9]{1,14}"];
        (one.clone(), one).prop_map(|(zh, en)| Text([("zh-CN".to_owned(), zh), ("en".to_owned(), en)].into()))
    }

    fn any_product() -> impl Strategy<Value = Product> {
        let option = |place: usize| {
            move |(name, values): (Text, Vec<Text>)| {
                let value = |(number, name): (usize, Text)| {
                    // People tell values apart by their names.
                    let name = Text(name.0.into_iter().map(|(locale, name)| (locale, format!("{name} {place}.{number}"))).collect());
                    OptionValue { id: format!("v{number}"), name }
                };
                let name = Text(name.0.into_iter().map(|(locale, name)| (locale, format!("o{name}"))).collect());
                ProductOption { name, values: values.into_iter().enumerate().map(value).collect() }
            }
        };
        let options = prop_oneof![
            Just(Vec::new()),
            (text(), prop::collection::vec(text(), 1..4)).prop_map(option(1)).prop_map(|option| vec![option]),
            ((text(), prop::collection::vec(text(), 1..3)).prop_map(option(1)), (text(), prop::collection::vec(text(), 1..3)).prop_map(option(2))).prop_map(|(one, two)| vec![one, two]),
        ];
        let numbers = (0_i64..1_000_000, prop::option::of(1_i64..1_000_000), 0_u32..10_000, prop::option::of("'?[0-9]{1,14}|=1"));
        let images = prop::collection::vec("[a-z=-]{1,6}\\.webp", 0..4);
        (("[a-z0-9_茶-]{1,20}", text(), text(), text(), "[ -~]{0,8}", prop::collection::vec("[ -~]{0,6}", 0..3)), prop::collection::vec((text(), text()), 0..3), options, numbers, images).prop_map(
            |((handle, name, subtitle, description, brand, tags), attributes, options, (price, compare_at_price, weight_g, barcode), images)| {
                let mut combinations: Vec<Vec<String>> = vec![Vec::new()];
                for option in &options {
                    let with = |combination: &Vec<String>| option.values.iter().map(|value| [combination.clone(), vec![value.id.clone()]].concat()).collect::<Vec<_>>();
                    combinations = combinations.iter().flat_map(with).collect();
                }
                let variant = |(number, options): (usize, Vec<String>)| Variant { sku: format!("=S{number}"), options, price: price + number as i64, compare_at_price, weight_g, barcode: barcode.clone() };
                let mut product = Product { category: "tea".into(), name, subtitle, description, brand, tags, options, images, ..Product::new(&handle) };
                product.attributes = attributes.into_iter().map(|(name, value)| Attribute { name, value }).collect();
                product.tax_class = if price % 2 == 0 { "reduced" } else { "standard" }.into();
                (product.position, product.created_at) = (weight_g, "2026-03-01T00:00:00Z".into());
                product.variants = combinations.into_iter().enumerate().map(variant).collect();
                product.name.0.insert("en".into(), "Named".into());
                product.normalise();
                product
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_exported_and_imported_again_is_the_same(product in any_product(), archived: bool) {
            prop_assume!(product.faults().is_empty());
            let status = if archived { Status::Archived } else { Status::Active };
            let file = write(std::iter::once((product.clone(), status)), &Shop { currency: "CNY", locales: &locales() });
            for stored in [vec![product.clone()], Vec::new()] {
                let read = read_over(&file, &stored).unwrap().products.remove(0);
                prop_assert_eq!(read.status, Some(status));
                let mut again = read.product.unwrap();
                again.normalise();
                if stored.is_empty() {
                    // Ids of values are the shop's own.
                    prop_assert_eq!(skus(&again), skus(&product));
                    (again.options, again.variants) = (product.options.clone(), product.variants.clone());
                }
                prop_assert_eq!(&again, &product);
            }
            // Nothing starts a formula.
            let cells = Table::read(&file, None).unwrap().rows.into_iter().flat_map(|row| row.cells);
            prop_assert!(cells.into_iter().all(|cell| !cell.starts_with(['=', '+', '-', '@'])));
        }
    }
}
