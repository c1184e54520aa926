//! From cart to order, and the order itself, known by a token that cannot be
//! guessed.

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::checkout::{self, AddressField, Country, Error};
use souk_sdk::commerce::order_cancellation::{self, Canceller, Outcome};
use souk_sdk::commerce::order_history::{self, Step};
use souk_sdk::commerce::order_look_up;
use souk_sdk::commerce::order_placing::{self, Error as PlacingError};
use souk_sdk::commerce::order_reopening::{self, Error as ReopenError};
use souk_sdk::commerce::orders::{self, Order};
use souk_sdk::commerce::payment::{self, Payment};
use souk_sdk::commerce::unpaid_orders::{Holder, Limit};
use souk_sdk::web::{self, Json, Path, Problem, Request, Response, Text};

use crate::carts;

/// The longest that they take.
const GIVEN_UP_AGAIN_S: u32 = 60 * 60;
const FREE_AGAIN_S: u32 = 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    payment_method: String,
    /// Of the cart that the shopper agreed to.
    fingerprint: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    payment_method: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookUp {
    number: Text<40>,
    /// The e-mail address or the phone number that was given with the order.
    contact: Text<254>,
}

#[derive(Serialize)]
struct Found {
    /// None where number and contact do not belong together.
    token: Option<String>,
}

#[derive(Serialize)]
struct Reopened {
    cart: String,
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct WithPayment {
    #[serde(flatten)]
    order: Order,
    /// The newest; none for an order that costs nothing.
    payment: Option<Payment>,
    /// What the shopper may read of the timeline, with amounts and the parcel's number.
    history: Vec<Step>,
}

pub fn countries(request: &Request) -> Json<Vec<Country>> {
    Json(checkout::countries(&request.locale))
}

pub fn address_form(Path(country): Path<&str>, request: &Request) -> Result<Json<Vec<AddressField>>, Problem> {
    let fields = checkout::address_form(country, &request.locale);
    if fields.is_empty() {
        return Err(Problem::new(404, "No such country").detail("Use a code of GET /api/v1/countries."));
    }
    Ok(Json(fields))
}

pub fn place(Path(cart): Path<&str>, Json(place): Json<Place>, request: &Request) -> Result<Response, Problem> {
    // Programmes have no session: the e-mail and the network tell one shopper from the other.
    let holder = Holder { address: request.client_address.clone(), session: None };
    let placed = order_placing::place(cart, &place.payment_method, place.fingerprint.as_deref(), &request.locale, &holder).map_err(|error| match error {
        PlacingError::Checkout(error) => problem(&error, &request.locale),
        PlacingError::Limited(limit) => too_much(&limit),
    })?;
    let response = carts::private(web::json(&placed)).with_status(201).with_header("location", format!("/api/v1/orders/{}", placed.token));
    Ok(Response { await_effects: true, ..response })
}

/// What is not found is no error: one would roll back the count of what was tried.
pub fn look_up(Json(asked): Json<LookUp>, request: &Request) -> Result<Response, Problem> {
    let found = order_look_up::find(&asked.number, &asked.contact, &request.client_address);
    let order = found.map_err(|wait_s| Problem::new(429, "Too many tries").detail("This order or this network was tried too often in vain.").retry_after(wait_s))?;
    Ok(carts::private(web::json(&Found { token: order.map(|order| order.token) })))
}

/// `route` is one of those under `/api/v1/orders/{token}` in the manifest.
pub fn handle(Path(token): Path<&str>, request: &Request) -> Result<Response, Problem> {
    let order = orders::by_token(token).ok_or_else(|| Problem::new(404, "No such order").detail("Use the token that POST /api/v1/carts/{cart}/order answered."))?;
    match request.route.as_str() {
        "cancel-order" => {
            if order_cancellation::cancel(token, Canceller::Shopper, "by the shopper") == Outcome::Sent {
                return Err(Problem::new(409, "The order is sent").detail("It can no longer be cancelled here. Ask the shop."));
            }
            Ok(Response { await_effects: true, ..view(orders::by_token(token).unwrap_or(order))? })
        }
        "reopen-order" => {
            let reopened = order_reopening::reopen(token).map_err(|error| match error {
                ReopenError::UnknownOrder => Problem::new(404, "No such order"),
                ReopenError::Paid => Problem::new(409, "The order is placed").detail("It is paid for and can no longer be changed here. Ask the shop."),
            })?;
            let answer = Reopened { cart: reopened.cart_id, left_out: reopened.left_out };
            let location = format!("/api/v1/carts/{}", answer.cart);
            Ok(Response { await_effects: true, ..carts::private(web::json(&answer)).with_status(201).with_header("location", location) })
        }
        "pay-order" => {
            let retry: Retry = request.json()?;
            let refused = |reason: String| Problem::new(409, "No other payment is possible").detail(reason);
            let open = payment::latest(token).ok_or_else(|| refused("The order costs nothing.".into()))?;
            payment::retry(&open.id, &retry.payment_method, &request.locale).map_err(refused)?;
            Ok(Response { await_effects: true, ..view(order)?.with_status(201) })
        }
        "check-payment" => {
            if let Some(newest) = payment::latest(token) {
                payment::refresh(&newest.id);
            }
            view(orders::by_token(token).unwrap_or(order))
        }
        _ => view(order),
    }
}

/// What staff and plugins noted is not for the shopper's eyes.
fn view(mut order: Order) -> Result<Response, Problem> {
    for entry in &mut order.timeline {
        entry.detail.clear();
    }
    let (payment, history) = (payment::latest(&order.token), order_history::steps(&order.token));
    Ok(carts::private(web::json(&WithPayment { order, payment, history })))
}

fn too_much(limit: &Limit) -> Problem {
    if limit.name.starts_with("given-up") {
        let detail = format!("{} orders were placed and not paid within an hour (`{}`). Pay for one, or try again later.", limit.most, limit.name);
        return Problem::new(429, "Too many orders were given up").detail(detail).retry_after(GIVEN_UP_AGAIN_S);
    }
    if limit.name.starts_with("free-orders") {
        let detail = format!("{} orders that cost nothing may be placed in a day (`{}`).", limit.most, limit.name);
        return Problem::new(429, "Too many free orders").detail(detail).retry_after(FREE_AGAIN_S);
    }
    let of = limit.sku.as_ref().map_or_else(String::new, |sku| format!(" of `{sku}`"));
    let detail = format!("Unpaid orders may hold {}{of} (`{}`). Pay for one of them, cancel it, or order less.", limit.most, limit.name);
    Problem::new(409, "Unpaid orders hold too much").detail(detail)
}

fn problem(error: &Error, locale: &str) -> Problem {
    match error {
        Error::Cart(error) => carts::problem(error, locale),
        Error::Empty => Problem::new(409, "The cart is empty").detail("Add a line first."),
        Error::Invalid(errors) => Problem::fields(errors.clone()),
        Error::Shortage(short) => {
            let short = short.iter().map(|(sku, available)| format!("{available} of `{sku}`"));
            Problem::new(409, "Not enough in stock").detail(format!("Only {} can be had. Lower the quantities.", short.collect::<Vec<_>>().join(", ")))
        }
        Error::DiscountsGone(ids) => {
            Problem::new(409, "A discount is used up").detail(format!("{} went to others meanwhile. Get the cart again for what it costs now.", ids.join(", ")))
        }
        Error::Changed => Problem::new(409, "The total has changed").detail("Get the cart again and show it to the shopper: its fingerprint is another one."),
        Error::UnknownPaymentMethod(_) => {
            Problem::field("payment_method", "unknown", "Use an id of GET /api/v1/carts/{cart}/payment-methods.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_status_of_its_kind_and_says_what_to_do() {
        for (error, status, told) in [
            (Error::Empty, 409, "Add a line"),
            (Error::Shortage(vec![("X".into(), 2)]), 409, "2 of `X`"),
            (Error::DiscountsGone(vec!["discount-coupon/ONCE".into()]), 409, "discount-coupon/ONCE"),
            (Error::Changed, 409, "fingerprint"),
            (Error::UnknownPaymentMethod("cash".into()), 422, "payment-methods"),
        ] {
            let problem = problem(&error, "en");
            assert_eq!(problem.status, status);
            assert!(problem.detail.contains(told), "{}", problem.detail);
        }
    }
}
