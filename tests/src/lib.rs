//! A shop of its own for every test: the built `souk` binary, the built
//! plugins, a store in a temporary folder, on a free port.
//!
//! `cargo xtask test` builds what these tests run.

pub mod api;
pub mod buying;
pub mod faults;
pub mod network;
pub mod powercut;
pub mod process;
pub mod sales;
pub mod serial;
pub mod shoppers;
pub mod visitor;
pub mod wire;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub struct Shop {
    folder: TempDir,
    server: Child,
    /// Lines that it wrote to standard error, where they are kept.
    said: Option<Said>,
    pub url: String,
    /// Where operators look: `/metrics`.
    pub ops: String,
}

type Said = std::thread::JoinHandle<String>;

/// A shop that did not open: its folder, its exit code, none where it was killed, and what it said.
pub struct NotOpen {
    pub folder: TempDir,
    pub code: Option<i32>,
    pub said: String,
}

/// Of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Where cargo has put what it built along with this test, bench or load: `target/release`, or `target/debug` for `--quick`.
pub fn built() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let folder = own.parent().expect("it lies in a folder");
    if folder.ends_with("deps") || folder.ends_with("examples") { folder.parent().expect("`deps` lies in a folder").into() } else { folder.into() }
}

/// From the environment.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} takes a number, and is {text:?}")))
}

/// Looks until it is so.
pub async fn until(holds: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to that");
}

fn souk() -> Command {
    let binary = built().join("souk");
    assert!(binary.exists(), "{} is not built: run the tests with `cargo xtask test`", binary.display());
    let mut command = Command::new(binary);
    command.env("SOUK_LOG", "warn");
    // Code of plugins that are called by themselves.
    command.env("XDG_CACHE_HOME", root().join("target/test-cache"));
    command
}

/// Runs `souk` without a store: whether it did that, and what it said.
pub fn souk_says(arguments: &[&str]) -> (bool, String) {
    said(souk().args(arguments).output().unwrap())
}

/// With more in its environment.
pub fn souk_says_with(arguments: &[&str], environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> (bool, String) {
    said(souk().args(arguments).envs(environment).output().unwrap())
}

/// Whether a program did what it was to do, and what it said.
pub fn said(output: Output) -> (bool, String) {
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A store with the shop's catalogue and all built plugins, not served.
pub fn store() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let from = folder.path().join("from");
    let data = root().join("store-data");
    for part in ["catalogue", "dictionaries"] {
        copy(&data.join(part), &from.join(part));
    }
    fs::create_dir(from.join("media")).unwrap();
    fs::copy(data.join("media/category-tea.webp"), from.join("media/category-tea.webp")).unwrap();
    for file in fs::read_dir(&data).unwrap().flatten().filter(|f| f.path().is_file()) {
        fs::copy(file.path(), from.join(file.file_name())).unwrap();
    }
    fs::write(from.join("souk.toml"), settings() + ONE_NETWORK).unwrap();
    init(&folder, &from);
    folder
}

/// A store with all built plugins, made of a folder as `souk store init` takes it.
pub fn store_of(from: &Path) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    init(&folder, from);
    folder
}

fn init(folder: &TempDir, from: &Path) {
    let store = folder.path().join("store");
    copy(&root().join("target/plugins"), &store.join("plugins"));
    keep_code(&store);
    let made = souk().args(["store", "init", "--from"]).arg(from).arg("--store").arg(&store).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// All shoppers of a test have one address.
const ONE_NETWORK: &str = "\n[config.orders]\norders-per-network-max = 0\nunits-per-network-max = 0\nsku-percent-per-network-max = 100\n";

/// The tests say for whom they speak, in `X-Forwarded-For`.
pub fn behind_a_proxy(store: &TempDir) {
    let path = store.path().join("store/souk.toml");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(&path, before.replace("[server]", "[server]\ntrusted-proxies = [\"127.0.0.1\"]")).unwrap();
}

/// Replaces what [`store`] gave to `orders`, or gives settings to another plugin.
pub fn configure(store: &TempDir, plugin: &str, settings: &str) {
    let path = store.path().join("store/souk.toml");
    let before = fs::read_to_string(&path).unwrap();
    let before = if plugin == "orders" { before.replace(ONE_NETWORK, "") } else { before };
    fs::write(&path, format!("{before}\n[config.{plugin}]\n{settings}\n")).unwrap();
}

/// The shop's own, on free ports.
fn settings() -> String {
    let settings = fs::read_to_string(root().join("store-data/souk.toml")).unwrap();
    // All tests keep their code in one place.
    let storage = "[storage]\ncode-cache-bytes-max = 8589934592";
    settings.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9090", "127.0.0.1:0").replace("[storage]", storage)
}

/// Compiled once for all tests.
fn keep_code(store: &Path) {
    let code = root().join("target/test-code-cache");
    fs::create_dir_all(&code).unwrap();
    fs::create_dir_all(store.join("cache")).unwrap();
    std::os::unix::fs::symlink(&code, store.join("cache/code")).unwrap();
}

/// A store with these plugins of `tests/guests` and no others, not served: for what needs no shop.
pub fn bare_store(guests: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    keep_code(&store);
    fs::write(store.join("souk.toml"), settings()).unwrap();
    for guest in guests {
        copy(&root().join("target/guests").join(guest), &store.join("plugins").join(guest));
    }
    folder
}

/// Adds tables to the settings of a store.
pub fn add_settings(store: &TempDir, tables: &str) {
    let path = store.path().join("store/souk.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{settings}\n{tables}\n")).unwrap();
}

/// Adds settings of `[server.limits]` to a store made by [`store`].
pub fn limit(store: &TempDir, limits: &str) {
    let path = store.path().join("store/souk.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{settings}\n[server.limits]\n{limits}\n")).unwrap();
}

/// The same as [`store`], but the host keeps no pages: each request is answered by plugins.
pub fn store_without_pages() -> TempDir {
    let folder = store();
    limit(&folder, "page-cache-bytes-max = 0");
    folder
}

/// The catalogue that [`store`] is filled with.
pub fn catalogue() -> PathBuf {
    root().join("store-data/catalogue")
}

/// Puts a built plugin of `tests/guests` into a store, with all it asks for.
pub fn install_guest(store: &TempDir, guest: &str) {
    place(store, &root().join("target/guests").join(guest), guest);
}

/// The provider of `tests/guests/hostile`, built, as a version of its own with this misdeed.
pub fn hostile(to: &Path, version: &str, misdeed: &str) {
    let from = root().join("target/guests/hostile");
    copy(&from, to);
    let manifest = fs::read_to_string(from.join("plugin.toml")).unwrap();
    let manifest = manifest.replace("1.0.0", version).replace("\"none\"", &format!("\"{misdeed}\""));
    replace(&to.join("plugin.toml"), manifest.as_bytes());
}

/// The plugin of `tests/guests/hostile-service`, built, under the name `neighbour`: it may also send requests to its own shop.
pub fn install_neighbour(store: &TempDir) {
    let to = store.path().join("store/plugins/neighbour");
    copy(&root().join("target/guests/hostile-service"), &to);
    let manifest = fs::read_to_string(to.join("plugin.toml")).unwrap();
    let manifest = manifest.replace("name = \"hostile-service\"", "name = \"neighbour\"").replace("/hostile/{misdeed}", "/neighbour/{misdeed}");
    let manifest = manifest.replace("\"allowed.example\"", "\"allowed.example\", \"shop.internal\"");
    replace(&to.join("plugin.toml"), manifest.as_bytes());
    grant(store, "neighbour");
}

/// Puts a built example into a store made by [`store`], with all it asks for.
pub fn install(store: &TempDir, example: &str) {
    place(store, &root().join("target/examples").join(example), example);
}

fn place(store: &TempDir, from: &Path, name: &str) {
    copy(from, &store.path().join("store/plugins").join(name));
    grant(store, name);
}

/// Grants a plugin that lies in a store all it asks for.
pub fn grant(store: &TempDir, name: &str) {
    let granted = souk().args(["plugin", "grant", "--yes", name, "--store"]).arg(store.path().join("store")).output().unwrap();
    assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
}

impl Shop {
    pub fn open() -> Self {
        Self::serve(store())
    }

    /// Serves a store made by [`store`].
    pub fn serve(folder: TempDir) -> Self {
        Self::serve_with(folder, [] as [(&str, &str); 0])
    }

    /// With more in its environment.
    pub fn serve_with(folder: TempDir, environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        let mut serve = souk();
        serve.envs(environment);
        Self::start(folder, serve).unwrap_or_else(|_| panic!("the server tells where it listens"))
    }

    /// Where it may not open, or what it says matters.
    pub fn try_serve(folder: TempDir, environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Result<Self, NotOpen> {
        let mut serve = souk();
        serve.envs(environment).stderr(Stdio::piped());
        Self::start(folder, serve)
    }

    fn start(folder: TempDir, mut serve: Command) -> Result<Self, NotOpen> {
        serve.arg("serve").arg("--store").arg(folder.path().join("store"));
        let mut server = serve.stdout(Stdio::piped()).spawn().unwrap();
        let said = server.stderr.take().map(|stderr| std::thread::spawn(move || std::io::read_to_string(stderr).unwrap()));
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let mut told = |before: &str| {
            lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.split_once(before)?.1.split_whitespace().next()?.to_owned()))
        };
        let (Some(url), Some(ops)) = (told(" is open: "), told("for operators: ")) else {
            let code = server.wait().unwrap().code();
            return Err(NotOpen { folder, code, said: said.map(|said| said.join().unwrap()).unwrap_or_default() });
        };
        // Its later output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let ops = ops.trim_end_matches("/metrics").to_owned();
        Ok(Self { folder, server, said, url, ops })
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Memory of the server, in MiB.
    pub fn resident_mib(&self) -> f64 {
        resident_mib(self.pid())
    }

    /// The sum of all samples in `/metrics` whose line begins so.
    pub async fn metric(&self, begin: &str) -> f64 {
        let text = client().get(format!("{}/metrics", self.ops)).send().await.unwrap().text().await.unwrap();
        text.lines().filter(|line| line.starts_with(begin)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Looks until it is as it should be.
    pub async fn until_metric(&self, begin: &str, holds: impl Fn(f64) -> bool) {
        for _ in 0..1200 {
            if holds(self.metric(begin).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it never came to that: {begin} is {}", self.metric(begin).await);
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn plugin(&self, name: &str) -> PathBuf {
        self.folder().join("plugins").join(name)
    }

    /// Runs `souk` with these arguments on this store.
    pub fn souk(&self, arguments: &[&str]) -> Output {
        souk().args(arguments).arg("--store").arg(self.folder()).output().unwrap()
    }

    /// The same, with nobody there to read what it prints.
    pub fn souk_unread(&self, arguments: &[&str]) -> Output {
        let mut command = souk();
        command.args(arguments).arg("--store").arg(self.folder()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    }

    /// Runs a command of a plugin and gives its JSON.
    pub fn run(&self, command: &str, arguments: &[&str]) -> serde_json::Value {
        let output = self.souk(&[&["plugin", "run", "--json", command], arguments].concat());
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Whether it did that, and what it said on either stream.
    pub fn says(&self, arguments: &[&str]) -> (bool, String) {
        said(self.souk(arguments))
    }

    /// `souk plugin list`, one plugin.
    pub fn report(&self, plugin: &str) -> serde_json::Value {
        self.find(plugin).unwrap_or_else(|| panic!("no plugin {plugin}"))
    }

    pub fn find(&self, plugin: &str) -> Option<serde_json::Value> {
        let output = self.souk(&["plugin", "list", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        list.into_iter().find(|p| p["name"] == plugin)
    }

    /// Gives the live shop this version of a plugin and waits until it is live.
    pub fn set_version(&self, plugin: &str, version: &str) {
        let path = self.plugin(plugin).join("plugin.toml");
        let manifest = fs::read_to_string(&path).unwrap();
        let line = manifest.lines().find(|line| line.starts_with("version")).unwrap();
        replace(&path, manifest.replace(line, &format!("version = \"{version}\"")).as_bytes());
        self.until(plugin, |report| report["version"] == version);
    }

    /// Asks until the plugin's report is as it should be.
    pub fn until(&self, plugin: &str, holds: impl Fn(&serde_json::Value) -> bool) {
        for _ in 0..600 {
            if self.find(plugin).is_some_and(|report| holds(&report)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it never came to that: {}", self.report(plugin));
    }

    /// Puts [`hostile`] in place of what was there.
    pub fn misbehave(&self, version: &str, misdeed: &str) {
        hostile(&self.plugin("hostile"), version, misdeed);
        let (granted, said) = self.says(&["plugin", "grant", "--yes", "hostile"]);
        assert!(granted, "{said}");
        self.until("hostile", |report| report["version"] == version && report["problem"].is_null());
    }

    /// Keeps the version in this folder beside the live one, without making it live.
    pub fn keep(&self, source: &Path) {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("kept.souk").display().to_string();
        let (packed, said) = souk_says(&["plugin", "pack", &source.display().to_string(), "--out", &bundle]);
        assert!(packed, "{said}");
        let (kept, said) = self.says(&["plugin", "keep", &bundle, "--unsigned", "--yes"]);
        assert!(kept, "{said}");
    }

    pub fn until_optimised(&self, plugin: &str) {
        self.until(plugin, |report| report["baseline"] == false);
    }

    pub fn until_gone(&self, plugin: &str) {
        for _ in 0..600 {
            if self.find(plugin).is_none() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it never went: {}", self.report(plugin));
    }

    /// As a power cut does it to a process.
    pub fn kill(mut self) -> TempDir {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Waits until it has ended by itself, as one who was started by [`try_serve`](Self::try_serve).
    pub fn ended(mut self) -> NotOpen {
        let code = self.server.wait().unwrap().code();
        let said = self.said.take().map(|said| said.join().unwrap()).unwrap_or_default();
        NotOpen { folder: std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()), code, said }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.server.try_wait().unwrap().is_some()
    }

    /// Asks it to stop, and gives its folder when it has.
    pub fn close(self) -> NotOpen {
        Command::new("kill").arg("-TERM").arg(self.server.id().to_string()).status().unwrap();
        self.ended()
    }

    /// Asks it to stop and gives its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        Command::new("kill").arg("-TERM").arg(self.server.id().to_string()).status().unwrap();
        self.server.wait().unwrap().code()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Memory of a process, in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    process::status(pid, "VmRSS").expect("a line VmRSS") as f64 / 1024.0
}

pub fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

/// Through the proxy of [`behind_a_proxy`].
pub fn client_at(address: &str) -> reqwest::Client {
    let headers = [(reqwest::header::HeaderName::from_static("x-forwarded-for"), address.parse().unwrap())];
    client_builder().default_headers(headers.into_iter().collect()).build().unwrap()
}

fn client_builder() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none())
}

/// Whole or not at all, as an installer does it.
pub fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_file_name(format!(".{}", path.file_name().unwrap().to_string_lossy()));
    fs::write(&beside, bytes).unwrap();
    fs::rename(beside, path).unwrap();
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
