//! Arguments of plugins' commands, held to what the manifest declares of them.
//!
//! The one place that decides whether a command is called: `souk plugin run`,
//! `list`, `store import` and `store init` all pass here before the plugin is
//! asked. Also says how a command is used. Pure; it knows no plugin.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::manifest::{Argument, ArgumentKind, Command};
use super::offers::in_operators_language;
use crate::money;

/// `name=value` of each.
pub type Given = Vec<(String, String)>;

/// Of the shop: what amounts and times are of.
#[derive(Debug, Clone, Copy)]
pub struct Shop<'a> {
    pub currency: &'a str,
    pub time_zone: &'a str,
}

/// More than any list shows at once: `souk list` asks for one more than it shows.
const LIST_LIMIT_MAX: f64 = 501.0;
/// Of a value in a message.
const SHOWN_CHARS_MAX: usize = 80;

/// What the plugin is given: the same in the order given, with values as their kind has them. Otherwise all that is wrong, and
/// how the command is used.
pub fn check(command: &Command, given: Given, shop: Shop) -> Result<Given, String> {
    let Some(declared) = declared(command) else { return Ok(given) };
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let mut taken = Vec::with_capacity(given.len());
    for (name, value) in given {
        let Some(argument) = declared.iter().find(|argument| argument.name == name) else {
            faults.push(unknown(command, &name, &declared));
            continue;
        };
        if !seen.insert(name.clone()) {
            faults.push(format!("`{name}` is given twice: give it once"));
            continue;
        }
        match value_of(argument, &value, shop) {
            Ok(value) => taken.push((name, value)),
            Err(fault) => faults.push(fault),
        }
    }
    let missing = declared.iter().filter(|argument| argument.required && !seen.contains(&argument.name));
    faults.extend(missing.map(|argument| format!("`{}` is missing: give {}", argument.name, placeholder(argument))));
    if faults.is_empty() {
        return Ok(taken);
    }
    let mut told = format!("{}: {}", command.name, faults.remove(0));
    faults.iter().for_each(|fault| _ = write!(told, "\n{fault}"));
    let _ = write!(told, "\nuse: {}", usage(command));
    Err(told)
}

/// What a command that runs after another one is given of that one's arguments: those that it declares, or all where it says
/// nothing of any.
pub fn for_follower(command: &Command, given: &Given, shop: Shop) -> Result<Given, String> {
    let mut passed = given.clone();
    if let Some(declared) = declared(command) {
        passed.retain(|(name, _)| declared.iter().any(|argument| argument.name == *name));
    }
    check(command, passed, shop)
}

/// `None` where the manifest says nothing of them.
pub fn declared(command: &Command) -> Option<Vec<Argument>> {
    let mut declared = command.arguments.clone()?;
    if command.is_list() {
        let words = |en: &str, zh: &str| [("en", en), ("zh-CN", zh)].map(|(locale, text)| (locale.to_owned(), text.to_owned())).into();
        let limit = Argument { kind: ArgumentKind::Integer, min: Some(1.0), max: Some(LIST_LIMIT_MAX), words: words("so many rows at most", "最多显示的行数"), ..named("limit") };
        let after = Argument { words: words("goes on behind this one, the first column of a row", "从该行（第一列的值）之后继续"), ..named("after") };
        for implied in [limit, after] {
            if declared.iter().all(|argument| argument.name != implied.name) {
                declared.push(implied);
            }
        }
    }
    Some(declared)
}

fn named(name: &str) -> Argument {
    Argument { name: name.into(), ..Argument::default() }
}

fn unknown(command: &Command, name: &str, declared: &[Argument]) -> String {
    let name = shown(name);
    let names: Vec<&str> = declared.iter().map(|argument| argument.name.as_str()).collect();
    match nearest(&name, names.iter().copied()) {
        _ if names.is_empty() => format!("`{name}` is nothing that `{}` takes: it takes no arguments", command.name),
        Some(near) => format!("`{name}` is nothing that it takes: did you mean `{near}`?"),
        None => format!("`{name}` is nothing that it takes: it takes {}", names.join(", ")),
    }
}

/// The known name that was probably meant: no more than half of its letters are others.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let near = known.map(|known| (strsim::damerau_levenshtein(&name, known), known));
    near.filter(|(distance, known)| *distance * 2 <= known.chars().count().max(2)).min().map(|(_, known)| known)
}

fn value_of(argument: &Argument, value: &str, shop: Shop) -> Result<String, String> {
    let Argument { name, kind, values, .. } = argument;
    let plain = value.trim();
    if argument.clears && ["", "none"].contains(&plain) {
        return Ok("none".into());
    }
    if argument.required && plain.is_empty() {
        return Err(format!("`{name}` is empty: give {}", placeholder(argument)));
    }
    let or_none = if argument.clears { ", or `none` to take it away" } else { "" };
    let wrong = |what: &str| Err(format!("{name}: `{}` is {what}{or_none}", shown(value)));
    match kind {
        ArgumentKind::Text if !values.is_empty() && !values.iter().any(|known| known == plain) => {
            let near = nearest(plain, values.iter().map(String::as_str)).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            wrong(&format!("none of {}{near}", values.join(", ")))
        }
        ArgumentKind::Text if !values.is_empty() => Ok(plain.into()),
        ArgumentKind::Text => Ok(value.into()),
        ArgumentKind::Integer => match plain.parse::<i64>() {
            Ok(number) if is_within(argument, number as f64) => Ok(number.to_string()),
            _ => wrong(&format!("not a whole number{}", bounds(argument))),
        },
        ArgumentKind::Number => match plain.parse::<f64>() {
            Ok(number) if number.is_finite() && is_plain_number(plain) && is_within(argument, number) => Ok(plain.into()),
            _ => wrong(&format!("not a number{}, such as 12.5", bounds(argument))),
        },
        ArgumentKind::Money => match money::parse(plain, shop.currency) {
            Some(_) => Ok(plain.into()),
            None => wrong(&format!("not an amount of {}: write it like {}, without a symbol", shop.currency, example_amount(shop.currency))),
        },
        ArgumentKind::Boolean => match plain.to_lowercase().as_str() {
            "yes" | "true" => Ok("true".into()),
            "no" | "false" => Ok("false".into()),
            _ => wrong("neither yes nor no"),
        },
        ArgumentKind::Time => match is_time(plain, shop.time_zone) {
            true => Ok(plain.into()),
            false => wrong(&format!("not a time: write 2026-11-11T09:30 (of {}), 2026-11-11T09:30+08:00, or a day", shop.time_zone)),
        },
    }
}

/// Digits and a point: none of the other ways in which programs write numbers.
fn is_plain_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
}

fn is_within(argument: &Argument, number: f64) -> bool {
    argument.min.is_none_or(|min| number >= min) && argument.max.is_none_or(|max| number <= max)
}

fn bounds(argument: &Argument) -> String {
    match (argument.min, argument.max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    }
}

/// As the SDK's `zone::instant_ms` reads it.
fn is_time(text: &str, zone: &str) -> bool {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    text.parse::<Timestamp>().is_ok() || text.parse::<DateTime>().is_ok_and(|local| zone.to_timestamp(local).is_ok())
}

fn example_amount(currency: &str) -> String {
    let shown = money::decimal(1250, currency);
    shown.split(' ').next().unwrap_or_default().to_owned()
}

fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX { text.to_owned() } else { text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect() }
}

/// The whole command, in one line.
pub fn usage(command: &Command) -> String {
    let as_list = command.name.strip_prefix("list-").filter(|_| command.is_list());
    let mut usage = as_list.map_or_else(|| format!("souk plugin run {}", command.name), |list| format!("souk list {list}"));
    // `souk list` has options for these.
    let is_shown = |argument: &Argument| as_list.is_none() || !["limit", "after"].contains(&argument.name.as_str());
    for argument in declared(command).into_iter().flatten().filter(is_shown) {
        let part = placeholder(&argument);
        let _ = if argument.required { write!(usage, " {part}") } else { write!(usage, " [{part}]") };
    }
    if as_list.is_some() {
        let _ = write!(usage, " [--limit N] [--after {}]", command.columns[0].to_uppercase());
    }
    usage
}

/// `sku=SKU`, `dry-run=yes|no`.
pub fn placeholder(argument: &Argument) -> String {
    let value = match argument.kind {
        ArgumentKind::Text if !argument.values.is_empty() => argument.values.join("|"),
        ArgumentKind::Text => argument.name.to_uppercase(),
        ArgumentKind::Integer => "N".into(),
        ArgumentKind::Number => "NUMBER".into(),
        ArgumentKind::Money => "AMOUNT".into(),
        ArgumentKind::Boolean => "yes|no".into(),
        ArgumentKind::Time => "TIME".into(),
    };
    format!("{}={value}{}", argument.name, if argument.clears { "|none" } else { "" })
}

/// What it is for, and which values it takes.
pub fn explained(argument: &Argument) -> String {
    let words = in_operators_language(&argument.words).unwrap_or_default();
    let bounds = bounds(argument);
    format!("{words}{}", if bounds.is_empty() { String::new() } else { format!(" ({}{bounds})", if argument.kind == ArgumentKind::Integer { "a whole number" } else { "a number" }) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHOP: Shop = Shop { currency: "CNY", time_zone: "Asia/Shanghai" };

    fn command() -> Command {
        let argument = |name: &str, kind: &str, more: &str| format!("[[arguments]]\nname = '{name}'\nkind = '{kind}'\n{more}\n[arguments.words]\nen = 'x'\n");
        let text = "name = 'set-it'\n".to_owned()
            + &argument("sku", "text", "required = true")
            + &argument("on-hand", "integer", "min = 0")
            + &argument("percent", "number", "min = 1\nmax = 100")
            + &argument("price", "money", "")
            + &argument("minimum", "money", "clears = true")
            + &argument("dry-run", "boolean", "")
            + &argument("starts", "time", "clears = true")
            + &argument("as", "text", "values = ['paid', 'not-paid']");
        toml::from_str(&text).unwrap()
    }

    fn given(arguments: &str) -> Given {
        arguments.split('|').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn what_is_not_declared_doubled_missing_or_of_another_kind_is_told_by_name() {
        for (arguments, told) in [
            ("sku=A|dryrun=true", "`dryrun` is nothing that it takes: did you mean `dry-run`?"),
            ("sku=A|on_hand=3", "did you mean `on-hand`?"),
            ("sku=A|colour=red", "it takes sku, on-hand, percent, price, minimum, dry-run, starts, as"),
            ("sku=A|sku=B", "`sku` is given twice"),
            ("on-hand=3", "`sku` is missing: give sku=SKU"),
            ("sku= ", "`sku` is empty: give sku=SKU"),
            ("sku=A|on-hand=many", "on-hand: `many` is not a whole number of at least 0"),
            ("sku=A|on-hand=-1", "on-hand: `-1` is not"),
            ("sku=A|on-hand=1.5", "on-hand: `1.5` is not"),
            ("sku=A|percent=101", "percent: `101` is not a number from 1 to 100"),
            ("sku=A|percent=1e1", "percent"),
            ("sku=A|percent=inf", "percent"),
            ("sku=A|price=¥3", "price: `¥3` is not an amount of CNY: write it like 12.50"),
            ("sku=A|price=none", "price: `none`"),
            ("sku=A|minimum=soon", "or `none` to take it away"),
            ("sku=A|dry-run=maybe", "dry-run: `maybe` is neither yes nor no"),
            ("sku=A|dry-run=", "neither yes nor no"),
            ("sku=A|starts=tomorrow", "starts: `tomorrow` is not a time: write 2026-11-11T09:30 (of Asia/Shanghai)"),
            ("sku=A|as=payed", "as: `payed` is none of paid, not-paid (did you mean `paid`?)"),
        ] {
            let error = check(&command(), given(arguments), SHOP).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
            assert!(error.contains("\nuse: souk plugin run set-it sku=SKU [on-hand=N] [percent=NUMBER] [price=AMOUNT] [minimum=AMOUNT|none] [dry-run=yes|no] [starts=TIME|none] [as=paid|not-paid]"), "{error}");
        }
        // All of it at once.
        let error = check(&command(), given("dryrun=true|price=x"), SHOP).unwrap_err();
        assert!(error.contains("`dryrun`") && error.contains("`x`") && error.contains("`sku` is missing"), "{error}");
    }

    #[test]
    fn values_are_given_as_their_kind_has_them() {
        let taken = check(&command(), given("sku= A |on-hand= 3 |dry-run=Yes|price=12.5|minimum=|starts=2026-11-11|as=paid|percent=12.5"), SHOP).unwrap();
        assert_eq!(taken, given("sku= A |on-hand=3|dry-run=true|price=12.5|minimum=none|starts=2026-11-11|as=paid|percent=12.5"));
        for time in ["2026-11-11T00:00", "2026-11-11 00:00", "2026-11-11T00:00:00+08:00", "2026-11-10T16:00:00Z"] {
            assert!(check(&command(), given(&format!("sku=A|starts={time}")), SHOP).is_ok(), "{time}");
        }
    }

    #[test]
    fn a_command_that_declares_nothing_gets_what_it_got_before() {
        let silent: Command = toml::from_str("name = 'old'").unwrap();
        assert_eq!(check(&silent, given("a=1|a=2|b="), SHOP), Ok(given("a=1|a=2|b=")));
        let none: Command = toml::from_str("name = 'all'\narguments = []").unwrap();
        assert!(check(&none, given("a=1"), SHOP).unwrap_err().contains("takes no arguments"));
    }

    #[test]
    fn lists_take_a_limit_and_a_place_to_go_on_from() {
        let list: Command = toml::from_str("name = 'list-things'\ncolumns = ['id']\narguments = []").unwrap();
        assert!(check(&list, given("limit=21|after=B"), SHOP).is_ok());
        for (arguments, told) in [("limit=0", "from 1 to 501"), ("limit=21|limit=3", "twice"), ("afer=B", "did you mean `after`?")] {
            let error = check(&list, given(arguments), SHOP).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
        }
    }

    #[test]
    fn who_follows_is_given_what_it_declares() {
        assert_eq!(for_follower(&command(), &given("sku=A|secret=1"), SHOP), Ok(given("sku=A")));
        let silent: Command = toml::from_str("name = 'old'").unwrap();
        assert_eq!(for_follower(&silent, &given("sku=A|secret=1"), SHOP), Ok(given("sku=A|secret=1")));
    }

    proptest! {
        #[test]
        fn nothing_that_is_given_makes_it_panic(arguments in prop::collection::vec(("[a-z-]{0,8}|sku|on-hand|price|starts", "\\PC{0,12}"), 0..6)) {
            if let Ok(taken) = check(&command(), arguments.clone(), SHOP) {
                prop_assert_eq!(taken.len(), arguments.len());
            }
        }
    }
}
