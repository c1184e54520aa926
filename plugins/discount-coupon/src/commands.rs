//! One coupon without a file. Works on the coupon as it is written in a file, so
//! that what a command does not name stays as it is.

use serde::Serialize;
use serde_json::{Value, json};
use souk_sdk::money::Money;
use souk_sdk::{clock, config, entry, storage, zone};

use crate::COUPONS;
use crate::coupon::Coupon;

const USE: &str = "use: set-coupon code=CODE (percent=10 | amount=20.00 | free-shipping=true) [minimum=100.00] [limit=1000] [per-customer=1] \
    [category=tea] [exclusive=true] [starts=2026-11-11T00:00] [ends=2026-11-12T00:00] [name-en=…] [name-zh=…]; `none` takes a condition away";
const KINDS: [&str; 3] = ["percent", "amount", "free-shipping"];
const SCAN_MAX: u32 = 1_000;

type Arguments = [(String, String)];

fn argument<'a>(arguments: &'a Arguments, wanted: &str) -> Option<&'a str> {
    arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim())
}

fn code(arguments: &Arguments) -> Result<String, String> {
    let code = argument(arguments, "code").map(entry::code).filter(|code| !code.is_empty());
    code.ok_or_else(|| format!("which coupon? {USE}"))
}

fn stored(code: &str) -> Result<Option<Coupon>, String> {
    COUPONS.get(code).map_err(|error| format!("code: {error}"))
}

pub fn set(arguments: &Arguments) -> Result<String, String> {
    const KNOWN: [&str; 10] = ["code", "minimum", "limit", "per-customer", "category", "exclusive", "starts", "ends", "name-en", "name-zh"];
    if let Some((unknown, _)) = arguments.iter().find(|(name, _)| !KNOWN.contains(&name.as_str()) && !KINDS.contains(&name.as_str())) {
        return Err(format!("there is no `{unknown}` here; {USE}"));
    }
    let (code, shop) = (code(arguments)?, config::shop());
    let before = stored(&code)?;
    let mut json = match &before {
        Some(coupon) => serde_json::to_value(coupon).map_err(|error| error.to_string())?,
        None => json!({ "code": code }),
    };
    let named_before = named(&json, &shop.currency);
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| argument(arguments, kind).is_some()).collect();
    match kinds.as_slice() {
        [] if before.is_some() => {}
        [kind] => take_kind(&mut json, kind, argument(arguments, kind).unwrap_or_default(), &shop.currency)?,
        _ => return Err(format!("what does `{code}` take off? {USE}")),
    }
    if let Some(text) = argument(arguments, "minimum") {
        json["minimum"] = if is_none(text) { 0.into() } else { amount("minimum", text, &shop.currency)?.into() };
    }
    for field in ["limit", "per-customer"] {
        if let Some(text) = argument(arguments, field) {
            let number = || text.parse::<u32>().map_err(|_| format!("{field}: `{text}` is not a number; write `none` for no limit"));
            json[field] = if is_none(text) { Value::Null } else { number()?.into() };
        }
    }
    if let Some(text) = argument(arguments, "exclusive") {
        json["exclusive"] = match text {
            "true" => true,
            "false" | "none" | "" => false,
            other => return Err(format!("exclusive: `{other}` is neither true (no other discount beside it) nor false")),
        }
        .into();
    }
    for (from, field) in [("category", "category"), ("starts", "starts-at"), ("ends", "ends-at")] {
        if let Some(text) = argument(arguments, from) {
            json[field] = if is_none(text) { Value::Null } else { text.into() };
        }
    }
    // A name that was made of what it takes off changes with that.
    let names = named(&json, &shop.currency);
    if json["name"].is_null() || json["name"] == named_before {
        json["name"] = names;
    }
    for (from, language) in [("name-en", "en"), ("name-zh", "zh-CN")] {
        if let Some(text) = argument(arguments, from) {
            json["name"][language] = text.into();
        }
    }
    let coupon = Coupon::read(json, &shop.time_zone)?;
    if before.as_ref() == Some(&coupon) {
        return Ok(format!("nothing changes: {}", shown(&coupon)?));
    }
    COUPONS.put(&coupon.code, &coupon).map_err(|error| error.to_string())?;
    Ok(format!("{}: {}", if before.is_some() { "changed" } else { "new" }, shown(&coupon)?))
}

fn is_none(text: &str) -> bool {
    text.is_empty() || text == "none"
}

fn amount(field: &str, text: &str, currency: &str) -> Result<i64, String> {
    let amount = Money::from_decimal(text, currency).ok().map(|money| money.amount).filter(|amount| *amount >= 0);
    amount.ok_or_else(|| format!("{field}: `{text}` is not an amount of {currency}: write it like 12.50, without a symbol"))
}

fn take_kind(json: &mut Value, kind: &str, text: &str, currency: &str) -> Result<(), String> {
    let (kind, value) = match kind {
        "percent" => ("percent", text.parse().map_err(|_| format!("percent: `{text}` is not a number: use 1 to 100"))?),
        "amount" => ("fixed", amount("amount", text, currency)?),
        _ => ("free-shipping", 0),
    };
    json["kind"] = kind.into();
    json["value"] = value.into();
    Ok(())
}

/// What a coupon is called that nobody named.
fn named(json: &Value, currency: &str) -> Value {
    let value = json["value"].as_i64().unwrap_or(0);
    let money = |locale: &str| Money::new(value, currency).format(locale);
    let (en, zh) = match json["kind"].as_str() {
        Some("percent") => (format!("{value}% off"), format!("立减 {value}%")),
        Some("fixed") => (format!("{} off", money("en")), format!("立减 {}", money("zh-CN"))),
        Some(_) => ("Free delivery".into(), "免运费".into()),
        None => return Value::Null,
    };
    json!({ "en": en, "zh-CN": zh })
}

pub fn remove(arguments: &Arguments) -> Result<String, String> {
    let code = code(arguments)?;
    let Some(coupon) = stored(&code)? else { return Err(format!("there is no coupon `{code}`: `list-coupons` shows those that there are")) };
    COUPONS.delete(&code).map_err(|error| error.to_string())?;
    Ok(format!("taken away: {}", shown(&coupon)?))
}

/// A coupon as `souk list coupons` shows it.
#[derive(Serialize)]
struct Row {
    code: String,
    offer: String,
    /// `active`, `not yet`, or `ended`.
    state: &'static str,
    limit: Option<u64>,
    per_customer: Option<u64>,
    starts_ms: Option<i64>,
    ends_ms: Option<i64>,
}

pub fn list(arguments: &[(String, String)]) -> Result<Vec<u8>, String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    let limit = argument("limit").map_or(Ok(usize::MAX), str::parse).map_err(|_| "limit: give a number".to_owned())?;
    let mut rows = Vec::new();
    let mut last = argument("after").map(entry::code);
    if let Some(after) = &last
        && stored(after)?.is_none()
    {
        return Err(format!("after: there is no coupon `{after}`: begin anew without it"));
    }
    while rows.len() < limit {
        let page = COUPONS.scan(&storage::after(last.as_deref()), SCAN_MAX, false).map_err(|error| error.to_string())?;
        for (_, coupon) in page.iter().take(limit - rows.len()) {
            rows.push(row(coupon)?);
        }
        match page.last() {
            Some((code, _)) if page.len() == SCAN_MAX as usize => last = Some(code.clone()),
            _ => break,
        }
    }
    serde_json::to_vec_pretty(&rows).map_err(|error| error.to_string())
}

/// What `import-coupons` reads back: all of them, with times as the shop's clocks show them.
pub fn export() -> Result<Vec<u8>, String> {
    let zone = config::shop().time_zone;
    let (mut coupons, mut last) = (Vec::new(), None::<String>);
    loop {
        let page = COUPONS.scan(&storage::after(last.as_deref()), SCAN_MAX, false).map_err(|error| error.to_string())?;
        for (_, coupon) in &page {
            let mut json = serde_json::to_value(coupon).map_err(|error| error.to_string())?;
            for field in ["starts-at", "ends-at"] {
                if let Some(text) = json[field].as_str() {
                    json[field] = zone::show(zone::instant_ms(text, &zone)?, &zone).into();
                }
            }
            coupons.push(json);
        }
        match page.last() {
            Some((code, _)) if page.len() == SCAN_MAX as usize => last = Some(code.clone()),
            _ => break,
        }
    }
    serde_json::to_vec_pretty(&serde_json::json!({ "coupons": coupons })).map_err(|error| error.to_string())
}

fn row(coupon: &Coupon) -> Result<Row, String> {
    let json = serde_json::to_value(coupon).map_err(|error| error.to_string())?;
    let zone = config::shop().time_zone;
    let instant = |field: &str| json[field].as_str().map(|text| zone::instant_ms(text, &zone)).transpose();
    let (starts_ms, ends_ms) = (instant("starts-at")?, instant("ends-at")?);
    let now_ms = clock::now_ms() as i64;
    let state = match () {
        () if ends_ms.is_some_and(|ends| ends <= now_ms) => "ended",
        () if starts_ms.is_some_and(|starts| starts > now_ms) => "not yet",
        () => "active",
    };
    Ok(Row { code: coupon.code.clone(), offer: offer(&json).join(", "), state, limit: json["limit"].as_u64(), per_customer: json["per-customer"].as_u64(), starts_ms, ends_ms })
}

/// What it takes off, and for what.
fn offer(json: &serde_json::Value) -> Vec<String> {
    let shop = config::shop();
    let value = json["value"].as_i64().unwrap_or(0);
    let decimal = |amount: i64| Money::new(amount, &shop.currency).to_decimal();
    let mut parts = vec![match json["kind"].as_str() {
        Some("percent") => format!("{value} % off"),
        Some("fixed") => format!("{} {} off", decimal(value), shop.currency),
        _ => "free delivery".into(),
    }];
    if let Some(category) = json["category"].as_str() {
        parts.push(format!("for `{category}`"));
    }
    if let Some(minimum) = json["minimum"].as_i64().filter(|minimum| *minimum > 0) {
        parts.push(format!("from {} {}", decimal(minimum), shop.currency));
    }
    if json["exclusive"] == true {
        parts.push("with no other discount".into());
    }
    parts
}

/// On one line, with times as the shop's clocks show them.
fn shown(coupon: &Coupon) -> Result<String, String> {
    let json = serde_json::to_value(coupon).map_err(|error| error.to_string())?;
    let shop = config::shop();
    let mut parts = offer(&json);
    for (field, word) in [("starts-at", "since"), ("ends-at", "until")] {
        if let Some(text) = json[field].as_str() {
            parts.push(format!("{word} {}", zone::show(zone::instant_ms(text, &shop.time_zone)?, &shop.time_zone)));
        }
    }
    for (field, word) in [("limit", "in all"), ("per-customer", "by each customer")] {
        if let Some(number) = json[field].as_u64() {
            parts.push(format!("{number} {} {word}", if number == 1 { "time" } else { "times" }));
        }
    }
    Ok(format!("{}  {}", coupon.code, parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use souk_sdk::host::command_handler::Guest as _;
    use souk_sdk::testing;

    use crate::Coupons;

    fn run(command: &str, arguments: &str) -> Result<String, String> {
        let arguments = arguments.split('|').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        testing::unit(|| Coupons::run(command.into(), arguments, Vec::new())).map(|answer| String::from_utf8(answer).unwrap())
    }

    #[test]
    fn a_coupon_is_made_changed_and_taken_away_by_one_command_each() {
        let made = run("set-coupon", "code=singles|percent=11|starts=2026-11-11T00:00|ends=2026-11-12|limit=500").unwrap();
        assert_eq!(made, "new: SINGLES  11 % off, since 2026-11-11T00:00:00+08:00, until 2026-11-12T00:00:00+08:00, 500 times in all");
        let changed = run("set-coupon", "code=SINGLES|amount=20|minimum=150.00|limit=none|category=tea").unwrap();
        assert_eq!(changed, "changed: SINGLES  20.00 CNY off, for `tea`, from 150.00 CNY, since 2026-11-11T00:00:00+08:00, until 2026-11-12T00:00:00+08:00");
        let alone = run("set-coupon", "code=ｓｉｎｇｌｅｓ|exclusive=true").unwrap();
        assert!(alone.starts_with("changed: SINGLES") && alone.contains(", with no other discount, since "), "{alone}");
        assert!(run("set-coupon", "code=SINGLES|exclusive=true").unwrap().starts_with("nothing changes"));
        assert!(!run("set-coupon", "code=SINGLES|exclusive=false").unwrap().contains("no other discount"));
        // What is shown, saved again, changes nothing.
        let again = run("set-coupon", "code=SINGLES|amount=20.00|starts=2026-11-11T00:00:00+08:00|ends=2026-11-12T00:00:00+08:00").unwrap();
        assert!(again.starts_with("nothing changes"), "{again}");
        assert!(run("list-coupons", "").unwrap().contains("\"offer\": \"20.00 CNY off, for `tea`, from 150.00 CNY\""));
        run("remove-coupon", "code=singles").unwrap();
        assert_eq!(run("list-coupons", "").unwrap(), "[]");
    }

    #[test]
    fn a_limit_of_one_is_one_time() {
        assert_eq!(run("set-coupon", "code=ONCE|percent=10|limit=2|per-customer=1").unwrap(), "new: ONCE  10 % off, 2 times in all, 1 time by each customer");
    }

    #[test]
    fn a_list_has_those_that_ended_and_goes_on_where_it_was_left() {
        run("set-coupon", "code=OLD|percent=10|starts=2020-01-01|ends=2020-02-01").unwrap();
        run("set-coupon", "code=NOW|percent=10").unwrap();
        run("set-coupon", "code=SOON|percent=10|starts=2999-01-01").unwrap();
        let states = |arguments: &str| {
            let rows: Vec<serde_json::Value> = serde_json::from_str(&run("list-coupons", arguments).unwrap()).unwrap();
            rows.iter().map(|row| format!("{}: {}", row["code"].as_str().unwrap(), row["state"].as_str().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(states(""), ["NOW: active", "OLD: ended", "SOON: not yet"]);
        assert_eq!(states("limit=1|after=now"), ["OLD: ended"]);
    }

    #[test]
    fn what_is_wrong_names_its_field_and_changes_nothing() {
        run("set-coupon", "code=A|percent=10").unwrap();
        for (arguments, told) in [
            ("percent=10", "which coupon"),
            ("code=B", "what does `B` take off"),
            ("code=B|percent=10|amount=3", "what does `B` take off"),
            ("code=A|percent=ten", "percent"),
            ("code=A|percent=101", "value: use 1 to 100"),
            ("code=A|amount=¥3", "12.50"),
            ("code=A|limit=many", "limit"),
            ("code=A|limit=0", "limit: nobody could use it"),
            ("code=A B|percent=10", "code: use 1 to 64 bytes without blanks"),
            ("code=A|category=no such", "category: give the handle"),
            ("code=A|exclusive=sometimes", "exclusive"),
            ("code=A|starts=soon", "starts-at"),
            ("code=A|starts=2026-02-01|ends=2026-01-01", "ends-at"),
            ("code=A|until=2026-01-01", "`until`"),
        ] {
            let error = run("set-coupon", arguments).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
        }
        assert!(run("list-coupons", "").unwrap().contains("\"offer\": \"10 % off\""));
        assert!(run("remove-coupon", "code=B").unwrap_err().contains("list-coupons"));
    }
}
