//! Alerts: tells the operator, once, of dead letters and of what has failed for
//! minutes. A line in the log, and a command of the operator's own, which gets
//! what happened as JSON on its standard input and sends a mail or a message.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::runtime::Runtime;
use crate::work::trouble::Warning;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlertSettings {
    /// Program and arguments, run without a shell; none unless given.
    pub command: Vec<String>,
    /// For how long something is tried again before that is worth an alert.
    pub after_minutes: u32,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { command: Vec::new(), after_minutes: 10 }
    }
}

impl AlertSettings {
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.after_minutes > 7 * 24 * 60 {
            problems.push(format!("alerts.after-minutes is {}: give at most {}, a week", self.after_minutes, 7 * 24 * 60));
        }
        if self.command.first().is_some_and(String::is_empty) {
            problems.push("alerts.command names no program: give its path, for instance [\"/usr/local/bin/tell-me\"]".into());
        }
        problems
    }

    pub fn after_ms(&self) -> u64 {
        u64::from(self.after_minutes) * 60_000
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Changes come in crowds.
const SETTLE: Duration = Duration::from_millis(500);
/// Of the same thing, where only its count has grown.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);
const COMMAND_MAX: Duration = Duration::from_secs(30);

/// What was told of, until it is over.
#[derive(Default)]
struct Told(BTreeMap<(String, String), (u64, Instant)>);

impl Told {
    /// Those to be told of now; and of which nothing is left.
    fn news(&mut self, warnings: &[Warning], now: Instant) -> (Vec<Warning>, Vec<(String, String)>) {
        let of = |warning: &Warning| (warning.plugin.clone(), warning.subject.clone());
        let over: Vec<_> = self.0.keys().filter(|told| !warnings.iter().any(|warning| of(warning) == **told)).cloned().collect();
        over.iter().for_each(|told| _ = self.0.remove(told));
        let is_news = |warning: &&Warning| match self.0.get(&of(warning)) {
            None => true,
            Some((count, at)) => warning.count > *count && now.duration_since(*at) >= AGAIN_AFTER,
        };
        let news: Vec<Warning> = warnings.iter().filter(is_news).cloned().collect();
        news.iter().for_each(|warning| _ = self.0.insert(of(warning), (warning.count, now)));
        (news, over)
    }
}

/// Until the task is aborted.
pub fn watch(runtime: Arc<Runtime>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut told = Told::default();
        let mut changes = runtime.runner.troubles_change();
        loop {
            changes.borrow_and_update();
            let warnings = runtime.warnings();
            let (news, over) = told.news(&warnings, Instant::now());
            for (plugin, subject) in over {
                tracing::info!(target: "alert", plugin, subject, "over");
                tell(&runtime, &plugin, &subject, 0, &format!("over: {subject} of `{plugin}`")).await;
            }
            for Warning { plugin, subject, count, text } in news {
                tracing::error!(target: "alert", plugin, subject, "{text}");
                tell(&runtime, &plugin, &subject, count, &text).await;
            }
            let changed = async {
                _ = changes.changed().await;
                tokio::time::sleep(SETTLE).await;
            };
            _ = tokio::time::timeout(LOOK_EVERY, changed).await;
        }
    })
}

async fn tell(runtime: &Runtime, plugin: &str, subject: &str, count: u64, text: &str) {
    let [program, arguments @ ..] = &runtime.settings.alerts.command[..] else { return };
    let message = serde_json::json!({ "shop": runtime.settings.shop.name, "plugin": plugin, "subject": subject, "count": count, "text": text });
    let run = async {
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // One that does not read it has ended, or goes on without.
            _ = input.write_all(format!("{message}\n").as_bytes()).await;
        }
        child.wait().await
    };
    match tokio::time::timeout(COMMAND_MAX, run).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(target: "alert", program, %status, "the command of [alerts] failed"),
        Ok(Err(error)) => tracing::warn!(target: "alert", program, %error, "the command of [alerts] does not run"),
        Err(_) => tracing::warn!(target: "alert", program, "the command of [alerts] took more than {} s", COMMAND_MAX.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(count: u64) -> Warning {
        Warning { plugin: "errand".into(), subject: "dead-letters".into(), count, text: String::new() }
    }

    #[test]
    fn each_thing_is_told_once_until_it_is_over_or_has_grown_for_an_hour() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut news = |counts: &[u64], after: Duration| {
            let (news, over) = told.news(&counts.iter().map(|count| warning(*count)).collect::<Vec<_>>(), start + after);
            (news.len(), over.len())
        };
        let minute = Duration::from_secs(60);
        assert_eq!(news(&[1], Duration::ZERO), (1, 0));
        assert_eq!(news(&[5], minute), (0, 0), "more of the same");
        assert_eq!(news(&[5], 61 * minute), (1, 0));
        assert_eq!(news(&[5], 200 * minute), (0, 0), "nothing new");
        assert_eq!(news(&[], 201 * minute), (0, 1));
        assert_eq!(news(&[1], 202 * minute), (1, 0));
    }
}
