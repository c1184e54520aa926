//! `souk status`: how a shop is, on one screen.

use anyhow::{Result, ensure};

use super::control::{self, Answer, Question};
use super::{StoreArgument, out_of_place};
use crate::runtime::Waiting;
use crate::shop::offers::in_operators_language;

pub async fn run(store: &StoreArgument, json: bool) -> Result<()> {
    let folder = &store.folder();
    let is_served = control::is_served(folder).await;
    let Answer::Status(status) = control::ask(folder, Question::Status).await? else { return Err(out_of_place()) };
    let option = store.option();
    if json {
        super::print_json(&status)?;
    } else {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let code = &status.code;
        say!("{}  {}", status.shop, if is_served { format!("served at {}", status.base_url) } else { "not served".into() });
        say!("plugins   {} live", status.plugins_live);
        say!("work      {} failing: `souk dead list{option}`", status.failing);
        say!("code      {} modules loaded, {} of {} MiB; {} kept on disk, {} of {} MiB", code.modules, mib(code.loaded_bytes), mib(code.loaded_bytes_max), code.files, mib(code.kept_bytes), mib(code.kept_bytes_max));
        status.waiting.iter().for_each(|waiting| say!("! {}: `souk list {}{option}`", in_words(waiting), waiting.list));
        status.warnings.iter().for_each(|warning| say!("! {warning}"));
    }
    let needed = status.warnings.len() + status.waiting.len();
    ensure!(needed == 0, "{needed} {} a look", if needed == 1 { "thing needs" } else { "things need" });
    Ok(())
}

/// `payments that wait for a person, 3`; of very many, only that they are.
fn in_words(waiting: &Waiting) -> String {
    let more = if waiting.are_more { "more than " } else { "" };
    format!("{}, {more}{}", in_operators_language(&waiting.words).unwrap_or(&waiting.list), waiting.count)
}
