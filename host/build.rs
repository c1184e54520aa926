//! Puts the adapters for WASI into the host, as `cargo xtask` has built them: see
//! `engine/wasi.rs`. Without them it is a host that says so when it needs them.
//! And the bindings of the contracts, for `souk plugin new`: without them a new
//! plugin generates its own.

use std::path::Path;
use std::{env, fs, io};

const ADAPTERS: [(&str, &str); 3] = [("BASE", "base"), ("HTTP_IN", "http-in"), ("KEYVALUE", "keyvalue")];

fn main() -> io::Result<()> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/adapters");
    // Made, so that cargo can tell when something comes into it.
    fs::create_dir_all(&built)?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", built.display());
    let mut source = String::new();
    for (constant, name) in ADAPTERS {
        let component = built.join(name).join("plugin.wasm");
        let bytes = if component.exists() { format!("Some(include_bytes!({component:?}))") } else { "None".into() };
        source += &format!("pub const {constant}: Option<&[u8]> = {bytes};\n");
    }
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("adapters.rs"), source)?;

    let bindings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sdk");
    fs::create_dir_all(&bindings)?;
    println!("cargo::rerun-if-changed={}", bindings.display());
    let bindings = bindings.join("bindings.rs");
    let text = if bindings.exists() { format!("Some(include_str!({bindings:?}))") } else { "None".into() };
    fs::write(Path::new(&out).join("bindings.rs"), format!("pub const BINDINGS: Option<&str> = {text};\n"))
}
