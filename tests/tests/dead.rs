//! Work that fails: it is tried again for as long as the shop says, the operator
//! hears of it, and can have it tried or dropped.

use std::fs;

use serde_json::Value;
use souk_tests::{Shop, add_settings, bare_store, client, until};

/// Asks for an effect that is refused at once, and whose answer nobody takes.
async fn send_out(shop: &Shop, kind: &str) {
    let asked = client().post(format!("{}/errand/errand", shop.url)).body(kind.to_owned()).send().await.unwrap();
    assert_eq!(asked.status(), 200);
}

fn listed(shop: &Shop) -> Vec<Value> {
    let (listed, said) = shop.says(&["dead", "list", "--json"]);
    assert!(listed, "{said}");
    serde_json::from_str(&said).unwrap()
}

async fn ready(shop: &Shop) -> (u16, String) {
    let answer = client().get(format!("{}/ready", shop.ops)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_tried_for_hours_and_can_be_seen_tried_and_dropped() {
    let shop = Shop::serve(bare_store(&["errand"]));
    send_out(&shop, "parcel").await;
    until(|| listed(&shop).first().is_some_and(|work| work["tries"].as_u64() >= Some(2))).await;
    let work = listed(&shop).remove(0);
    for (field, value) in [("plugin", "errand"), ("kind", "answer"), ("what", "parcel"), ("from", "errand"), ("state", "retrying")] {
        assert_eq!(work[field], value, "{work}");
    }
    assert!(work["next-ms"].as_u64() > work["since-ms"].as_u64(), "{work}");
    assert!(shop.metric("souk_retrying{plugin=\"errand\",kind=\"answer\"}").await >= 1.0);
    let id = work["id"].as_str().unwrap();

    // Nobody's business before it has lasted.
    assert_eq!(ready(&shop).await, (200, "ready\n".into()));
    let (well, said) = shop.says(&["status"]);
    assert!(well && said.contains("1 failing"), "{said}");

    let (shown, said) = shop.says(&["dead", "show", id]);
    assert!(shown && ["answer", "parcel", "tries", "first failure", "next try", "payload"].iter().all(|word| said.contains(word)), "{said}");

    // It outlives the process, and is known before it is tried again.
    let shop = Shop::serve(shop.close().folder);
    assert_eq!(listed(&shop)[0]["id"], id);
    let (retried, said) = shop.says(&["dead", "retry", id]);
    assert!(retried && said.contains("tried now"), "{said}");
    let (dropped, said) = shop.says(&["dead", "drop", "--plugin", "errand"]);
    assert!(dropped && said.contains("dropped"), "{said}");
    assert_eq!(listed(&shop), [] as [Value; 0]);
    let (again, said) = shop.says(&["dead", "drop", id]);
    assert!(!again && said.contains("there is no dead letter"), "{said}");
    let (_, trail) = shop.says(&["audit"]);
    assert!(trail.contains("dead retry") && trail.contains("dead drop"), "{trail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_hears_of_what_was_given_up() {
    let store = bare_store(&["errand"]);
    let told = store.path().join("told");
    add_settings(&store, "[retries]\nfirst-wait-ms = 1\nwait-ms-max = 1\ngive-up-after-minutes = 0");
    add_settings(&store, &format!("[alerts]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> '{}'\"]", told.display()));
    let shop = Shop::serve(store);
    send_out(&shop, "parcel").await;
    until(|| fs::read_to_string(&told).is_ok_and(|told| told.ends_with('\n'))).await;
    let message: Value = serde_json::from_str(fs::read_to_string(&told).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!((message["plugin"].as_str(), message["subject"].as_str()), (Some("errand"), Some("dead-letters")), "{message}");

    let (status, said) = ready(&shop).await;
    assert_eq!(status, 200, "it sells all the same: {said}");
    assert!(said.contains("degraded: 1 dead letter of `errand`"), "{said}");
    let (well, said) = shop.says(&["status"]);
    assert!(!well && said.contains("souk dead list --plugin errand"), "{said}");
    assert_eq!(shop.metric("souk_dead_letters_left{plugin=\"errand\"}").await, 1.0);
    let work = listed(&shop).remove(0);
    assert_eq!((work["state"].as_str(), work["next-ms"].as_u64()), (Some("dead"), None));
    let id = work["id"].as_str().unwrap();
    let (done, said) = shop.says(&["dead", "replay", id]);
    assert!(!done && said.contains("it failed again"), "{said}");
    let (done, _) = shop.says(&["dead", "discard", id]);
    assert!(done);
    until(|| fs::read_to_string(&told).is_ok_and(|told| told.contains("over: dead-letters"))).await;
    assert_eq!(ready(&shop).await, (200, "ready\n".into()));
}

#[test]
fn settings_that_make_no_sense_are_refused_with_what_would() {
    let store = bare_store(&["errand"]);
    add_settings(&store, "[retries]\nfirst-wait-ms = 0\ngive-up-after-minutes = 99999999\n[alerts]\ncommand = [\"\"]");
    let refused = Shop::try_serve(store, [] as [(&str, &str); 0]).err().unwrap();
    for words in ["retries.first-wait-ms is 0: give 1 to 60000", "retries.give-up-after-minutes is 99999999", "alerts.command names no program"] {
        assert!(refused.said.contains(words), "{words}: {}", refused.said);
    }
}
