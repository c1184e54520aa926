//! A network of a shop's own, which `tests/recorder` makes up: servers that plugins
//! are granted, on this machine.

use std::ffi::OsString;
use std::net::TcpListener;

use tempfile::TempDir;

use crate::powercut::library;
use crate::replace;

/// One that no registry holds for special.
const PUBLIC: &str = "203.0.114.1";

/// What a shop needs in its environment so that nobody answers at `granted.example`.
pub fn silence(folder: &TempDir) -> [(&'static str, OsString); 2] {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let network = folder.path().join("network");
    replace(&network, format!("granted.example {PUBLIC}\n{PUBLIC}:80 {}\n", silent.local_addr().unwrap()).as_bytes());
    std::thread::spawn(move || {
        // Kept open.
        let _open = silent.incoming().collect::<Vec<_>>();
    });
    [("LD_PRELOAD", library().into()), ("SOUK_NETWORK", network.into())]
}
