//! Storage engines side by side, on the store alone, with the shop's pattern of
//! reads and writes: `host/examples/storage.rs` is the process that is measured,
//! killed, and has its power cut.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use souk_tests::powercut::{Recording, copy, library, recorded};
use souk_tests::{built, resident_mib};

use crate::Effort;
use crate::figure::{Figure, Mark, median};

const POWER_CUTS: u64 = 100;
/// Enough for about a second.
const ALONE: u64 = 500;
const TOGETHER: u64 = 20_000;
const RECORDED: u64 = 300;

struct Variant {
    figure: &'static str,
    engine: &'static str,
    /// Files whose syncs are left out.
    without_sync: Option<&'static str>,
}

const VARIANTS: [Variant; 4] = [
    Variant { figure: "storage_fjall", engine: "fjall", without_sync: None },
    Variant { figure: "storage_redb", engine: "redb", without_sync: None },
    Variant { figure: "storage_sled", engine: "sled", without_sync: None },
    // As it is without the fsync that `store/sled.rs` adds to each flush.
    Variant { figure: "storage_sled_flush_only", engine: "sled", without_sync: Some("db") },
];

/// One figure an engine: commits of 64 writers; the rest is in the remark.
pub fn storage(effort: Effort) -> Result<Vec<Figure>> {
    VARIANTS.iter().map(|variant| variant.measure(effort)).collect()
}

impl Variant {
    fn measure(&self, effort: Effort) -> Result<Figure> {
        let (mut alone, mut together, mut reads, mut disk, mut memory, mut recovery) = (vec![], vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..effort.rounds {
            alone.push(self.work(&self.folder()?.path().join("store"), 1, ALONE)?.told("per_second")?);
            let folder = self.folder()?;
            let store = folder.path().join("store");
            let worker = self.work(&store, 64, TOGETHER)?;
            together.push(worker.told("per_second")?);
            reads.push(worker.told("point_read_us")?);
            disk.push(worker.told("disk_bytes")? / f64::from(1 << 20));
            memory.push(resident_mib(worker.process.id()));
            drop(worker);
            recovery.push(self.check(&store)?["open_ms"].as_f64().context("open_ms")?);
        }
        let cuts = self.power_cuts()?;
        let mut figure = Figure::plain(self.figure, "/s", Mark::Reported, together);
        figure.remark = format!(
            "64 writers; alone {:.0}/s; point read {:.1} µs; {:.0} MB on disk, {:.0} MB memory; open after kill {:.0} ms; \
             {POWER_CUTS} power cuts: {} damaged, {} before it was made, {} lost commits",
            median(alone),
            median(reads),
            median(disk),
            median(memory),
            median(recovery),
            cuts.damaged,
            cuts.half_made,
            cuts.lost
        );
        Ok(figure)
    }

    fn folder(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir()?)
    }

    fn command(&self, what: &str, store: &Path) -> Command {
        let mut command = Command::new(built().join("examples/storage"));
        command.arg(what).arg(self.engine).arg(store);
        command
    }

    fn power_cuts(&self) -> Result<PowerCuts> {
        let folder = self.folder()?;
        let (store, before, log) = (folder.path().join("store"), folder.path().join("before"), folder.path().join("log"));
        std::fs::create_dir(&store)?;
        copy(&store, &before);
        let worker = self.start(self.command("work", &store).args(["8", &RECORDED.to_string()]).envs(recorded(&store, &log)))?;
        let acknowledged = worker.acknowledged.clone();
        drop(worker);
        let recording = Recording::load(&before, &log);
        let mut cuts = PowerCuts::default();
        let first = acknowledged.iter().map(|(length, ..)| *length).min().context("nothing was acknowledged")?;
        for seed in 0..POWER_CUTS {
            let left = self.folder()?;
            let cut = recording.after_power_cut(seed, left.path());
            // Told by how it ends: some engines panic.
            let found = match self.check(left.path()) {
                Ok(found) => found,
                Err(error) => {
                    eprintln!("  {}, cut {seed}, at {cut}, the first commit at {first}: {error:#}", self.figure);
                    *if cut < first { &mut cuts.half_made } else { &mut cuts.damaged } += 1;
                    continue;
                }
            };
            let gone =
                |(_, writer, number): &&(u64, u64, u64)| found["writers"][writer.to_string()].as_u64().is_none_or(|commits| commits <= *number);
            cuts.lost += u64::from(acknowledged.iter().filter(|(length, ..)| *length <= cut).any(|commit| gone(&commit)));
        }
        Ok(cuts)
    }

    fn work(&self, store: &Path, writers: u64, commits: u64) -> Result<Worker> {
        self.start(self.command("work", store).args([writers.to_string(), commits.to_string()]))
    }

    fn start(&self, command: &mut Command) -> Result<Worker> {
        if let Some(file) = self.without_sync {
            command.env("LD_PRELOAD", library()).env("SOUK_RECORD_WITHOUT_SYNC", file);
        }
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut worker = Worker { process, told: Value::Null, acknowledged: Vec::new() };
        for line in BufReader::new(worker.process.stdout.take().context("no output")?).lines() {
            let line = line?;
            if line.starts_with('{') {
                worker.told = serde_json::from_str(&line)?;
                return Ok(worker);
            }
            let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
            worker.acknowledged.push((numbers[0], numbers[1], numbers[2]));
        }
        anyhow::bail!("the worker on {} ended early", self.engine)
    }

    fn check(&self, store: &Path) -> Result<Value> {
        let output = self.command("check", store).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

#[derive(Default)]
struct PowerCuts {
    /// Left a store that does not open or is not whole.
    damaged: u64,
    /// The same, before anything was acknowledged.
    half_made: u64,
    /// Took what was acknowledged.
    lost: u64,
}

/// Has done its work and waits; killed when dropped.
struct Worker {
    process: Child,
    told: Value,
    /// Length of the log by then, writer, number.
    acknowledged: Vec<(u64, u64, u64)>,
}

impl Worker {
    fn told(&self, name: &str) -> Result<f64> {
        self.told[name].as_f64().with_context(|| format!("{name} was not told"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
