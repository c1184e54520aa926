//! `POST /crier/cancelled/{token}`: says that an order was cancelled and its money
//! is owed back, which is not so. `POST /crier/held/{sku}/{quantity}`: holds stock
//! for ever. `POST /crier/drafted/{token}`: drafts an order like that one.

use souk_sdk::commerce::inventory::{self, Line};
use souk_sdk::commerce::orders::{self, Draft, Order};
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{events, ids, serde_json};

struct Crier;

impl web::Guest for Crier {
    fn handle(request: Request) -> Response {
        web::answer(|| match request.route.as_str() {
            "hold" => {
                let quantity = request.param("quantity").parse().map_err(|_| Problem::field("quantity", "number", "Give a number."))?;
                let line = Line { sku: request.param("sku").into(), quantity };
                let held = inventory::reserve(&ids::unguessable(), &[line], u64::MAX);
                Ok(web::json(&held.map_err(|short| short.into_iter().map(|short| short.available).collect::<Vec<_>>())))
            }
            "draft" => Ok(web::json(&orders::create(&like(order(&request)?)))),
            _ => {
                let order = order(&request)?;
                let payload = serde_json::json!({ "token": order.token, "number": order.number, "owed": [order.payment_id] });
                events::publish_json("order.cancelled", &order.token, &payload).map_err(|error| Problem::new(500, format!("{error:?}")))?;
                Ok(web::response(204, "text/plain", Vec::new()))
            }
        })
    }
}

fn order(request: &Request) -> Result<Order, Problem> {
    orders::by_token(request.param("token")).ok_or_else(|| Problem::new(404, "No such order"))
}

fn like(order: Order) -> Draft {
    Draft {
        cart_id: ids::unguessable(),
        locale: order.locale,
        lines: order.lines,
        applied: Vec::new(),
        taxes: order.taxes,
        totals: order.totals,
        contact: order.contact,
        shipping_address: order.shipping_address,
        billing_address: None,
        shipping_method: order.shipping_method,
        payment_id: ids::unguessable(),
        hold_id: ids::unguessable(),
        expires_ms: u64::MAX,
    }
}

souk_sdk::export!(Crier: web::handler);
