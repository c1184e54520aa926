//! Orders by the hundred thousand without placing them: what some real ones left
//! in the documents of the shop's plugins, with names, numbers and times
//! exchanged. Which plugins keep something of an order, and what, is found by
//! looking at their exports before and after; nothing here knows a plugin but
//! `orders`, whose document names what is to be exchanged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Exports of all plugins at one time: lines by plugin, then by collection and key.
pub struct Snapshot(BTreeMap<String, Export>);

struct Export {
    head: String,
    lines: BTreeMap<(String, String), Value>,
}

impl Snapshot {
    /// Of files named by their plugins.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut exports = BTreeMap::new();
        for file in fs::read_dir(folder)? {
            let file = file?;
            let mut lines = BufReader::new(fs::File::open(file.path())?).lines();
            let head = lines.next().context("an export is empty")??;
            let keyed = lines.map(|line| {
                let line: Value = serde_json::from_str(&line?)?;
                let name = |member: &str| line[member].as_str().unwrap_or_default().to_owned();
                anyhow::Ok(((name("collection"), name("key")), line))
            });
            exports.insert(file.file_name().to_string_lossy().into_owned(), Export { head, lines: keyed.collect::<Result<_>>()? });
        }
        Ok(Self(exports))
    }
}

/// What one order left.
pub struct Template {
    lines: Vec<Line>,
    /// Plugin, collection and key, and by how much it moved.
    counters: Vec<(String, (String, String), i64)>,
}

struct Line {
    plugin: String,
    collection: String,
    /// As JSON writes it.
    key: Pieces,
    body: Pieces,
    /// Not JSON: base64 is made of it at the end.
    is_bytes: bool,
}

/// Text with places for what each order has of its own.
struct Pieces(Vec<Piece>);

enum Piece {
    Same(String),
    Own(Own),
}

/// Of each order its own.
#[derive(Clone, Copy)]
enum Own {
    /// One of its names, of so many letters and digits.
    Name { which: u64, length: usize },
    Number,
    /// Milliseconds.
    Time(i64),
    /// Milliseconds as they stand in keys that sort by them.
    Ordered(i64),
}

/// A day: times further from the order's own are not of its making.
const TIMES_MS: i64 = 24 * 60 * 60 * 1_000;

impl Template {
    /// Out of what was there before and after one order was placed.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Result<Self> {
        let mut fresh = Vec::new();
        let mut counters = Vec::new();
        for (plugin, export) in &after.0 {
            let old = &before.0.get(plugin).with_context(|| format!("{plugin} is new"))?.lines;
            for (name, line) in export.lines.iter().filter(|(name, line)| old.get(*name) != Some(*line)) {
                let was = old.get(name);
                if let Some(now) = line["counter"].as_i64() {
                    let was = was.and_then(|line| line["counter"].as_i64()).unwrap_or_default();
                    counters.push((plugin.clone(), name.clone(), now - was));
                    continue;
                }
                ensure!(was.is_none(), "{plugin} keeps one document for many orders: {line}");
                fresh.push((plugin, line));
            }
        }
        let order = fresh.iter().find(|(plugin, line)| *plugin == "orders" && line["collection"] == "orders").context("no order is new")?.1;
        let own = own(&order["document"])?;
        let lines = fresh.iter().map(|(plugin, line)| Line::cut(plugin, line, &own)).collect::<Result<_>>()?;
        Ok(Self { lines, counters })
    }

    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.plugin.as_str())
    }

    pub fn describe(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.plugins().for_each(|plugin| *counts.entry(plugin).or_default() += 1);
        let told: Vec<String> = counts.iter().map(|(plugin, count)| format!("{plugin} {count}")).collect();
        format!("{}; counters {}", told.join(", "), self.counters.len())
    }
}

/// What is to be exchanged in all that an order left.
fn own(order: &Value) -> Result<Vec<(String, Own)>> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("an order lacks a name");
    let inner = &order["order"];
    let names = [text(&order["cart_id"])?, text(&order["hold_id"])?, text(&inner["token"])?, text(&inner["payment_id"])?];
    let mut own: Vec<(String, Own)> = Vec::new();
    for (which, name) in (0..).zip(names) {
        // The hold has the cart's name.
        if own.iter().all(|(known, _)| *known != name) {
            own.push((name.clone(), Own::Name { which, length: name.len() }));
        }
    }
    own.push((text(&inner["number"])?, Own::Number));
    let created = inner["created_ms"].as_i64().context("created_ms")?;
    own.push((format!("{:016x}", created as u64 ^ (1 << 63)), Own::Ordered(created)));
    Ok(own)
}

impl Line {
    fn cut(plugin: &str, line: &Value, own: &[(String, Own)]) -> Result<Self> {
        let created = own.iter().find_map(|(_, own)| if let Own::Ordered(ms) = own { Some(*ms) } else { None }).unwrap_or_default();
        let document = &line["document"];
        let bytes = line["bytes"].as_str();
        let body = match bytes {
            Some(bytes) => String::from_utf8(BASE64_STANDARD.decode(bytes)?).with_context(|| format!("{plugin}: what {line} means is not known"))?,
            None => document.to_string(),
        };
        let mut own = own.to_vec();
        times(document, created, &mut own);
        Ok(Self {
            plugin: plugin.to_owned(),
            collection: line["collection"].as_str().unwrap_or_default().to_owned(),
            key: Pieces::cut(&line["key"].to_string(), &own),
            body: Pieces::cut(&body, &own),
            is_bytes: bytes.is_some(),
        })
    }

    fn write(&self, chance: &Chance, text: &mut String) -> Result<()> {
        write!(text, "{{\"collection\":\"{}\",\"key\":", self.collection)?;
        self.key.write(chance, text)?;
        if self.is_bytes {
            let mut body = String::new();
            self.body.write(chance, &mut body)?;
            write!(text, ",\"bytes\":\"{}\"}}", BASE64_STANDARD.encode(body))?;
        } else {
            text.push_str(",\"document\":");
            self.body.write(chance, text)?;
            text.push('}');
        }
        text.push('\n');
        Ok(())
    }
}

/// All numbers that can be times near the order's.
fn times(value: &Value, created: i64, own: &mut Vec<(String, Own)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| times(value, created, own)),
        Value::Object(members) => members.values().for_each(|value| times(value, created, own)),
        Value::Number(number) => {
            if let Some(ms) = number.as_i64().filter(|ms| (ms - created).abs() < TIMES_MS) {
                own.push((ms.to_string(), Own::Time(ms)));
            }
        }
        _ => {}
    }
}

impl Pieces {
    fn cut(text: &str, own: &[(String, Own)]) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let next = own.iter().filter_map(|(word, own)| Some((rest.find(word.as_str())?, word, *own))).min_by_key(|(place, ..)| *place);
            let Some((place, word, own)) = next else { break };
            pieces.push(Piece::Same(rest[..place].to_owned()));
            pieces.push(Piece::Own(own));
            rest = &rest[place + word.len()..];
        }
        pieces.push(Piece::Same(rest.to_owned()));
        Self(pieces)
    }

    fn write(&self, chance: &Chance, text: &mut String) -> Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Same(same) => text.push_str(same),
                Piece::Own(Own::Name { which, length }) => chance.name(*which, *length, text),
                Piece::Own(Own::Number) => text.push_str(&chance.number()),
                Piece::Own(Own::Time(ms)) => write!(text, "{}", ms - chance.earlier_ms)?,
                Piece::Own(Own::Ordered(ms)) => write!(text, "{:016x}", (ms - chance.earlier_ms) as u64 ^ (1 << 63))?,
            }
        }
        Ok(())
    }
}

/// What one generated order has of its own.
struct Chance {
    place: u64,
    earlier_ms: i64,
}

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Of numbers that people read, as the shop writes them.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Odd: multiplied by it, forty bits come out in another order, each once.
const SCATTER: u64 = 0x9E_3779_B97F_4A7D;

impl Chance {
    fn name(&self, which: u64, length: usize, text: &mut String) {
        let mut random = fastrand::Rng::with_seed(self.place << 8 | which);
        text.extend((0..length).map(|_| char::from(LETTERS[random.usize(..LETTERS.len())])));
    }

    fn number(&self) -> String {
        let bits = self.place.wrapping_mul(SCATTER) & 0xff_ffff_ffff;
        let digits: String = (0..8).rev().map(|place| char::from(DIGITS[(bits >> (place * 5)) as usize & 31])).collect();
        format!("{}-{}", &digits[..4], &digits[4..])
    }
}

/// Time between two orders.
const APART_MS: i64 = 60_000;

/// Writes for each plugin an export of what it has and of so many orders more.
/// Answers with the plugins, and the number and token of one of the orders: it
/// stands in the middle of the list.
pub fn write(templates: &[Template], now: &Snapshot, count: u64, folder: &Path) -> Result<(Vec<String>, Middle)> {
    let mut plugins: Vec<String> = templates.iter().flat_map(Template::plugins).map(str::to_owned).collect();
    plugins.sort();
    plugins.dedup();
    for plugin in &plugins {
        let export = now.0.get(plugin).context("the plugin is gone")?;
        let mut out = BufWriter::new(fs::File::create_new(folder.join(plugin))?);
        writeln!(out, "{}", export.head)?;
        for (name, line) in &export.lines {
            writeln!(out, "{}", counted(templates, plugin, name, line, count))?;
        }
        let mut text = String::new();
        for place in 0..count {
            text.clear();
            let template = &templates[(place % templates.len() as u64) as usize];
            for line in template.lines.iter().filter(|line| line.plugin == *plugin) {
                line.write(&chance(place, count), &mut text)?;
            }
            out.write_all(text.as_bytes())?;
        }
        out.flush()?;
    }
    Ok((plugins, Middle::of(templates, count)?))
}

fn chance(place: u64, count: u64) -> Chance {
    Chance { place: place + 1, earlier_ms: (count - place) as i64 * APART_MS }
}

/// A line as it is after so many orders more: only counters move.
fn counted(templates: &[Template], plugin: &str, name: &(String, String), line: &Value, count: u64) -> Value {
    let mut line = line.clone();
    if let Some(now) = line["counter"].as_i64() {
        let all = templates.len() as u64;
        let moved = templates.iter().zip(0_u64..).map(|(template, index)| {
            let orders = (count + all - 1 - index) / all;
            let delta: i64 = template.counters.iter().filter(|(of, counter, _)| of == plugin && counter == name).map(|(.., delta)| delta).sum();
            delta * orders as i64
        });
        line["counter"] = (now + moved.sum::<i64>()).into();
    }
    line
}

pub struct Middle {
    pub number: String,
    tokens: Vec<String>,
}

/// Orders that are looked at.
const SHOWN: u64 = 1_000;

impl Middle {
    fn of(templates: &[Template], count: u64) -> Result<Self> {
        let template = templates.first().context("no template")?;
        let line = template.lines.iter().find(|line| line.plugin == "orders" && line.collection == "orders").context("no order")?;
        let token = |place: u64| {
            let mut key = String::new();
            line.key.write(&chance(place, count), &mut key)?;
            match serde_json::from_str(&key)? {
                Value::String(token) => Ok(token),
                _ => bail!("an order's key is no text"),
            }
        };
        let tokens = (0..SHOWN).map(|turn| token(turn * 7919 % count)).collect::<Result<_>>()?;
        Ok(Self { number: chance(count / 2, count).number(), tokens })
    }

    /// Of orders from the whole list.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}
