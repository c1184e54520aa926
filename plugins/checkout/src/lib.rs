//! From cart to order: exports `souk:commerce/checkout`. Keeps nothing: what is
//! entered goes into the cart, what is placed into the order. [`form`] knows
//! addresses.

mod countries;
mod form;

use souk_sdk::commerce::cart::{self, Contact, View};
use souk_sdk::commerce::checkout::{self, AddressField, CartError, Country, Details, Error, Placed};
use souk_sdk::commerce::order_placing::{self, Error as PlacingError};
use souk_sdk::commerce::order_reopening::{self, Error as ReopenError, Reopened};
use souk_sdk::commerce::orders::{self, Draft, Order, Status};
use souk_sdk::commerce::payment::{self, Start};
use souk_sdk::commerce::types::{Address, FieldError};
use souk_sdk::commerce::unpaid_orders::{self, Holder, Limit};
use souk_sdk::commerce::{counted_holds, inventory, promotions, shipping};
use souk_sdk::{clock, config, entry, ids};

/// How long an order waits for its payment.
const EXPIRES_MS: u64 = 30 * 60 * 1_000;
/// Stock is held longer, so that the order's own end gives it back.
const HOLD_LONGER_MS: u64 = 10 * 60 * 1_000;

/// A step of an order, with the cart that was made of it.
const REOPENED: &str = "order.reopened";

struct Checkout;

impl checkout::Guest for Checkout {
    fn countries(locale: String) -> Vec<Country> {
        let chinese = form::is_chinese(&locale);
        let known = shipping::countries().into_iter().filter_map(|code| countries::find(&code));
        let mut countries: Vec<Country> = known.map(|country| Country { code: country.code.into(), name: country.name(chinese).into() }).collect();
        countries.sort_by(|a, b| a.name.cmp(&b.name));
        countries
    }

    fn address_form(country: String, locale: String) -> Vec<AddressField> {
        countries::find(&country).map(|country| form::fields(&country, &locale)).unwrap_or_default()
    }

    fn set_details(cart_id: String, details: Details, locale: String) -> Result<(), Error> {
        let Entered { contact, shipping, billing } = enter(&details.contact, &details.shipping_address, details.billing_address.as_ref(), &locale)?;
        cart::set_contact(&cart_id, &contact).map_err(Error::Cart)?;
        cart::set_addresses(&cart_id, &shipping, billing.as_ref()).map_err(Error::Cart)
    }

    fn place(cart_id: String, payment_method: String, fingerprint: Option<String>, locale: String) -> Result<Placed, Error> {
        let nobody = Holder { address: String::new(), session: None };
        place_for(&nobody, &cart_id, &payment_method, fingerprint.as_deref(), &locale).map_err(|error| match error {
            PlacingError::Checkout(error) => error,
            // The interface has no error for it.
            PlacingError::Limited(limit) => Error::Invalid(vec![too_much(&limit, &locale)]),
        })
    }
}

impl order_placing::Guest for Checkout {
    fn place(cart_id: String, payment_method: String, fingerprint: Option<String>, locale: String, holder: Holder) -> Result<Placed, PlacingError> {
        place_for(&holder, &cart_id, &payment_method, fingerprint.as_deref(), &locale)
    }
}

fn place_for(holder: &Holder, cart_id: &str, payment_method: &str, fingerprint: Option<&str>, locale: &str) -> Result<Placed, PlacingError> {
    let mut has_given_up = false;
    loop {
        let view = match cart::get(cart_id, locale) {
            Err(CartError::Completed(token)) => return placed_before(token).map_err(PlacingError::Checkout),
            got => got.map_err(|error| PlacingError::Checkout(Error::Cart(error)))?,
        };
        if fingerprint.is_some_and(|seen| seen != view.fingerprint) {
            return Err(PlacingError::Checkout(Error::Changed));
        }
        let email = view.contact.as_ref().map(|contact| contact.email.clone()).unwrap_or_default();
        let refusal = match place(holder, view, payment_method, locale.to_owned()) {
            Err(refusal @ (PlacingError::Limited(_) | PlacingError::Checkout(Error::Shortage(_)))) => refusal,
            placed => return placed,
        };
        // What this shopper ordered before and has not paid is in the way of nobody else.
        if has_given_up || unpaid_orders::give_up(holder, &email) == 0 {
            return Err(refusal);
        }
        has_given_up = true;
    }
}

fn too_much(limit: &Limit, locale: &str) -> FieldError {
    let en = format!("Unpaid orders hold too much ({}: {}). Pay for one of them or cancel it, then order again.", limit.name, limit.most);
    let zh = format!("未支付的订单占用过多（{}：{}）。请先支付或取消其中一个订单，再重新下单。", limit.name, limit.most);
    FieldError { field: "cart".into(), code: "too-many-unpaid".into(), message: if form::is_chinese(locale) { zh } else { en } }
}

impl order_reopening::Guest for Checkout {
    fn reopen(token: String) -> Result<Reopened, ReopenError> {
        let order = orders::by_token(&token).ok_or(ReopenError::UnknownOrder)?;
        match order.status {
            Status::PaymentPending if !orders::cancel(&token, "changed by the shopper") => Err(ReopenError::Paid),
            // What was given up can be bought anew.
            Status::PaymentPending | Status::Cancelled => Ok(refill(order)),
            _ => Err(ReopenError::Paid),
        }
    }
}

/// As much of the order as there is, in a cart: the one that was made of it before,
/// as long as that was not ordered. What the cart refuses besides goods is asked for
/// again by the checkout.
fn refill(order: Order) -> Reopened {
    let before = cart_of(&order);
    let id = before.as_ref().map_or_else(cart::create, |view| view.id.clone());
    let mut left_out = Vec::new();
    for line in order.lines {
        let held = before.iter().flat_map(|view| &view.lines).find(|held| held.sku == line.sku);
        if fill(&id, &line.sku, line.quantity, held) < line.quantity {
            left_out.push(if line.variant_title.is_empty() { line.title } else { format!("{} ({})", line.title, line.variant_title) });
        }
    }
    if before.is_none() {
        for code in order.applied.iter().filter_map(|applied| applied.code.as_deref()) {
            let _ = cart::add_code(&id, code);
        }
        let _ = cart::set_contact(&id, &order.contact);
        let _ = cart::set_addresses(&id, &order.shipping_address, order.billing_address.as_ref());
        let _ = cart::set_shipping_method(&id, &order.shipping_method.id);
        orders::note(&order.token, REOPENED, &id);
    }
    Reopened { cart_id: id, left_out }
}

/// Up to so many of a sku, of which the cart may hold some: how many of these can be had.
fn fill(cart: &str, sku: &str, wanted: u32, held: Option<&cart::Line>) -> u32 {
    let quantity = held.map_or(0, |held| held.quantity);
    if let Some(held) = held.filter(|held| held.available < i64::from(held.quantity)) {
        let possible = u32::try_from(held.available).unwrap_or(0);
        let _ = cart::set_quantity(cart, &held.id, possible);
        return possible.min(wanted);
    }
    let Some(missing) = wanted.checked_sub(quantity).filter(|missing| *missing > 0) else { return wanted };
    let possible = match cart::add(cart, sku, missing) {
        Ok(()) => return wanted,
        Err(CartError::InsufficientStock((_, available))) => u32::try_from(available).unwrap_or(0).saturating_sub(quantity),
        Err(_) => 0,
    };
    if possible > 0 {
        let _ = cart::add(cart, sku, possible);
    }
    quantity + possible
}

/// What the order's goods were put into before: pressed again, it fills no other.
fn cart_of(order: &Order) -> Option<View> {
    let reopened = order.timeline.iter().rfind(|entry| entry.kind == REOPENED)?;
    cart::get(&reopened.detail, &order.locale).ok()
}

/// Contact and addresses that fit their countries.
struct Entered {
    contact: Contact,
    shipping: Address,
    billing: Option<Address>,
}

fn enter(contact: &Contact, shipping: &Address, billing: Option<&Address>, locale: &str) -> Result<Entered, Error> {
    let contact = form::tidy_contact(contact);
    let mut errors = form::check_contact(&contact, locale);
    let delivers = shipping::countries();
    let shipping = address("shipping-address", shipping, Some(&delivers), locale, &mut errors);
    // An invoice can go where no parcel goes.
    let billing = billing.map(|billing| address("billing-address", billing, None, locale, &mut errors));
    if errors.is_empty() { Ok(Entered { contact, shipping, billing }) } else { Err(Error::Invalid(errors)) }
}

fn address(prefix: &str, entered: &Address, among: Option<&[String]>, locale: &str, errors: &mut Vec<FieldError>) -> Address {
    let allowed = |country: &countries::Country| among.is_none_or(|among| among.iter().any(|code| code == country.code));
    let Some(country) = countries::find(&entered.country).filter(allowed) else {
        let (en, zh) = ("We do not deliver there. Choose a country from the list.", "暂不支持配送到该国家或地区，请从列表中选择。");
        errors.push(error(&format!("{prefix}.country"), "unknown", locale, en, zh));
        return entered.clone();
    };
    let tidy = form::tidy(entered, &country);
    errors.extend(form::check(prefix, &tidy, &country, locale));
    tidy
}

fn error(field: &str, code: &str, locale: &str, en: &str, zh: &str) -> FieldError {
    FieldError { field: field.into(), code: code.into(), message: if form::is_chinese(locale) { zh } else { en }.into() }
}

/// The same cart gives the same order.
fn placed_before(token: String) -> Result<Placed, Error> {
    let order = orders::by_token(&token).ok_or(Error::Cart(CartError::NotFound))?;
    Ok(Placed { number: order.number, token, payment_id: order.payment_id, total: order.totals.total })
}

/// Whatever could be refused is looked at before the first write.
fn place(holder: &Holder, view: View, payment_method: &str, locale: String) -> Result<Placed, PlacingError> {
    let refused = PlacingError::Checkout;
    if view.lines.is_empty() {
        return Err(refused(Error::Empty));
    }
    let (entered, method) = complete(&view, &locale).map_err(refused)?;
    let short = view.lines.iter().filter(|line| line.available < i64::from(line.quantity));
    let short: Vec<(String, i64)> = short.map(|line| (line.sku.clone(), line.available)).collect();
    if !short.is_empty() {
        return Err(refused(Error::Shortage(short)));
    }
    let total = view.totals.total.clone();
    let is_free = total.amount == 0;
    if !is_free && !payment::methods(&total, &locale).iter().any(|offered| offered.id == payment_method) {
        return Err(refused(Error::UnknownPaymentMethod(payment_method.into())));
    }

    let expires_ms = clock::now_ms() + EXPIRES_MS;
    let hold_id = view.id.clone();
    let wanted: Vec<inventory::Line> = view.lines.iter().map(|line| inventory::Line { sku: line.sku.clone(), quantity: line.quantity }).collect();
    counted_holds::reserve(&hold_id, &wanted, expires_ms + HOLD_LONGER_MS)
        .map_err(|short| refused(Error::Shortage(short.into_iter().map(|short| (short.sku, short.available)).collect())))?;
    let applied: Vec<String> = view.applied.iter().map(|applied| applied.id.clone()).collect();
    promotions::claim(&hold_id, &applied, Some(&entered.contact.email)).map_err(|gone| {
        inventory::release(&hold_id);
        refused(Error::DiscountsGone(gone))
    })?;

    let payment_id = ids::unguessable();
    let draft = Draft {
        cart_id: view.id.clone(),
        locale: locale.clone(),
        lines: view.lines,
        applied: view.applied,
        taxes: view.taxes,
        totals: view.totals,
        contact: entered.contact,
        shipping_address: entered.shipping,
        billing_address: entered.billing,
        shipping_method: method,
        payment_id: payment_id.clone(),
        hold_id: hold_id.clone(),
        expires_ms,
    };
    let created = unpaid_orders::create(&draft, holder).map_err(|limit| {
        inventory::release(&hold_id);
        promotions::release(&hold_id);
        PlacingError::Limited(limit)
    })?;
    cart::complete(&view.id, &created.token).map_err(|error| refused(Error::Cart(error)))?;
    if is_free {
        orders::paid(&created.token, &payment_id, &total);
    } else {
        let started = payment::begin(&Start {
            id: payment_id.clone(),
            method_id: payment_method.into(),
            order_token: created.token.clone(),
            order_number: created.number.clone(),
            amount: total.clone(),
            return_url: return_url(&locale, &created.token),
            locale,
        });
        // The unit must not be committed: the order would wait for nobody.
        started.unwrap_or_else(|reason| panic!("payment offers `{payment_method}` and refuses it: {reason}"));
    }
    Ok(Placed { number: created.number, token: created.token, payment_id, total })
}

/// A shop mounts a language under its first part: who comes back from a
/// provider's page reads on in the language they ordered in.
fn return_url(locale: &str, token: &str) -> String {
    let language = locale.split('-').next().unwrap_or(locale).to_ascii_lowercase();
    format!("{}/{language}/orders/{token}", config::shop().base_url)
}

/// What an order needs and the shopper has not given yet is a mistake in its field.
fn complete(view: &View, locale: &str) -> Result<(Entered, shipping::Method), Error> {
    let (en, zh) = ("Tell us how to reach you.", "请填写联系方式。");
    let contact = view.contact.as_ref().ok_or_else(|| error("contact.email", "required", locale, en, zh));
    let (en, zh) = ("Tell us where to deliver.", "请填写收货地址。");
    let address = view.shipping_address.as_ref().ok_or_else(|| error("shipping-address.country", "required", locale, en, zh));
    let method = view.shipping_method.clone().ok_or_else(|| entry::mistake("shipping-method", "required", locale));
    match (contact, address, method) {
        (Ok(contact), Ok(address), Ok(method)) => Ok((enter(contact, address, view.billing_address.as_ref(), locale)?, method)),
        (contact, address, method) => Err(Error::Invalid([contact.err(), address.err(), method.err()].into_iter().flatten().collect())),
    }
}

souk_sdk::export!(Checkout: commerce::checkout, commerce::order_placing, commerce::order_reopening);
