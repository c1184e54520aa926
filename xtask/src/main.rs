//! `cargo xtask`: all of Souk's build logic.

mod plugins;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use toolchain::Toolchain;

#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    /// Compile the plugins and wrap them as components.
    Plugins {
        /// Names of plugins, separated by commas; all of them unless given.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// A plugin outside the workspace `plugins/`, for instance `examples/hello`.
        #[arg(long)]
        path: Option<PathBuf>,
        /// Folder to put them in, for instance a store's `plugins`.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the repository");
    match Command::parse() {
        Command::Plugins { only, path, out } => {
            let out = out.unwrap_or_else(|| root.join("target/plugins"));
            let workspace = path.unwrap_or_else(|| root.join("plugins"));
            plugins::build(Toolchain::find()?, &workspace, &only, &out)
        }
    }
}
