//! The plugin's settings and the shop's facts.

use serde::de::DeserializeOwned;

pub use crate::capability::config::*;

/// All settings as one type. The host has checked them against the schema in
/// `plugin.toml` and filled in defaults, so an error is a slip in that schema.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     percent: u32,
/// }
///
/// souk_sdk::testing::set_config(serde_json::json!({ "percent": 10 }));
/// assert_eq!(souk_sdk::config::load::<Settings>()?.percent, 10);
/// # Ok::<(), String>(())
/// ```
pub fn load<T: DeserializeOwned>() -> Result<T, String> {
    serde_json::from_str(&document()).map_err(|error| format!("settings do not match the plugin: {error}"))
}
