//! Files of stock over the shop's products, with an inventory in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use souk_sdk::commerce::stock_counts::{Count, Outcome as Set, Policy, Refusal, Stock};
use souk_sdk::testing;

use crate::import::{Options, Outcome};
use crate::stock::{self, Report, Shelf};
use crate::tests::{run, small};

/// Four of `T1-50` are held.
#[derive(Default)]
struct Counted(RefCell<BTreeMap<String, (i64, Policy)>>);

const HELD: i64 = 4;

fn held(sku: &str) -> i64 {
    if sku == "T1-50" { HELD } else { 0 }
}

impl Shelf for Counted {
    fn set(&self, counts: &[Count], dry_run: bool) -> Vec<Set> {
        let set = |count: &Count| {
            let mut known = self.0.borrow_mut();
            let before = known.get(&count.sku).copied().unwrap_or((0, Policy::Deny));
            let after = (count.quantity.unwrap_or(before.0), count.policy.unwrap_or(before.1));
            if after.0 < held(&count.sku) {
                return Set::Refused(Refusal { problem: "4 are held".into(), remedy: "cancel orders first".into() });
            }
            if !dry_run {
                known.insert(count.sku.clone(), after);
            }
            if before == after { Set::Unchanged } else { Set::Changed }
        };
        counts.iter().map(set).collect()
    }

    fn get(&self, skus: &[String]) -> Vec<Stock> {
        let known = self.0.borrow();
        skus.iter().map(|sku| known.get(sku).map_or(Stock { quantity: 0, policy: Policy::Deny }, |(quantity, policy)| Stock { quantity: *quantity, policy: *policy })).collect()
    }

    fn available(&self, skus: &[String]) -> Vec<i64> {
        self.get(skus).iter().zip(skus).map(|(stock, sku)| stock.quantity - held(sku)).collect()
    }
}

fn shop() -> Counted {
    run("import-catalogue", &[], small().to_string().as_bytes()).unwrap();
    let counted = Counted::default();
    counted.0.borrow_mut().insert("T1-50".into(), (10, Policy::Deny));
    counted
}

fn import(shelf: &Counted, input: &str, options: Options) -> Report {
    testing::unit(|| stock::import(input.as_bytes(), options, shelf)).unwrap()
}

const PARTIAL: Options = Options { dry_run: false, partial: true, prune: false, create: false, encoding: None };

fn told(report: &Report) -> Vec<(u64, Outcome, String)> {
    let text = |row: &stock::Row| row.faults.first().map_or_else(|| row.changes.join(", "), |fault| fault.problem.clone());
    report.rows.iter().map(|row| (row.line, row.outcome, text(row))).collect()
}

#[test]
fn stock_is_imported_from_every_format() {
    let shelf = shop();
    let count = |sku: &str| shelf.get(&[sku.to_owned()])[0].quantity;
    let catalogue = r#"{"products":[{"variants":[{"sku":"T1-50","stock":7},{"sku":"C1"}]}]}"#;
    assert_eq!(import(&shelf, catalogue, PARTIAL).updated, 1);
    assert_eq!((import(&shelf, catalogue, PARTIAL).unchanged, count("T1-50")), (2, 7));
    for (file, quantity) in [
        (r#"[{"sku":"C1","quantity":2}]"#, 2),
        ("\u{feff}sku,quantity\nC1,3\nT1-50,\n", 3),
        ("Handle,Title,Variant SKU,Variant Inventory Qty\nmug,Mug,C1,4\nmug,,,\n", 4),
        ("URL handle;SKU;Inventory quantity\r\ncup;C1;6.0\r\n;;\r\n", 6),
        ("SKU,available\nC1,5\n", 5),
    ] {
        let report = import(&shelf, file, PARTIAL);
        assert_eq!((report.refused, count("C1")), (0, quantity), "{file}: {report:?}");
    }
    // What may be sold is what lies there less what is held.
    import(&shelf, "sku,available\nT1-50,0\n", PARTIAL);
    assert_eq!(count("T1-50"), HELD);
    for (file, fault) in [("sku,amount\nA,1\n", "no column `On hand`"), ("name,quantity\nA,1\n", "no column `SKU`"), ("{}", "neither a list"), ("sku,quantity,Quantity\nC1,1,2\n", "two columns are named `Quantity`")] {
        assert!(stock::import(file.as_bytes(), PARTIAL, &shelf).unwrap_err().contains(fault), "{file}");
    }
}

/// What a row names and no product has is refused, and nothing else is taken for it.
#[test]
fn a_row_goes_to_the_sku_that_it_names_or_nowhere() {
    let shelf = shop();
    let file = "sku,quantity,policy\nT1-50,12,untracked\nT1-5O,3,\nC1,many,\nT1-100,1,\nT1-100,2,\n,4,\nT 1,1,\n";
    let report = import(&shelf, file, PARTIAL);
    let twice = "`T1-100` occurs more than once in this file";
    let wanted = [
        (2, Outcome::Updated, "on hand 10 → 12, policy deny → untracked"), (3, Outcome::Refused, "no product has `T1-5O`"), (4, Outcome::Refused, "`many` is not a quantity"),
        (5, Outcome::Refused, twice), (6, Outcome::Refused, twice), (7, Outcome::Refused, "there is none"), (8, Outcome::Refused, "`T 1` is not a sku"),
    ];
    assert_eq!(told(&report), wanted.map(|(line, outcome, text)| (line, outcome, text.to_owned())));
    assert_eq!(shelf.0.borrow().len(), 1);
    assert!(report.rejects.unwrap().contains("\nT1-5O,3,,\"SKU: no product has"));
    let created = import(&shelf, "sku,quantity\nT1-5O,3\n", Options { create: true, ..PARTIAL });
    assert_eq!((created.created, shelf.get(&["T1-5O".into()])[0].quantity), (1, 3));
    let whole = import(&shelf, "sku,quantity\nC1,9\nNO,1\n", Options::default());
    assert_eq!((whole.applied, shelf.get(&["C1".into()])[0].quantity), (false, 0));
}

#[test]
fn locations_are_summed_and_a_sku_never_falls_back_to_options() {
    let shelf = shop();
    let header = "Handle,Option1 Name,Option1 Value,SKU,Location,On hand";
    let dry = Options { dry_run: true, ..PARTIAL };
    let file = format!(
        "{header}\nlongjing,Size,50 g,T1-50,A,8\nlongjing,Size,50 g,T1-50,B,6\nlongjing,Size,100 g,,A,5\n\
         longjing,Size,50 g,OTHER,A,1\nlongjing,Size,50 g,C1,A,2\ncup,,,C1,A,not stocked\nlongjing,Size,1 kg,,A,3\n"
    );
    let report = import(&shelf, &file, dry);
    let wanted = [
        (2, Outcome::Updated, "on hand 10 → 14"), (4, Outcome::Updated, "on hand 0 → 5"), (5, Outcome::Refused, "no product has `OTHER`"),
        (6, Outcome::Refused, "`C1` belongs to product `cup`, and the row names `longjing`"), (8, Outcome::Refused, "no product has this variant"),
    ];
    assert_eq!(told(&report), wanted.map(|(line, outcome, text)| (line, outcome, text.to_owned())));
    assert!(!report.applied && shelf.0.borrow()["T1-50"].0 == 10);
}

#[test]
fn what_is_exported_and_imported_again_changes_nothing() {
    let shelf = shop();
    import(&shelf, "sku,quantity,policy\nC1,2,continue-selling\nT1-100,3,untracked\n", PARTIAL);
    let file = String::from_utf8(stock::export(&shelf)).unwrap();
    assert!(file.starts_with("\u{feff}SKU,Product,On hand,Stock policy\n") && file.contains("C1,cup,2,continue-selling"), "{file}");
    let again = import(&shelf, &file, PARTIAL);
    assert_eq!((again.unchanged, again.rows.len()), (3, 3), "{again:?}");
    let elsewhere = Counted::default();
    assert_eq!(import(&elsewhere, &file, PARTIAL).updated, 3);
    assert_eq!(stock::export(&elsewhere), file.into_bytes());
}
