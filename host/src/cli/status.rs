//! `souk status`: how a shop is, on one screen.

use anyhow::{Result, ensure};

use super::control::{self, Answer, Question};
use super::out_of_place;
use crate::shop::settings::StoreFolder;

pub async fn run(folder: &StoreFolder, json: bool) -> Result<()> {
    let is_served = control::is_served(folder).await;
    let Answer::Status(status) = control::ask(folder, Question::Status).await? else { return Err(out_of_place()) };
    if json {
        super::print_json(&status)?;
    } else {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let code = &status.code;
        say!("{}  {}", status.shop, if is_served { format!("served at {}", status.base_url) } else { "not served".into() });
        say!("plugins   {} live", status.plugins_live);
        say!("work      {} failing: `souk dead list`", status.failing);
        say!("code      {} modules loaded, {} of {} MiB; {} kept on disk, {} of {} MiB", code.modules, mib(code.loaded_bytes), mib(code.loaded_bytes_max), code.files, mib(code.kept_bytes), mib(code.kept_bytes_max));
        status.warnings.iter().for_each(|warning| say!("! {warning}"));
    }
    let needed = status.warnings.len();
    ensure!(needed == 0, "{needed} {} a look", if needed == 1 { "thing needs" } else { "things need" });
    Ok(())
}
