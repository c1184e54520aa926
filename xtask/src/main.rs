//! `cargo xtask`: all of Souk's build logic.

mod bench;
mod plugins;
mod test;
mod toolchain;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use toolchain::Toolchain;

#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    /// Build everything, make a store in `run/shop` if there is none, and serve it.
    Up,
    /// Compile the plugins and wrap them as components.
    Plugins {
        /// Names of plugins, separated by commas; all of them unless given.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// A plugin outside the workspace `plugins/`, for instance `examples/hello`.
        #[arg(long)]
        path: Option<PathBuf>,
        /// Compile soon rather than well, for a shop that is being worked on.
        #[arg(long)]
        quick: bool,
        /// Folder to put them in, for instance a store's `plugins`.
        #[arg(long, default_value = "target/plugins")]
        out: PathBuf,
    },
    /// Run all tests.
    Test {
        /// Given to `cargo nextest run`, for instance `-- -E 'test(cart)'`.
        #[arg(last = true)]
        filters: Vec<String>,
    },
    /// Measure the shop: a table, and `target/bench/summary.json`.
    #[command(disable_help_flag = true)]
    Bench {
        /// `--help` tells of them: names of figures, --all, --seconds, --rounds, --json.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the repository");
    let done = match Command::parse() {
        Command::Up => up::up(root),
        Command::Plugins { only, path, quick, out } => {
            let source = path.unwrap_or_else(|| root.join("plugins"));
            Toolchain::find().and_then(|toolchain| plugins::build(root, toolchain, &source, &only, quick, &out))
        }
        Command::Test { filters } => test::test(root, &filters),
        Command::Bench { arguments } => bench::bench(root, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
