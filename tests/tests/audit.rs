//! What the operator and the shop have changed is written down, and stays as it was written.

use std::fs;

use serde_json::Value;
use souk_tests::{Shop, souk_says};

fn trail(shop: &Shop, more: &[&str]) -> Vec<Value> {
    let (whole, said) = shop.says(&[&["audit", "--json"], more].concat());
    assert!(whole, "{said}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn what_was_changed_and_by_whom_is_told_and_cannot_be_unsaid() {
    let shop = Shop::open();
    shop.misbehave("1.0.0", "none");
    shop.misbehave("1.1.0", "none");
    let (done, said) = shop.says(&["plugin", "policy", "discount", "--fail", "closed"]);
    assert!(done, "{said}");
    let (done, _) = shop.says(&["plugin", "promote", "hostile", "7.0.0"]);
    assert!(!done);
    let (done, said) = shop.says(&["plugin", "rollback", "hostile"]);
    assert!(done, "{said}");
    shop.says(&["plugin", "list"]);

    let all = trail(&shop, &[]);
    let told: Vec<(&str, &str)> = all.iter().map(|entry| (entry["what"].as_str().unwrap(), entry["detail"].as_str().unwrap_or_default())).collect();
    assert!(told.contains(&("plugin policy", "discount --fail closed")), "{told:?}");
    assert!(all.iter().any(|entry| entry["what"] == "live" && entry["plugin"] == "catalog" && entry["by"] == "the shop"), "{told:?}");
    let of_one = trail(&shop, &["--plugin", "hostile"]);
    let steps: Vec<&str> = of_one.iter().map(|entry| entry["what"].as_str().unwrap()).filter(|what| what.starts_with("plugin")).collect();
    assert_eq!(steps, ["plugin grant", "plugin grant", "plugin promote", "plugin rollback"], "what only looks is not told of");
    assert_eq!(of_one.iter().filter(|entry| entry["what"] == "live").count(), 3, "{of_one:?}");
    let refused = of_one.iter().find(|entry| entry["what"] == "plugin promote").unwrap();
    assert!(refused["failed"].as_str().unwrap().contains("7.0.0"), "{refused}");
    assert!(refused["by"].as_str().unwrap().contains("uid"), "{refused}");

    let backup = shop.folder().join("../backup").display().to_string();
    let (done, said) = shop.says(&["store", "backup", &backup]);
    assert!(done, "{said}");
    let file = shop.folder().join("audit.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("--fail closed", "--fail open")).unwrap();
    let (whole, said) = shop.says(&["audit"]);
    assert!(said.lines().filter(|line| line.starts_with("20")).all(|line| line[16..].starts_with(" +08 ")), "of the shop's zone: {said}");
    let line = text.lines().position(|line| line.contains("--fail closed")).unwrap() + 1;
    assert!(!whole && said.contains(&format!("line {line}:")), "{said}");
    let (whole, said) = souk_says(&["audit", "--store", &backup]);
    assert!(whole && said.contains("--fail closed"), "{said}");
}

/// `souk plugin rollback … | true`
#[test]
fn what_nobody_reads_is_done_and_told_of() {
    let shop = Shop::open();
    shop.misbehave("1.0.0", "none");
    shop.misbehave("1.1.0", "none");
    let done = shop.souk_unread(&["plugin", "rollback", "hostile"]);
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert_eq!(shop.report("hostile")["version"], "1.0.0");
    let last = trail(&shop, &["--plugin", "hostile"]).into_iter().rfind(|entry| entry["what"] == "plugin rollback").unwrap();
    assert!(last.get("failed").is_none(), "{last}");
}
