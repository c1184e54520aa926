//! What others' formats ask of the shop, judged by others' tools, which `cargo xtask test` installs: the JSON API keeps to its own
//! OpenAPI document, whatever schemathesis sends to it, and a plugin's list of parts is CycloneDX.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use souk_tests::{Shop, root, said};

const CHECKS: &str = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance";

const IS_CYCLONEDX: &str = r#"
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

validator = JsonStrictValidator(SchemaVersion.V1_5)
for path in sys.argv[1:]:
    if error := validator.validate_str(pathlib.Path(path).read_text("utf-8")):
        sys.exit(f"{path}: {error}")
"#;

#[test]
fn the_api_keeps_to_its_document() {
    let shop = Shop::open();
    let folder = tempfile::tempdir().unwrap();
    let mut schemathesis = Command::new(tool("schemathesis"));
    schemathesis.current_dir(folder.path()).arg("run").arg(format!("{}/api/v1/openapi.json", shop.url));
    schemathesis.args(["--url", &shop.url, "--checks", CHECKS, "--seed", "1", "--max-examples", "30", "--no-color"]);
    let (kept, said) = said(schemathesis.output().unwrap());
    assert!(kept, "{said}");
}

#[test]
fn a_list_of_parts_is_cyclonedx() {
    let judge = |lists: &[PathBuf]| said(Command::new(tool("python")).args(["-c", IS_CYCLONEDX]).args(lists).output().unwrap());
    let built = fs::read_dir(root().join("target/plugins")).unwrap();
    let lists: Vec<_> = built.map(|plugin| plugin.unwrap().path().join("sbom.cdx.json")).filter(|list| list.exists()).collect();
    assert!(!lists.is_empty(), "no plugin was built with one");
    let (right, said) = judge(&lists);
    assert!(right, "{said}");

    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.json");
    fs::write(&wrong, fs::read_to_string(&lists[0]).unwrap().replace("\"library\"", "\"book\"")).unwrap();
    let (right, said) = judge(&[wrong]);
    assert!(!right && said.contains("'book' is not one of"), "{said}");
}

fn tool(name: &str) -> PathBuf {
    let tool = root().join("target/tools/python/bin").join(name);
    assert!(tool.exists(), "{} is missing: run the tests with `cargo xtask test`", tool.display());
    tool
}
