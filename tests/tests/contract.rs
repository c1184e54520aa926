//! The JSON API keeps to its own OpenAPI document, whatever is sent to it:
//! schemathesis makes the requests. `cargo xtask test` installs it.

use std::process::Command;

use souk_tests::{Shop, root};

const CHECKS: &str = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance";

#[test]
fn the_api_keeps_to_its_document() {
    let tool = root().join("target/tools/schemathesis/bin/schemathesis");
    assert!(tool.exists(), "{} is missing: run the tests with `cargo xtask test`", tool.display());
    let shop = Shop::open();
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(tool)
        .current_dir(folder.path())
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", shop.url))
        .args(["--url", &shop.url, "--checks", CHECKS, "--seed", "1", "--max-examples", "30", "--no-color"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}
