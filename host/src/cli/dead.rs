//! `souk dead`: work that failed, is tried again or was given up. Look at it,
//! try it again, drop it.

use anyhow::{Result, bail, ensure};
use clap::Subcommand;
use serde_json::{Value, json};

use super::control::{Answer, Question, ask};
use super::document::time;
use super::table::Table;
use super::{Audited, StoreArgument, out_of_place};
use crate::printable;
use crate::shop::settings::{Settings, StoreFolder};
use crate::work::trouble::{Listed, Trouble, Which};

#[derive(Subcommand)]
pub enum DeadCommand {
    /// One line for each, dead letters first, the oldest first.
    List {
        #[command(flatten)]
        store: StoreArgument,
        /// What this plugin failed to take alone.
        #[arg(long)]
        plugin: Option<String>,
        /// So many lines at most.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Go on behind this id.
        #[arg(long)]
        after: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// One of them, with what it carries.
    Show {
        #[command(flatten)]
        store: StoreArgument,
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// Try it again now.
    #[command(alias = "replay")]
    Retry {
        #[command(flatten)]
        store: StoreArgument,
        #[command(flatten)]
        which: WhichArgument,
    },
    /// It is not done; the plugin that asked for an effect is told that it failed.
    #[command(alias = "discard")]
    Drop {
        #[command(flatten)]
        store: StoreArgument,
        #[command(flatten)]
        which: WhichArgument,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgument {
    /// As the list shows them.
    ids: Vec<String>,
    /// All that this plugin failed to take.
    #[arg(long)]
    plugin: Option<String>,
}

impl WhichArgument {
    fn detail(&self) -> String {
        self.plugin.as_ref().map_or_else(|| self.ids.join(" "), |plugin| format!("--plugin {plugin}"))
    }

    fn which(self) -> Which {
        self.plugin.map_or(Which::Ids(self.ids), Which::OfPlugin)
    }
}

impl DeadCommand {
    pub(super) fn audited(&self) -> Option<Audited<'_>> {
        match self {
            Self::List { .. } | Self::Show { .. } => None,
            Self::Retry { store, which } => Some((store, "dead retry", which.plugin.as_ref(), which.detail())),
            Self::Drop { store, which } => Some((store, "dead drop", which.plugin.as_ref(), which.detail())),
        }
    }
}

pub async fn run(command: DeadCommand) -> Result<()> {
    match command {
        DeadCommand::List { store, plugin, limit, after, json } => {
            let folder = store.folder();
            let question = Question::DeadLetters { plugin: plugin.clone(), after: after.unwrap_or_default(), limit: limit + 1 };
            let Answer::DeadLetters(mut listed) = ask(&folder, question).await? else { return Err(out_of_place()) };
            let more = listed.len() > limit as usize;
            listed.truncate(limit as usize);
            list(&folder, &listed, json)?;
            if more && !json && let Some(last) = listed.last() {
                let of = plugin.map_or_else(String::new, |plugin| format!(" --plugin {plugin}"));
                let limit = if limit == 20 { String::new() } else { format!(" --limit {limit}") };
                say!("more: souk dead list{of}{limit} --after {}{}", last.id, store.option());
            }
            Ok(())
        }
        DeadCommand::Show { store, id, json } => {
            let folder = store.folder();
            let Answer::DeadLetter(listed, payload) = ask(&folder, Question::DeadLetter(id)).await? else { return Err(out_of_place()) };
            show(&folder, &listed, &payload, json)
        }
        DeadCommand::Retry { store, which } => tell(ask(&store.folder(), Question::Retry(which.which())).await?),
        DeadCommand::Drop { store, which } => tell(ask(&store.folder(), Question::Drop(which.which())).await?),
    }
}

fn zone(folder: &StoreFolder) -> Result<String> {
    Ok(Settings::read(&folder.0)?.shop.time_zone)
}

fn list(folder: &StoreFolder, listed: &[Listed], as_json: bool) -> Result<()> {
    if as_json {
        return super::print_json(&listed.iter().map(to_json).collect::<Vec<_>>());
    }
    if listed.is_empty() {
        say!("none");
        return Ok(());
    }
    let zone = zone(folder)?;
    let mut table = Table::new(["id", "plugin", "kind", "what", "tries", "next try", "error", "key", "last try"]);
    for Listed { id, trouble } in listed {
        let behind = if trouble.behind > 0 { format!(" (+{})", trouble.behind) } else { String::new() };
        table.row([
            id.clone(),
            trouble.plugin.clone(),
            trouble.kind.name().into(),
            trouble.what.clone(),
            tries(trouble),
            next(trouble, &zone),
            trouble.error.clone(),
            format!("{}{behind}", trouble.key),
            time(trouble.at_ms as i64, &zone),
        ]);
    }
    table.print();
    Ok(())
}

/// Older letters do not say.
fn tries(trouble: &Trouble) -> String {
    if trouble.tries == 0 { "-".into() } else { trouble.tries.to_string() }
}

fn next(trouble: &Trouble, zone: &str) -> String {
    trouble.next_ms.map_or_else(|| "given up".into(), |ms| time(ms as i64, zone))
}

fn show(folder: &StoreFolder, listed: &Listed, payload: &[u8], as_json: bool) -> Result<()> {
    let Listed { id, trouble } = listed;
    if as_json {
        let mut whole = to_json(listed);
        match std::str::from_utf8(payload) {
            Ok(text) => whole["payload"] = serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            Err(_) => whole["payload-hex"] = hex::encode(payload).into(),
        }
        return super::print_json(&whole);
    }
    let zone = zone(folder)?;
    let since = if trouble.since_ms == 0 { "-".into() } else { time(trouble.since_ms as i64, &zone) };
    let rows = [
        ("id", id.clone()),
        ("plugin", trouble.plugin.clone()),
        (trouble.kind.name(), trouble.what.clone()),
        ("key", trouble.key.clone()),
        ("from", trouble.other.clone()),
        ("tries", tries(trouble)),
        ("first failure", since),
        ("last try", time(trouble.at_ms as i64, &zone)),
        ("next try", next(trouble, &zone)),
        ("waiting behind", if trouble.behind > 0 { format!("{} of the same key", trouble.behind) } else { String::new() }),
        ("error", trouble.error.clone()),
    ];
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        say!("{name:<15} {value}");
    }
    say!("payload         {} bytes", payload.len());
    super::print_raw(format_args!("{}\n", text_of(payload)));
    Ok(())
}

fn to_json(Listed { id, trouble }: &Listed) -> Value {
    json!({
        "id": id, "plugin": trouble.plugin, "kind": trouble.kind, "what": trouble.what, "key": trouble.key, "from": trouble.other,
        "state": if trouble.next_ms.is_some() { "retrying" } else { "dead" }, "tries": trouble.tries, "since-ms": trouble.since_ms,
        "at-ms": trouble.at_ms, "next-ms": trouble.next_ms, "behind": trouble.behind, "error": trouble.error,
    })
}

/// Of a payload that is no text.
const HEX_BYTES_MAX: usize = 4_096;

/// JSON as it is read best, other text line by line, all else in hexadecimal.
fn text_of(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => match serde_json::from_str::<Value>(text) {
            Ok(value) => printable::json(&serde_json::to_string_pretty(&value).unwrap_or_else(|_| text.to_owned())),
            Err(_) => printable::document(payload),
        },
        Err(_) => {
            let rows = payload[..payload.len().min(HEX_BYTES_MAX)].chunks(32).map(hex::encode);
            let left = payload.len().saturating_sub(HEX_BYTES_MAX);
            let more = (left > 0).then(|| format!("… {left} bytes more: --json has all"));
            rows.chain(more).collect::<Vec<_>>().join("\n")
        }
    }
}

fn tell(answer: Answer) -> Result<()> {
    let Answer::Done(done) = answer else { return Err(out_of_place()) };
    let mut failed = 0;
    for (id, outcome) in &done {
        match outcome {
            Ok(what) => say!("{id}  {what}"),
            Err(why) => {
                failed += 1;
                complain!("{id}  {why}");
            }
        }
    }
    if done.is_empty() {
        bail!("nothing of it fails");
    }
    ensure!(failed == 0, "{failed} of {} could not be done", done.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_shown_as_what_it_is() {
        for (payload, shown) in [
            (&b"{\"order\":\"A-1\"}"[..], "{\n  \"order\": \"A-1\"\n}"),
            ("龙井\x1b[2J\nx".as_bytes(), "龙井\\u{1b}[2J\nx"),
            (b"\xff\x00\x01", "ff0001"),
            (b"", ""),
        ] {
            assert_eq!(text_of(payload), shown);
        }
        assert!(text_of(&[0xff; 5_000]).ends_with("… 904 bytes more: --json has all"));
    }
}
