//! One sale without a file. Works on the price list as it is written in a file,
//! so that what a command does not name stays as it is.

use serde::Serialize;
use souk_sdk::money::Money;
use souk_sdk::{clock, config, serde_json, zone};

use crate::lists::{self, EVERY_SKU, Price, PriceList};
use crate::{LISTS, all_lists, must};

const USE: &str = "use: set-sale id=singles-day (percent=20 | price=49.00) [sku=GT-50,GT-100 | sku=*] [without=GT-200] [starts=2026-11-11T00:00] \
    [ends=2026-11-12T00:00] [priority=1]; a new sale by a percentage without a sku is for all; `none` takes starts or ends away";
const KNOWN: [&str; 8] = ["id", "percent", "price", "sku", "without", "starts", "ends", "priority"];
/// A line names so many skus.
const SKUS_SHOWN: usize = 5;

type Arguments = [(String, String)];

fn argument<'a>(arguments: &'a Arguments, wanted: &str) -> Option<&'a str> {
    arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim())
}

fn id(arguments: &Arguments) -> Result<&str, String> {
    argument(arguments, "id").filter(|id| !id.is_empty()).ok_or_else(|| format!("which sale? {USE}"))
}

/// All lists as they are to be, and what to say of it.
pub fn set(arguments: &Arguments) -> Result<(Vec<PriceList>, String), String> {
    if let Some((unknown, _)) = arguments.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
        return Err(format!("there is no `{unknown}` here; {USE}"));
    }
    let id = id(arguments)?;
    let mut lists = all_lists();
    let before = lists.iter().find(|list| list.id == id).cloned();
    let mut list = before.clone().unwrap_or_else(|| PriceList { id: id.into(), priority: 0, starts: None, ends: None, prices: Vec::new() });
    for (name, time) in [("starts", &mut list.starts), ("ends", &mut list.ends)] {
        if let Some(text) = argument(arguments, name) {
            *time = Some(text).filter(|text| !["", "none"].contains(text)).map(str::to_owned);
        }
    }
    if let Some(text) = argument(arguments, "priority") {
        list.priority = text.parse().map_err(|_| format!("priority: `{text}` is not a whole number"))?;
    }
    let asked = asked(arguments)?;
    if before.is_none() && asked.is_none() {
        return Err(format!("what does `{id}` take off? {USE}"));
    }
    let offered = if asked.is_some() || argument(arguments, "sku").is_some() { targets(arguments, &list, asked.as_ref())? } else { Vec::new() };
    for price in offered {
        list.prices.retain(|other| other.sku != price.sku || other.min_quantity > 1);
        list.prices.push(price);
    }
    for sku in skus(arguments, "without")? {
        let prices = list.prices.len();
        list.prices.retain(|price| price.sku != sku);
        if list.prices.len() == prices {
            return Err(format!("without: the sale `{id}` has no `{sku}`; it gives {}", offer(&list)));
        }
    }
    if list.prices.is_empty() {
        return Err(format!("without: nothing would be left of the sale `{id}`: end it with remove-sale id={id}"));
    }
    let said = format!("{}: {}", if before.is_some() { "changed" } else { "new" }, shown(&list));
    lists.retain(|other| other.id != id);
    lists.push(list);
    Ok((lists, said))
}

/// The offer that is asked for, of no sku yet.
fn asked(arguments: &Arguments) -> Result<Option<Price>, String> {
    let currency = config::shop().currency;
    let of = |price, percent_off| Price { sku: String::new(), min_quantity: 1, price, percent_off };
    match (argument(arguments, "percent"), argument(arguments, "price")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(format!("give either percent or price; {USE}")),
        (Some(percent), None) => match lists::ppm(percent) {
            Some(ppm) if ppm > 0 && ppm < lists::PPM => Ok(Some(of(None, Some(percent.to_owned())))),
            _ => Err(format!("percent: `{percent}` is no discount: use more than 0 and less than 100, with at most 4 decimals, for instance 12.5")),
        },
        (None, Some(price)) => match Money::from_decimal(price, &currency) {
            Ok(money) if (1..=lists::PRICE_MAX).contains(&money.amount) => Ok(Some(of(Some(money.amount), None))),
            Ok(_) => {
                let most = Money::new(lists::PRICE_MAX, &currency).to_decimal();
                Err(format!("price: `{price}` is no price: use more than 0 and at most {most} {currency}"))
            }
            Err(_) => Err(format!("price: `{price}` is not an amount of {currency}: write it like 12.50, without a symbol")),
        },
    }
}

/// The skus that an argument names.
fn skus<'a>(arguments: &'a Arguments, name: &str) -> Result<Vec<&'a str>, String> {
    let Some(text) = argument(arguments, name) else { return Ok(Vec::new()) };
    let skus: Vec<&str> = text.split(',').map(str::trim).filter(|sku| !sku.is_empty()).collect();
    match skus.iter().find(|sku| !crate::key(sku)) {
        Some(other) => Err(format!("{name}: `{other}` is no sku: it has 1 to 100 ASCII characters without blanks; write several with commas between")),
        None if skus.is_empty() => Err(format!("{name}: name a sku, or `*` for everything")),
        None => Ok(skus),
    }
}

/// Whose price it is to be. Without a sku it is those that the sale is for:
/// nothing is added to a sale that is not named. Without an offer, as the others.
fn targets(arguments: &Arguments, list: &PriceList, asked: Option<&Price>) -> Result<Vec<Price>, String> {
    let single: Vec<&Price> = list.prices.iter().filter(|price| price.min_quantity <= 1).collect();
    let is_one_offer = single.windows(2).all(|pair| (pair[0].price, &pair[0].percent_off) == (pair[1].price, &pair[1].percent_off));
    let mut named: Vec<String> = skus(arguments, "sku")?.into_iter().map(str::to_owned).collect();
    if named.is_empty() {
        named = match asked {
            _ if !single.is_empty() && is_one_offer => single.iter().map(|price| price.sku.clone()).collect(),
            Some(offer) if list.prices.is_empty() && offer.price.is_none() => vec![EVERY_SKU.into()],
            _ if list.prices.is_empty() => return Err("price: of which goods? Name them, as sku=GT-50,GT-100; sku=* is everything".into()),
            _ => return Err(format!("sku: the sale `{}` gives {}: say which of them changes, as sku=GT-50", list.id, offer(list))),
        };
    }
    let offer = match (asked, single.first()) {
        (Some(asked), _) => asked,
        (None, Some(offer)) if is_one_offer => offer,
        _ => return Err(format!("what does it take off {}? Give percent or price", named.join(", "))),
    };
    Ok(named.into_iter().map(|sku| Price { sku, ..offer.clone() }).collect())
}

pub fn remove(arguments: &Arguments) -> Result<(Vec<PriceList>, String), String> {
    let id = id(arguments)?;
    let Some(list) = must(LISTS.get(id)) else { return Err(format!("there is no sale `{id}`: `list-sales` shows those that there are")) };
    let lists = all_lists().into_iter().filter(|other| other.id != id).collect();
    Ok((lists, format!("taken away: {}", shown(&list))))
}

/// A price list as `souk list sales` shows it.
#[derive(Serialize)]
struct Row {
    id: String,
    offer: String,
    /// `active`, `not yet`, or `ended`.
    state: &'static str,
    starts_ms: Option<i64>,
    ends_ms: Option<i64>,
    priority: i32,
}

pub fn list(arguments: &Arguments) -> Result<Vec<u8>, String> {
    let limit = argument(arguments, "limit").map_or(Ok(usize::MAX), str::parse).map_err(|_| "limit: give a number".to_owned())?;
    let lists = all_lists();
    let seen = match argument(arguments, "after") {
        Some(after) => lists.iter().position(|list| list.id == after).ok_or_else(|| format!("after: there is no sale `{after}`: begin anew without it"))? + 1,
        None => 0,
    };
    let (now_ms, zone) = (clock::now_ms() as i64, config::shop().time_zone);
    let row = |list: &PriceList| {
        let instant = |text: &Option<String>| text.as_ref().and_then(|text| zone::instant_ms(text, &zone).ok());
        let (starts_ms, ends_ms) = (instant(&list.starts), instant(&list.ends));
        let state = match () {
            () if ends_ms.is_some_and(|ends| ends <= now_ms) => "ended",
            () if starts_ms.is_some_and(|starts| starts > now_ms) => "not yet",
            () => "active",
        };
        Row { id: list.id.clone(), offer: offer(list), state, starts_ms, ends_ms, priority: list.priority }
    };
    serde_json::to_vec_pretty(&lists[seen..].iter().take(limit).map(row).collect::<Vec<_>>()).map_err(|error| error.to_string())
}

/// On one line, with times as the shop's clocks show them.
fn shown(list: &PriceList) -> String {
    let shop = config::shop();
    let time = |word: &str, text: &Option<String>| {
        let at = text.as_ref().and_then(|text| zone::instant_ms(text, &shop.time_zone).ok());
        at.map_or(String::new(), |at| format!(", {word} {}", zone::show(at, &shop.time_zone)))
    };
    let priority = if list.priority == 0 { String::new() } else { format!(", priority {}", list.priority) };
    format!("{}  {}{}{}{priority}", list.id, offer(list), time("since", &list.starts), time("until", &list.ends))
}

/// Which prices it gives.
fn offer(list: &PriceList) -> String {
    let shop = config::shop();
    let price = |price: &Price| {
        let what = match (price.price, &price.percent_off) {
            (Some(amount), _) => format!("at {} {}", Money::new(amount, &shop.currency).to_decimal(), shop.currency),
            (None, percent) => format!("{} % off", percent.as_deref().unwrap_or("0")),
        };
        let whose = if price.sku == EVERY_SKU { "everything" } else { &price.sku };
        let from = if price.min_quantity > 1 { format!(" from {} pieces", price.min_quantity) } else { String::new() };
        format!("{whose} {what}{from}")
    };
    let mut prices: Vec<String> = list.prices.iter().take(SKUS_SHOWN).map(price).collect();
    if list.prices.len() > SKUS_SHOWN {
        prices.push(format!("{} more", list.prices.len() - SKUS_SHOWN));
    }
    prices.join("; ")
}
