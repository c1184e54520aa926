//! `plugins/grants.toml`: what the operator lets each plugin do.
//!
//! A grant is kept beside the digests of the component, the manifest and the scripts
//! of its pages that it was given for. That very version needs no second look; another one goes
//! live if it asks for nothing beyond the grant, and waits for a new one
//! otherwise.
//!
//! Grants of an earlier Souk are for whole services (`call souk:commerce/orders`) and for all that another plugin does outside
//! (`effect pay-sandbox`), which is more than anybody was told; and of some powers they say nothing, since it did not ask for them.
//! They still hold for plugins that were in the shop when it was first opened, which its operator chose with it. Of others they
//! are shown again, function by function and kind by kind, before the plugin goes live. Read by [`super::Shop`] at each reload, written by `souk plugin`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::load::Files;
use super::offers::Offers;
use super::powers::{self, Power, PowerKind};
use crate::files::{read_table, write_table};
use crate::local_time;

/// Who vouches for a version when nobody has signed it.
pub const UNSIGNED: &str = "unsigned";
/// Who vouches for the plugins that come with the `souk` binary.
pub const FIRST_PARTY: &str = "souk";
/// How far apart the first grants of a shop are, which are given by the host for all that it finds.
const FIRST_GRANTS: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
/// Uses for which an earlier Souk did not ask.
const USES_NOT_ASKED_BEFORE: [&str; 2] = ["jobs", "pages"];
/// Grants of so many versions of a plugin.
const KEPT: usize = 8;

/// By plugin, the newest last: a version that is gone back to has its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeMap<String, Vec<Grant>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grant {
    /// The version that it was given for, …
    pub version: semver::Version,
    /// … hex SHA-256 of its component, …
    pub component: String,
    /// … and of its manifest, …
    pub manifest: String,
    /// … and of the scripts that its pages may run. Grants of an earlier Souk are for any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scripts: String,
    pub given_at: jiff::Timestamp,
    /// Name of the trusted publisher who signed it, or [`UNSIGNED`].
    #[serde(default = "unsigned")]
    pub publisher: String,
    pub powers: BTreeSet<Power>,
    /// Calls and what else is asked by function. Not so in grants of an earlier Souk.
    #[serde(default)]
    pub by_function: bool,
    /// Built by the operator: it may be built again under the same version, and needs a new grant only if it asks for more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Asked for and not given.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied: BTreeSet<Power>,
    /// All of it was taken away. Then it is the only entry of its plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// Who took a plugin's grants away, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Revoked {
    pub at: jiff::Timestamp,
    /// The operator's account.
    pub by: String,
}

/// Where plugins lie. Names with a leading dot are work in progress, and
/// versions that are kept.
pub fn plugin_folders(plugins: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(plugins)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

fn unsigned() -> String {
    UNSIGNED.into()
}

pub fn path(plugins: &Path) -> PathBuf {
    plugins.join("grants.toml")
}

/// A plugin without any grant: not even an earlier version of it stays live.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.told("UTC"))]
pub struct NotGranted(Missing);

#[derive(Debug)]
struct Missing {
    plugin: String,
    revoked: Option<Revoked>,
}

impl NotGranted {
    /// With times of this zone.
    pub fn told(&self, time_zone: &str) -> String {
        self.0.told(time_zone)
    }
}

impl Missing {
    fn told(&self, time_zone: &str) -> String {
        let why = match &self.revoked {
            Some(Revoked { at, by }) => format!("its grants were revoked by {by} at {}", local_time::show(*at, time_zone)),
            None => "it was never granted anything".into(),
        };
        format!("{why}. `souk plugin grant {}` shows what it asks for, and lets it.", self.plugin)
    }
}

impl Grant {
    /// A whole service, or all that a plugin does outside, which was granted before powers went by function and kind.
    fn whole(&self) -> Option<&Power> {
        self.powers.iter().find(|power| !self.by_function && is_more_than_told(power))
    }
}

impl Grants {
    /// `None` where nothing was ever granted.
    pub fn read(plugins: &Path) -> Result<Option<Self>> {
        read_table(&path(plugins))
    }

    /// Whole or not at all.
    pub fn write(&self, plugins: &Path) -> Result<()> {
        write_table(&path(plugins), "What each plugin may do. `souk plugin grant` writes it.", self)
    }

    pub fn of(&self, plugin: &str) -> Option<&Grant> {
        self.0.get(plugin)?.last().filter(|grant| grant.revoked.is_none())
    }

    fn revoked(&self, plugin: &str) -> Option<&Revoked> {
        self.0.get(plugin)?.last()?.revoked.as_ref()
    }

    fn exactly(&self, files: &Files) -> Option<&Grant> {
        let is_of = |grant: &&Grant| {
            let same_scripts = grant.scripts.is_empty() || grant.scripts == files.scripts_digest;
            grant.revoked.is_none() && grant.component == files.component_digest && grant.manifest == files.manifest_digest && same_scripts
        };
        self.0.get(&files.manifest.name)?.iter().rfind(is_of)
    }

    /// Gives all that is asked for but what is denied.
    pub fn give(&mut self, files: &Files, asked: BTreeSet<Power>, denied: BTreeSet<Power>, publisher: &str) {
        let grant = Grant {
            version: files.manifest.version.clone(),
            component: files.component_digest.clone(),
            manifest: files.manifest_digest.clone(),
            scripts: files.scripts_digest.clone(),
            given_at: jiff::Timestamp::now(),
            publisher: publisher.into(),
            by_function: true,
            own: self.is_own(&files.manifest.name),
            powers: asked.difference(&denied).cloned().collect(),
            denied,
            revoked: None,
        };
        let grants = self.0.entry(files.manifest.name.clone()).or_default();
        let same_scripts = |old: &Grant| old.scripts.is_empty() || old.scripts == grant.scripts;
        grants.retain(|old| old.revoked.is_none());
        grants.retain(|old| (&old.component, &old.manifest) != (&grant.component, &grant.manifest) || !same_scripts(old));
        grants.push(grant);
        grants.drain(..grants.len().saturating_sub(KEPT));
    }

    /// Whether a plugin is built by the operator.
    pub fn is_own(&self, plugin: &str) -> bool {
        self.of(plugin).is_some_and(|grant| grant.own)
    }

    /// From now on a plugin that was granted is one that the operator builds.
    pub fn set_own(&mut self, plugin: &str) {
        if let Some(grant) = self.0.get_mut(plugin).and_then(|grants| grants.last_mut()) {
            grant.own = true;
        }
    }

    /// False where there is nothing to take away. Who did it, and when, is kept in its place.
    pub fn revoke(&mut self, plugin: &str, by: &str) -> bool {
        let Some(grant) = self.of(plugin).cloned() else { return false };
        let revoked = Some(Revoked { at: jiff::Timestamp::now(), by: by.to_owned() });
        self.0.insert(plugin.to_owned(), vec![Grant { powers: BTreeSet::new(), denied: BTreeSet::new(), own: false, revoked, ..grant }]);
        true
    }

    /// Where versions are kept, plugins were live: grants that are not there are lost.
    pub fn are_lost(plugins: &Path) -> bool {
        !path(plugins).exists() && plugins.join(".versions").exists()
    }

    /// For a shop that has no grants yet: who put the plugins there wants them.
    pub fn of_folder(plugins: &Path, publisher: &str) -> Result<Self> {
        let mut grants = Self::default();
        let offers = Offers::of_folder(plugins, None);
        for folder in plugin_folders(plugins)? {
            if let Ok(files) = Files::read(&folder)
                && let Ok(asked) = files.asked(&offers)
            {
                grants.give(&files, asked, BTreeSet::new(), publisher);
            }
        }
        Ok(grants)
    }

    /// Who vouches for exactly this version.
    pub fn publisher_of(&self, files: &Files) -> Option<&str> {
        self.exactly(files).map(|grant| grant.publisher.as_str())
    }

    /// Of what a plugin asks for, what it was neither granted nor denied before.
    pub fn beyond<'a>(&self, plugin: &str, asked: &'a BTreeSet<Power>) -> Vec<&'a Power> {
        let Some(grant) = self.of(plugin) else { return asked.iter().collect() };
        let holds = self.holds_as_before(plugin, grant);
        let granted = grant.powers.iter().filter(|power| grant.by_function || holds || !power.is_every_effect());
        let known: BTreeSet<Power> = granted.chain(&grant.denied).cloned().collect();
        let mut beyond = powers::beyond(&known, asked);
        if !grant.by_function {
            beyond.retain(|asked| {
                // Who is asked may only read.
                let whole = (holds || asked.kind == PowerKind::Ask) && known.iter().any(|known| known.is_whole_of(asked));
                !whole && !(holds && was_not_asked_before(asked))
            });
        }
        beyond
    }

    /// Whether a grant of an earlier Souk holds as it was given: the plugin was there when the shop was first opened.
    fn holds_as_before(&self, plugin: &str, grant: &Grant) -> bool {
        let earliest = |grants: &mut dyn Iterator<Item = &Grant>| grants.map(|grant| grant.given_at).min();
        let (of_all, of_plugin) = (earliest(&mut self.0.values().flatten()), earliest(&mut self.0.get(plugin).into_iter().flatten()));
        !grant.by_function && of_all.zip(of_plugin).is_some_and(|(first, own)| own.duration_since(first) <= FIRST_GRANTS)
    }

    /// What this version may not do of what it asks for; an error where it may
    /// not go live.
    pub fn admit(&self, files: &Files, offers: &Offers) -> Result<BTreeSet<Power>> {
        let name = &files.manifest.name;
        if let Some(grant) = self.exactly(files) {
            let holds = self.holds_as_before(name, grant);
            if let Some(whole) = grant.whole().filter(|_| !holds) {
                bail!(
                    "version {} was granted all of `{}` by an earlier Souk, which did not say what that is. `souk plugin grant {name}` shows what it does \
                     of it, and lets it.",
                    grant.version,
                    whole.subject
                );
            }
            // A grant may be older than some powers: those were not given.
            let younger = powers::of_pages(&files.manifest).into_iter().filter(|_| !holds).chain(powers::of_commands(&files.manifest));
            let never_asked: BTreeSet<Power> = younger.filter(|power| !grant.powers.contains(power)).collect();
            return Ok(grant.denied.union(&never_asked).cloned().collect());
        }
        let Some(grant) = self.of(name) else {
            return Err(NotGranted(Missing { plugin: name.clone(), revoked: self.revoked(name).cloned() }).into());
        };
        // Whatever is no component at all is told as that.
        let asked = files.asked(offers)?;
        let same_version = self.0[name].iter().any(|grant| grant.version == files.manifest.version);
        // Bytes that have changed by themselves look so as well.
        ensure!(
            !same_version || grant.own,
            "version {0} was granted with other files: is one damaged, or was it built again? `souk plugin promote {name} {0}` puts back what was \
             kept of it, `souk plugin grant {name}` lets these.",
            files.manifest.version
        );
        let beyond = self.beyond(name, &asked);
        if !beyond.is_empty() {
            let beyond = beyond.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            bail!(
                "version {} asks for more than version {} was granted: {beyond}. `souk plugin grant {name}` shows it, and lets it.",
                files.manifest.version,
                grant.version
            );
        }
        Ok(grant.denied.clone())
    }
}

fn is_more_than_told(power: &Power) -> bool {
    power.kind == PowerKind::Call || power.is_every_effect()
}

/// What every plugin did without a grant until there was a power for it.
fn was_not_asked_before(power: &Power) -> bool {
    match power.kind {
        PowerKind::Script | PowerKind::Cookie | PowerKind::Authorization | PowerKind::Priority => true,
        PowerKind::Use => USES_NOT_ASKED_BEFORE.contains(&power.subject.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::powers::tests::guest;

    fn files(name: &str, version: &str) -> Files {
        Files::of(format!("name = '{name}'\nversion = '{version}'").as_bytes(), guest("shop:x/orders@0.1.0", None)).unwrap()
    }

    /// As an earlier Souk wrote them: one that was there at first, one that came a day later.
    fn earlier() -> Grants {
        let of = |name: &str, given_at: &str| {
            let Files { component_digest, manifest_digest, .. } = files(name, "1.0.0");
            format!(
                "[[{name}]]\nversion = '1.0.0'\ncomponent = '{component_digest}'\nmanifest = '{manifest_digest}'\ngiven-at = '{given_at}'\npowers = ['call shop:x/orders']\n"
            )
        };
        toml::from_str(&(of("first", "2026-01-01T00:00:00Z") + &of("stranger", "2026-01-02T00:00:00Z"))).unwrap()
    }

    #[test]
    fn a_changed_script_needs_a_new_grant_and_a_changed_style_does_not() {
        let with = |scripts: &str, style: &[u8], script: &[u8]| {
            let manifest = format!("name = 'demo'\nversion = '1.0.0'\npages = {{ scripts = '{scripts}' }}");
            let files = Files::of(manifest.as_bytes(), guest("souk:host/clock@0.1.0", None)).unwrap();
            files.with_assets([("a.css", style), ("a.js", script)].into_iter())
        };
        let (mut grants, offers) = (Grants::default(), Offers::default());
        for scripts in ["shop", "sandboxed"] {
            let files = with(scripts, b"", b"1");
            let asked = files.asked(&offers).unwrap();
            grants.give(&files, asked, BTreeSet::new(), UNSIGNED);
            assert!(grants.admit(&with(scripts, b"a {}", b"1"), &offers).is_ok());
            let told = grants.admit(&with(scripts, b"", b"2"), &offers).unwrap_err().to_string();
            assert!(told.contains("was granted with other files"), "{told}");
        }
        let without = with("none", b"", b"1");
        grants.give(&without, BTreeSet::new(), BTreeSet::new(), UNSIGNED);
        assert!(grants.admit(&with("none", b"", b"2"), &offers).is_ok(), "nothing of it runs");
    }

    #[test]
    fn whole_services_of_an_earlier_souk_hold_for_the_shops_own_and_are_asked_again_of_others() {
        let (mut grants, offers) = (earlier(), Offers::default());
        for version in ["1.0.0", "1.1.0"] {
            assert!(grants.admit(&files("first", version), &offers).is_ok(), "{version}");
            let told = grants.admit(&files("stranger", version), &offers).unwrap_err().to_string();
            assert!(told.contains("souk plugin grant stranger"), "{told}");
        }
        assert!(grants.admit(&files("stranger", "1.0.0"), &offers).unwrap_err().to_string().contains("earlier Souk"));
        assert!(grants.admit(&files("stranger", "1.1.0"), &offers).unwrap_err().to_string().contains("call shop:x/orders.do-it"));
        let stranger = files("stranger", "1.0.0");
        grants.give(&stranger, stranger.asked(&offers).unwrap(), BTreeSet::new(), UNSIGNED);
        assert!(grants.admit(&stranger, &offers).is_ok());
        // Of the same functions a new version is let, of others it is not.
        assert!(grants.admit(&files("stranger", "1.1.0"), &offers).is_ok());
        let other = Files::of(b"name = 'stranger'\nversion = '1.2.0'", guest("shop:x/orders-of-others@0.1.0", None)).unwrap();
        assert!(grants.admit(&other, &offers).is_err());
    }

    /// With all that an earlier Souk did not ask for, and effects by kind.
    fn with_pages(name: &str, version: &str, effect: &str) -> Files {
        let manifest = format!(
            "name = '{name}'\nversion = '{version}'\neffects = ['{effect}']\npages = {{ scripts = 'shop', cookies = ['view'] }}\n\
             [[routes]]\nname = 'r'\nmethods = ['GET']\npath = '/r'\ncritical = true\nauthorization = true"
        );
        Files::of(manifest.as_bytes(), guest("souk:host/clock@0.1.0", None)).unwrap()
    }

    #[test]
    fn powers_of_which_an_earlier_souk_knew_nothing_hold_for_the_shops_own_and_are_asked_of_others() {
        let old = |name: &str, given_at: &str| {
            let Files { component_digest, manifest_digest, .. } = with_pages(name, "1.0.0", "bank");
            format!(
                "[[{name}]]\nversion = '1.0.0'\ncomponent = '{component_digest}'\nmanifest = '{manifest_digest}'\ngiven-at = '{given_at}'\n\
                 powers = ['effect bank', 'route GET /r']\n"
            )
        };
        let text = old("first", "2026-01-01T00:00:00Z") + &old("stranger", "2026-01-02T00:00:00Z");
        let (grants, offers) = (toml::from_str::<Grants>(&text).unwrap(), Offers::default());
        for (version, effect) in [("1.0.0", "bank"), ("1.1.0", "bank"), ("1.2.0", "bank pay")] {
            assert_eq!(grants.admit(&with_pages("first", version, effect), &offers).unwrap(), BTreeSet::new(), "{version}");
        }
        // Another one's effects it was never granted.
        assert!(grants.admit(&with_pages("first", "1.3.0", "post send"), &offers).unwrap_err().to_string().contains("more than version 1.0.0 was granted: effect post send."));

        let told = |version: &str, effect: &str| grants.admit(&with_pages("stranger", version, effect), &offers).unwrap_err().to_string();
        assert!(told("1.0.0", "bank").contains("granted all of `bank` by an earlier Souk"));
        let asked = "script shop, effect bank pay, authorization /r, cookie stranger.view, priority /r.";
        assert!(told("1.1.0", "bank pay").contains(asked), "{}", told("1.1.0", "bank pay"));
        assert!(told("1.1.0", "bank").contains("effect bank,"));
    }

    #[test]
    fn what_was_revoked_is_told_by_whom_until_it_is_granted_again() {
        let (mut grants, offers, files) = (Grants::default(), Offers::default(), files("demo", "1.0.0"));
        let told = |grants: &Grants| grants.admit(&files, &offers).unwrap_err().to_string();
        assert!(told(&grants).contains("never granted"));
        let asked = files.asked(&offers).unwrap();
        grants.give(&files, asked.clone(), BTreeSet::new(), UNSIGNED);
        assert!(grants.admit(&files, &offers).is_ok());
        assert!(grants.revoke("demo", "mei") && !grants.revoke("demo", "mei"));
        let kept: Grants = toml::from_str(&toml::to_string(&grants).unwrap()).unwrap();
        assert!(told(&kept).contains("revoked by mei at 20") && kept.of("demo").is_none(), "{}", told(&kept));
        assert_eq!(kept.beyond("demo", &asked).len(), asked.len(), "all of it is new");
        grants.give(&files, asked, BTreeSet::new(), UNSIGNED);
        assert!(grants.admit(&files, &offers).is_ok());
    }

    #[test]
    fn what_was_denied_to_the_shops_own_stays_denied() {
        let Files { component_digest, manifest_digest, .. } = with_pages("first", "1.0.0", "bank");
        let text = format!(
            "[[first]]\nversion = '1.0.0'\ncomponent = '{component_digest}'\nmanifest = '{manifest_digest}'\ngiven-at = '2026-01-01T00:00:00Z'\n\
             powers = ['route GET /r']\ndenied = ['effect bank']\n"
        );
        let grants: Grants = toml::from_str(&text).unwrap();
        let files = with_pages("first", "1.1.0", "bank pay");
        let denied = grants.admit(&files, &Offers::default()).unwrap();
        assert_eq!(powers::without(files.manifest, &denied).effects, BTreeSet::new());
    }
}
