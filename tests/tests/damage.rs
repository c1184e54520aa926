//! Bytes that are not what was written, in any file of a store that was closed:
//! the shop is as it was, or says which file is damaged and what to do. Never
//! does it panic, hang, or take the damage for the truth.
//!
//! [`KINDS`] lists what is expected of each kind of file. `SOUK_DAMAGE_SEEDS`
//! says how many bits are flipped of each (1 otherwise).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT};
use souk_tests::powercut::copy;
use souk_tests::sales::{Article, audit, plenty};
use souk_tests::{Shop, client, number, souk_says, store};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// One bit, somewhere.
    Flipped(u64),
    /// The second half is gone.
    Cut,
    Emptied,
    Removed,
    Zeros,
}
use Damage::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// All is as before, whether or not a word is said.
    AsBefore,
    /// It does not open; the message names the file or folder given, and what to do.
    Refused,
    /// It opens, without what is damaged or in spite of it, and names it.
    Told,
    /// A text or picture of the operator's own, of which nobody can say what it should be: what can be read is taken.
    Taken,
}
use Expected::*;

struct Kind {
    /// Begin and end of its path in the store.
    file: (&'static str, &'static str),
    /// What a message about it has to hold.
    names: &'static str,
    /// What may come of it, whatever the damage.
    may: &'static [Expected],
}

const fn kind(begin: &'static str, end: &'static str, names: &'static str, may: &'static [Expected]) -> Kind {
    Kind { file: (begin, end), names, may }
}

/// The whole contract.
const DOCUMENTS: &[Kind] = &[
    kind("data/documents/fjall/", ".jnl", "data/documents", &[AsBefore, Refused]),
    kind("data/documents/fjall/version", "", "data/documents", &[AsBefore, Refused]),
    kind("data/documents/fjall/lock", "", "", &[AsBefore]),
    kind("data/documents/fjall/keyspaces/0/current", "", "data/documents", &[AsBefore, Refused]),
    kind("data/documents/fjall/keyspaces/0/v", "", "data/documents", &[AsBefore, Refused]),
    kind("data/documents/fjall/keyspaces/0/tables/", "", "data/documents", &[AsBefore, Refused]),
    kind("data/documents/fjall/keyspaces/1/current", "", "data/documents", &[AsBefore, Refused]),
    kind("data/documents/fjall/keyspaces/1/v", "", "data/documents", &[AsBefore, Refused]),
    kind("data/documents/ENGINE", "", "ENGINE", &[AsBefore, Refused]),
    kind("data/documents/REACHED", "", "REACHED", &[AsBefore, Refused]),
];
const DERIVED: &[Kind] = &[
    kind("data/search/search/products/meta.json", "", "", &[AsBefore]),
    kind("data/search/search/products/", ".term", "", &[AsBefore]),
    kind("data/search/search/products/", ".store", "", &[AsBefore]),
    kind("data/search/search/products/", ".idx", "", &[AsBefore]),
    kind("cache/code/", ".cwasm", "", &[AsBefore]),
];
const PLUGINS: &[Kind] = &[
    kind("plugins/discount-coupon/plugin.wasm", "", "discount-coupon", &[Told]),
    kind("plugins/discount-coupon/plugin.toml", "", "discount-coupon", &[Told]),
    kind("plugins/storefront/assets/shop.css", "", "storefront", &[Told]),
    kind("plugins/grants.toml", "", "grants.toml", &[AsBefore, Refused, Told]),
    kind("plugins/policies.toml", "", "policies.toml", &[AsBefore, Told]),
    kind("plugins/.versions/discount-coupon/history.json", "", "discount-coupon", &[AsBefore, Told]),
    kind("plugins/.versions/discount-coupon/", "plugin.wasm", "discount-coupon", &[AsBefore, Told]),
];
const OPERATORS: &[Kind] = &[
    kind("data/keys/master", "", "data/keys/master", &[Refused]),
    // `souk audit` tells.
    kind("audit.jsonl", "", "audit.jsonl", &[AsBefore, Told]),
    kind("souk.toml", "", "souk.toml", &[Refused, Taken]),
    kind("secrets.toml", "", "secrets.toml", &[Refused, Told, Taken]),
    kind("media/category-tea.webp", "", "media", &[Taken]),
];

fn damages() -> Vec<Damage> {
    let seeds = number("SOUK_DAMAGE_SEEDS").unwrap_or(1);
    (0..seeds).map(Flipped).chain([Cut, Emptied, Removed, Zeros]).collect()
}

fn damage(path: &Path, damage: Damage) {
    let mut bytes = fs::read(path).unwrap();
    match damage {
        Removed => return fs::remove_file(path).unwrap(),
        Cut => bytes.truncate(bytes.len() / 2),
        Emptied => bytes.clear(),
        Zeros => bytes.fill(0),
        Flipped(_) if bytes.is_empty() => {}
        Flipped(seed) => {
            let mut rng = fastrand::Rng::with_seed(seed);
            // The middle first: of most files that is what matters.
            let at = if seed == 0 { bytes.len() / 2 } else { rng.usize(..bytes.len()) };
            bytes[at] ^= 1 << rng.u8(..8);
        }
    }
    // In place, with its mode.
    fs::write(path, bytes).unwrap();
}

/// What a shop looks like, and is.
struct Whole {
    store: TempDir,
    article: Article,
    order: String,
    looks: BTreeMap<&'static str, String>,
}

impl Whole {
    async fn make() -> Self {
        let store = store();
        let path = store.path().join("store");
        fs::write(path.join("secrets.toml"), "carrier-key = \"0123456789abcdef\"\n").unwrap();
        fs::set_permissions(path.join("secrets.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        // Its address first: half of the settings have one as well.
        let settings = fs::read_to_string(path.join("souk.toml")).unwrap();
        let (shop, server) = settings.split_once("[server]").unwrap();
        fs::write(path.join("souk.toml"), format!("[server]{server}\n{shop}")).unwrap();
        let begun = SystemTime::now();
        let shop = Shop::serve(store);
        let api = Api::of(&shop);
        let article = plenty(&shop, &api).await;
        let (cart, _) = api.cart(&article.sku, 1).await.unwrap();
        let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
        assert_eq!(status, 201, "{placed}");
        let order = placed["token"].as_str().unwrap().to_owned();
        api.settled(&order).await;
        let (changed, said) = shop.says(&["plugin", "policy", "discount", "--fail", "closed"]);
        assert!(changed, "{said}");
        api.searchable("tea").await;
        let looks = looks(&shop, &order).await;
        let store = shop.close().folder;
        own_code_cache(&path.join("cache/code"), begun);
        Self { store, article, order, looks }
    }

    /// Damages a copy, and holds what comes of it against what is expected.
    async fn round(&self, kind: &Kind, file: &Path, how: Damage) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        copy(&self.store.path().join("store"), &path);
        damage(&path.join(file), how);
        let at = format!("{} {how:?}", file.display());

        let (verified, found) = souk_says(&["store", "verify", "--store", path.to_str().unwrap()]);
        assert!(!found.contains("panicked at"), "{at}: {found}");
        let (came, said) = match Shop::try_serve(folder, [] as [(&str, PathBuf); 0]) {
            Err(refused) => {
                assert_eq!(refused.code, Some(1), "{at}: {}", refused.said);
                assert!(refused.said.contains(kind.names), "{at}: {}", refused.said);
                (Refused, refused.said)
            }
            Ok(shop) => {
                let listed = problems(&shop.says(&["plugin", "list", "--json"]).1);
                let differences = self.differences(&shop).await;
                let said = format!("{found}{}{listed}", shop.close().said);
                let told = !verified || !kind.names.is_empty() && said.contains(kind.names);
                // A shop may go on without a part of it that it names, and never sells anything else than it did.
                assert!(kind.file.0.starts_with("data/documents") <= differences.is_empty(), "{at}: {differences:?}: {said}");
                let came = match (differences.is_empty(), told) {
                    (true, false) => AsBefore,
                    (_, true) => Told,
                    (false, false) => Taken,
                };
                (came, format!("{said}\n{}", differences.join("\n")))
            }
        };
        assert!(!said.contains("panicked at"), "{at}: {said}");
        if std::env::var_os("SOUK_DAMAGE_SHOW").is_some() {
            eprintln!("{at}: {came:?}: {}", said.lines().take(3).collect::<Vec<_>>().join(" / "));
        }
        let fits = kind.may.contains(&came) || came == AsBefore && kind.may.contains(&Taken);
        assert!(fits, "{at}: {came:?}, and it should be one of {:?}: {said}", kind.may);
    }

    async fn differences(&self, shop: &Shop) -> Vec<String> {
        Api::of(shop).searchable("tea").await;
        audit(shop, [&self.order], &self.article).await;
        let now = looks(shop, &self.order).await;
        let differ = |(what, before): (&&'static str, &String)| (now.get(what) != Some(before)).then(|| format!("{what} differs"));
        self.looks.iter().filter_map(differ).collect()
    }
}

/// Of all plugins.
fn problems(report: &str) -> String {
    let Ok(plugins) = serde_json::from_str::<Vec<Value>>(report) else { return report.to_owned() };
    plugins.iter().filter(|plugin| !plugin["problem"].is_null()).map(|plugin| format!("{}: {}\n", plugin["name"], plugin["problem"])).collect()
}

async fn looks(shop: &Shop, order: &str) -> BTreeMap<&'static str, String> {
    let get = async |path: &str| {
        let answer = client().get(format!("{}{path}", shop.url)).send().await.unwrap();
        format!("{} {:?}", answer.status(), answer.bytes().await.unwrap())
    };
    let page = get("/en/products").await;
    let style = page.split('"').find(|part| part.contains("shop") && part.trim_end_matches('\\').ends_with(".css"));
    let style = style.map(|style| style.trim_end_matches('\\').to_owned()).unwrap_or_default();
    let plugins: Vec<Value> = serde_json::from_str(&shop.says(&["plugin", "list", "--json"]).1).unwrap_or_default();
    let are = |fields: &[&str]| plugins.iter().map(|plugin| json!(fields.iter().map(|field| &plugin[*field]).collect::<Vec<_>>()).to_string()).collect();
    [
        ("the order", get(&format!("/api/v1/orders/{order}")).await),
        ("the wares", shop.says(&["store", "export"]).1),
        ("a picture", get("/media/category-tea.webp").await),
        ("the style", get(&style).await),
        ("its name", page.contains("Souk 集市").to_string()),
        ("the plugins", are(&["name", "version", "digest", "publisher"])),
        ("the policies", are(&["name", "points"])),
    ]
    .into()
}

/// The code that this store has used, in place of what all tests share.
fn own_code_cache(cache: &Path, used_since: SystemTime) {
    let shared = fs::read_link(cache).unwrap();
    fs::remove_file(cache).unwrap();
    fs::create_dir(cache).unwrap();
    for entry in fs::read_dir(shared).unwrap().flatten() {
        if entry.metadata().is_ok_and(|metadata| metadata.modified().unwrap() >= used_since) {
            fs::copy(entry.path(), cache.join(entry.file_name())).unwrap();
        }
    }
}

fn files(folder: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files(folder, &entry.path(), found),
            false => found.push(entry.path().strip_prefix(folder).unwrap().to_owned()),
        }
    }
    found.sort();
}

async fn all(kinds: &[Kind]) {
    let whole = Whole::make().await;
    let (folder, mut all) = (whole.store.path().join("store"), Vec::new());
    files(&folder, &folder, &mut all);
    for kind in kinds {
        let (begin, end) = kind.file;
        let fits = |file: &&PathBuf| file.to_str().is_some_and(|file| file.starts_with(begin) && file.ends_with(end));
        let file = all.iter().find(fits).unwrap_or_else(|| panic!("no file {begin}…{end} in {all:?}"));
        for how in damages() {
            whole.round(kind, file, how).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_documents_are_never_read_as_if_they_were_whole() {
    all(DOCUMENTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_made_again_is_made_again() {
    all(DERIVED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_plugin_is_not_taken_for_the_one_that_was_granted() {
    all(PLUGINS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_settings_do_not_change_without_a_word() {
    all(OPERATORS).await;
}
