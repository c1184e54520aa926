//! What a stranger's words do to the operator's terminal, and what another user of the machine sees of the shop.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT};
use souk_tests::{Shop, client, copy, root, souk_says, store};

/// Nothing that moves the cursor, turns the text or has no width.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control() && !"\u{200b}\u{202e}\u{2066}\u{2028}\u{feff}".contains(c))
}

/// The plugin `notes` with other lines in its manifest.
fn notes_with(to: &Path, lines: &str) {
    copy(&root().join("target/guests/notes"), to);
    let manifest = fs::read_to_string(to.join("plugin.toml")).unwrap();
    let described = manifest.lines().find(|line| line.starts_with("description"));
    let manifest = described.map_or(manifest.clone(), |line| manifest.replace(line, ""));
    fs::write(to.join("plugin.toml"), format!("{lines}\n{manifest}")).unwrap();
}

#[test]
fn what_an_operator_reads_before_consent_cannot_be_erased_or_faked() {
    let shop = Shop::serve(souk_tests::bare_store(&["notes"]));
    for (line, told) in [
        // Over the secret that is asked for, and a line of the program's own.
        ("description = \"\\u001b[2A\\u001b[J\"\nsecrets = [\"stripe-key\"]", "the description holds \\u{1b}"),
        ("description = \"Notes.\\nIt asks for nothing.\"", "the description holds \\u{a}"),
        ("description = \"\\u202egnihton rof sksa tI\"", "the description holds \\u{202e}"),
        ("secrets = [\"stripe-key\\u001b[1K\\r\"]", "secrets, `stripe-key\\u{1b}[1K\\r`"),
        ("effects = [\"\\u009b2K\"]", "effects, `\\u{9b}2K`"),
        ("publishes = [\"a\\u200b\"]", "the topic `a\\u{200b}`"),
        ("license = \"\\u001b]0;title\\u0007\"", "the license holds"),
        ("\"\\u001b[2J\" = 1", "unknown field"),
    ] {
        let folder = shop.plugin("notes");
        fs::remove_dir_all(&folder).unwrap();
        notes_with(&folder, line);
        let path = folder.to_str().unwrap().to_owned();
        for (done, said) in [shop.says(&["plugin", "grant", "--yes", "notes"]), souk_says(&["plugin", "check", &path]), souk_says(&["plugin", "pack", &path])] {
            assert!(!done && said.contains(told), "{line}: {said:?}");
            assert!(is_plain(&said), "{line}: {said:?}");
        }
        let (_, said) = shop.says(&["plugin", "list"]);
        assert!(is_plain(&said), "{line}: {said:?}");
    }
    // What is typed is told of as well.
    let (_, said) = shop.says(&["plugin", "run", "\u{1b}[2J\nIt is done."]);
    assert!(is_plain(&said) && said.contains("\\u{1b}[2J"), "{said:?}");
    let (_, said) = shop.says(&["audit"]);
    assert!(is_plain(&said) && said.contains("\\u{1b}[2J\\nIt is done."), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shoppers_words_reach_the_terminal_as_letters_and_other_users_read_none() {
    let shop = Shop::serve(store());
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let address = json!({ "country": "CN", "name": "李雷\u{202e}\u{2066}", "phone": "13800138000", "company": "", "region": "33", "city": "杭州市",
        "district": "西湖区", "street": "龙井路\u{200b} 1 号", "postal_code": "" });
    let (status, answer) = api.send("PUT", &format!("{cart}/addresses"), json!({ "shipping": address })).await;
    // A shop that refuses such a name shows none.
    assert!([200, 400, 422].contains(&status), "{status} {answer}");
    let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    let number = format!("number={}", placed["number"].as_str().unwrap());
    let command = ["plugin", "run", "show-order", &*number, "--json"];
    // For a person, and for a program.
    let shown = [&command[..4], &command].map(|command| {
        let shown = String::from_utf8(shop.souk(command).stdout).unwrap();
        assert!(shown.contains("李雷") && is_plain(&shown), "{command:?}: {shown:?}");
        shown
    });
    let order: Value = serde_json::from_str(&shown[1]).unwrap();
    assert!(order.to_string().contains("李雷"), "{order}");

    let backup = shop.folder().with_file_name("backup");
    let exported = shop.folder().with_file_name("orders.jsonl");
    let (done, said) = shop.says(&["store", "backup", backup.to_str().unwrap()]);
    assert!(done, "{said}");
    let (done, said) = shop.says(&["plugin", "data", "export", "orders", exported.to_str().unwrap()]);
    assert!(done, "{said}");
    let folder = shop.folder();
    let private: Vec<PathBuf> = ["data", "cache", "audit.jsonl", "plugins/grants.toml"].map(|name| folder.join(name)).into_iter().chain([backup, exported]).collect();
    for path in &private {
        assert_eq!(open_to_others(path), [] as [PathBuf; 0]);
    }
    if running_as_root() {
        fs::set_permissions(folder.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        for path in &private {
            let read = Command::new("/bin/ls").arg("-R").arg(path).uid(NOBODY).gid(NOBODY).output().unwrap();
            let text = Command::new("/bin/grep").args(["-rqs", "龙井路"]).arg(path).uid(NOBODY).gid(NOBODY).status().unwrap();
            let is_file = path.is_file();
            assert!((is_file || !read.status.success()) && !text.success(), "{} can be read by others", path.display());
        }
    }
}

/// What a plugin could not do lies there in its own words: kind, key, payload, answer and error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_as_letters() {
    let store = souk_tests::bare_store(&["errand"]);
    souk_tests::add_settings(&store, "[retries]\ngive-up-after-minutes = 0");
    let shop = Shop::serve(store);
    let asked = client().post(format!("{}/errand/errand", shop.url)).body("\u{1b}[1A\u{1b}[2K\rnone\u{2066}").send().await.unwrap();
    assert_eq!(asked.status(), 200);
    let dead = || shop.says(&["dead", "list"]).1;
    souk_tests::until(|| dead().trim() != "none").await;
    let said = dead();
    assert!(is_plain(&said) && said.trim().lines().count() == 2, "a heading and the letter: {said:?}");
    let id = said.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap();
    let (shown, said) = shop.says(&["dead", "show", id]);
    assert!(shown && is_plain(&said), "{said:?}");
    for words in ["errand", "\\u{1b}[2J\\u{1b}[H\\nnone\\u{202e}", "\\u{1b}[1A", "\\u{2066}"] {
        assert!(said.contains(words), "{words}: {said:?}");
    }
}

/// A shop of an earlier version lies open; so does one that was copied by other means.
#[test]
fn what_lies_open_is_closed_at_the_next_start_and_told() {
    let folder = souk_tests::bare_store(&["notes"]);
    let shop = Shop::serve(folder);
    let folder = shop.close().folder;
    let path = folder.path().join("store");
    let journal = files(&path.join("data/documents")).into_iter().find(|file| file.is_file()).unwrap();
    for (path, mode) in [(path.join("data"), 0o755), (path.join("data/documents"), 0o755), (journal.clone(), 0o644), (path.join("audit.jsonl"), 0o644)] {
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let shop = Shop::try_serve(folder, [] as [(&str, &str); 0]).unwrap_or_else(|refused| panic!("{}", refused.said));
    assert_eq!(open_to_others(&path.join("data")), [] as [PathBuf; 0]);
    assert_eq!(open_to_others(&path.join("audit.jsonl")), [] as [PathBuf; 0]);
    let said = shop.close().said;
    assert!(said.contains("other users of this machine could read") && said.contains("audit.jsonl"), "{said}");
}

const NOBODY: u32 = 65_534;

fn running_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// With the folder itself. Links lead elsewhere.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    if folder.is_dir() && !folder.is_symlink() {
        for entry in fs::read_dir(folder).unwrap() {
            found.extend(files(&entry.unwrap().path()));
        }
    }
    found
}

fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let open = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink() && found.permissions().mode() & 0o077 != 0);
    files(folder).into_iter().filter(open).collect()
}
