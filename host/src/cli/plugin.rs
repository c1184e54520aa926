//! `souk plugin`: look at plugins, grant what they ask for, install, go back,
//! pack and sign. Everything but `list` and `run` works on the store's folder;
//! a server that has it open takes the change up by itself.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Subcommand, ValueEnum};
use souk_build::Build;

use super::control::{self, Answer, Question};
use super::table::{self, Table};
use super::{Audited, StoreArgument, call, confirm, data, help, new, out_of_place, print_answer, print_answer_as_json, print_document, print_json, store, zone_of};
use crate::audit::operator;
use crate::engine::{LATENCY_BUDGET, Mode, TrialReport, without_version};
use crate::files::write_whole;
use crate::shop::{PluginReport, SwitchedOffReport};
use crate::shop::bundle::{self, Bundle};
use crate::shop::grants::{Grants, UNSIGNED, plugin_folders};
use crate::shop::load::Files;
use crate::shop::manifest::{ExtensionPoint, FailurePolicy};
use crate::shop::policies::{Changed, Policies};
use crate::shop::offers::Offers;
use crate::shop::powers::Power;
use crate::shop::reference;
use crate::shop::settings::{Settings, StoreFolder};
use crate::shop::versions::{OnTrial, Versions};

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Version, state, publisher, routes, links, calls, time, memory and failures of each.
    List {
        #[command(flatten)]
        store: StoreArgument,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What each plugin costs now: processor time, calls, storage, failures.
    Top {
        #[command(flatten)]
        store: StoreArgument,
        /// Seconds between two looks.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        every: u64,
        /// Look so often, then stop.
        #[arg(long)]
        times: Option<u64>,
    },
    /// Run a command that a plugin offers, as one unit of work; without one, list them.
    #[command(disable_help_flag = true)]
    Run {
        #[command(flatten)]
        store: StoreArgument,
        command: Option<String>,
        /// Input; `-` is standard input, none is empty.
        #[arg(long)]
        input: Option<PathBuf>,
        /// What it answers as JSON, for programs.
        #[arg(long)]
        json: bool,
        /// `name=value`
        arguments: Vec<String>,
        /// Tell what the command takes.
        #[arg(short, long)]
        help: bool,
    },
    /// Show what a plugin in the store asks for, and let it.
    Grant {
        #[command(flatten)]
        store: StoreArgument,
        /// All that ask for more than they were granted, unless given.
        plugins: Vec<String>,
        /// You build these yourself: what is built again needs no second grant, unless it asks for more.
        #[arg(long, requires = "plugins")]
        own: bool,
        #[command(flatten)]
        consent: Consent,
    },
    /// Take a plugin's grants away: it is not live until it is granted again.
    Revoke {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
    },
    /// Put a bundle into the store: shows what it asks for and what is new in it.
    Install(Bundled),
    /// Take a plugin out of the store. Its documents stay: see `data delete`.
    Remove {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
    },
    /// Extension points: who calls them, what happens when a provider fails, who provides them.
    Points {
        #[command(flatten)]
        store: StoreArgument,
    },
    /// Change what happens when providers of an extension point fail; without options, as the callers declare it.
    Policy {
        #[command(flatten)]
        store: StoreArgument,
        /// For instance `discount`.
        point: String,
        /// Leave the provider's part out, fail the whole call, or take the last good answer to the same question.
        #[arg(long, value_enum)]
        fail: Option<FailurePolicy>,
        /// Time that each provider has.
        #[arg(long, value_parser = clap::value_parser!(u32).range(i64::from(*ExtensionPoint::DEADLINE_MS.start())..=i64::from(*ExtensionPoint::DEADLINE_MS.end())))]
        deadline_ms: Option<u32>,
    },
    /// A plugin's documents: export, import, delete, rewrite into another form.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// The versions of a plugin that are kept, and when they were live.
    Versions {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
    },
    /// Make a kept version the live one.
    Promote {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
        version: String,
    },
    /// Try a kept version beside the live one, as a shadow or for a part of the shoppers.
    ///
    /// A shadow of a provider is asked what the live version was asked, and its answers are only compared: `souk plugin trial`
    /// shows how often they differ, and examples. A canary serves a part of the shoppers, the same ones each time; where it
    /// fails the live version does, and one that fails too often is tried no more. Services, which write, can only be
    /// canaries, one service at a time.
    Try {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
        version: String,
        /// It serves so many shoppers in a hundred, instead of being a shadow.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
        canary: Option<u8>,
    },
    /// How the version on trial does; with `--end`, ends the trial.
    Trial {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
        #[arg(long)]
        end: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keep a bundle's version without making it live: see `try` and `promote`.
    Keep(Bundled),
    /// Back to the version that was live before this one.
    Rollback {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
    },
    /// Begin a plugin: a project that builds, with a test.
    New {
        /// Its last part is the plugin's name.
        folder: PathBuf,
        #[arg(long, value_enum, default_value = "discount")]
        kind: new::Kind,
    },
    /// Compile a plugin and wrap it as a component.
    Build {
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// For instance a store's `plugins`; `target/souk` beside the source unless given.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Soon rather than well.
        #[arg(long)]
        quick: bool,
        /// Cargo's folder; `target` beside the source unless given.
        #[arg(long)]
        target_dir: Option<PathBuf>,
    },
    /// Put the SDK and the contracts of this `souk` into a project anew: after an update, or when it has got contracts in `wit/`.
    Sdk {
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// The JSON Schema of `plugin.toml`, for editors.
    Schema {
        /// As `docs/manifest.md` has it.
        #[arg(long)]
        markdown: bool,
    },
    /// Check a plugin's folder as a shop would: manifest, component, powers.
    Check { folder: PathBuf },
    /// Call one function of a built plugin with what a file says, and show what it answers, writes and takes.
    ///
    /// It runs in the engine of a shop, on a store of its own that is thrown away. Fails if the call does, or is over a
    /// limit of the manifest, or is not what the file expects. docs/plugins.md tells how such a file looks.
    Call(call::CallArguments),
    /// Build a plugin, and run all its scenarios: files in `scenarios/` that say what to call and what to expect.
    Test(call::TestArguments),
    /// Make a publisher's key; prints the public part.
    Key { file: PathBuf },
    /// Pack a plugin's folder into a bundle.
    Pack {
        folder: PathBuf,
        /// `<name>-<version>.souk` unless given.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Sign it with this key of `souk plugin key`.
        #[arg(long)]
        key: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
pub struct Bundled {
    #[command(flatten)]
    store: StoreArgument,
    /// A `.souk` file.
    bundle: PathBuf,
    /// Take it although no publisher that you trust has signed it.
    #[arg(long)]
    unsigned: bool,
    #[command(flatten)]
    consent: Consent,
}

#[derive(clap::Args)]
pub struct Consent {
    /// Do not ask.
    #[arg(long, visible_alias = "grant")]
    yes: bool,
    /// Withhold a power, as it is shown in brackets, for instance `http api.example.com`.
    #[arg(long)]
    deny: Vec<Power>,
}

impl PluginCommand {
    /// None for what only looks, or concerns no store.
    pub(super) fn audited(&self) -> Option<Audited<'_>> {
        let bundled = |bundled: &Bundled| format!("{}{}{}", bundled.bundle.display(), if bundled.unsigned { " --unsigned" } else { "" }, bundled.consent.denied());
        Some(match self {
            Self::Run { help: true, .. } | Self::Run { command: None, .. } => return None,
            Self::Run { store, command: Some(command), arguments, .. } => (store, "plugin run", None, format!("{command} {}", arguments.join(" "))),
            Self::Grant { store, plugins, consent, own } => match &plugins[..] {
                [one] => (store, "plugin grant", Some(one), consent.denied() + if *own { " --own" } else { "" }),
                several => (store, "plugin grant", None, several.join(" ") + &consent.denied() + if *own { " --own" } else { "" }),
            },
            Self::Revoke { store, plugin } => (store, "plugin revoke", Some(plugin), String::new()),
            Self::Install(from) => (&from.store, "plugin install", None, bundled(from)),
            Self::Keep(from) => (&from.store, "plugin keep", None, bundled(from)),
            Self::Remove { store, plugin } => (store, "plugin remove", Some(plugin), String::new()),
            Self::Policy { store, point, fail, deadline_ms } => {
                let fail = fail.and_then(|fail| fail.to_possible_value()).map_or_else(String::new, |fail| format!(" --fail {}", fail.get_name()));
                let deadline = deadline_ms.map_or_else(String::new, |ms| format!(" --deadline-ms {ms}"));
                (store, "plugin policy", None, format!("{point}{fail}{deadline}"))
            }
            Self::Data(command) => command.audited(),
            Self::Promote { store, plugin, version } => (store, "plugin promote", Some(plugin), version.clone()),
            Self::Try { store, plugin, version, canary } => {
                (store, "plugin try", Some(plugin), canary.map_or_else(|| format!("{version} as a shadow"), |percent| format!("{version} for {percent} %")))
            }
            Self::Trial { store, plugin, end: true, .. } => (store, "plugin trial", Some(plugin), "--end".into()),
            Self::Rollback { store, plugin } => (store, "plugin rollback", Some(plugin), String::new()),
            Self::List { .. } | Self::Top { .. } | Self::Points { .. } | Self::Versions { .. } | Self::Trial { .. } => return None,
            Self::New { .. } | Self::Sdk { .. } | Self::Build { .. } | Self::Schema { .. } | Self::Check { .. } | Self::Call(_) | Self::Test(_) | Self::Key { .. } | Self::Pack { .. } => {
                return None;
            }
        })
    }
}

impl Consent {
    fn denied(&self) -> String {
        self.deny.iter().map(|power| format!(" --deny \"{power}\"")).collect()
    }
}

pub async fn run(command: PluginCommand) -> Result<()> {
    match command {
        PluginCommand::List { store, json } => {
            let Answer::Plugins(plugins) = control::ask(&store.folder(), Question::Plugins).await? else { return Err(out_of_place()) };
            if json { print_json(&plugins)? } else { print_plugins(&plugins) }
            Ok(())
        }
        PluginCommand::Top { store, every, times } => top(&store.folder(), Duration::from_secs(every), times).await,
        PluginCommand::Run { command: None, help: true, .. } => help::of_run(),
        PluginCommand::Run { store, command: None, json, .. } => help::list(&store.folder(), json).await,
        PluginCommand::Run { store, command: Some(command), help: true, .. } => help::of_plugin(&store.folder(), &command).await,
        PluginCommand::Run { store, command: Some(command), input, json, arguments, .. } => run_command(&store.folder(), command, input, json, &arguments).await,
        PluginCommand::Grant { store, plugins, own, consent } => grant(&store.folder(), plugins, own, &consent).await,
        PluginCommand::Revoke { store, plugin } => {
            let plugins = store.folder().plugins();
            let mut grants = granted(&plugins)?;
            ensure!(grants.revoke(&plugin, &operator()), "`{plugin}` has no grants");
            grants.write(&plugins)?;
            say!("{plugin} may do nothing any more, and is not live. `souk plugin grant {plugin}` lets it again.");
            Ok(())
        }
        PluginCommand::Install(bundled) => {
            let folder = bundled.store.folder();
            let (name, id) = keep(&folder, &bundled)?;
            Versions::of(&folder.plugins(), &name).promote(&id)?;
            tell_whether_live(&folder, &name).await
        }
        PluginCommand::Keep(bundled) => {
            let (name, id) = keep(&bundled.store.folder(), &bundled)?;
            say!("{name} {id} is kept. `souk plugin try` tries it, `souk plugin promote` makes it live.");
            Ok(())
        }
        PluginCommand::Try { store, plugin, version, canary } => {
            let mode = canary.map_or(Mode::Shadow, |percent| Mode::Canary { percent });
            begin_trial(&store.folder(), &plugin, &version, mode).await
        }
        PluginCommand::Trial { store, plugin, end, json } => trial(&store.folder(), &plugin, end, json).await,
        PluginCommand::Data(command) => data::run(command).await,
        PluginCommand::Points { store } => {
            let Answer::Plugins(plugins) = control::ask(&store.folder(), Question::Plugins).await? else { return Err(out_of_place()) };
            print_points(&plugins);
            Ok(())
        }
        PluginCommand::Policy { store, point, fail, deadline_ms } => set_policy(&store.folder(), &point, Changed { fail, deadline_ms }).await,
        PluginCommand::Remove { store, plugin } => remove(&store.folder(), &plugin),
        PluginCommand::Versions { store, plugin } => versions(&store.folder(), &plugin),
        PluginCommand::Promote { store, plugin, version } => {
            let folder = store.folder();
            Versions::of(&folder.plugins(), &plugin).promote(&version)?;
            tell_whether_live(&folder, &plugin).await
        }
        PluginCommand::Rollback { store, plugin } => {
            let folder = store.folder();
            Versions::of(&folder.plugins(), &plugin).roll_back(None)?;
            tell_whether_live(&folder, &plugin).await
        }
        PluginCommand::New { folder, kind } => new::new(&folder, kind),
        PluginCommand::Sdk { folder } => new::renew_sdk(&folder),
        PluginCommand::Build { folder, out, quick, target_dir } => {
            let out = out.unwrap_or_else(|| folder.join("target/souk"));
            Build { quick, target: target_dir.as_deref(), ..Build::new(&folder, &out) }.run()
        }
        PluginCommand::Schema { markdown } => {
            print!("{}", if markdown { reference::markdown() } else { format!("{:#}\n", reference::schema()) });
            Ok(())
        }
        PluginCommand::Check { folder } => check(&folder),
        PluginCommand::Call(arguments) => call::call(arguments).await,
        PluginCommand::Test(arguments) => call::test(arguments).await,
        PluginCommand::Key { file } => {
            say!("{}", bundle::written(&bundle::make_secret_key(&file)?.verifying_key()));
            complain!("Keep {} secret. Shops that trust you write into souk.toml:\n[plugins.publishers]\nyour-name = \"the line above\"", file.display());
            Ok(())
        }
        PluginCommand::Pack { folder, out, key } => pack(&folder, out, key.as_deref()),
    }
}

async fn top(folder: &StoreFolder, every: Duration, times: Option<u64>) -> Result<()> {
    ensure!(control::is_served(folder).await, "nobody serves this store: there is nothing to look at");
    let reports = async || match control::ask(folder, Question::Plugins).await? {
        Answer::Plugins(reports) => Ok(reports),
        _ => Err(out_of_place()),
    };
    let mut before = reports().await?;
    for look in 1.. {
        tokio::time::sleep(every).await;
        let now = reports().await?;
        let seconds = every.as_secs_f64();
        let mut lines: Vec<(u64, String)> = now
            .iter()
            .map(|report| {
                let earlier = before.iter().find(|earlier| earlier.name == report.name).unwrap_or(report);
                // A new version begins to count anew.
                let since = |count: fn(&PluginReport) -> u64| count(report).saturating_sub(count(earlier));
                let rate = |count: fn(&PluginReport) -> u64| since(count) as f64 / seconds;
                let line = format!(
                    "{:<18} {:<9} {:>5.1} {:>7} {:>9.1} {:>9.3} {:>9.1} {:>9.1} {:>9.1} {:>5} {:>9} {:>9.1}{}",
                    report.name,
                    report.version,
                    rate(|r| r.cpu_ms) / 10.0,
                    report.share,
                    rate(|r| r.calls),
                    since(|r| r.wall_ms) as f64 / since(|r| r.calls).max(1) as f64,
                    rate(|r| r.storage_reads),
                    rate(|r| r.storage_writes),
                    rate(|r| r.storage_bytes_read + r.storage_bytes_written) / 1024.0,
                    report.memory_mib_peak,
                    since(|r| r.failures),
                    rate(|r| r.refused),
                    report.over_share.as_ref().map(|over| format!("  over its share of {over}")).unwrap_or_default(),
                );
                (since(|r| r.cpu_ms), line)
            })
            .collect();
        lines.sort_by_key(|(cpu_ms, _)| std::cmp::Reverse(*cpu_ms));
        if std::io::stdout().is_terminal() {
            // Clears the screen.
            print!("\x1b[2J\x1b[H");
        }
        say!("{:<18} {:<9} {:>5} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>5} {:>9} {:>9}", "plugin", "version", "cpu %", "share %", "calls/s", "ms/call", "reads/s", "writes/s", "KiB/s", "MiB", "failures", "refused/s");
        lines.iter().for_each(|(_, line)| say!("{line}"));
        if times.is_some_and(|times| look >= times) {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

async fn run_command(folder: &StoreFolder, command: String, input: Option<PathBuf>, json: bool, arguments: &[String]) -> Result<()> {
    let arguments = arguments.iter().map(|argument| super::list::named(argument)).collect::<Result<Vec<_>>>()?;
    let input = match input {
        Some(path) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin())?.into_bytes(),
        Some(path) => std::fs::read(&path).with_context(|| path.display().to_string())?,
        None => Vec::new(),
    };
    // What is exported is for files, as `souk store export` gives it.
    let is_export = command.starts_with("export-");
    let outputs = store::commands(folder, command, arguments, Vec::new(), input).await?;
    if let Some(Ok(answer)) = outputs.first().map(|first| &first.outcome) {
        match () {
            () if json => print_answer_as_json(answer)?,
            () if is_export => print_document(answer)?,
            () => print_answer(answer, &outputs[0].columns, &zone_of(folder)),
        }
    }
    store::tell_failed_followers(&outputs)
}

fn granted(plugins: &Path) -> Result<Grants> {
    match Grants::read(plugins)? {
        Some(grants) => Ok(grants),
        None if Grants::are_lost(plugins) => Ok(Grants::default()),
        None => Grants::of_folder(plugins, UNSIGNED),
    }
}

async fn grant(folder: &StoreFolder, named: Vec<String>, own: bool, consent: &Consent) -> Result<()> {
    let plugins = folder.plugins();
    let mut grants = granted(&plugins)?;
    let all = named.is_empty();
    let folders: Vec<PathBuf> = if all { plugin_folders(&plugins)? } else { named.iter().map(|name| plugins.join(name)).collect() };
    for of in folders {
        let files = match Files::read(&of) {
            Ok(files) => files,
            // Its other faults are told by the list.
            Err(_) if all => continue,
            Err(error) => return Err(error),
        };
        let offers = Offers::of_folder(&plugins, Some(&grants));
        let name = &files.manifest.name;
        let admitted = grants.admit(&files, &offers).is_ok();
        if admitted && (all || grants.is_own(name)) {
            continue;
        }
        if !(admitted && own) {
            agree(&mut grants, &offers, &files, UNSIGNED, consent)?;
        }
        if own {
            grants.set_own(name);
        }
        grants.write(&plugins)?;
        tell_whether_live(folder, &files.manifest.name).await?;
    }
    Ok(())
}

/// Shows what a version asks for, and writes down what it is given.
fn agree(grants: &mut Grants, offers: &Offers, files: &Files, publisher: &str, consent: &Consent) -> Result<()> {
    let (name, version) = (&files.manifest.name, &files.manifest.version);
    let asked = files.asked(offers)?;
    let denied: BTreeSet<Power> = consent.deny.iter().cloned().collect();
    for power in &denied {
        ensure!(asked.contains(power), "`{name}` does not ask for `{power}`");
        ensure!(power.is_separable(), "`{name}` cannot do without `{power}`: grant it, or leave the plugin out");
    }
    let before = grants.of(name);
    say!("{name} {version}, {}", if publisher == UNSIGNED { "signed by nobody that you trust".into() } else { format!("signed by {publisher}") });
    if !files.manifest.description.is_empty() {
        say!("  {}", files.manifest.description);
    }
    let fresh: BTreeSet<&Power> = grants.beyond(name, &asked).into_iter().collect();
    let show = |title: String, powers: &mut dyn Iterator<Item = &Power>| {
        let lines: Vec<String> = powers.map(|power| format!("  {} {}  [{power}]", if denied.contains(power) { "✗" } else { "·" }, power.in_plain_words(offers))).collect();
        if !lines.is_empty() {
            say!("{title}");
            lines.iter().for_each(|line| say!("{line}"));
        }
    };
    match before {
        Some(grant) => {
            show(format!("New since version {}, it asks to:", grant.version), &mut fresh.iter().copied());
            show("As before, it asks to:".into(), &mut asked.iter().filter(|power| !fresh.contains(power)));
        }
        None => show("It asks to:".into(), &mut asked.iter()),
    }
    if asked.is_empty() {
        say!("It asks for nothing.");
    }
    ensure!(consent.yes || confirm("Let it?")?, "nothing was changed");
    grants.give(files, asked, denied, publisher);
    Ok(())
}

/// Puts the version of a bundle among those that are kept: its plugin and its id.
fn keep(folder: &StoreFolder, from: &Bundled) -> Result<(String, String)> {
    let settings = Settings::read(&folder.0)?;
    let bundle = Bundle::read(&from.bundle)?;
    let publisher = bundle.key.as_ref().and_then(|key| settings.plugins.publishers.iter().find(|(_, trusted)| *trusted == key)).map(|(name, _)| name.as_str());
    if publisher.is_none() && !from.unsigned {
        match &bundle.key {
            Some(key) => bail!(
                "it is signed with {key}, which is none of the keys under [plugins.publishers] in souk.toml. If you trust its owner, add it there; --unsigned takes it as it is."
            ),
            None => bail!("it is not signed. --unsigned takes it as it is; it will be shown as such."),
        }
    }
    let plugins = folder.plugins();
    let mut grants = granted(&plugins)?;
    let offers = Offers::of_folder(&plugins, Some(&grants));
    agree(&mut grants, &offers, &bundle.files()?, publisher.unwrap_or(UNSIGNED), &from.consent)?;
    let unpacked = tempfile::Builder::new().prefix(".unpacked").tempdir_in(&plugins)?;
    bundle.write_to(unpacked.path())?;
    let id = Versions::of(&plugins, &bundle.name).keep(unpacked.path())?;
    grants.write(&plugins)?;
    Ok((bundle.name, id))
}

async fn begin_trial(folder: &StoreFolder, plugin: &str, version: &str, mode: Mode) -> Result<()> {
    let versions = Versions::of(&folder.plugins(), plugin);
    let (id, version) = versions.find(version)?;
    versions.try_out(Some(&OnTrial { id, mode }))?;
    if !control::is_served(folder).await {
        say!("{plugin} {version} is tried when the shop is next served.");
        return Ok(());
    }
    let report = report(folder, Question::Reload, plugin).await?;
    if report.trial.is_none() {
        versions.try_out(None)?;
        bail!("{plugin} {version} is not tried: {}", report.trial_problem.as_deref().unwrap_or("the plugin is not live"));
    }
    say!("{plugin} {version} is tried beside {}.", report.version);
    Ok(())
}

async fn trial(folder: &StoreFolder, plugin: &str, end: bool, json: bool) -> Result<()> {
    let report = report(folder, Question::Plugins, plugin).await?;
    if end {
        Versions::of(&folder.plugins(), plugin).try_out(None)?;
        if control::is_served(folder).await {
            control::ask(folder, Question::Reload).await?;
        }
    }
    if json {
        print_json(&report.trial)?;
        return Ok(());
    }
    let Some(trial) = report.trial else { bail!("{}", report.trial_problem.unwrap_or_else(|| format!("no version of `{plugin}` is on trial"))) };
    say!("{} {}", trial_line(&trial), if end { "(ended)" } else { "" });
    for example in &trial.examples {
        say!("");
        say!("{} asked  {}", example.function, example.asked);
        say!("  {}  {}", report.version, example.live);
        say!("  {}  {}", trial.version, example.trial);
    }
    Ok(())
}

fn trial_line(trial: &TrialReport) -> String {
    // None where only baseline code has run.
    let side = |calls: u64, failures: u64, us: u64| {
        let mean = if us == 0 { String::new() } else { format!(", {us} µs each") };
        format!("{calls} calls, {failures} failed{mean}")
    };
    let (tried, live) = (side(trial.calls, trial.failures, trial.trial_us), side(trial.live_calls, trial.live_failures, trial.live_us));
    match trial.mode {
        Mode::Shadow => format!(
            "{} as a shadow: {tried}, {} answered otherwise, {} skipped; the live version: {live}",
            trial.version, trial.different, trial.skipped
        ),
        Mode::Canary { percent } => format!("{} for {percent} % of the shoppers: {tried}; the live version: {live}", trial.version),
    }
}

async fn set_policy(folder: &StoreFolder, point: &str, changed: Changed) -> Result<()> {
    let interface = if point.contains(':') { without_version(point).to_owned() } else { format!("souk:extend/{point}") };
    let Answer::Plugins(plugins) = control::ask(folder, Question::Plugins).await? else { return Err(out_of_place()) };
    let known: BTreeSet<&str> = plugins.iter().flat_map(|plugin| &plugin.points).map(|point| point.interface.as_str()).collect();
    ensure!(known.contains(interface.as_str()), "no plugin calls `{interface}`; called are: {}", known.into_iter().collect::<Vec<_>>().join(", "));
    let mut policies = Policies::read(&folder.plugins())?;
    policies.set(&interface, (changed != Changed::default()).then_some(changed));
    policies.write(&folder.plugins())?;
    if control::is_served(folder).await {
        control::ask(folder, Question::Reload).await?;
    }
    let Answer::Plugins(plugins) = control::ask(folder, Question::Plugins).await? else { return Err(out_of_place()) };
    print_points(&plugins);
    Ok(())
}

fn print_points(plugins: &[PluginReport]) {
    say!("{:<28} {:<14} {:<10} {:>11}  providers", "extension point", "called by", "fail", "deadline ms");
    for (caller, point) in plugins.iter().flat_map(|caller| caller.points.iter().map(move |point| (caller, point))) {
        let providers = plugins.iter().filter(|provider| provider.links.contains(&point.interface)).map(|provider| {
            let off = provider.switched_off.iter().filter(|off| off.point == point.interface);
            let off: Vec<_> = off.map(|off| format!("{} switched off for {} s", off.function, off.seconds)).collect();
            if off.is_empty() { provider.name.clone() } else { format!("{} ({})", provider.name, off.join(", ")) }
        });
        let fail = point.fail.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        say!(
            "{:<28} {:<14} {:<10} {:>11}  {}{}",
            point.interface,
            caller.name,
            fail,
            point.deadline_ms,
            providers.collect::<Vec<_>>().join(", "),
            if point.as_declared { "" } else { "  (changed by you)" }
        );
    }
}

async fn report(folder: &StoreFolder, question: Question, plugin: &str) -> Result<PluginReport> {
    let Answer::Plugins(all) = control::ask(folder, question).await? else { return Err(out_of_place()) };
    all.into_iter().find(|report| report.name == plugin).with_context(|| format!("the shop does not see `{plugin}`"))
}

fn remove(folder: &StoreFolder, plugin: &str) -> Result<()> {
    let plugins = folder.plugins();
    let path = plugins.join(plugin);
    Files::read(&path)?;
    Versions::of(&plugins, plugin).keep(&path)?;
    // Out of sight with one rename; what others need is kept live, and the list says so.
    let away = tempfile::Builder::new().prefix(".removed").tempdir_in(&plugins)?;
    std::fs::rename(&path, away.path().join(plugin)).with_context(|| path.display().to_string())
}

fn versions(folder: &StoreFolder, plugin: &str) -> Result<()> {
    let versions = Versions::of(&folder.plugins(), plugin);
    let (history, zone) = (versions.history()?, zone_of(folder));
    for (id, _) in versions.kept()? {
        let times: Vec<String> = history.iter().filter(|entry| entry.id == id).map(|entry| super::document::time(entry.at.as_millisecond(), &zone)).collect();
        let live = if history.last().is_some_and(|last| last.id == id) { "live since" } else { "was live" };
        say!("{id:<24} {}", if times.is_empty() { "never live".into() } else { format!("{live} {}", times.join(", ")) });
        for reason in history.iter().filter(|entry| entry.id == id).filter_map(|entry| entry.failed.as_ref()) {
            say!("  ! taken back: {reason}");
        }
    }
    Ok(())
}

/// A server that has the store open takes the change up now.
async fn tell_whether_live(folder: &StoreFolder, plugin: &str) -> Result<()> {
    let wanted = Files::read(&folder.plugins().join(plugin))?;
    let version = &wanted.manifest.version;
    if !control::is_served(folder).await {
        say!("{plugin} {version} is in place. It is live when the shop is next opened.");
        return Ok(());
    }
    let report = report(folder, Question::Reload, plugin).await?;
    if let Some(problem) = &report.problem {
        bail!("{plugin} {version} is not live: {problem}");
    }
    say!("{plugin} {version} is live.");
    Ok(())
}

fn check(folder: &Path) -> Result<()> {
    let files = Files::read(folder)?;
    let (name, version) = (&files.manifest.name, &files.manifest.version);
    crate::front::assets::load(name, &folder.join("assets"))?;
    say!("{name} {version}: {} KiB", files.component.len() / 1024);
    let offers = Offers::of(&files.manifest);
    for power in files.asked(&offers)? {
        say!("  · {}  [{power}]", power.in_plain_words(&offers));
    }
    Ok(())
}

fn pack(folder: &Path, out: Option<PathBuf>, key: Option<&Path>) -> Result<()> {
    let files = Files::read(folder)?;
    files.asked(&Offers::default())?;
    let key = key.map(bundle::read_secret_key).transpose()?;
    let out = out.unwrap_or_else(|| format!("{}-{}.souk", files.manifest.name, files.manifest.version).into());
    let bytes = bundle::pack(folder, key.as_ref())?;
    write_whole(&out, &bytes)?;
    say!("{} ({} KiB{})", out.display(), bytes.len() / 1024, if key.is_some() { ", signed" } else { ", not signed" });
    Ok(())
}

fn print_plugins(plugins: &[PluginReport]) {
    let mut table = Table::new(["plugin", "version", "state", "calls", "failures", "ms", "MiB", "kind", "publisher", "routes", "links"]);
    for p in plugins {
        let state = match (&p.problem, p.version.is_empty()) {
            (None, _) => "live",
            (Some(_), false) => "older",
            (Some(_), true) => "refused",
        };
        let counts = [p.calls, p.failures, p.wall_ms, p.memory_mib_peak].map(|count| count.to_string());
        let words = [p.name.clone(), p.version.clone(), state.into()];
        table.row(words.into_iter().chain(counts).chain([p.kind.clone(), p.publisher.clone(), p.routes.to_string(), p.links.join(", ")]));
    }
    let lines = table.lines(table::terminal_width());
    let mut lines = lines.iter();
    lines.next().into_iter().for_each(|heading| say!("{heading}"));
    for (p, line) in plugins.iter().zip(lines) {
        say!("{line}");
        if let Some(trial) = &p.trial {
            say!("  ? {}", trial_line(trial));
        }
        if let Some(form) = p.older_form {
            say!("  ? writes its documents in form {form}, which is not its newest: `souk plugin data migrate {}` rewrites them", p.name);
        }
        for SwitchedOffReport { point, function, seconds, why } in &p.switched_off {
            let sole = if p.sole_provider_of.contains(point) { ". Nobody else provides it: the shop goes without" } else { "" };
            say!("  ! switched off for {point}, {function}, {why}: {seconds} s more{sole}");
            if why.contains("latency") {
                let given = p.latency_ms.map_or(LATENCY_BUDGET.as_millis(), Into::into);
                say!("    its calls may take {given} ms of each request; `{}` under [plugins.latency-ms] in souk.toml sets it", p.name);
            }
        }
        if let Some(over) = &p.over_share {
            say!(
                "  ! has used its share ({} %) of {over}: {} calls refused, others waited {} ms; `{}` under [plugins.shares] in souk.toml sets it",
                p.share, p.refused, p.delayed_ms, p.name
            );
            for point in &p.sole_provider_of {
                say!("    nobody else provides {point}: what it is left out of, the shop goes without");
            }
        }
        if p.items_cut > 0 {
            say!("  ! {} items of its answers were too many and cut off", p.items_cut);
        }
        for note in p.problem.iter().chain(&p.taken_back).chain(&p.trial_problem) {
            say!("  ! {note}");
        }
    }
    table.note(table::terminal_width()).into_iter().for_each(|note| say!("{note}"));
}
