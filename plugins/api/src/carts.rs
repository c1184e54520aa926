//! Carts: made without an account, known by an id that cannot be guessed.
//! Every change answers with the whole cart as it is then.

use serde::Deserialize;
use souk_sdk::commerce::cart::{self, Contact, Error};
use souk_sdk::commerce::cart_review;
use souk_sdk::commerce::payment;
use souk_sdk::commerce::shopper_carts::{self, Client, Refusal};
use souk_sdk::commerce::types::Address;
use souk_sdk::entry;
use souk_sdk::web::{self, Problem, Request, Response};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLine {
    sku: String,
    quantity: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quantity {
    quantity: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addresses {
    shipping: Address,
    billing: Option<Address>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    id: String,
}

pub fn create(request: &Request) -> Result<Response, Problem> {
    let id = shopper_carts::create(&client(request)).map_err(|wait_s| {
        let detail = "This network has made very many carts. Use one that it has, or raise `carts-per-network-max` of `cart`.";
        Problem::new(429, "Too many carts").detail(detail).retry_after(wait_s)
    })?;
    Ok(view(&id, request)?.with_status(201).with_header("location", format!("/api/v1/carts/{id}")))
}

/// `route` is one of those under `/api/v1/carts/{cart}` in the manifest.
pub fn handle(request: &Request) -> Result<Response, Problem> {
    let id = request.param("cart");
    match request.route.as_str() {
        "cart" => Ok(()),
        "changes" => {
            let reviewed = cart_review::review(id, &request.locale).map_err(|error| problem(&error, &request.locale))?;
            return Ok(private(web::json(&reviewed.changes)));
        }
        "add-line" => {
            let line: NewLine = request.json()?;
            cart::add(id, &line.sku, line.quantity)
        }
        "line" if request.method == "DELETE" => cart::set_quantity(id, request.param("line"), 0),
        "line" => cart::set_quantity(id, request.param("line"), request.json::<Quantity>()?.quantity),
        "add-code" => return enter(id, &request.json::<Code>()?.code, request),
        "remove-code" => cart::remove_code(id, request.param("code")),
        "contact" => cart::set_contact(id, &request.json::<Contact>()?),
        "addresses" => {
            let addresses: Addresses = request.json()?;
            cart::set_addresses(id, &addresses.shipping, addresses.billing.as_ref())
        }
        "shipping-method" => cart::set_shipping_method(id, &request.json::<Chosen>()?.id),
        "shipping-methods" => {
            let methods = cart::shipping_methods(id, &request.locale).map_err(|error| problem(&error, &request.locale))?;
            return Ok(private(web::json(&methods)));
        }
        "payment-methods" => {
            let view = cart::get(id, &request.locale).map_err(|error| problem(&error, &request.locale))?;
            return Ok(private(web::json(&payment::methods(&view.totals.total, &request.locale))));
        }
        _ => return Ok(web::not_found()),
    }
    .map_err(|error| problem(&error, &request.locale))?;
    view(id, request)
}

/// Programmes have no session: the cart and the network tell one shopper from the other.
fn client(request: &Request) -> Client {
    Client { address: request.client_address.clone(), session: None }
}

/// A code that does not apply is told in this answer alone, which is no error: one would roll back the count of what was tried.
fn enter(id: &str, code: &str, request: &Request) -> Result<Response, Problem> {
    let failed = |error: Error| problem(&error, &request.locale);
    let rejected = shopper_carts::enter_code(id, code, &request.locale, &client(request)).map_err(|refusal| match refusal {
        Refusal::Cart(error) => failed(error),
        Refusal::Later(wait_s) => {
            let detail = "Too many codes that do not apply were tried for this cart or from this network. This one was not looked at.";
            Problem::new(429, "Too many tries").detail(detail).retry_after(wait_s)
        }
    })?;
    let mut view = cart::get(id, &request.locale).map_err(failed)?;
    if let Some(rejected) = rejected {
        view.rejected.retain(|known| known.code != rejected.code);
        view.rejected.push(rejected);
    }
    Ok(private(web::json(&view)))
}

fn view(id: &str, request: &Request) -> Result<Response, Problem> {
    cart::get(id, &request.locale).map(|view| private(web::json(&view))).map_err(|error| problem(&error, &request.locale))
}

/// Nobody between shop and shopper may keep it.
pub fn private(response: Response) -> Response {
    response.with_header("cache-control", "no-store")
}

pub fn problem(error: &Error, locale: &str) -> Problem {
    match error {
        Error::NotFound => Problem::new(404, "No such cart").detail("It was never made, or ended 30 days after its last change. POST /api/v1/carts makes one."),
        Error::UnknownSku(sku) => Problem::field("sku", "unknown", format!("`{sku}` is not sold here.")),
        Error::InvalidQuantity(quantity) => Problem::field("quantity", "range", format!("{quantity} is not possible: use 1 to 999 of one sku.")),
        Error::InsufficientStock((sku, available)) => {
            Problem::new(409, "Not enough in stock").detail(format!("{available} of `{sku}` are available. Ask for at most as many."))
        }
        Error::Full => Problem::new(409, "The cart is full").detail("It holds at most 200 lines and 10 codes. Remove some first."),
        Error::Completed(token) => Problem::new(409, "The cart became an order").detail(format!("Its token is {token}. POST /api/v1/carts makes a new cart.")),
        // The cart does not know in which language it is read.
        Error::Invalid(errors) => Problem::fields(errors.iter().map(|error| entry::mistake(&error.field, &error.code, locale)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_status_of_its_kind_and_says_what_to_do() {
        for (error, status, told) in [
            (Error::NotFound, 404, "POST /api/v1/carts"),
            (Error::UnknownSku("X".into()), 422, "`X`"),
            (Error::InvalidQuantity(0), 422, "1 to 999"),
            (Error::InsufficientStock(("X".into(), 3)), 409, "3 of `X`"),
            (Error::Full, 409, "at most 200"),
            (Error::Completed("token".into()), 409, "token"),
        ] {
            let problem = problem(&error, "en");
            assert_eq!(problem.status, status);
            assert!(problem.detail.contains(told), "{}", problem.detail);
        }
    }
}
