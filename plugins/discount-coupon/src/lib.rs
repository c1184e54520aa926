//! Coupons: provides `souk:extend/discount`. Says what a code would take off;
//! `promotions` counts the uses and decides.

mod commands;
mod coupon;

use std::collections::BTreeMap;

use serde::Deserialize;
use souk_sdk::extend::discount::{self, Answer, Cart, Failure};
use souk_sdk::extend::types::FailureKind;
use souk_sdk::host::command_handler;
use souk_sdk::config;
use souk_sdk::storage::{Collection, CollectionError, Error};

use coupon::Coupon;

/// By code, in upper case.
const COUPONS: Collection<Coupon> = Collection::new("coupons", &[]);

struct Coupons;

impl discount::Guest for Coupons {
    fn propose(cart: Cart) -> Result<Vec<Answer>, Failure> {
        if cart.codes.is_empty() {
            return Ok(Vec::new());
        }
        let known = match COUPONS.get_many(&cart.codes) {
            // A code that can be no key is nobody's.
            Err(CollectionError::Storage(Error::Invalid(_))) => return Ok(Vec::new()),
            known => known.map_err(|error| Failure { provider: String::new(), kind: FailureKind::Failed, message: error.to_string() })?,
        };
        Ok(known.into_iter().flatten().map(|coupon| coupon.answer(&cart)).collect())
    }
}

#[derive(Deserialize)]
struct File {
    coupons: Vec<serde_json::Value>,
}

impl command_handler::Guest for Coupons {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        match name.as_str() {
            "import-coupons" => {}
            "export-coupons" => return commands::export(),
            "set-coupon" => return commands::set(&arguments).map(String::into_bytes),
            "remove-coupon" => return commands::remove(&arguments).map(String::into_bytes),
            "list-coupons" => return commands::list(&arguments),
            other => return Err(format!("discount-coupon has no command `{other}`")),
        }
        let zone = config::shop().time_zone;
        let dry_run = arguments.iter().any(|(name, value)| name == "dry-run" && value != "false");
        let file: File = serde_json::from_slice(&input).map_err(|error| error.to_string())?;
        let (mut coupons, mut faults) = (BTreeMap::new(), Vec::new());
        for (row, coupon) in (1..).zip(file.coupons) {
            match Coupon::read(coupon, &zone) {
                Ok(coupon) if coupons.contains_key(&coupon.code) => faults.push(format!("coupon {row}: the code {} is there twice", coupon.code)),
                Ok(coupon) => _ = coupons.insert(coupon.code.clone(), coupon),
                Err(fault) => faults.push(format!("coupon {row}: {fault}")),
            }
        }
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        if !dry_run {
            for (code, coupon) in &coupons {
                COUPONS.put(code, coupon).map_err(|error| error.to_string())?;
            }
        }
        Ok(serde_json::json!({ "coupons": coupons.len(), "dry-run": dry_run }).to_string().into_bytes())
    }
}

souk_sdk::export!(Coupons: extend::discount, host::command_handler);
