//! The operator's secrets, by name.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::secrets::Host;

#[derive(Default)]
pub struct Secrets(HashMap<String, String>);

impl Secrets {
    /// A missing file is an empty one; one that others may read is refused.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            bail!("{}: others may read it. Run: chmod 600 {0}", path.display());
        }
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self(toml::from_str(&text).with_context(|| format!("{}: expected lines of name = \"value\"", path.display()))?))
    }

    /// Only what the plugin's manifest lists.
    pub fn get(&self, caller: &Caller, name: &str) -> Option<&str> {
        caller.manifest.secrets.contains(name).then(|| self.0.get(name))?.map(String::as_str)
    }
}

impl Host for GuestState {
    fn get(&mut self, caller: Caller, name: String) -> Option<String> {
        self.services.secrets.get(&caller, &name).map(str::to_owned)
    }
}
