//! Souk's own contracts as `souk plugin new` has written them down: nothing has to be generated, nor fetched for it.
//! A project with contracts of its own in `wit/` has the other SDK, from `souk plugin sdk`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let sdk = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bindings.rs");
    fs::copy(sdk.join("bindings.rs"), PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs"))?;
    Ok(())
}
