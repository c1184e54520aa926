//! Categories as a table: what `export-categories` writes and `import-categories` reads. What a file has
//! no column for stays as it is.

use souk_sdk::config;
use souk_sdk::table::{self, Row, Table, guarded};

use crate::document::{Category, Fault, Text};
use crate::import::{self, Options, Report};
use crate::store;
use crate::table::localized;

const HANDLE: &[&str] = &["Handle", "Category"];
const PARENT: &str = "Parent";
const NAME: &str = "Name";
const DESCRIPTION: &str = "Description";
const POSITION: &str = "Position";

pub fn import(input: &[u8], options: Options) -> Result<Report, String> {
    let table = Table::read(input, options.encoding).map_err(|error| error.to_string())?;
    let missing = |column: &str| format!("line {}: there is no column `{column}`: is this a file of categories?", table.line);
    let handle = table.find(HANDLE).ok_or_else(|| missing(HANDLE[0]))?;
    let locales = config::shop().locales;
    let names = columns(&table, NAME, &locales);
    if names.is_empty() {
        return Err(missing(NAME));
    }
    let descriptions = columns(&table, DESCRIPTION, &locales);
    let tree = store::tree();
    let read = |row: &Row| {
        let handle = row.cell(handle).to_owned();
        let mut category = tree.get(&handle).cloned().unwrap_or_else(|| Category::made(&handle, Text::default()));
        fill(&mut category.name, row, &names);
        fill(&mut category.description, row, &descriptions);
        if let Some(parent) = table.find(&[PARENT]) {
            category.parent = Some(row.cell(parent).to_owned()).filter(|parent| !parent.is_empty());
        }
        match table.find(&[POSITION]).map(|place| row.cell(place)).filter(|text| !text.is_empty()).map(|text| text.strip_suffix(".0").unwrap_or(text).parse()) {
            None => {}
            Some(Ok(position)) => category.position = position,
            Some(Err(_)) => return (handle, Err(vec![Fault::new(POSITION, "it is not a number", "use a whole number from 0")])),
        }
        (handle, Ok(category))
    };
    let mut report = import::apply(table.rows.iter().map(read).collect(), Vec::new(), options, &crate::stock::Inventory);
    for (told, row) in report.categories.iter_mut().zip(&table.rows) {
        told.line = row.line;
    }
    report.summary.retain(|counts| counts.of == "categories");
    Ok(report)
}

/// The places of a column in each language; one without a language is the shop's first.
fn columns<'l>(table: &Table, name: &str, locales: &'l [String]) -> Vec<(&'l String, usize)> {
    let place = |(number, locale): (usize, &'l String)| {
        let plain = if number == 0 { table.find(&[name]) } else { None };
        Some((locale, table.find(&[&localized(name, locale)]).or(plain)?))
    };
    locales.iter().enumerate().filter_map(place).collect()
}

fn fill(text: &mut Text, row: &Row, columns: &[(&String, usize)]) {
    for (locale, place) in columns {
        text.0.insert((*locale).clone(), row.cell(*place).to_owned());
    }
    text.0.retain(|_, text| !text.is_empty());
}

/// In the order of the shop: each is followed by what is below it.
pub fn export() -> Vec<u8> {
    let locales = config::shop().locales;
    let in_languages = |name: &str| std::iter::once(name.to_owned()).chain(locales.iter().skip(1).map(|locale| localized(name, locale))).collect::<Vec<_>>();
    let header = [vec![HANDLE[0].to_owned(), PARENT.to_owned()], in_languages(NAME), in_languages(DESCRIPTION), vec![POSITION.to_owned()]].concat();
    let texts = |text: &Text| locales.iter().map(|locale| guarded(text.0.get(locale).map_or("", String::as_str))).collect::<Vec<_>>();
    let row = |category: &Category| {
        let head = vec![guarded(&category.handle), guarded(category.parent.as_deref().unwrap_or_default())];
        [head, texts(&category.name), texts(&category.description), vec![category.position.to_string()]].concat()
    };
    let tree = store::tree();
    table::write(std::iter::once(header).chain(tree.in_order().into_iter().map(row)))
}
