//! Pages that the retailer writes: imprint, privacy, returns, contact. They come
//! from one text file in the shop's folder (`pages.md`), all languages together:
//!
//! ```text
//! # Imprint {imprint en}
//!
//! Souk Ltd, 1 Example Road, Shanghai
//!
//! ## Responsible for the content
//!
//! - Li Lei, <mail@shop.example>
//!
//! # 公司信息 {imprint zh-CN}
//! ```
//!
//! Paragraphs are separated by an empty line. `##` begins a part of a page, `-` a
//! point of a list, and `<…>` holds an address that becomes a link. Nothing else
//! is markup.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use souk_sdk::storage::{Collection, CollectionError};
use souk_sdk::{config, pages, serde_json};

use crate::layout::Site;

const PAGES: Collection<Written> = Collection::new("pages", &[]);
/// All of them, for the foot of each page: one document, read at once.
const MENU: Collection<Vec<Entry>> = Collection::new("menu", &[]);
const MENU_KEY: &str = "menu";
/// Of every page that shows the menu, or a page of it.
pub const TAG: &str = "content";
const PAGES_MAX: usize = 50;
const NAME_CHARS_MAX: usize = 40;
const TITLE_CHARS_MAX: usize = 120;
const TEXT_BYTES_MAX: usize = 100_000;

/// One page in one language.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Written {
    title: String,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    /// By locale, in the order of the file.
    titles: Vec<(String, String)>,
}

impl Entry {
    /// In this language, else in the first one that it is written in.
    fn title(&self, locale: &str) -> Option<&(String, String)> {
        self.titles.iter().find(|(known, _)| known == locale).or(self.titles.first())
    }
}

/// The unit cannot go on without its storage.
fn must<T>(result: Result<T, CollectionError>) -> T {
    result.unwrap_or_else(|error| panic!("storefront: {error}"))
}

fn menu() -> Vec<Entry> {
    must(MENU.get(MENU_KEY)).unwrap_or_default()
}

/// Names and titles, in the order of the file.
pub fn links(locale: &str) -> Vec<(String, String)> {
    menu().iter().filter_map(|entry| Some((entry.name.clone(), entry.title(locale)?.1.clone()))).collect()
}

/// None where there is no such page.
pub fn page(site: &Site, name: &str) -> Option<Markup> {
    let menu = menu();
    let (locale, title) = menu.iter().find(|entry| entry.name == name)?.title(site.locale)?;
    let written = must(PAGES.get(&key(name, locale)))?;
    // What is read out in another language than the page's says so.
    let other = (locale != site.locale).then_some(locale.as_str());
    Some(site.page(title, title, html! {
        div.wide {
            (site.breadcrumb(&[(title.clone(), None)]))
            article.written lang=[other] {
                h1 { (title) }
                (blocks(&written.text))
            }
        }
    }))
}

fn key(name: &str, locale: &str) -> String {
    format!("{name}/{locale}")
}

fn blocks(text: &str) -> Markup {
    html! {
        @for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
            @if let Some(heading) = block.strip_prefix("## ") {
                h2 { (heading.lines().next().unwrap_or_default()) }
                @if let Some((_, rest)) = block.split_once('\n') { p { (linked(rest)) } }
            } @else if block.lines().all(|line| line.starts_with("- ")) {
                ul { @for line in block.lines() { li { (linked(&line[2..])) } } }
            } @else {
                p { @for (place, line) in block.lines().enumerate() { @if place > 0 { br; } (linked(line)) } }
            }
        }
    }
}

/// `<https://…>`, `<name@shop.example>` and `<+86 …>` become links.
fn linked(text: &str) -> Markup {
    let (before, rest) = text.split_once('<').unwrap_or((text, ""));
    let link = rest.split_once('>').and_then(|(address, after)| Some((href(address)?, address, after)));
    html! {
        @match link {
            Some((href, address, after)) => { (before) a href=(href) { (address) } (linked(after)) },
            None => (text),
        }
    }
}

fn href(address: &str) -> Option<String> {
    if address.starts_with("https://") || address.starts_with("http://") {
        Some(address.to_owned())
    } else if address.starts_with('+') && address.chars().all(|sign| sign.is_ascii_digit() || "+- ".contains(sign)) {
        Some(format!("tel:{}", address.replace(' ', "")))
    } else if address.contains('@') && !address.contains(char::is_whitespace) && !address.contains(':') {
        Some(format!("mailto:{address}"))
    } else {
        None
    }
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    applied: bool,
    dry_run: bool,
    pages: Vec<String>,
    /// Were there before, and are not in the file.
    removed: Vec<String>,
}

/// `import-pages`: the file replaces all pages that there were.
pub fn import(input: &[u8], dry_run: bool) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(input).map_err(|_| "the file is not UTF-8")?;
    let parsed = parse(text, &config::shop().locales)?;
    let mut entries: Vec<Entry> = Vec::new();
    for ((name, locale), written) in &parsed {
        let title = (locale.clone(), written.title.clone());
        match entries.iter_mut().find(|entry| entry.name == *name) {
            Some(entry) => entry.titles.push(title),
            None => entries.push(Entry { name: name.clone(), titles: vec![title] }),
        }
    }
    let keys: Vec<String> = parsed.iter().map(|((name, locale), _)| key(name, locale)).collect();
    let before = menu().into_iter().flat_map(|entry| entry.titles.into_iter().map(move |(locale, _)| key(&entry.name, &locale)).collect::<Vec<_>>());
    let removed: Vec<String> = before.filter(|known| !keys.contains(known)).collect();
    if !dry_run {
        for gone in &removed {
            must(PAGES.delete(gone));
        }
        for (key, (_, written)) in keys.iter().zip(&parsed) {
            must(PAGES.put(key, written));
        }
        must(MENU.put(MENU_KEY, &entries));
        pages::invalidate(&[TAG.to_owned()]);
    }
    let report = Report { applied: !dry_run, dry_run, pages: keys, removed };
    serde_json::to_vec_pretty(&report).map_err(|error| error.to_string())
}

/// What [`import`] reads back: empty where there is none.
pub fn export() -> String {
    let pages = menu().into_iter().flat_map(|entry| entry.titles.into_iter().map(move |(locale, _)| (entry.name.clone(), locale)));
    let written = pages.filter_map(|(name, locale)| {
        let Written { title, text } = must(PAGES.get(&key(&name, &locale)))?;
        Some(format!("# {title} {{{name} {locale}}}\n\n{}\n", text.trim()))
    });
    written.collect::<Vec<_>>().join("\n")
}

type Parsed = Vec<((String, String), Written)>;

/// In the order of the file; errors name the line.
fn parse(text: &str, locales: &[String]) -> Result<Parsed, String> {
    let mut parsed: Parsed = Vec::new();
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim_end();
        if let Some(heading) = line.strip_prefix("# ") {
            let at = |problem: &str| format!("line {number}: {problem}");
            let (title, id) = heading
                .strip_suffix('}')
                .and_then(|heading| heading.rsplit_once('{'))
                .ok_or_else(|| at("a page begins with `# Title {name locale}`, for instance `# Imprint {imprint en}`"))?;
            let (title, (name, locale)) = (title.trim(), id.trim().split_once(' ').ok_or_else(|| at("give a name and a locale between the braces"))?);
            let is_name = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            if !is_name {
                return Err(at(&format!("the name `{name}` becomes an address: use 1 to {NAME_CHARS_MAX} of a-z, 0-9 and -")));
            }
            if !locales.iter().any(|known| known == locale.trim()) {
                return Err(at(&format!("the shop has no locale `{}`: use one of {}", locale.trim(), locales.join(", "))));
            }
            if title.is_empty() || title.chars().count() > TITLE_CHARS_MAX {
                return Err(at(&format!("give the page a title of 1 to {TITLE_CHARS_MAX} characters")));
            }
            let id = (name.to_owned(), locale.trim().to_owned());
            if let Some(first) = seen.insert(id.clone(), number) {
                return Err(at(&format!("`{name}` is there in `{}` already, in line {first}", id.1)));
            }
            parsed.push((id, Written { title: title.into(), text: String::new() }));
        } else if let Some((_, written)) = parsed.last_mut() {
            written.text.push_str(line);
            written.text.push('\n');
            if written.text.len() > TEXT_BYTES_MAX {
                return Err(format!("line {number}: the page `{}` has more than {TEXT_BYTES_MAX} bytes", written.title));
            }
        } else if !line.is_empty() {
            return Err(format!("line {number}: a page begins with `# Title {{name locale}}`, for instance `# Imprint {{imprint en}}`"));
        }
    }
    if parsed.len() > PAGES_MAX {
        return Err(format!("there are {} pages: use at most {PAGES_MAX}", parsed.len()));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locales() -> Vec<String> {
        vec!["zh-CN".into(), "en".into()]
    }

    #[test]
    fn a_file_holds_every_page_in_every_language() {
        let file = "\u{feff}\n# Imprint {imprint en}\n\nSouk\nShanghai\n\n## Mail\n\n- <a@shop.example>\n# 公司信息 {imprint zh-CN}\n集市\n";
        let parsed = parse(file, &locales()).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[1], (("imprint".into(), "zh-CN".into()), Written { title: "公司信息".into(), text: "集市\n".into() }));
        let markup = blocks(&parsed[0].1.text).into_string();
        assert_eq!(markup, "<p>Souk<br>Shanghai</p><h2>Mail</h2><ul><li><a href=\"mailto:a@shop.example\">a@shop.example</a></li></ul>");
    }

    #[test]
    fn mistakes_name_their_line_and_what_to_do() {
        for (file, told) in [
            ("hello", "line 1: a page begins with"),
            ("# Imprint", "line 1: a page begins with"),
            ("\n# Imprint {imprint}", "line 2: give a name and a locale"),
            ("# Imprint {Im/print en}", "use 1 to 40 of a-z"),
            ("# Imprint {imprint de}", "no locale `de`: use one of zh-CN, en"),
            ("# {imprint en}", "give the page a title"),
            ("# A {a en}\n# B {a en}", "line 2: `a` is there in `en` already, in line 1"),
        ] {
            let error = parse(file, &locales()).unwrap_err();
            assert!(error.contains(told), "{file:?}: {error}");
        }
    }

    #[test]
    fn only_addresses_become_links() {
        for (text, wanted) in [
            ("see <https://shop.example/a?b&c>.", "see <a href=\"https://shop.example/a?b&amp;c\">https://shop.example/a?b&amp;c</a>."),
            ("<+86 21 1234>", "<a href=\"tel:+86211234\">+86 21 1234</a>"),
            ("<javascript:alert(1)@x>", "&lt;javascript:alert(1)@x&gt;"),
            ("a < b", "a &lt; b"),
        ] {
            assert_eq!(linked(text).into_string(), wanted);
        }
    }
}
