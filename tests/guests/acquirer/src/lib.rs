//! A payment company, for the test of `souk plugin new --kind payment-method`:
//! begins what it is asked for. Who notifies the shop of more is the test.

use serde::{Deserialize, Serialize};
use souk_sdk::web::{self, Json, Problem, Request, Response};

struct Acquirer;

#[derive(Deserialize)]
struct Asked {
    payment_id: String,
    amount: i64,
    currency: String,
}

#[derive(Serialize)]
struct Begun {
    id: String,
    status: &'static str,
    url: &'static str,
    payment_id: String,
    amount: i64,
    currency: String,
}

impl web::Guest for Acquirer {
    fn handle(request: Request) -> Response {
        web::call(begin, &request)
    }
}

fn begin(Json(asked): Json<Asked>, request: &Request) -> Result<Json<Begun>, Problem> {
    if request.header("authorization") != Some("Bearer api key") {
        return Err(Problem::new(401, "Who are you?"));
    }
    let key = request.header("idempotency-key").ok_or_else(|| Problem::new(400, "No idempotency-key"))?;
    Ok(Json(Begun {
        id: format!("acquired-{key}"),
        status: "open",
        url: "https://pay.example/page",
        payment_id: asked.payment_id,
        amount: asked.amount,
        currency: asked.currency,
    }))
}

souk_sdk::export!(Acquirer: web::handler);
