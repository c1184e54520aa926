//! Buying over the API with the measuring client: what `souk-bench` and
//! `souk-load` have in common.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Shop;
use crate::api::filling;
use crate::process::handles;
use crate::wire::Client;

/// The path of a cart that lacks nothing but its order.
pub async fn filled_cart(client: &mut Client, sku: &str, choose: bool) -> Result<String> {
    let cart = ok(client, "POST", "/carts", Value::Null).await?;
    let cart = format!("/carts/{}", cart["id"].as_str().context("no cart")?);
    for (method, what, mut body) in filling(sku, 1) {
        if choose && what == "shipping-method" {
            body["id"] = ok(client, "GET", &format!("{cart}/shipping-methods"), Value::Null).await?[0]["id"].clone();
        }
        ok(client, method, &format!("{cart}/{what}"), body).await?;
    }
    Ok(cart)
}

pub async fn await_placed(client: &mut Client, order: &Value) -> Result<()> {
    let path = format!("/orders/{}", order["token"].as_str().context("no token")?);
    let begun = Instant::now();
    loop {
        let order = ok(client, "GET", &path, Value::Null).await?;
        if order["status"] == "placed" {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "never placed: {order}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What every method of the shop's own country carries.
const PARCEL_G_MAX: i64 = 20_000;

/// A handle and a sku of each of many products that can be sent.
pub async fn wares(address: SocketAddr) -> Result<Vec<(String, String)>> {
    let mut client = Client::connect(address).await?;
    let mut wares = Vec::new();
    for handle in handles(address, 200).await? {
        let product = ok(&mut client, "GET", &format!("/products/{handle}"), Value::Null).await?;
        let variant = &product["variants"][0];
        if variant["weight_g"].as_i64().is_some_and(|weight| weight <= PARCEL_G_MAX) {
            wares.push((handle, variant["sku"].as_str().context("no sku")?.to_owned()));
        }
    }
    Ok(wares)
}

pub fn stock(shop: &Shop, counts: &[Value]) -> Result<()> {
    let file = shop.folder().join("stock.json");
    std::fs::write(&file, serde_json::to_vec(counts)?)?;
    shop.run("import-stock", &["--input", &file.display().to_string()]);
    Ok(())
}

pub async fn ok(client: &mut Client, method: &str, path: &str, body: Value) -> Result<Value> {
    let (status, answer) = client.json(method, &format!("/api/v1{path}"), &body).await?;
    ensure!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    Ok(answer)
}
