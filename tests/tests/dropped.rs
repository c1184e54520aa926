//! Whatever is dropped into `plugins/`: it is refused by name and limit, the shop goes on, and its server
//! takes little more memory than before.

use std::fs;
use std::path::Path;

use souk_tests::process::status;
use souk_tests::{Shop, client, souk_says};

/// More than this no drop may add to what the server has taken at most.
const GROWTH_KIB_MAX: u64 = 512 << 10;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Sections of components, as the binary format numbers them.
const CORE_MODULE: u8 = 1;
const NESTED_COMPONENT: u8 = 4;
const ALIAS: u8 = 6;
const TYPE: u8 = 7;
const IMPORT: u8 = 10;

fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

/// The index of a type where a type's name could stand as well: signed.
fn index(value: usize) -> Vec<u8> {
    let mut bytes = number(value);
    if let Some(last) = bytes.last_mut().filter(|last| **last & 0x40 != 0) {
        *last |= 0x80;
        bytes.push(0);
    }
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &number(content.len()), content].concat()
}

/// A section that lists `items`.
fn list(id: u8, items: &[Vec<u8>]) -> Vec<u8> {
    section(id, &[number(items.len()), items.concat()].concat())
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [COMPONENT, &sections.concat()].concat()
}

fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    component(&[section(CORE_MODULE, &[MODULE, &sections.concat()].concat())])
}

/// Each in a section of its own.
fn many(id: u8, count: usize, content: &[u8]) -> Vec<u8> {
    section(id, content).repeat(count)
}

/// `count` core functions of no parameters with this body.
fn functions(count: usize, body: &[u8]) -> Vec<u8> {
    let body = [number(body.len()), body.to_vec()].concat();
    module(&[
        section(1, b"\x01\x60\0\0"),
        section(3, &[number(count), vec![0; count]].concat()),
        section(10, &[number(count), body.repeat(count)].concat()),
    ])
}

fn deep(levels: usize) -> Vec<u8> {
    (0..levels).fold(COMPONENT.to_vec(), |inner, _| component(&[section(NESTED_COMPONENT, &inner)]))
}

/// What it is, and what is told of it.
fn bombs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let tuple_of_ten = |of: Vec<u8>| [vec![0x6f, 10], of.repeat(10)].concat();
    let tuples: Vec<Vec<u8>> = std::iter::once(tuple_of_ten(vec![0x79])).chain((0..12).map(|below| tuple_of_ten(index(below)))).collect();
    let lists: Vec<Vec<u8>> = std::iter::once(vec![0x70, 0x79]).chain((0..5_000).map(|below| [vec![0x70], index(below)].concat())).collect();
    let imports: Vec<Vec<u8>> = (0..3_000).map(|n| [vec![0, 9], format!("a:b/c{n:04}").into_bytes(), vec![5, 0]].concat()).collect();
    let types_in_types = [[0x41, 1, 1].repeat(100_000), vec![0x41, 0]].concat();
    let outer_alias = vec![3, 2, 0, 0];
    let long_name = [vec![0], number(90_000), vec![b'a'; 90_000], vec![5, 0]].concat();
    vec![
        ("nested", component(&[section(NESTED_COMPONENT, &component(&[many(NESTED_COMPONENT, 999, COMPONENT)])).repeat(20)]), "more than 500 nested components"),
        ("deep", deep(2_000), "nested more than 16 deep"),
        ("tuples", component(&[list(TYPE, &tuples)]), "type size"),
        ("lists", component(&[list(TYPE, &lists)]), "nesting is too deep"),
        ("types-in-types", component(&[section(TYPE, &[number(1), types_in_types].concat())]), "nested too deeply"),
        ("many-types", component(&[list(TYPE, &vec![vec![0x70, 0x79]; 200_000])]), "more than 50000 types"),
        ("imports", component(&[section(TYPE, &[1, 0x42, 0]), list(IMPORT, &imports)]), "more than 2000 imports of components"),
        ("long-name", component(&[section(TYPE, &[1, 0x42, 0]), list(IMPORT, &[long_name])]), "90000 bytes; at most 1024"),
        ("modules", component(&[many(CORE_MODULE, 5_000, MODULE)]), "more than 300 core modules"),
        ("aliases", component(&[section(TYPE, &[1, 0x70, 0x79]), list(ALIAS, &vec![outer_alias; 60_000])]), "more than 50000 aliases"),
        ("functions", functions(400_000, &[0, 0x0b]), "more than 300000 core functions"),
        // A file of 40 KiB, all of whose functions have 50,000 variables.
        ("variables", functions(4_000, &[1, 0xd0, 0x86, 3, 0x7e, 0x0b]), "reading and compiling it take"),
    ]
}

fn drop_in(plugins: &Path, name: &str, component: &[u8]) {
    let hidden = plugins.join(format!(".{name}"));
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("plugin.toml"), format!("name = \"{name}\"\nversion = \"1.0.0\"\nkind = \"provider\"\n")).unwrap();
    fs::write(hidden.join("plugin.wasm"), component).unwrap();
    fs::rename(hidden, plugins.join(name)).unwrap();
}

fn problem(shop: &Shop, plugin: &str) -> String {
    shop.until(plugin, |report| report["problem"].is_string());
    shop.report(plugin)["problem"].as_str().unwrap().to_owned()
}

/// Of a core module whose first instruction is its last.
fn traps_at_its_start() -> Vec<u8> {
    let functions = [section(1, b"\x01\x60\0\0"), section(3, b"\x01\0"), section(8, b"\0"), section(10, b"\x01\x03\0\0\x0b")].concat();
    let core_instance = list(2, &[vec![0, 0, 0]]);
    component(&[section(CORE_MODULE, &[MODULE, &functions].concat()), core_instance])
}

/// At a cold start, where all plugins are new and none is known to be good.
#[tokio::test]
async fn a_plugin_that_does_not_start_is_named_and_the_others_are_live() {
    let store = souk_tests::bare_store(&["notes"]);
    let settings = store.path().join("store/souk.toml");
    fs::write(&settings, format!("{}\n[plugins]\ngrants = \"implied\"\n", fs::read_to_string(&settings).unwrap())).unwrap();
    let plugins = store.path().join("store/plugins");
    drop_in(&plugins, "a-stranger", &traps_at_its_start());
    // In one graph with the others.
    fs::write(plugins.join("a-stranger/plugin.toml"), "name = \"a-stranger\"\nversion = \"1.0.0\"\nkind = \"service\"\n").unwrap();
    let shop = Shop::serve(store);
    assert!(problem(&shop, "a-stranger").contains("`a-stranger` does not start"), "{}", shop.report("a-stranger"));
    assert!(shop.report("notes")["problem"].is_null());
    assert_eq!(client().get(format!("{}/notes/a", shop.url)).send().await.unwrap().status(), 404);
}

/// Where nobody is asked for consent, each goes as far as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_much_to_read_or_compile_is_refused_and_costs_the_server_nothing() {
    let store = souk_tests::bare_store(&["notes"]);
    let settings = store.path().join("store/souk.toml");
    fs::write(&settings, format!("{}\n[plugins]\ngrants = \"implied\"\n", fs::read_to_string(&settings).unwrap())).unwrap();
    let shop = Shop::serve(store);
    let before = status(shop.pid(), "VmHWM").unwrap();
    for (name, component, told) in bombs() {
        drop_in(&shop.folder().join("plugins"), name, &component);
        let problem = problem(&shop, name);
        assert!(problem.contains(told), "{name}: {problem}");
        let grown = status(shop.pid(), "VmHWM").unwrap() - before;
        assert!(grown < GROWTH_KIB_MAX, "{name}: {grown} KiB");
        let answered = client().get(format!("{}/notes/a", shop.url)).send().await.unwrap();
        assert!(answered.status().as_u16() < 500, "{name}: {}", answered.status());
    }
}

#[test]
fn what_takes_too_much_to_read_is_refused_before_it_is_granted() {
    let shop = Shop::serve(souk_tests::bare_store(&["notes"]));
    let before = status(shop.pid(), "VmHWM").unwrap();
    for (name, component, told) in bombs().into_iter().filter(|(name, ..)| *name != "variables") {
        drop_in(&shop.folder().join("plugins"), name, &component);
        let (granted, said) = shop.says(&["plugin", "grant", "--yes", name]);
        assert!(!granted && said.contains(told), "{name}: {said}");
        let folder = shop.plugin(name);
        let (checked, said) = souk_says(&["plugin", "check", folder.to_str().unwrap()]);
        assert!(!checked && said.contains(told), "{name}: {said}");
        assert!(problem(&shop, name).contains("never granted"), "{name}");
    }
    assert!(status(shop.pid(), "VmHWM").unwrap() - before < GROWTH_KIB_MAX);
}

/// Manifests without end, thousands of folders, and assets that are large when they are unpacked or not.
#[test]
fn a_folder_full_of_anything_is_refused_or_told() {
    let shop = Shop::serve(souk_tests::bare_store(&["notes"]));
    let (plugins, before) = (shop.folder().join("plugins"), status(shop.pid(), "VmHWM").unwrap());
    let manifest = |name: &str, more: &str| format!("name = \"{name}\"\nversion = \"1.0.0\"\n{more}");
    let deep = format!("config = {}", "{ a = ".repeat(10_000));
    let many: String = (0..5_000).map(|n| format!("[[jobs]]\nname = \"j{n}\"\ncron = \"* * * * *\"\n")).collect();
    let indexes: String = (0..1_000).map(|n| format!("[[indexes]]\nname = \"i{n}\"\nfields = [{{ name = \"a\", kind = \"text\" }}]\n")).collect();
    for (name, more, told) in [
        ("deep-manifest", deep, "plugin.toml, line 3"),
        ("long-manifest", "#".repeat(300 << 10), "at most 262144 are allowed"),
        ("many-jobs", many, "5000 jobs; at most 32"),
        ("many-indexes", indexes, "indexes has 1000 entries; at most 16"),
    ] {
        let folder = plugins.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("plugin.wasm"), COMPONENT).unwrap();
        fs::write(folder.join("plugin.toml"), manifest(name, &more)).unwrap();
        shop.until(name, |report| report["problem"].as_str().is_some_and(|problem| problem.contains(told)));
    }
    for number in 0..2_000 {
        fs::create_dir(plugins.join(format!("empty-{number}"))).unwrap();
    }
    let (_, said) = shop.says(&["plugin", "list"]);
    assert!(said.contains("notes"), "{said}");
    assert!(status(shop.pid(), "VmHWM").unwrap() - before < GROWTH_KIB_MAX);
}
