//! A plugin's documents, from one of its versions to the next and out of the shop.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::Value;
use souk_tests::{Shop, client, install_guest, replace, store};

const NOTES: usize = 200;

fn shop() -> Shop {
    let store = store();
    install_guest(&store, "notes");
    Shop::serve(store)
}

/// Puts the version in place that knows both forms.
fn second_version(shop: &Shop) {
    let manifest = shop.plugin("notes").join("plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text.replace("1.0.0", "2.0.0").replace("default = 1", "default = 2");
    replace(&manifest, format!("{text}\n[data]\nform = 2\nreads = 1\n").as_bytes());
    shop.until("notes", |report| report["version"] == "2.0.0" && report["problem"].is_null());
}

async fn write(shop_url: &str, key: &str, text: &str) {
    let answer = client().post(format!("{shop_url}/notes/{key}")).body(text.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(status, 200, "{}", answer.text().await.unwrap());
}

async fn write_all(shop: &Shop) {
    for n in 0..NOTES {
        write(&shop.url, &format!("note-{n:04}"), &format!("text {n}")).await;
    }
}

async fn all_are_read(shop: &Shop) {
    for n in 0..NOTES {
        let answer = client().get(format!("{}/notes/note-{n:04}", shop.url)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, format!("text {n}")));
    }
}

fn export(shop: &Shop, name: &str) -> Vec<Value> {
    let file = shop.folder().join(name);
    let (exported, said) = shop.says(&["plugin", "data", "export", "notes", &file.display().to_string()]);
    assert!(exported, "{said}");
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The forms that are stored, and the one that the export names.
fn forms(shop: &Shop, name: &str) -> (BTreeSet<u64>, u64) {
    let lines = export(shop, name);
    let form_of = |line: &Value| if line["document"]["text"].is_string() { 1 } else { 2 };
    (lines[1..].iter().map(form_of).collect(), lines[0]["form"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_take_another_form_beside_shoppers_and_go_back() {
    let shop = shop();
    write_all(&shop).await;
    second_version(&shop);
    // Until the operator says so, the version before can come back.
    write(&shop.url, "note-0000", "text 0").await;
    assert_eq!(forms(&shop, "before"), ([1].into(), 1));
    assert_eq!(shop.report("notes")["older_form"], 1);
    assert!(shop.says(&["plugin", "rollback", "notes"]).0);
    all_are_read(&shop).await;
    assert!(shop.says(&["plugin", "promote", "notes", "2.0.0"]).0);

    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (done, url) = (done.clone(), shop.url.clone());
            tokio::spawn(async move {
                for n in (writer..NOTES).step_by(3).cycle() {
                    write(&url, &format!("note-{n:04}"), &format!("text {n}")).await;
                    if done.load(Relaxed) {
                        return;
                    }
                }
            })
        })
        .collect();
    for (round, form) in [2, 1, 2].into_iter().enumerate() {
        let (migrated, said) = shop.says(&["plugin", "data", "migrate", "notes", "--to", &form.to_string()]);
        assert!(migrated && said.contains("rewritten, in 2"), "{said}");
        assert_eq!(forms(&shop, &format!("round-{round}")), ([form].into(), form), "and what was written meanwhile");
    }
    done.store(true, Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    all_are_read(&shop).await;

    // A version that knows one form alone does not come back to the other.
    let (_, said) = shop.says(&["plugin", "rollback", "notes"]);
    assert!(said.contains("its documents have form 2, and this version reads 1"), "{said}");
    all_are_read(&shop).await;
    assert!(shop.says(&["plugin", "promote", "notes", "2.0.0"]).0);
    let (_, said) = shop.says(&["plugin", "data", "migrate", "notes", "--to", "3"]);
    assert!(said.contains("knows the forms 1 to 2, not 3"), "{said}");
    assert!(shop.says(&["plugin", "data", "migrate", "notes", "--to", "1"]).0);
    assert!(shop.says(&["plugin", "rollback", "notes"]).0);
    all_are_read(&shop).await;
}

#[tokio::test]
async fn a_migration_goes_on_after_a_crash() {
    let shop = shop();
    write_all(&shop).await;
    second_version(&shop);
    let folder = shop.folder();
    let asking = std::thread::spawn(move || souk_tests::souk_says(&["plugin", "data", "migrate", "notes", "--store", &folder.display().to_string()]));
    shop.until("notes", |report| report["older_form"].is_null());
    let shop = Shop::serve(shop.kill());
    let _ = asking.join();
    shop.until("notes", |report| report["older_form"].is_null());
    for round in 0.. {
        let (stored, _) = forms(&shop, &format!("round-{round}"));
        if stored == [2].into() {
            break;
        }
        assert!(round < 1_000, "it never went on");
    }
    all_are_read(&shop).await;
}

/// As an operator who asks again does after a crash, while the shop goes on by itself.
#[tokio::test]
async fn those_who_ask_for_one_migration_all_see_its_end() {
    let shop = shop();
    write_all(&shop).await;
    second_version(&shop);
    for (round, form) in [2, 1, 2].into_iter().enumerate() {
        let to = form.to_string();
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| shop.says(&["plugin", "data", "migrate", "notes", "--to", &to]))).collect();
            for asked in asked {
                let (migrated, said) = asked.join().unwrap();
                assert!(migrated, "{said}");
            }
        });
        assert_eq!(forms(&shop, &format!("round-{round}")), ([form].into(), form));
    }
    all_are_read(&shop).await;
}

#[tokio::test]
async fn data_is_exported_deleted_and_read_back() {
    let shop = shop();
    write_all(&shop).await;
    let before = export(&shop, "notes.jsonl");
    assert_eq!(before.len(), NOTES + 1);
    for command in ["delete", "import"] {
        let file = shop.folder().join("notes.jsonl").display().to_string();
        let arguments = if command == "delete" { vec!["notes", "--yes"] } else { vec!["notes", &file] };
        let (done, said) = shop.says(&[&["plugin", "data", command], &arguments[..]].concat());
        assert!(!done && said.contains("is live"), "{said}");
    }
    assert!(shop.says(&["plugin", "remove", "notes"]).0);
    shop.until_gone("notes");
    let file = shop.folder().join("notes.jsonl").display().to_string();
    let (done, said) = shop.says(&["plugin", "data", "import", "notes", &file]);
    assert!(!done && said.contains("has data here already"), "{said}");
    let (done, said) = shop.says(&["plugin", "data", "delete", "notes"]);
    assert!(!done && said.contains("--yes"), "{said}");
    let (done, said) = shop.says(&["plugin", "data", "delete", "notes", "--yes"]);
    assert!(done && said.contains("200 documents"), "{said}");
    assert_eq!(export(&shop, "empty.jsonl").len(), 1);

    // All of it or nothing.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}not a line\n")).unwrap();
    let (done, said) = shop.says(&["plugin", "data", "import", "notes", &file]);
    assert!(!done && said.contains("line 202"), "{said}");
    assert_eq!(export(&shop, "still-empty.jsonl").len(), 1);
    fs::write(&file, &text).unwrap();
    let (done, said) = shop.says(&["plugin", "data", "import", "notes", &file]);
    assert!(done, "{said}");
    assert_eq!(export(&shop, "again.jsonl"), before);
    assert!(shop.says(&["plugin", "promote", "notes", "1.0.0"]).0);
    all_are_read(&shop).await;
}
