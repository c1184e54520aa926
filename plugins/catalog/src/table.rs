//! Products as a CSV table: Shopify's product export in both generations of its
//! headers, and our own, which is the newer one with a column for the category
//! and one for each further language (`Title [en]`). A product is the rows of
//! its handle; what a file has no column for stays as it is. Pure.

use std::collections::BTreeMap;

use csv::StringRecord;
use souk_sdk::money::Money;

use crate::document::{Category, Fault, OptionValue, Product, ProductOption, Text, Variant, is_handle};
use crate::import::Candidate;

/// Where products go of which a file says no category.
const OTHER: &str = "other";
const OPTIONS_MAX: usize = 3;

/// Names are compared without regard to case, the newer ones first: they are
/// the ones that are written.
const HANDLE: &[&str] = &["URL handle", "Handle"];
const TITLE: &[&str] = &["Title"];
const SUBTITLE: &[&str] = &["Subtitle"];
const DESCRIPTION: &[&str] = &["Description", "Body (HTML)"];
const VENDOR: &[&str] = &["Vendor"];
const CATEGORY: &[&str] = &["Category"];
const TYPE: &[&str] = &["Type", "Custom product type"];
const TAGS: &[&str] = &["Tags"];
const STATUS: &[&str] = &["Status"];
const PUBLISHED: &[&str] = &["Published on online store", "Published"];
const SKU: &[&str] = &["SKU", "Variant SKU"];
const PRICE: &[&str] = &["Price", "Variant Price"];
const COMPARE_AT: &[&str] = &["Compare-at price", "Variant Compare At Price"];
const WEIGHT: &[&str] = &["Weight value (grams)", "Variant Grams"];
const BARCODE: &[&str] = &["Barcode", "Variant Barcode"];
const IMAGE: &[&str] = &["Product image URL", "Image Src"];

pub struct Shop<'a> {
    pub currency: &'a str,
    /// The default first.
    pub locales: &'a [String],
}

struct Columns(Vec<String>);

impl Columns {
    fn find(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.0.iter().position(|column| column.eq_ignore_ascii_case(name)))
    }

    fn cell<'r>(&self, row: &'r Row, names: &[&str]) -> Option<&'r str> {
        self.find(names).map(|place| row.cell(place))
    }

    /// Texts of a column and of its further languages; those without a column are kept.
    fn text(&self, row: &Row, names: &[&str], shop: &Shop, kept: &Text) -> Text {
        let mut text = kept.clone();
        for (place, locale) in shop.locales.iter().enumerate() {
            let in_language: Vec<String> = names.iter().map(|name| localized(name, locale)).collect();
            let plain = if place == 0 { self.cell(row, names) } else { None };
            let cell = self.cell(row, &in_language.iter().map(String::as_str).collect::<Vec<_>>()).or(plain);
            if let Some(cell) = cell {
                text.0.insert(locale.clone(), without_markup(cell));
            }
        }
        text.0.retain(|_, text| !text.is_empty());
        text
    }
}

struct Row {
    line: u64,
    record: StringRecord,
}

impl Row {
    fn cell(&self, place: usize) -> &str {
        plain(self.record.get(place).unwrap_or_default().trim())
    }
}

fn localized(name: &str, locale: &str) -> String {
    format!("{name} [{locale}]")
}

/// A cell that would start a formula is written with an apostrophe before it.
fn plain(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(['=', '+', '-', '@', '\t', '\r']) => rest,
        _ => cell,
    }
}

fn guarded(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() }
}

/// Shopify's descriptions are HTML, ours are paragraphs of text.
fn without_markup(cell: &str) -> String {
    if cell.contains("</") || cell.contains("<br") { nanohtml2text::html2text(cell).replace("\r\n", "\n").trim().to_owned() } else { cell.to_owned() }
}

/// Lower-case words joined by hyphens.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// What a file asks for: categories that it needs, and products. `known` gives
/// a product as it is stored.
pub fn read(input: &[u8], shop: &Shop, has_category: impl Fn(&str) -> bool, known: impl Fn(&str) -> Option<Product>) -> Result<(Vec<Category>, Vec<Candidate>), String> {
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let columns = Columns(reader.headers().map_err(|error| unreadable(&error))?.iter().map(|name| name.trim().to_owned()).collect());
    let handle = columns.find(HANDLE).ok_or("line 1: there is no column `URL handle` (or `Handle`): is the first line the header?")?;
    columns.find(PRICE).ok_or("line 1: there is no column `Price` (or `Variant Price`)")?;

    let mut products: Vec<(String, Vec<Row>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(&error))?;
        let row = Row { line: record.position().map_or(0, csv::Position::line), record };
        let handle = row.cell(handle).to_owned();
        let place = *places.entry(handle.clone()).or_insert(products.len());
        match products.get_mut(place) {
            Some((_, rows)) => rows.push(row),
            None => products.push((handle, vec![row])),
        }
    }

    let mut categories: BTreeMap<String, Category> = BTreeMap::new();
    let candidates = products.into_iter().map(|(handle, rows)| {
        let line = rows.first().map_or(0, |row| row.line);
        let old = if is_handle(&handle) { known(&handle) } else { None };
        let product = product(&handle, &rows, &columns, shop, old, &has_category, &mut categories);
        Candidate { line, handle, product }
    });
    let candidates = candidates.collect();
    Ok((categories.into_values().collect(), candidates))
}

fn product(
    handle: &str,
    rows: &[Row],
    columns: &Columns,
    shop: &Shop,
    old: Option<Product>,
    has_category: &impl Fn(&str) -> bool,
    categories: &mut BTreeMap<String, Category>,
) -> Result<Product, Vec<Fault>> {
    let mut faults = Vec::new();
    let Some(first) = rows.first() else { return Err(faults) };
    let status = columns.cell(first, STATUS).unwrap_or_default();
    let published = columns.cell(first, PUBLISHED).unwrap_or_default();
    if ["draft", "archived"].iter().any(|word| status.eq_ignore_ascii_case(word)) || published.eq_ignore_ascii_case("false") {
        // No faults: skipped.
        return Err(faults);
    }
    let mut product = old.clone().unwrap_or_else(|| Product {
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
        tax_class: crate::document::DEFAULT_TAX_CLASS.into(),
        position: 0,
        created_at: String::new(),
    });
    product.name = columns.text(first, TITLE, shop, &product.name);
    product.subtitle = columns.text(first, SUBTITLE, shop, &product.subtitle);
    product.description = columns.text(first, DESCRIPTION, shop, &product.description);
    if let Some(vendor) = columns.cell(first, VENDOR) {
        product.brand = vendor.into();
    }
    if let Some(tags) = columns.cell(first, TAGS) {
        product.tags = tags.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
    }
    let images: Vec<String> = rows.iter().filter_map(|row| columns.cell(row, IMAGE)).filter(|image| !image.is_empty()).map(|image| image.trim_start_matches("/media/").to_owned()).collect();
    if columns.find(IMAGE).is_some() {
        product.images = images;
    }
    product.category = category(first, columns, shop, &product.category, has_category, categories);
    read_variants(&mut product, rows, columns, shop, old.as_ref(), &mut faults);
    if faults.is_empty() { Ok(product) } else { Err(faults) }
}

/// Our own column, else Shopify's type, which becomes a category of its own.
fn category(row: &Row, columns: &Columns, shop: &Shop, kept: &str, has_category: &impl Fn(&str) -> bool, categories: &mut BTreeMap<String, Category>) -> String {
    if let Some(handle) = columns.cell(row, CATEGORY).filter(|handle| !handle.is_empty()) {
        return handle.into();
    }
    let kind = columns.cell(row, TYPE).unwrap_or_default();
    if kind.is_empty() && !kept.is_empty() {
        return kept.into();
    }
    let (handle, names) = match slug(kind) {
        slug if slug.is_empty() && kind.is_empty() => (OTHER.to_owned(), Vec::from([("en", "Other"), ("zh-CN", "其他")])),
        // Words that have no letters a to z.
        slug if slug.is_empty() => (OTHER.to_owned(), Vec::from([("en", kind), ("zh-CN", kind)])),
        slug => (slug, shop.locales.first().map(|locale| (locale.as_str(), kind)).into_iter().collect()),
    };
    if !has_category(&handle) {
        let name = Text(names.into_iter().map(|(locale, name)| (locale.to_owned(), name.to_owned())).collect());
        categories.entry(handle.clone()).or_insert(Category { handle: handle.clone(), parent: None, name, description: Text::default(), position: 1_000 });
    }
    handle
}

fn read_variants(product: &mut Product, rows: &[Row], columns: &Columns, shop: &Shop, old: Option<&Product>, faults: &mut Vec<Fault>) {
    let Some(first) = rows.first() else { return };
    let mut options: Vec<(usize, ProductOption)> = Vec::new();
    for number in 1..=OPTIONS_MAX {
        let name_column = format!("Option{number} name");
        let known = old.and_then(|old| old.options.get(number - 1));
        let name = columns.text(first, &[&name_column], shop, known.map_or(&Text::default(), |option| &option.name));
        // Shopify's way of saying that there is only one variant.
        let is_stand_in = name.0.values().any(|name| name == "Title") && rows.iter().any(|row| columns.cell(row, &[&format!("Option{number} value")]) == Some("Default Title"));
        if columns.cell(first, &[&name_column]).is_some_and(|name| !name.is_empty()) && !is_stand_in {
            options.push((number, ProductOption { name, values: known.map(|option| option.values.clone()).unwrap_or_default() }));
        }
    }
    let mut variants: Vec<Variant> = Vec::new();
    let mut number = 0;
    for row in rows {
        let cell = |names: &[&str]| columns.cell(row, names).unwrap_or_default();
        let (sku, price) = (cell(SKU), cell(PRICE));
        if sku.is_empty() && price.is_empty() && cell(&["Option1 value"]).is_empty() {
            // It has only another picture.
            continue;
        }
        number += 1;
        let mut fault = |field: &str, problem: String, remedy: &str| faults.push(Fault::new(format!("line {}: {field}", row.line), problem, remedy));
        // The inventory names variants without a sku in the same way.
        let sku = if sku.is_empty() { format!("{}-{number}", product.handle.to_ascii_uppercase()) } else { sku.to_owned() };
        let known = old.and_then(|old| old.variants.iter().find(|variant| variant.sku == sku));
        let mut money = |field: &str, text: &str| match Money::from_decimal(text, shop.currency) {
            Ok(money) if money.amount >= 0 => Some(money.amount),
            _ => {
                fault(field, format!("`{text}` is not an amount of {}", shop.currency), "write it like 12.50, without a symbol");
                None
            }
        };
        let price = if price.is_empty() { known.map_or(Some(0), |known| Some(known.price)) } else { money("Price", price) };
        let compare_at_price = match columns.cell(row, COMPARE_AT) {
            Some("") => None,
            Some(text) => money("Compare-at price", text),
            None => known.and_then(|known| known.compare_at_price),
        };
        let weight_g = match columns.cell(row, WEIGHT) {
            Some("") => 0,
            Some(text) => match text.parse::<f64>() {
                // As a spreadsheet writes whole grams.
                Ok(grams) if (0.0..=1e9).contains(&grams) => grams.round() as u32,
                _ => {
                    fault("Weight value (grams)", format!("`{text}` is not a weight"), "give grams from 0 to 10^9");
                    0
                }
            },
            None => known.map_or(0, |known| known.weight_g),
        };
        let barcode = match columns.cell(row, BARCODE) {
            Some(code) => Some(code.to_owned()).filter(|code| !code.is_empty()),
            None => known.and_then(|known| known.barcode.clone()),
        };
        let chosen = options.iter_mut().map(|(place, option)| value_id(option, *place, row, columns, shop)).collect();
        variants.push(Variant { sku, options: chosen, price: price.unwrap_or_default(), compare_at_price, weight_g, barcode });
    }
    product.options = options.into_iter().map(|(_, option)| option).collect();
    product.variants = variants;
}

/// The id of the row's value of an option, added to it if it is new.
fn value_id(option: &mut ProductOption, number: usize, row: &Row, columns: &Columns, shop: &Shop) -> String {
    let column = format!("Option{number} value");
    let name = columns.text(row, &[&column], shop, &Text::default());
    let default = shop.locales.first().map_or("", String::as_str);
    let same = |value: &OptionValue| value.name.0.get(default) == name.0.get(default);
    if let Some(known) = option.values.iter_mut().find(|value| same(value)) {
        known.name.0.extend(name.0);
        return known.id.clone();
    }
    let base = Some(slug(name.pick(default, default))).filter(|slug| !slug.is_empty()).unwrap_or_else(|| format!("v{}", option.values.len() + 1));
    let mut id = base.clone();
    let mut more = 1;
    while option.values.iter().any(|value| value.id == id) {
        more += 1;
        id = format!("{base}-{more}");
    }
    option.values.push(OptionValue { id: id.clone(), name });
    id
}

fn unreadable(error: &csv::Error) -> String {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => format!("line {line}: the text is not UTF-8; save the file as UTF-8 (not GBK) and import it again"),
        _ => format!("line {line}: {error}"),
    }
}

/// The file that [`read`] reads back. Stock is the inventory's and not in it.
pub fn write(products: impl Iterator<Item = Product>, shop: &Shop) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let in_languages = |name: &str| {
        let more = shop.locales.iter().skip(1).map(|locale| localized(name, locale));
        std::iter::once(name.to_owned()).chain(more).collect::<Vec<_>>()
    };
    let mut header = vec![HANDLE[0].to_owned()];
    for name in [TITLE[0], SUBTITLE[0], DESCRIPTION[0]] {
        header.extend(in_languages(name));
    }
    header.extend([VENDOR[0], CATEGORY[0], TAGS[0], STATUS[0]].map(str::to_owned));
    for number in 1..=OPTIONS_MAX {
        header.extend(in_languages(&format!("Option{number} name")));
        header.extend(in_languages(&format!("Option{number} value")));
    }
    header.extend([SKU[0], PRICE[0], COMPARE_AT[0], WEIGHT[0], BARCODE[0], IMAGE[0]].map(str::to_owned));
    writer.write_record(&header)?;

    let texts = |text: Option<&Text>| {
        let of = |locale: &String| guarded(text.and_then(|text| text.0.get(locale)).map_or("", String::as_str));
        shop.locales.iter().map(of).collect::<Vec<_>>()
    };
    for product in products {
        for place in 0..product.variants.len().max(product.images.len()) {
            let head = (place == 0).then_some(&product);
            let variant = product.variants.get(place);
            let mut record = vec![product.handle.clone()];
            for text in [head.map(|it| &it.name), head.map(|it| &it.subtitle), head.map(|it| &it.description)] {
                record.extend(texts(text));
            }
            record.push(guarded(head.map_or("", |it| &it.brand)));
            record.push(head.map_or("", |it| &it.category).to_owned());
            record.push(guarded(&head.map_or(String::new(), |it| it.tags.join(", "))));
            record.push(head.map_or("", |_| "active").to_owned());
            for option in 0..OPTIONS_MAX {
                record.extend(texts(head.and_then(|it| it.options.get(option)).map(|option| &option.name)));
                let id = variant.and_then(|variant| variant.options.get(option));
                let value = id.and_then(|id| product.options.get(option)?.values.iter().find(|value| value.id == *id));
                record.extend(texts(value.map(|value| &value.name)));
            }
            let amount = |amount: i64| Money::new(amount, shop.currency).to_decimal();
            record.push(guarded(variant.map_or("", |it| &it.sku)));
            record.push(variant.map_or(String::new(), |it| amount(it.price)));
            record.push(variant.and_then(|it| it.compare_at_price).map_or(String::new(), amount));
            record.push(variant.map_or(String::new(), |it| it.weight_g.to_string()));
            record.push(guarded(variant.and_then(|it| it.barcode.as_deref()).unwrap_or_default()));
            record.push(guarded(product.images.get(place).map_or("", String::as_str)));
            writer.write_record(&record)?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCALES: [&str; 2] = ["zh-CN", "en"];

    fn locales() -> Vec<String> {
        LOCALES.map(String::from).to_vec()
    }

    fn read_all(csv: &str) -> (Vec<Category>, Vec<Candidate>) {
        read(csv.as_bytes(), &Shop { currency: "CNY", locales: &locales() }, |handle| handle == "tea", |_| None).unwrap()
    }

    fn only(csv: &str) -> Product {
        let (_, mut candidates) = read_all(csv);
        assert_eq!(candidates.len(), 1);
        candidates.remove(0).product.unwrap()
    }

    const OLD: &str = "\u{feff}Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Variant SKU,Variant Grams,Variant Price,Variant Compare At Price,Variant Barcode,Image Src,Status\r\n\
        green-tea,Green tea,\"<p>Fresh.</p><p>From <b>Hangzhou</b>,\nby hand.</p>\",Lane,Tea,\"tea, green\",TRUE,Weight,50 g,GT-50,50,68.00,80.00,690,https://cdn.example/a.jpg,active\r\n\
        green-tea,,,,,,,,100 g,GT-100,100.0,128,,,https://cdn.example/b.jpg,\r\n\
        green-tea,,,,,,,,,,,,,,https://cdn.example/c.jpg,\r\n";
    const NEW: &str = "Title,URL handle,Description,Vendor,Type,Tags,Published on online store,Status,SKU,Barcode,Option1 name,Option1 value,Price,Compare-at price,Weight value (grams),Product image URL\n\
        Green tea,green-tea,\"<p>Fresh.</p><p>From <b>Hangzhou</b>,\nby hand.</p>\",Lane,Tea,\"tea, green\",TRUE,Active,GT-50,690,Weight,50 g,68.00,80.00,50,https://cdn.example/a.jpg\n\
        ,green-tea,,,,,,,GT-100,,,100 g,128,,100,https://cdn.example/b.jpg\n\
        ,green-tea,,,,,,,,,,,,,,https://cdn.example/c.jpg\n";

    #[test]
    fn both_generations_of_shopifys_headers_say_the_same() {
        let product = only(OLD);
        assert_eq!(product, only(NEW));
        assert_eq!((product.category.as_str(), product.brand.as_str(), product.tags.len(), product.images.len()), ("tea", "Lane", 2, 3));
        let prices: Vec<(&str, i64, Option<i64>, u32)> = product.variants.iter().map(|it| (it.sku.as_str(), it.price, it.compare_at_price, it.weight_g)).collect();
        assert_eq!(prices, [("GT-50", 6_800, Some(8_000), 50), ("GT-100", 12_800, None, 100)]);
        assert_eq!(product.options[0].values.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["50-g", "100-g"]);
        let description = product.description.pick("zh-CN", "zh-CN");
        assert!(description.contains("Fresh.") && !description.contains('<'), "{description}");
        assert!(product.faults().is_empty(), "{:?}", product.faults());
    }

    #[test]
    fn one_variant_without_options_and_a_type_that_is_no_category_yet() {
        let (categories, candidates) = read_all("Handle,Title,Type,Option1 Name,Option1 Value,Variant Price\ncup,Cup,Tea Ware,Title,Default Title,12.5\n");
        let product = candidates[0].product.as_ref().unwrap();
        assert_eq!((product.options.len(), product.variants[0].sku.as_str(), product.variants[0].price), (0, "CUP-1", 1_250));
        assert_eq!((product.category.as_str(), categories[0].handle.as_str(), categories[0].name.pick("en", "en")), ("tea-ware", "tea-ware", "Tea Ware"));
    }

    #[test]
    fn drafts_are_skipped_and_faults_name_their_line() {
        let (_, candidates) = read_all("Handle,Title,Price,Status\na,A,1,draft\nb,B,¥5,active\nc,C,-1,active\nd,D,1.234,active\n");
        let faults: Vec<Vec<String>> = candidates.iter().map(|it| it.product.as_ref().err().unwrap().iter().map(|fault| fault.field.clone()).collect()).collect();
        assert_eq!(faults, [vec![], vec!["line 3: Price".to_owned()], vec!["line 4: Price".into()], vec!["line 5: Price".into()]]);
        let shop = Shop { currency: "CNY", locales: &locales() };
        let refused = |input: &[u8]| read(input, &shop, |_| true, |_| None).err().unwrap();
        assert!(refused(b"Handle,Title,Price\na,\xb2\xe8,1\n").contains("UTF-8"));
        assert!(refused(b"name,cost\n").contains("URL handle"));
    }

    #[test]
    fn what_is_written_is_read_back_and_starts_no_formula() {
        let text = |zh: &str, en: &str| Text([("zh-CN", zh), ("en", en)].into_iter().map(|(locale, text)| (locale.to_owned(), text.to_owned())).collect());
        let value = |id: &str, zh: &str, en: &str| OptionValue { id: id.into(), name: text(zh, en) };
        let product = Product {
            name: text("=龙井", "+Longjing, \"fresh\""),
            description: text("一。\n\n二。", "One.\n\nTwo."),
            options: vec![ProductOption { name: text("重量", "Weight"), values: vec![value("50", "50 克", "50 g"), value("100", "100 克", "100 g")] }],
            variants: ["50", "100"].map(|id| Variant { sku: format!("LJ-{id}"), options: vec![id.into()], price: 6_800, compare_at_price: None, weight_g: 50, barcode: None }).to_vec(),
            images: vec!["a.webp".into(), "b.webp".into(), "c.webp".into()],
            tags: vec!["tea".into(), "green".into()],
            ..only("Handle,Title,Price,Category\nlongjing,x,1,tea\n")
        };
        let shop = Shop { currency: "CNY", locales: &locales() };
        let csv = write(std::iter::once(product.clone()), &shop).unwrap();
        let text = String::from_utf8(csv.clone()).unwrap();
        assert!(text.contains("'=龙井") && !text.contains(",=") && !text.contains(",+"), "{text}");
        let (categories, mut candidates) = read(&csv, &shop, |_| true, |_| Some(product.clone())).unwrap();
        assert_eq!((categories.len(), candidates.remove(0).product.unwrap()), (0, product));
    }
}
