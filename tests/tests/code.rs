//! Compiled code: however many versions come and go, what is kept and what is
//! loaded have bounds.

use std::fs;
use std::path::Path;

use souk_tests::{Shop, add_settings, bare_store, replace, until};

const SWAPS: usize = 8;
const BYTES_MAX: u64 = 1 << 20;

/// Another component that does the same: with a custom section behind it.
fn changed(component: &[u8], version: usize) -> Vec<u8> {
    let content = [&[4][..], b"edit", version.to_string().as_bytes()].concat();
    [component, &[0, content.len() as u8], &content].concat()
}

fn files(folder: &Path) -> Vec<u64> {
    let code = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"));
    code.map(|entry| entry.metadata().unwrap().len()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_versions_leave_bounded_code_on_disk_and_in_memory() {
    let store = bare_store(&["notes"]);
    let cache = store.path().join("store/cache/code");
    // One of its own, not that of all tests.
    fs::remove_file(&cache).unwrap();
    let settings = store.path().join("store/souk.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("code-cache-bytes-max = 8589934592", &format!("code-cache-bytes-max = {BYTES_MAX}"))).unwrap();
    add_settings(&store, "[plugins]\ngrants = \"implied\"\nbaseline-code = false");
    let shop = Shop::serve(store);
    let plugin = shop.folder().join("plugins/notes");
    let (component, manifest) = (fs::read(plugin.join("plugin.wasm")).unwrap(), fs::read_to_string(plugin.join("plugin.toml")).unwrap());
    let modules = shop.metric("souk_code_modules ").await;
    assert!(modules >= 1.0);
    for swap in 1..=SWAPS {
        let version = format!("9.{swap}.0");
        let lines = manifest.lines().map(|line| if line.starts_with("version = ") { format!("version = \"{version}\"") } else { line.to_owned() });
        replace(&plugin.join("plugin.toml"), lines.collect::<Vec<_>>().join("\n").as_bytes());
        replace(&plugin.join("plugin.wasm"), &changed(&component, swap));
        until(|| shop.report("notes")["version"] == version.as_str()).await;
    }
    // What is being replaced goes once its last request has ended.
    shop.until_metric("souk_code_modules ", |now| now <= modules).await;
    let kept = files(&cache);
    let largest = kept.iter().max().unwrap();
    // What is live, what the last swaps have replaced, and what fits.
    assert!(kept.len() <= 5 + (BYTES_MAX / largest) as usize && kept.len() >= 2, "{kept:?}");
    assert_eq!(shop.metric("souk_code_kept_files ").await as usize, kept.len());
    assert_eq!(shop.metric("souk_code_kept_bytes ").await as u64, kept.iter().sum::<u64>());
    let (_, said) = shop.says(&["status"]);
    assert!(said.contains("1 modules loaded") && said.contains("kept on disk"), "{said}");

    // All that is not in use goes down to the bound at the next start.
    let folder = shop.close().folder;
    let (listed, said) = souk_tests::souk_says(&["plugin", "list", "--store", folder.path().join("store").to_str().unwrap()]);
    assert!(listed, "{said}");
    let kept = files(&cache);
    assert!(kept.iter().sum::<u64>() <= BYTES_MAX.max(*kept.iter().max().unwrap()), "{kept:?}");
}
