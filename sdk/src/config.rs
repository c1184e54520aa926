//! The plugin's settings and the shop's facts.

use serde::de::DeserializeOwned;

pub use crate::capability::config::*;

/// All settings as one type. The host has checked them against the schema in
/// `plugin.toml` and filled in defaults, so an error is a slip in that schema.
/// With [`config!`](crate::config!) there is one source for both.
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

/// The settings of a plugin, said once: a struct with `Settings::load()`, and
/// the schema that the host holds the retailer's `souk.toml` to, which
/// `souk plugin build` writes into the built `plugin.toml` as `[config]`.
///
/// ```
/// souk_sdk::config! {
///     /// What the retailer can change.
///     pub struct Settings {
///         /// Taken off each line.
///         percent: u32 = 10, in 1..=90;
///         /// Shown to shoppers.
///         label: String = "Tea", of ["Tea", "Coffee"];
///         first_order_only: bool = false;
///     }
/// }
///
/// assert_eq!(Settings::load().percent, 10);
/// souk_sdk::testing::set_config(serde_json::json!({ "first-order-only": true }));
/// assert!(Settings::load().first_order_only);
/// ```
///
/// Settings have the types `String`, `bool`, `u8`, `u16`, `u32`, `u64`, `i32`,
/// `i64` and `f64`, a default, and their comment as description. In `souk.toml`
/// their names have hyphens. A default out of its bounds does not compile:
///
/// ```compile_fail
/// souk_sdk::config! {
///     struct Settings {
///         percent: u32 = 95, in 1..=90;
///     }
/// }
/// ```
#[macro_export]
macro_rules! config {
    (@type String) => { "string" };
    (@type bool) => { "boolean" };
    (@type f64) => { "number" };
    (@type $other:ident) => { "integer" };

    // Bounds that are not given are those of the type, so that what the host lets through can be loaded.
    (@bounds $type:ident $min:literal $max:literal) => { concat!("min = ", $min, "\nmax = ", $max, "\n") };
    (@bounds u8) => { "min = 0\nmax = 255\n" };
    (@bounds u16) => { "min = 0\nmax = 65535\n" };
    (@bounds u32) => { "min = 0\nmax = 4294967295\n" };
    (@bounds u64) => { "min = 0\n" };
    (@bounds i32) => { "min = -2147483648\nmax = 2147483647\n" };
    (@bounds i64) => { "" };
    (@bounds f64) => { "" };
    (@bounds bool) => { "" };
    (@bounds String) => { "" };
    (@bounds $other:ident) => {
        compile_error!(concat!("`", stringify!($other), "` is no type for a setting: use String, bool, u8, u16, u32, u64, i32, i64 or f64"))
    };

    (@toml String $value:literal) => { concat!("'''", $value, "'''") };
    (@toml $type:ident $value:literal) => { $value };

    (@value String $value:literal) => { ::std::string::String::from($value) };
    (@value $type:ident $value:literal) => { $value };

    (
        $(#[doc = $about:literal])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ident = $default:literal $(, in $min:literal..=$max:literal)? $(, of [$($value:literal),+ $(,)?])?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, $crate::serde::Deserialize)]
        #[serde(crate = "souk_sdk::serde", default, deny_unknown_fields, rename_all = "kebab-case")]
        $visibility struct $name {
            $($(#[doc = $doc])* $visibility $field: $type,)*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::config!(@value $type $default),)* }
            }
        }

        impl $name {
            /// What the retailer gave, and defaults for the rest. Panics where a
            /// test gave something else: the host holds both to one schema.
            $visibility fn load() -> Self {
                $crate::config::load().unwrap_or_else(|error| panic!("{error}"))
            }
        }

        $($(
            const _: () = {
                let [min, default, max]: [$type; 3] = [$min, $default, $max];
                assert!(min <= default && default <= max, concat!("the default of `", stringify!($field), "` is out of its bounds"));
            };
        )?)*

        // TOML for whoever builds the plugin; the component does not read it.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const SCHEMA: &str = concat!($(
                "[", stringify!($field), "]\n",
                "type = \"", $crate::config!(@type $type), "\"\n",
                "default = ", $crate::config!(@toml $type $default), "\n",
                $crate::config!(@bounds $type $($min $max)?),
                $("values = [", $($crate::config!(@toml $type $value), ", ",)+ "]\n",)?
                "description = '''", $($doc, "\n",)* "'''\n",
            )*);
            #[used]
            #[unsafe(link_section = "souk-config")]
            static SECTION: [u8; SCHEMA.len()] = *SCHEMA.as_bytes().first_chunk().unwrap();
        };
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing;

    crate::config! {
        struct Settings {
            /// Taken off each line.
            percent: u32 = 10, in 1..=90;
            label: String = "Tea", of ["Tea", "Coffee"];
            below_zero: i64 = -3;
            ratio: f64 = 0.5, in 0.0..=1.0;
        }
    }

    #[test]
    fn settings_have_their_defaults_without_a_host() {
        let settings = Settings::load();
        assert_eq!((settings.percent, settings.label.as_str(), settings.below_zero, settings.ratio), (10, "Tea", -3, 0.5));
        testing::set_config(json!({ "below-zero": 7 }));
        assert_eq!(Settings::load(), Settings { below_zero: 7, ..Settings::default() });
    }

    #[test]
    #[should_panic(expected = "unknown field `persent`")]
    fn a_test_that_sets_what_there_is_not_hears_of_it() {
        testing::set_config(json!({ "persent": 7 }));
        Settings::load();
    }
}
