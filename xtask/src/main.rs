//! `cargo xtask`: all of Souk's build logic.

mod bench;
mod invariants;
mod load;
mod test;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use souk_build::Build;

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
        /// With the code that `up` runs, which takes minutes to compile after each edit of the host.
        #[arg(long)]
        release: bool,
        /// Given to `cargo nextest run`, for instance `-- -E 'test(cart)'`.
        #[arg(last = true)]
        filters: Vec<String>,
    },
    /// What must never happen in a shop: the tests that hold it, and what they say.
    Invariants {
        /// Which they are, without running them.
        #[arg(long)]
        list: bool,
    },
    /// Measure the shop: a table, and `target/bench/summary.json`.
    #[command(disable_help_flag = true)]
    Bench {
        /// `--help` tells of them: names of figures, --all, --seconds, --rounds, --json.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Load the shop with visits that do not wait for it: where it bends, and what it does then.
    #[command(disable_help_flag = true)]
    Load {
        /// `--help` tells of them: mixes, --rate, --find-knee, --overload, --soak, --json.
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
            Build { only: &only, quick, target: Some(&up::guests_target(root)), ..Build::new(&source, &out) }.run()
        }
        Command::Test { release, filters } => test::test(root, if release { up::RELEASE } else { up::QUICK }, &filters),
        Command::Invariants { list } => invariants::invariants(root, list),
        Command::Bench { arguments } => bench::bench(root, &arguments),
        Command::Load { arguments } => load::load(root, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
