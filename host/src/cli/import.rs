//! `souk store import`: a file through the plugins' commands, and what they
//! report of it.
//!
//! A report is a JSON object. Its numbers are counts, by the name of what
//! happened, or, where it has a `summary`, that list: counts by kind of thing
//! (`of`), in the order in which they are shown. Each of its other lists has a
//! row for what was looked at: `line`, an `outcome`, and `faults` (or `field`,
//! `problem` and `remedy`), `notes`, and `changes`, each from what to what. `picture-origins` counts pictures that lie
//! elsewhere, by the origin that the shop has to allow.
//! `rejects` is the file of what was refused. What a row is of, only plugins know.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::StoreArgument;
use super::control::Output;
use super::store::{commands, failed, tell_failed_followers};
use crate::files::write_whole;
use crate::shop::settings::Settings;

/// Of each report, unless all are asked for.
const ROWS_SHOWN_MAX: usize = 50;

#[derive(clap::Args)]
pub struct Import {
    #[command(flatten)]
    pub(super) store: StoreArgument,
    pub(super) file: PathBuf,
    /// What it holds: the plugins' command is `import-<kind>`. Unless given,
    /// `products` for a table (.csv, .tsv, .txt), else `catalogue`.
    #[arg(long)]
    kind: Option<String>,
    /// Say what would happen, and what would be taken out; change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Change nothing if anything is refused.
    #[arg(long)]
    all_or_nothing: bool,
    /// Take out what a product has in the shop and not in the file: variants and pictures.
    #[arg(long)]
    prune: bool,
    /// Of stock: count skus too that no product has.
    #[arg(long)]
    create: bool,
    /// Write the rows that are refused to this file: put them right there, and import it.
    #[arg(long)]
    rejects: Option<PathBuf>,
    /// Of the file, where it cannot be told: gb18030, windows-1252, …
    #[arg(long)]
    encoding: Option<String>,
    /// Show all rows, also those that change nothing.
    #[arg(long)]
    verbose: bool,
    /// The plugins' reports as JSON.
    #[arg(long)]
    json: bool,
}

/// Some of it is done, and some is not: rows of a file, or what ran after a command.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PartlyDone(pub(super) String);

impl PartlyDone {
    pub const EXIT_CODE: u8 = 2;
}

pub async fn run(order: Import) -> Result<()> {
    let input = std::fs::read(&order.file).with_context(|| order.file.display().to_string())?;
    if let Some(looks) = foreign(&input) {
        bail!("{} looks like {looks}: give a table as CSV (Excel: Save As, CSV UTF-8), or JSON or text where the kind is of that", order.file.display());
    }
    let is_table = order.file.extension().is_some_and(|extension| ["csv", "tsv", "txt"].iter().any(|known| extension.eq_ignore_ascii_case(known)));
    let kind = order.kind.clone().unwrap_or_else(|| if is_table { "products" } else { "catalogue" }.into());
    let folder = order.store.folder();
    let ask = |dry_run: bool| {
        let set = |name: &str, is_set: bool| is_set.then(|| (name.to_owned(), "true".to_owned()));
        let encoding = order.encoding.iter().map(|encoding| ("encoding".to_owned(), encoding.clone()));
        let arguments = set("dry-run", dry_run).into_iter().chain(set("prune", order.prune)).chain(set("create", order.create)).chain(encoding);
        // Some take a file whole or not at all, and do not have to be told.
        let offered = set("partial", !order.all_or_nothing).into_iter().collect();
        commands(&folder, format!("import-{kind}"), arguments.collect(), offered, input.clone())
    };
    // Several plugins may read the file, each in a unit of its own: where it is
    // all or nothing, all of them look at it before the first one writes.
    let looked = if order.dry_run || order.all_or_nothing { Some(ask(true).await?) } else { None };
    let is_refused = |looked: &[Output]| looked.iter().any(|output| output.outcome.is_err()) || reports(looked).iter().any(|report| report.count("refused") > 0);
    let outputs = match looked {
        Some(looked) if order.dry_run || is_refused(&looked) => {
            ensure!(order.dry_run || looked.iter().all(|output| output.outcome.is_ok()), "nothing was imported: {}", failed(&looked).join("; "));
            looked
        }
        _ => ask(false).await?,
    };
    let reports = reports(&outputs);
    for report in &reports {
        super::print_lines(&if order.json { report.json() } else { report.text(order.dry_run, order.verbose) });
    }
    if !order.json {
        let allowed = Settings::read(&folder.0)?.server.image_origins;
        reports.iter().filter_map(|report| report.pictures_not_shown(&allowed)).for_each(|told| super::print_lines(&told));
    }
    let rejects = match &order.rejects {
        Some(file) => write_rejects(file, &reports)?,
        None => None,
    };
    let refused: u64 = reports.iter().map(|report| report.count("refused")).sum();
    let went_in = reports.iter().any(|report| ["created", "updated", "unchanged"].iter().any(|done| report.count(done) > 0));
    match refused {
        0 => tell_failed_followers(&outputs),
        _ if order.all_or_nothing => bail!("{refused} refused, so nothing was imported"),
        _ if !went_in => bail!("all {refused} are refused: nothing was imported"),
        _ if order.dry_run => Err(PartlyDone(format!("{refused} would be refused; the rest would go in")).into()),
        _ => {
            let next = rejects.map_or_else(|| "--rejects FILE writes their rows to a file".into(), |file| format!("put the rows in {} right and import that file", file.display()));
            Err(PartlyDone(format!("{refused} refused, the rest is imported: {next}")).into())
        }
    }
}

/// What the beginning of a file says that it is, where that is nothing to import.
fn foreign(input: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 11] = [
        (b"\x89PNG", "a picture (PNG)"),
        (b"\xff\xd8\xff", "a picture (JPEG)"),
        (b"GIF8", "a picture (GIF)"),
        (b"RIFF", "a picture (WebP) or a sound"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "an Excel workbook (.xlsx) or a ZIP archive"),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
        (b"\x1f\x8b", "a compressed file (gzip)"),
        (b"\x7fELF", "a program"),
        (b"<!DOCTYPE", "a web page"),
        (b"<html", "a web page"),
    ];
    let begins = |mark: &[u8]| input.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
    if input.iter().all(u8::is_ascii_whitespace) {
        return Some("an empty file");
    }
    BEGINNINGS.iter().find(|(mark, _)| begins(mark)).map(|(_, looks)| *looks)
}

/// `None` where nothing was refused, or no plugin gives it as a file.
fn write_rejects(file: &Path, reports: &[Report]) -> Result<Option<PathBuf>> {
    let Some(rejects) = reports.iter().find_map(|report| report.value()?.get("rejects")?.as_str()) else { return Ok(None) };
    write_whole(file, rejects.as_bytes())?;
    Ok(Some(file.to_owned()))
}

/// What one plugin's command answered.
struct Report {
    command: String,
    text: String,
    value: Option<Map<String, Value>>,
}

fn reports(outputs: &[Output]) -> Vec<Report> {
    let report = |output: &Output| {
        let told = output.outcome.as_ref().ok()?;
        Some(Report { command: output.command.clone(), text: String::from_utf8_lossy(told).into_owned(), value: serde_json::from_slice(told).ok() })
    };
    outputs.iter().filter_map(report).collect()
}

impl Report {
    fn value(&self) -> Option<&Map<String, Value>> {
        self.value.as_ref()
    }

    fn count(&self, what: &str) -> u64 {
        self.value().and_then(|value| value.get(what)).and_then(Value::as_u64).unwrap_or(0)
    }

    fn json(&self) -> String {
        format!("{}: {}", self.command, self.text)
    }

    /// What shoppers will not see before the shop allows where it lies.
    fn pictures_not_shown(&self, allowed: &[String]) -> Option<String> {
        let origins = self.value()?.get("picture-origins")?.as_object()?;
        let missing: Vec<(&String, u64)> = origins.iter().filter(|(origin, _)| !allowed.contains(origin)).filter_map(|(origin, count)| Some((origin, count.as_u64()?))).collect();
        let count: u64 = missing.iter().map(|(_, count)| count).sum();
        let listed = missing.iter().map(|(origin, _)| format!("\"{origin}\"")).collect::<Vec<_>>().join(", ");
        let pictures = if count == 1 { "1 picture is" } else { &format!("{count} pictures are") };
        (count > 0).then(|| format!("! {pictures} not shown: the shop does not allow where they lie. Add {listed} to image-origins under [server] in souk.toml"))
    }

    /// The counts first, then the rows that need a look.
    fn text(&self, is_dry: bool, verbose: bool) -> String {
        let Some(value) = self.value() else { return self.json() };
        let mut text = format!("{}{}:", self.command, if is_dry { " (dry run)" } else { "" });
        match value.get("summary").and_then(Value::as_array) {
            Some(summary) => summary.iter().for_each(|counts| _ = write!(text, "\n  {}", summary_line(counts))),
            None => _ = write!(text, " {}", value.iter().filter_map(|(name, count)| Some(format!("{} {name}", count.as_u64()?))).collect::<Vec<_>>().join(", ")),
        }
        for (list, rows) in value.iter().filter(|(name, _)| *name != "summary").filter_map(|(name, rows)| Some((name, rows.as_array()?))) {
            let wanted: Vec<&Value> = rows.iter().filter(|row| verbose || needs_a_look(row) || (is_dry && has_any(row, "changes"))).collect();
            let shown = if verbose { wanted.len() } else { wanted.len().min(ROWS_SHOWN_MAX) };
            for row in &wanted[..shown] {
                let _ = write!(text, "\n{}", line(row, is_dry || verbose));
            }
            if shown < wanted.len() {
                let _ = write!(text, "\n  … and {} more {list}: --verbose shows all", wanted.len() - shown);
            }
        }
        text
    }
}

/// `products    3 new, 1 changed, 20 unchanged, 0 rejected`
fn summary_line(counts: &Value) -> String {
    let shown = ["new", "changed", "unchanged", "rejected"].map(|name| format!("{} {name}", counts[name].as_u64().unwrap_or(0)));
    format!("{:<11} {}", counts["of"].as_str().unwrap_or_default(), shown.join(", "))
}

fn has_any(row: &Value, list: &str) -> bool {
    row[list].as_array().is_some_and(|list| !list.is_empty())
}

/// What was refused or done otherwise than it is written.
fn needs_a_look(row: &Value) -> bool {
    let is = |outcome: &str| row["outcome"] == outcome;
    is("refused") || row["problem"].as_str().is_some_and(|problem| !problem.is_empty()) || (!is("unchanged") && has_any(row, "notes"))
}

fn line(row: &Value, with_changes: bool) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let name = ["handle", "sku", "id", "code"].iter().map(|name| text(name)).find(|name| !name.is_empty()).unwrap_or("-");
    let place = row["line"].as_u64().map_or(String::new(), |line| format!("line {line}: "));
    let mut told = format!("  {place}{name}: {}", text("outcome"));
    let none = Vec::new();
    let own = (!text("problem").is_empty()).then_some(row);
    for fault in row["faults"].as_array().unwrap_or(&none).iter().chain(own) {
        let of = |name: &str| fault[name].as_str().unwrap_or_default();
        let _ = write!(told, "\n    {}: {}; {}", of("field"), of("problem"), of("remedy"));
    }
    let changes = row["changes"].as_array().filter(|_| with_changes).unwrap_or(&none);
    for note in row["notes"].as_array().unwrap_or(&none).iter().chain(changes).filter_map(Value::as_str) {
        let _ = write!(told, "\n    {note}");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(report: &str) -> Report {
        reports(&[Output { command: "import-products".into(), plugin: "catalog".into(), columns: Vec::new(), outcome: Ok(report.into()) }]).remove(0)
    }

    fn text(report: &str, verbose: bool) -> String {
        answered(report).text(false, verbose)
    }

    #[test]
    fn the_summary_comes_first_and_what_changes_nothing_only_on_demand() {
        let report = r#"{"applied": true, "dry-run": false, "created": 1, "refused": 1, "unchanged": 1, "products": [
            {"line": 2, "handle": "cup", "outcome": "created", "notes": ["its sku is CUP-1"]},
            {"line": 3, "handle": "jar", "outcome": "refused", "faults": [{"field": "Price", "problem": "there is none", "remedy": "write one"}]},
            {"line": 4, "handle": "pot", "outcome": "unchanged"}], "rejects": "Handle\njar\n"}"#;
        let short = text(report, false);
        let wanted = "import-products: 1 created, 1 refused, 1 unchanged\n  line 2: cup: created\n    its sku is CUP-1\n  line 3: jar: refused\n    Price: there is none; write one";
        assert_eq!(short, wanted);
        assert_eq!(text(report, true), format!("{wanted}\n  line 4: pot: unchanged"));
    }

    #[test]
    fn counts_are_told_apart_in_the_order_of_the_summary() {
        let report = r#"{"created": 2, "summary": [{"of": "products", "new": 1, "changed": 0, "unchanged": 4, "rejected": 2}, {"of": "categories", "new": 1}],
            "picture-origins": {"https://cdn.example": 3, "https://ours.example": 1}}"#;
        assert_eq!(text(report, false), "import-products:\n  products    1 new, 0 changed, 4 unchanged, 2 rejected\n  categories  1 new, 0 changed, 0 unchanged, 0 rejected");
        let report = answered(report);
        let told = report.pictures_not_shown(&["https://ours.example".into()]).unwrap();
        assert!(told.starts_with("! 3 pictures are not shown") && told.contains("\"https://cdn.example\" to image-origins"), "{told}");
        assert_eq!(report.pictures_not_shown(&["https://ours.example".into(), "https://cdn.example".into()]), None);
    }

    #[test]
    fn what_is_nothing_to_import_is_told_by_its_beginning() {
        for (input, told) in [
            (&b"\x89PNG\r\n"[..], Some("PNG")), (b"PK\x03\x04..", Some(".xlsx")), (b"<!doctype html>", Some("web page")), (b" \n", Some("empty")),
            (b"Handle,Title\n", None), (b"\xef\xbb\xbfSKU\n", None), (b"\xff\xfeS\0", None), (b"{}", None), (b"# Imprint {imprint en}", None),
        ] {
            assert_eq!(foreign(input).map(|looks| told.is_some_and(|told| looks.contains(told))), told.map(|_| true), "{input:?}");
        }
    }

    #[test]
    fn what_is_no_report_is_printed_as_it_is() {
        assert_eq!(text("3 delivery zones imported", false), "import-products: 3 delivery zones imported");
    }

    #[test]
    fn many_rows_do_not_fill_the_screen() {
        let rows: Vec<Value> = (0..80).map(|line| serde_json::json!({ "line": line, "sku": "A", "outcome": "refused", "field": "quantity", "problem": "none", "remedy": "give one" })).collect();
        let report = serde_json::json!({ "refused": 80, "rows": rows }).to_string();
        assert!(text(&report, false).ends_with("  … and 30 more rows: --verbose shows all"));
        assert_eq!(text(&report, true).matches("quantity: none; give one").count(), 80);
    }
}
