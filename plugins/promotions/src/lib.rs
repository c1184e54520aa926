//! Discounts: exports `souk:commerce/promotions` over the providers of
//! `souk:extend/discount`. [`combine`] decides, [`uses`] counts.

mod combine;
mod text;
mod uses;

use std::collections::BTreeSet;

use souk_sdk::commerce::promotions::{self, Line, Outcome};
use souk_sdk::extend::discount::{self, Answer, Cart};
use souk_sdk::host::command_handler;
use souk_sdk::money::{Money, MoneyError};
use souk_sdk::{clock, jobs, log, metrics};

use combine::{Offer, Sorted};
use uses::Left;

struct Promotions;

impl promotions::Guest for Promotions {
    fn apply(lines: Vec<Line>, shipping: Money, codes: Vec<String>, customer: Option<String>, locale: String) -> Outcome {
        let nothing = || Outcome { applied: Vec::new(), allocations: Vec::new(), shipping: Money::zero(&shipping.currency), rejected: Vec::new() };
        let outcome = cart(&lines, &shipping, &codes, customer.as_deref(), &locale).and_then(|cart| {
            let answers = propose(&cart);
            let mut sorted = combine::sort(answers, &lines, &shipping.currency, &cart.codes.into_iter().collect());
            for fault in &sorted.faults {
                log::warn!("a discount is left out: {fault}");
            }
            for (provider, cut) in &sorted.cut {
                log::warn!("{cut} proposals are more than one provider's may be, and were left out"; provider = provider);
                metrics::count("proposals_cut", &[("provider".into(), provider.clone())], *cut as u64);
            }
            leave_out_used_up(&mut sorted, customer.as_deref(), &locale);
            combine::combine(&lines, &shipping, &codes, sorted, &locale)
        });
        outcome.unwrap_or_else(|error| {
            log::warn!("no discounts for a cart that cannot be summed up: {error}");
            nothing()
        })
    }

    fn claim(id: String, applied: Vec<String>, customer: Option<String>) -> Result<(), Vec<String>> {
        must(uses::claim(&id, &applied, customer.as_deref()))
    }

    fn release(id: String) {
        must(uses::release(&id));
    }
}

/// The unit cannot go on; the interface has no error for it.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("promotions storage: {error}"))
}

fn cart(lines: &[Line], shipping: &Money, codes: &[String], customer: Option<&str>, locale: &str) -> Result<Cart, MoneyError> {
    let mut subtotal = Money::zero(&shipping.currency);
    for line in lines {
        subtotal = subtotal.add(&line.unit_price.times(i64::from(line.quantity))?)?;
    }
    let lines = lines.iter().map(|line| discount::Line {
        id: line.id.clone(),
        sku: line.sku.clone(),
        product: line.product.clone(),
        quantity: line.quantity,
        unit_price: line.unit_price.clone(),
        categories: line.categories.clone(),
        tags: line.tags.clone(),
    });
    let codes: BTreeSet<String> = codes.iter().map(|code| combine::code_key(code)).collect();
    Ok(Cart {
        lines: lines.collect(),
        subtotal,
        shipping: shipping.clone(),
        codes: codes.into_iter().collect(),
        customer: customer.map(Into::into),
        now_ms: clock::now_ms(),
        locale: locale.into(),
    })
}

/// Without proposals a cart costs more, never less: a failure is logged, and
/// codes then show as not valid.
fn propose(cart: &Cart) -> Vec<Answer> {
    if cart.lines.is_empty() && cart.codes.is_empty() {
        return Vec::new();
    }
    discount::propose(cart).unwrap_or_else(|failure| {
        log::error!("no discounts proposed: {}", failure.message; provider = failure.provider);
        Vec::new()
    })
}

fn leave_out_used_up(sorted: &mut Sorted, customer: Option<&str>, locale: &str) {
    let asked: Vec<_> = sorted.offers.iter().map(|offer| (offer.id.as_str(), offer.limit.as_ref())).collect();
    let left = must(uses::learn(&asked, customer));
    let mut kept: Vec<Offer> = Vec::with_capacity(left.len());
    for (offer, left) in std::mem::take(&mut sorted.offers).into_iter().zip(left) {
        let reason = match left {
            Left::Some => {
                kept.push(offer);
                continue;
            }
            Left::None => text::used_up(locale),
            Left::NoneForCustomer => text::used_by_customer(locale),
            Left::TooManyLimits => {
                log::warn!("a discount is left out: its limit changes from cart to cart, or its provider shows too many; an id stands for one limit"; discount = offer.id);
                text::not_looked_at(locale)
            }
        };
        if let Some(code) = offer.code {
            sorted.reasons.insert(code, reason);
        }
    }
    sorted.offers = kept;
}

impl jobs::Guest for Promotions {
    fn run(_: jobs::Job) -> Result<bool, String> {
        uses::forget_unused().map_err(|error| error.to_string())
    }
}

impl command_handler::Guest for Promotions {
    fn run(name: String, arguments: Vec<(String, String)>, _: Vec<u8>) -> Result<Vec<u8>, String> {
        let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
        if name != "list-uses" {
            return Err(format!("promotions has no command `{name}`"));
        }
        let limit = argument("limit").map_or(Ok(100), str::parse).map_err(|_| "limit: give a number".to_owned())?;
        let after = argument("after");
        let rows = uses::list(after, limit).map_err(|error| error.to_string())?;
        let rows = rows.ok_or_else(|| format!("after: no discount `{}` has a limit: begin anew without it", after.unwrap_or_default()))?;
        serde_json::to_vec_pretty(&rows).map_err(|error| error.to_string())
    }
}

souk_sdk::export!(Promotions: commerce::promotions, host::command_handler, host::job_handler);
