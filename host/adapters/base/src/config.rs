//! `wasi:config`: the plugin's settings, as `souk.toml` and its manifest have them.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::Base;
use crate::exports::wasi::config::store::{Error, Guest};
use crate::souk::host::config;

/// Text as it is; numbers and all else as JSON.
fn text(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_else(|_| json.to_owned())
}

impl Guest for Base {
    fn get(name: String) -> Result<Option<String>, Error> {
        Ok(config::get(&name).map(|json| text(&json)))
    }

    fn get_all() -> Result<Vec<(String, String)>, Error> {
        let document = config::document();
        let settings: BTreeMap<String, &RawValue> = serde_json::from_str(&document).map_err(|error| Error::Upstream(error.to_string()))?;
        Ok(settings.into_iter().map(|(name, json)| (name, text(json.get()))).collect())
    }
}
