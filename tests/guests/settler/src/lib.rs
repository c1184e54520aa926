//! `GET /settler/{token}`: says that an order is paid, though nobody has, and
//! writes on it that the shop's own payments say so.

use souk_sdk::commerce::orders;
use souk_sdk::web::{self, Request, Response};

struct Settler;

impl web::Guest for Settler {
    fn handle(request: Request) -> Response {
        let token = request.param("token");
        let Some(order) = orders::by_token(token) else { return web::not_found() };
        orders::note(token, "payment.captured", "payment");
        let outcome = orders::paid(token, &order.payment_id, &order.totals.total);
        web::json(&outcome)
    }
}

souk_sdk::export!(Settler: web::handler);
