//! `souk list`: what plugins list, one line for each thing.
//!
//! A command whose manifest names `columns` answers with a JSON list of
//! objects, takes `limit=N`, and goes on behind what `after=` says: the first
//! column of the last row seen.

use anyhow::{Context, Result, bail};

use super::control::{Answer, Question, Rows, ask};
use super::document::{Document, table};
use super::table::Table;
use super::{Misused, StoreArgument, out_of_place};
use crate::shop::manifest::Command;
use crate::shop::settings::StoreFolder;

#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    store: StoreArgument,
    /// `orders`, `products`, …: a plugin's command `list-<what>`. Without it, what there is to list.
    what: Option<String>,
    /// So many lines at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=LIMIT_MAX))]
    limit: u32,
    /// Go on behind this one: the first column of the last line seen.
    #[arg(long, allow_hyphen_values = true)]
    after: Option<String>,
    /// Whole, as JSON.
    #[arg(long)]
    json: bool,
    /// `name=value`: what else the command takes.
    arguments: Vec<String>,
}

const LIMIT_MAX: i64 = 500;

pub async fn run(list: List) -> Result<()> {
    let folder = list.store.folder();
    let Some(what) = &list.what else { return lists(&folder, list.json).await };
    let mut arguments = list.arguments.iter().map(|argument| named(argument)).collect::<Result<Vec<_>>>()?;
    // One more says whether there are more.
    arguments.push(("limit".into(), (list.limit + 1).to_string()));
    arguments.extend(list.after.iter().map(|after| ("after".to_owned(), after.clone())));
    match ask(&folder, Question::List { name: format!("list-{what}"), arguments }).await? {
        Answer::Rows(rows) => show(&rows, &list, what),
        Answer::Misused(told) => Err(Misused(told).into()),
        _ => Err(out_of_place()),
    }
}

pub(super) fn named(argument: &str) -> Result<(String, String)> {
    let (name, value) = argument.split_once('=').ok_or_else(|| Misused(format!("`{argument}`: write name=value")))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What plugins offer the operator, each with its plugin.
pub(super) async fn commands(folder: &StoreFolder) -> Result<Vec<(String, Command)>> {
    let Answer::Commands(commands) = ask(folder, Question::Commands).await? else { return Err(out_of_place()) };
    commands.into_iter().map(|(plugin, command)| Ok((plugin, serde_json::from_str(&command)?))).collect()
}

async fn lists(folder: &StoreFolder, json: bool) -> Result<()> {
    let all = commands(folder).await?;
    let lists = all.into_iter().filter(|(_, command)| command.is_list());
    let lists: Vec<[String; 3]> = lists.filter_map(|(plugin, command)| Some([command.name.strip_prefix("list-")?.to_owned(), plugin, command.description])).collect();
    if json {
        return super::print_json(&lists);
    }
    let mut table = Table::new(["list", "of", "what"]);
    lists.into_iter().for_each(|row| table.row(row));
    table.print();
    Ok(())
}

fn show(rows: &Rows, list: &List, what: &str) -> Result<()> {
    let value: Document = serde_json::from_slice(&rows.output).with_context(|| format!("`{}` did not answer with JSON", rows.command))?;
    let Document::List(mut all) = value else { bail!("`{}` did not answer with a list", rows.command) };
    let more = all.len() > list.limit as usize;
    all.truncate(list.limit as usize);
    if list.json {
        return super::print_json(&all);
    }
    if all.is_empty() {
        say!("none");
        return Ok(());
    }
    table(&all, &rows.columns, &rows.time_zone).print();
    if more && let Some(last) = all.last() {
        let filters: String = list.arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect();
        let limit = if list.limit == 20 { String::new() } else { format!(" --limit {}", list.limit) };
        say!("more: souk list {what}{filters}{limit} --after {}{}", quoted(&last.cell(&rows.columns[0], &rows.time_zone)), list.store.option());
    }
    Ok(())
}

/// For a shell that reads it again.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=+,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_again_means_the_same_to_a_shell() {
        for (text, shown) in [("A-1", "A-1"), ("name=龙井", "name=龙井"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$(rm x)", "'$(rm x)'"), ("", "''")] {
            assert_eq!(quoted(text), shown);
        }
    }
}
