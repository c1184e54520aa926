//! `souk help`: of `souk` itself, and of the commands that plugins offer.

use anyhow::Result;
use clap::CommandFactory;

use super::document::heading;
use super::table::{Table, terminal_width};
use super::{Arguments, Misused, StoreArgument};
use crate::shop::arguments::{declared, explained, nearest, placeholder, usage};
use crate::shop::manifest::Command;
use crate::shop::settings::StoreFolder;

/// `words` are a command of `souk` (`plugin grant`), or one of a plugin's (`set-stock`).
pub async fn run(store: &StoreArgument, words: &[String]) -> Result<()> {
    let mut own = Arguments::command();
    own.build();
    let mut found = Some(&mut own);
    for word in words {
        found = found.and_then(|command| command.find_subcommand_mut(word));
    }
    match (found, words) {
        (Some(command), _) => Ok(command.print_long_help()?),
        (None, [name]) => of_plugin(&store.folder(), name).await,
        (None, _) => Err(Misused(format!("there is no command `{}`: `souk help` shows those that there are", words.join(" "))).into()),
    }
}

/// Of `souk plugin run` without a command of a plugin.
pub fn of_run() -> Result<()> {
    let mut own = Arguments::command();
    own.build();
    let run = own.find_subcommand_mut("plugin").and_then(|plugin| plugin.find_subcommand_mut("run"));
    run.map_or(Ok(()), |run| Ok(run.print_long_help()?))
}

pub async fn of_plugin(folder: &StoreFolder, name: &str) -> Result<()> {
    let all = super::list::commands(folder).await?;
    // `orders` is what `souk list` calls it.
    let is_it = |command: &Command| command.name == name || command.name.strip_prefix("list-") == Some(name);
    let Some((plugin, command)) = all.iter().find(|(_, command)| is_it(command)) else {
        let near = nearest(name, all.iter().map(|(_, command)| command.name.as_str()));
        let near = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
        return Err(Misused(format!("neither `souk` nor a live plugin has a command `{name}`{near}\n`souk help` and `souk plugin run` show what there is")).into());
    };
    say!("{}, of the plugin `{plugin}`", command.name);
    command.description.lines().for_each(|line| say!("  {line}"));
    say!("");
    say!("use: {}", usage(command));
    match declared(command).as_deref() {
        None => say!("Its manifest does not say which arguments it takes: what you give is not checked."),
        Some([]) => {}
        Some(arguments) => {
            say!("");
            for argument in arguments {
                let needed = if argument.required { " (must be given)" } else { "" };
                say!("  {}{needed}", placeholder(argument));
                say!("      {}", explained(argument));
            }
        }
    }
    if !command.columns.is_empty() {
        say!("");
        say!("shows: {}", command.columns.iter().map(|column| heading(column)).collect::<Vec<_>>().join(", "));
    }
    if let Some(after) = &command.after {
        say!("");
        say!("It also runs after each `{after}`, and is given what that is given.");
    }
    Ok(())
}

/// What plugins offer, one line each.
pub async fn list(folder: &StoreFolder, json: bool) -> Result<()> {
    let mut all = super::list::commands(folder).await?;
    all.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    if json {
        return super::print_json(&all.iter().map(|(plugin, command)| serde_json::json!({ "plugin": plugin, "command": command })).collect::<Vec<_>>());
    }
    let mut table = Table::new(["command", "what", "plugin"]);
    all.into_iter().for_each(|(plugin, command)| table.row([command.name, command.description, plugin]));
    table.lines_and_note(terminal_width()).iter().for_each(|line| say!("{line}"));
    say!("`souk help COMMAND` tells what each takes.");
    Ok(())
}
