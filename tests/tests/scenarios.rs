//! What a plugin's developer sees of one call, and of the scenarios in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use souk_tests::{copy, root, souk_says};

fn built(place: &str) -> PathBuf {
    root().join("target").join(place)
}

/// Calls a built plugin as a scenario says: whether that went well, and all that was said.
fn said(folder: &Path, scenario: &Value, more: &[&str]) -> (bool, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), scenario.to_string()).unwrap();
    let (folder, input) = (folder.display().to_string(), file.path().display().to_string());
    souk_says(&[&["plugin", "call", &folder, "--input", &input], more].concat())
}

/// The same as JSON.
fn report(folder: &Path, scenario: &Value, more: &[&str]) -> (bool, Value) {
    let (went_well, said) = said(folder, scenario, &[&["--json"], more].concat());
    let report = serde_json::Deserializer::from_str(&said).into_iter::<Value>().next();
    (went_well, report.unwrap_or_else(|| panic!("nothing was said")).unwrap_or_else(|error| panic!("{error}: {said}")))
}

fn discount(code: &str) -> Value {
    json!({
        "call": { "interface": "souk:extend/discount", "function": "propose" },
        "settings": { "percent": 20 },
        "parameters": [{
            "lines": [{
                "id": "1", "sku": "TEA", "product": "tea", "quantity": 3,
                "unit-price": { "amount": 1000, "currency": "CNY" }, "categories": [], "tags": [],
            }],
            "subtotal": { "amount": 3000, "currency": "CNY" },
            "shipping": { "amount": 0, "currency": "CNY" },
            "codes": [code],
            "now-ms": 0,
            "locale": "en",
        }],
    })
}

/// One after the other: interpreters of other languages take half a minute to compile, which is kept.
#[test]
fn the_examples_keep_to_their_scenarios_and_a_call_shows_what_they_answer_and_take() {
    for (example, code) in [("hello", ""), ("hello-js", ""), ("hello-py", ""), ("tea-time", "TEATIME"), ("tea-time-js", "TEATIMEJS"), ("tea-time-py", "TEATIMEPY")] {
        let (folder, scenarios) = (built("examples").join(example), root().join("examples").join(example).join("scenarios"));
        if (example.ends_with("-js") || example.ends_with("-py")) && !folder.exists() {
            continue; // Its language's tools are not on every machine.
        }
        let (passed, said) = souk_says(&["plugin", "test", folder.to_str().unwrap(), "--scenarios", scenarios.to_str().unwrap()]);
        assert!(passed, "{said}");
        if code.is_empty() {
            continue;
        }
        let (went_well, report) = report(&folder, &discount(code), &[]);
        assert!(went_well, "{report:#}");
        let percent = &report["answer"]["ok"][0]["propose"]["effect"]["percent"];
        assert_eq!(*percent, json!([200_000, [{ "line-id": "1", "quantity": 3 }]]), "{example}");
        let spent = &report["spent"];
        assert!(spent["instructions"]["used"].as_u64() > Some(1_000), "{example}: {spent}");
        assert_eq!((&spent["memory-bytes"]["limit"], &spent["time-us"]["limit"]), (&json!(64 << 20), &json!(5_000_000)), "{example}: {spent}");
        assert!(spent.as_object().unwrap().values().all(|figure| figure["over"] == false), "{example}: {spent}");
    }
}

#[test]
fn a_call_is_shown_for_people() {
    let (went_well, said) = said(&built("examples/tea-time"), &discount("TEATIME"), &[]);
    assert!(went_well && !said.contains('\x1b'), "{said}");
    for shown in ["tea-time 0.1.0: souk:extend/discount@0.1.0 propose", "Tea time: 20 % off", "64.0 MiB", "5,000.00 ms", "10,000", "::propose"] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
}

#[test]
fn where_the_instructions_go_is_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let (folded, svg) = (folder.path().join(name), folder.path().join(format!("{name}.svg")));
        let files = ["--folded", folded.to_str().unwrap(), "--flame-graph", svg.to_str().unwrap()];
        let (went_well, report) = report(&built("examples/tea-time"), &discount("TEATIME"), &files);
        assert!(went_well, "{report}");
        (report["spent"]["instructions"]["used"].as_u64().unwrap(), fs::read_to_string(folded).unwrap(), fs::read_to_string(svg).unwrap())
    };
    let (first, second) = (run("first"), run("second"));
    assert_eq!(first, second);
    let (_, folded, svg) = first;
    let samples: u64 = folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    // Code stops where functions and loops begin: the last of two hundred runs may come to their end.
    assert!((190..=200).contains(&samples), "{samples}");
    assert!(folded.contains(";<tea_time::TeaTime as "), "names are readable: {folded}");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("<script"));
}

/// A copy whose manifest says more.
fn limited(guest: &str, limits: &str, folder: &Path) -> PathBuf {
    let copied = folder.join(guest);
    copy(&built("guests").join(guest), &copied);
    let manifest = copied.join("plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{text}\n[limits]\n{limits}\n")).unwrap();
    copied
}

#[test]
fn a_call_over_a_limit_fails_and_says_which() {
    for (misdeed, limits, kind, over) in [
        ("loop", "deadline-ms = 300", "deadline", "time-us"),
        // Longer, so that also with an unoptimised host the guest executes enough between its host calls to be sampled.
        ("loop-in-the-host", "deadline-ms = 1000", "deadline", "time-us"),
        ("memory-bomb", "memory-mib = 16", "memory", "memory-bytes"),
        ("huge-answer", "", "output", "output-bytes"),
        ("trap", "", "trap", ""),
        ("recursion", "", "trap", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut scenario = discount("X");
        scenario["settings"] = json!({ "misdeed": misdeed });
        let (went_well, report) = report(&limited("hostile", limits, folder.path()), &scenario, &[]);
        assert!(!went_well && report["failure"]["kind"] == kind, "{misdeed}: {}", report["failure"]);
        for (name, figure) in report["spent"].as_object().unwrap() {
            assert_eq!(figure["over"], name == over, "{misdeed}: {name} {figure}");
        }
        if kind == "deadline" {
            // It is not known how far it was when the clock stopped it, but where it began to turn is.
            let hottest = report["hottest"][0]["function"].as_str().unwrap_or_else(|| panic!("{misdeed}: nothing was sampled: {report:#}"));
            assert!(report["spent"]["instructions"]["used"].is_null() && hottest.contains("souk_hostile"), "{misdeed}: {hottest}");
        }
    }
    // The guest is told that it may not, and goes on; the limit was passed all the same.
    let (went_well, report) = report(&built("guests/hostile-service"), &page("scan-without-end"), &[]);
    assert!(!went_well && report["spent"]["storage-operations"]["over"] == true, "{report:#}");
}

fn page(misdeed: &str) -> Value {
    request("misdeed", &[("misdeed", misdeed)])
}

fn request(route: &str, params: &[(&str, &str)]) -> Value {
    json!({
        "call": { "interface": "souk:web/handler", "function": "handle" },
        "parameters": [{
            "method": "GET", "path": "/", "query": "", "route": route, "params": params, "headers": [],
            "body": "", "locale": "en", "locale-prefix": "", "request-id": "1", "client-address": "203.0.113.1", "caller": "",
        }],
    })
}

#[test]
fn what_is_wrong_with_a_scenario_is_told_with_its_place() {
    for (place, value, told) in [
        ("/parameters/0/lines/0/quantity", json!("x"), "parameters[0].lines[0].quantity: takes 0 to 4294967295, is \"x\""),
        ("/parameters/0/colour", json!(1), "parameters[0]: there is no field `colour`; there are `lines`,"),
        ("/parameters/0/codes", json!(null), "parameters[0].codes: takes a list, is null"),
        ("/parameters", json!([]), "parameters: the function takes 1 (cart), 0 are given"),
        ("/call/function", json!("suggest"), "call.function: `souk:extend/discount@0.1.0` has no `suggest`; it has: propose"),
        ("/call/interface", json!("souk:extend/tax"), "does not export `souk:extend/tax`; it exports: souk:extend/discount@0.1.0 (propose)"),
        ("/call", json!(null), "`tea-time` exports: souk:extend/discount@0.1.0 (propose)"),
        ("/settings/percent", json!(99), "`percent` is 99; it takes 1 to 90"),
        ("/settings/colour", json!(1), "there is no setting `colour`"),
        ("/secrets/key", json!("x"), "secrets.key: the manifest does not list it"),
        ("/documents/No", json!({ "a": {} }), "documents.No.a: the collection `No`"),
        ("/counters/notes", json!({ "a": "x" }), "counters.notes.a: invalid type"),
        ("/now", json!("yesterday"), "now: "),
        ("/color", json!(1), "unknown field `color`"),
        ("/http", json!([{ "method": "GET" }]), "http[0]: missing field `url`"),
        ("/http", json!([{ "method": "GET", "url": "https://a.example/", "status": 200, "body": 1 }]), "http[0].body: takes text, "),
    ] {
        let mut scenario = discount("TEATIME");
        let (parent, name) = place.rsplit_once('/').unwrap();
        if scenario.pointer(parent).is_none() {
            scenario[&parent[1..]] = json!({});
        }
        scenario.pointer_mut(parent).unwrap()[name] = value;
        let (went_well, said) = said(&built("examples/tea-time"), &scenario, &[]);
        assert!(!went_well && said.contains(told), "{place}: {said}");
    }
    for (folder, told) in [
        (built("plugins/storefront"), "which no plugin here provides: give the built plugin that does with --with FOLDER"),
        (root().join("examples/tea-time"), "is not a built plugin: `souk plugin build`"),
    ] {
        let (went_well, said) = said(&folder, &json!({}), &[]);
        assert!(!went_well && said.contains(told), "{said}");
    }
}

#[test]
fn plugins_that_are_given_along_are_called() {
    let [caller, service, provider] = ["caller", "service", "provider"].map(|guest| built("guests").join(guest));
    let call = |what: &str, body: &str| {
        let mut scenario = request("call", &[("what", what), ("times", "3")]);
        scenario["expect"] = json!({ "answer": { "status": 200, "body": body } });
        scenario
    };
    let (went_well, refused) = said(&caller, &call("service", ""), &[]);
    assert!(!went_well && refused.contains("`caller` calls `souk:commerce/tax@0.1.0`, which no plugin here provides") && refused.contains("--with FOLDER"), "{refused}");
    let with = ["--with", service.to_str().unwrap(), "--with", provider.to_str().unwrap()];
    for (what, body) in [("service", "\"0\""), ("provider", "\"provider version 0000\"")] {
        let (went_well, report) = report(&caller, &call(what, body), &with);
        assert!(went_well, "{report:#}");
        let asked: Vec<_> = report["providers"].as_array().unwrap().iter().map(|asked| (asked["plugin"].as_str(), asked["calls"].as_u64())).collect();
        assert_eq!(asked, if what == "provider" { vec![(Some("provider"), Some(3))] } else { Vec::new() }, "{report:#}");
        assert!(report["providers"].as_array().unwrap().iter().all(|asked| asked["instructions"].as_u64() > Some(10)), "{report:#}");
    }
    let (_, shown) = said(&caller, &call("provider", "\"provider version 0000\""), &with);
    assert!(shown.contains("providers besides"), "{shown}");
    // What no host would call, another plugin does.
    let scenario = json!({ "call": { "interface": "souk:commerce/tax", "function": "quote" }, "parameters": [[], null, "en"], "expect": { "answer": [] } });
    let (went_well, report) = report(&service, &scenario, &[]);
    assert!(went_well, "{report:#}");
}

/// Also what the host draws for a plugin: the nonce of a seal, the salt of a hash.
#[test]
fn chance_repeats_itself() {
    let call = || {
        let (went_well, report) = report(&built("guests/veteran"), &request("visit", &[("what", "secrets")]), &[]);
        assert!(went_well && report["answer"]["status"] == 200, "{report:#}");
        report["answer"]["body"].as_str().unwrap().to_owned()
    };
    let first = call();
    assert!(first.contains("$argon2id$"), "{first}");
    assert_eq!(first, call());
}

#[test]
fn the_web_is_what_was_recorded() {
    const URL: &str = "http://shop.internal/payments/pay-sandbox/notify";
    let told = json!({ "id": "n1", "payment_id": "p1", "reference": "r1", "state": "captured", "amount": 4200, "currency": "CNY", "at_ms": 1 });
    let mut scenario = json!({
        "call": { "interface": "souk:host/effect-handler", "function": "perform" },
        "parameters": [{ "requester": "pay-sandbox", "kind": "notify", "key": "n1", "attempt": 1, "payload": { "json": told } }],
    });
    let sandbox = built("plugins/pay-sandbox");
    let (went_well, shown) = said(&sandbox, &scenario, &[]);
    assert!(went_well && shown.contains("connection refused"), "{shown}");
    assert!(shown.contains(&format!("POST {URL}")) && shown.contains("not recorded: add it to `http`"), "{shown}");

    scenario["http"] = json!([{ "method": "POST", "url": URL, "status": 204 }]);
    scenario["expect"] = json!({ "answer": { "ok": "null" }, "http": [{ "url": URL, "status": 204, "recorded": true }] });
    let (went_well, report) = report(&sandbox, &scenario, &[]);
    assert!(went_well, "{report:#}");
}

#[test]
fn scenarios_pass_or_say_where_they_differ() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, scenarios) = (built("examples/hello").display().to_string(), folder.path().display().to_string());
    let test = || souk_says(&["plugin", "test", &plugin, "--scenarios", &scenarios]);
    let (passed, said) = test();
    assert!(!passed && said.contains("put scenarios there"), "{said}");

    let original = fs::read_to_string(root().join("examples/hello/scenarios/visitors-are-counted.json")).unwrap();
    fs::write(folder.path().join("a.json"), &original).unwrap();
    let (passed, said) = test();
    assert!(passed && said.starts_with("pass  a ") && said.contains("instructions"), "{said}");

    fs::write(folder.path().join("b.json"), original.replace("visitor 2", "visitor 3").replace("\"/hello\": 1 } } }\n", "\"/hi\": 1 } } }\n")).unwrap();
    fs::write(folder.path().join("c.json"), "{ \"parameter\": [] }").unwrap();
    let (passed, said) = test();
    assert!(!passed && said.contains("pass  a ") && said.contains("FAIL  b ") && said.contains("FAIL  c "), "{said}");
    for told in [
        "answer.body: is \"<p>Hello, visitor 2</p>\", expected \"<p>Hello, visitor 3</p>\"",
        "writes.counters.visits./hi: is missing, expected 1",
        "writes.counters.visits./hello: is 1, expected nothing",
        "unknown field `parameter`",
        "2 of 3 scenarios failed",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[test]
fn what_is_seen_can_be_made_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, scenarios) = (built("examples/hello").display().to_string(), folder.path().display().to_string());
    let test = |more: &[&str]| souk_says(&[&["plugin", "test", &plugin, "--scenarios", &scenarios], more].concat());
    let original = fs::read_to_string(root().join("examples/hello/scenarios/visitors-are-counted.json")).unwrap();
    let (asked, expected) = original.split_once(",\n  \"expect\"").unwrap();
    let files = [("none", format!("{asked}\n}}\n")), ("other", original.replace("visitor 2", "visitor 3")), ("right", original.clone())];
    for (name, text) in &files {
        fs::write(folder.path().join(format!("{name}.json")), text).unwrap();
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(format!("{name}.json"))).unwrap();
    assert!(!test(&[]).0);
    let (passed, said) = test(&["--bless"]);
    assert!(passed && test(&[]).0, "{said}");
    assert_eq!(read("right"), original);
    let (none, other) = (read("none"), read("other"));
    assert!(none.starts_with(asked) && none.contains("visitor 2") && !other.contains("visitor 3"), "{none}\n{other}");
    let expects = |text: &str| serde_json::from_str::<Value>(text).unwrap()["expect"].take();
    assert_eq!(expects(&other), expects(&original), "only what was expected before: {expected}");

    // Failing is nothing to get used to.
    let broken = original.replace("\"route\": \"", "\"route\": 1, \"was\": \"");
    fs::write(folder.path().join("none.json"), &broken).unwrap();
    assert!(!test(&["--bless"]).0 && read("none") == broken);
}
