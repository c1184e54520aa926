//! A catalogue of any size, out of the shop's own: the same products again and
//! again, each copy one of its own. Knows nothing of what is measured with it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use souk_tests::Shop;

/// Products in one import, which is one unit of work: as many as the smallest
/// shop has, so that the units are alike in each.
const IMPORT: usize = 1_000;
/// Products that have a word in common with no other.
pub const LOT: usize = 20;

pub struct Catalogue {
    originals: Vec<Value>,
}

impl Catalogue {
    pub fn read(folder: &Path) -> Result<Self> {
        let mut originals = Vec::new();
        for file in fs::read_dir(folder.join("products"))? {
            let file = file?.path();
            let list: Vec<Value> = serde_json::from_slice(&fs::read(&file)?).with_context(|| file.display().to_string())?;
            originals.extend(list);
        }
        ensure!(!originals.is_empty(), "no products in {}", folder.display());
        Ok(Self { originals })
    }

    fn original(&self, number: usize) -> &Value {
        &self.originals[number % self.originals.len()]
    }

    pub fn handle(&self, number: usize) -> String {
        format!("{}-{number}", self.original(number)["handle"].as_str().unwrap_or_default())
    }

    pub fn sku(&self, number: usize) -> String {
        format!("{}-{number}", self.original(number)["variants"][0]["sku"].as_str().unwrap_or_default())
    }

    pub fn categories(&self) -> Vec<&str> {
        let mut categories: Vec<&str> = self.originals.iter().filter_map(|product| product["category"].as_str()).collect();
        categories.sort_unstable();
        categories.dedup();
        categories
    }

    /// A word that [`LOT`] products have, where the catalogue has as many. None is the beginning of another.
    pub fn lot(number: usize) -> String {
        format!("lot{:06}", number / LOT)
    }

    /// A copy of one of the products that is one of its own.
    fn copy(&self, number: usize) -> Value {
        let mut product = self.original(number).clone();
        product["handle"] = self.handle(number).into();
        if let Some(tags) = product["tags"].as_array_mut() {
            tags.push(Self::lot(number).into());
        }
        for variant in product["variants"].as_array_mut().into_iter().flatten() {
            variant["sku"] = format!("{}-{number}", variant["sku"].as_str().unwrap_or_default()).into();
            if let Some(barcode) = variant.get_mut("barcode") {
                *barcode = Value::Null;
            }
        }
        product
    }

    /// Gives a shop so many products more; answers with how many seconds that took.
    pub fn grow(&self, shop: &Shop, count: usize) -> Result<f64> {
        let begun = Instant::now();
        let file = tempfile::NamedTempFile::with_suffix(".json")?;
        for from in (0..count).step_by(IMPORT) {
            let products: Vec<Value> = (from..count.min(from + IMPORT)).map(|number| self.copy(number)).collect();
            fs::write(file.path(), serde_json::to_vec(&json!({ "products": products }))?)?;
            let output = shop.souk(&["store", "import", &file.path().display().to_string()]);
            let told = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "{told:.300}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}
