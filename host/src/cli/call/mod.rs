//! `souk plugin call` and `souk plugin test`: what a plugin's developer runs to
//! see one call, in the engine that shops run on, with fakes around it.
//!
//! A [`Scenario`] says what to call and what to find, a [`Stage`] is the shop
//! that is set up for it, a [`Report`] what came of it.

mod bless;
mod expect;
mod flame;
mod print;
mod report;
mod scenario;
mod stage;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use souk_build::Build;

use crate::files::write_whole;
use report::Report;
use scenario::{Named, Scenario};
use stage::Stage;

#[derive(clap::Args)]
pub struct CallArguments {
    /// A built plugin: `plugin.wasm` and `plugin.toml`.
    folder: PathBuf,
    /// For instance `souk:extend/discount`; unless the input names it.
    interface: Option<String>,
    /// For instance `propose`.
    function: Option<String>,
    /// A scenario; `-` is standard input.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Another built plugin, whose services it calls, or that provides what it asks for.
    #[arg(long = "with")]
    with: Vec<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Where the instructions go, as a picture (SVG).
    #[arg(long)]
    flame_graph: Option<PathBuf>,
    /// The same as folded stacks, for speedscope and the like.
    #[arg(long)]
    folded: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct TestArguments {
    /// A plugin's source, or a built plugin.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// `scenarios` in the folder unless given.
    #[arg(long)]
    scenarios: Option<PathBuf>,
    /// Another built plugin, as for `call`.
    #[arg(long = "with")]
    with: Vec<PathBuf>,
    /// Writes what is seen into `expect` of scenarios that expect nothing yet, or something else.
    #[arg(long)]
    bless: bool,
    /// Build soon rather than well.
    #[arg(long)]
    quick: bool,
    /// Cargo's folder; `target` beside the source unless given.
    #[arg(long)]
    target_dir: Option<PathBuf>,
}

/// Up to so many instructions the usual report also tells where they go.
const SAMPLED_FUEL_MAX: u64 = 10_000_000;

pub async fn call(arguments: CallArguments) -> Result<()> {
    let mut scenario = match &arguments.input {
        Some(path) if path.as_os_str() == "-" => Scenario::parse(&std::io::read_to_string(std::io::stdin())?, Path::new("."))?,
        Some(path) => Scenario::read(path)?,
        None => Scenario::default(),
    };
    match (arguments.interface, arguments.function) {
        (Some(interface), Some(function)) => scenario.call = Some(Named { interface, function }),
        (Some(interface), None) => bail!("which function of `{interface}`? souk plugin call FOLDER INTERFACE FUNCTION"),
        _ => {}
    }
    scenario.with.extend(arguments.with);
    let stage = Stage::set(&arguments.folder, &scenario).await?;
    let mut report = stage.play().await;
    let wanted = arguments.flame_graph.is_some() || arguments.folded.is_some();
    let fuel = match report.spent.instructions.used {
        Some(fuel) => Some(fuel).filter(|fuel| wanted || *fuel <= SAMPLED_FUEL_MAX),
        // One that finds no end has a beginning.
        None => stage.stack_at(SAMPLED_FUEL_MAX).await.map(|_| SAMPLED_FUEL_MAX),
    };
    if let Some(fuel) = fuel {
        let profile = flame::Profile::take(&stage, fuel).await;
        report.sampled = Some(fuel);
        report.hottest = profile.hottest();
        report.hint = stage.names_hint();
        if let Some(path) = &arguments.folded {
            write_whole(path, profile.folded().as_bytes())?;
        }
        if let Some(path) = &arguments.flame_graph {
            let title = format!("{} {}: {} {}, {fuel} instructions", report.plugin, report.version, report.interface, report.function);
            write_whole(path, profile.svg(&title).as_bytes())?;
        }
    } else if wanted {
        bail!("nothing can be told of where the instructions went: the call was given up while it waited for the host");
    }
    if arguments.json {
        super::print_json(&report)?;
    } else {
        print::report(&report, std::io::stdout().is_terminal());
    }
    match report.problems().first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

pub async fn test(arguments: TestArguments) -> Result<()> {
    let TestArguments { folder, scenarios, with, bless, quick, target_dir } = arguments;
    let scenarios = scenarios.unwrap_or_else(|| folder.join("scenarios"));
    let files = scenario_files(&scenarios)?;
    let built = if ["Cargo.toml", "build.sh"].iter().any(|source| folder.join(source).exists()) {
        let out = folder.join("target/souk");
        Build { quick, target: target_dir.as_deref(), ..Build::new(&folder, &out) }.run()?;
        out.join(stage::name_of(&folder)?)
    } else {
        folder
    };
    let mut failed = 0;
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let mut outcome = play(&built, file, &with).await;
        if let Ok(report) = &outcome
            && bless
            && take_as_expected(file, report)?
        {
            complain!("{}: what was seen is expected now", file.display());
            outcome = play(&built, file, &with).await;
        }
        let problems = match &outcome {
            Ok(report) => report.problems(),
            Err(error) => vec![format!("{error:#}")],
        };
        print::line(&name, outcome.as_ref().ok(), &problems, std::io::stdout().is_terminal());
        failed += usize::from(!problems.is_empty());
    }
    ensure!(failed == 0, "{failed} of {} scenarios failed; `souk plugin call {} --input FILE` shows one whole", files.len(), built.display());
    Ok(())
}

/// Whether there was anything to take. A call that fails is not what anyone wants, unless it was wanted before.
fn take_as_expected(file: &Path, report: &Report) -> Result<bool> {
    if report.fails_unexpectedly() {
        return Ok(false);
    }
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let Some(blessed) = bless::blessed(&text, report).with_context(|| file.display().to_string())? else { return Ok(false) };
    write_whole(file, blessed.as_bytes())?;
    Ok(true)
}

async fn play(built: &Path, file: &Path, with: &[PathBuf]) -> Result<Report> {
    let mut scenario = Scenario::read(file)?;
    scenario.with.extend(with.iter().cloned());
    Ok(Stage::set(built, &scenario).await?.play().await)
}

fn scenario_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let remedy = || format!("{}: put scenarios there, JSON files as docs/plugins.md tells of them, or name another folder with --scenarios", folder.display());
    let entries = std::fs::read_dir(folder).with_context(remedy)?;
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension() == Some(OsStr::new("json")));
    files.sort();
    ensure!(!files.is_empty(), remedy());
    Ok(files)
}
