//! Carts: exports `souk:commerce/cart`. Asks the other services what a cart's
//! skus cost now; [`basket`] is what is stored, [`quote`] the sums.

mod basket;
mod id;
mod limits;
mod quote;

use souk_sdk::commerce::cart::{self, Contact, Error, Method, View};
use souk_sdk::commerce::cart_codes;
use souk_sdk::commerce::cart_review::{self, Reviewed};
use souk_sdk::commerce::promotions::RejectedCode;
use souk_sdk::commerce::shopper_carts::{self, Client, Refusal};
use souk_sdk::commerce::types::Address;
use souk_sdk::commerce::{catalog, catalog_records, inventory, pricing, promotions, shipping, tax};
use souk_sdk::money::{Money, MoneyError};
use souk_sdk::storage::Collection;
use souk_sdk::{clock, config, entry, jobs};

use basket::Basket;

const CARTS: Collection<Basket> = Collection::new("carts", &[]);
const EXPIRE: &str = "expire";
const LIFETIME_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Longer ones are not ids that were made here.
const ID_BYTES_MAX: usize = 64;
const SKU_BYTES_MAX: usize = 100;

struct Cart;

impl cart::Guest for Cart {
    fn create() -> String {
        id::make()
    }

    fn get(id: String, locale: String) -> Result<View, Error> {
        let basket = load(&id)?;
        basket.open()?;
        view(&id, basket, &locale)
    }

    fn item_count(id: String) -> u32 {
        match load(&id) {
            Ok(basket) if basket.completed.is_none() => basket.item_count(),
            _ => 0,
        }
    }

    fn add(id: String, sku: String, quantity: u32) -> Result<(), Error> {
        change(&id, |basket| {
            let quantity = basket.quantity_after_adding(&sku, quantity)?;
            let price = check_stock(&sku, quantity)?;
            basket.set(&sku, quantity, price);
            Ok(())
        })
    }

    fn set_quantity(id: String, line_id: String, quantity: u32) -> Result<(), Error> {
        change(&id, |basket| {
            let held = basket.quantity(&line_id);
            if quantity > basket::QUANTITY_MAX {
                return Err(Error::InvalidQuantity(quantity));
            }
            if quantity > 0 && held == 0 {
                return Err(Error::UnknownSku(line_id.clone()));
            }
            // Fewer is always allowed, even when there are not so many.
            let price = if quantity > held { check_stock(&line_id, quantity)? } else { price_now(&line_id, quantity) };
            basket.set(&line_id, quantity, price);
            Ok(())
        })
    }

    fn add_code(id: String, code: String) -> Result<(), Error> {
        let locale = default_locale();
        let scopes = limits::of_codes(&id, &limits::nobody());
        if must(limits::CODES.wait_s(&scopes)).is_some() {
            return Err(basket::invalid("code", "later", &locale));
        }
        let mut is_vain = false;
        change(&id, |basket| {
            let held = basket.codes.len();
            basket.add_code(&code, &locale)?;
            if !basket.lines.is_empty() {
                offers(basket, &locale)?;
            }
            is_vain = basket.codes.len() > held && !basket.taken_off.contains_key(&entry::code(&code));
            Ok(())
        })?;
        if is_vain {
            must(limits::CODES.note(&scopes));
        }
        Ok(())
    }

    fn remove_code(id: String, code: String) -> Result<(), Error> {
        change(&id, |basket| {
            basket.remove_code(&code);
            Ok(())
        })
    }

    fn set_contact(id: String, contact: Contact) -> Result<(), Error> {
        let mut is_try = false;
        let scopes = limits::of_contacts(&id);
        change(&id, |basket| {
            let contact = basket::tidy_contact(&contact);
            basket::check_contact(&contact, &default_locale())?;
            let before = basket.contact.replace(contact).as_ref().and_then(basket::customer);
            is_try = !basket.codes.is_empty() && before.is_some() && before != basket.contact.as_ref().and_then(basket::customer);
            if is_try && must(limits::CONTACTS.wait_s(&scopes)).is_some() {
                return Err(basket::invalid("contact.email", "later", &default_locale()));
            }
            Ok(())
        })?;
        if is_try {
            must(limits::CONTACTS.note(&scopes));
        }
        Ok(())
    }

    fn set_addresses(id: String, shipping: Address, billing: Option<Address>) -> Result<(), Error> {
        change(&id, |basket| {
            let locale = default_locale();
            let (shipping, billing) = (basket::tidy_address(&shipping), billing.as_ref().map(basket::tidy_address));
            basket::check_address("shipping-address", &shipping, &locale)?;
            if let Some(billing) = &billing {
                basket::check_address("billing-address", billing, &locale)?;
            }
            basket.shipping_address = Some(shipping);
            basket.billing_address = billing;
            if let Some(chosen) = basket.shipping_method.take() {
                let there = offers(basket, &locale)?;
                basket.shipping_method = there.into_iter().map(|method| method.id).find(|id| *id == chosen);
            }
            Ok(())
        })
    }

    fn shipping_methods(id: String, locale: String) -> Result<Vec<Method>, Error> {
        let mut basket = load(&id)?;
        basket.open()?;
        offers(&mut basket, &locale)
    }

    fn set_shipping_method(id: String, method_id: String) -> Result<(), Error> {
        change(&id, |basket| {
            let locale = default_locale();
            if !offers(basket, &locale)?.iter().any(|method| method.id == method_id) {
                return Err(basket::invalid("shipping-method", "unknown", &locale));
            }
            basket.shipping_method = Some(method_id);
            Ok(())
        })
    }

    fn complete(id: String, order_token: String) -> Result<(), Error> {
        change(&id, |basket| {
            basket.completed = Some(order_token);
            Ok(())
        })
    }
}

impl cart_codes::Guest for Cart {
    fn enter(id: String, code: String, locale: String) -> Result<Option<RejectedCode>, Error> {
        enter(&id, &code, &locale, &limits::nobody()).map_err(|refusal| match refusal {
            Refusal::Cart(error) => error,
            // The interface has no error for it.
            Refusal::Later(_) => basket::invalid("code", "later", &locale),
        })
    }
}

impl shopper_carts::Guest for Cart {
    fn create(client: Client) -> Result<String, u32> {
        limits::take_cart(&client).map(|()| id::make())
    }

    fn enter_code(id: String, code: String, locale: String, client: Client) -> Result<Option<RejectedCode>, Refusal> {
        enter(&id, &code, &locale, &client)
    }
}

/// What became of a code that was entered.
enum Entered {
    /// It is in the cart: it applies, or others save more now.
    Kept,
    Rejected(RejectedCode),
    /// In a cart without lines, where the next look at it says whether there is such a code.
    NotJudged,
}

/// Codes are tried like keys: what does not apply is counted, whether there is such a code or not.
fn enter(id: &str, code: &str, locale: &str, client: &Client) -> Result<Option<RejectedCode>, Refusal> {
    let scopes = limits::of_codes(id, client);
    if let Some(wait_s) = must(limits::CODES.wait_s(&scopes)) {
        return Err(Refusal::Later(wait_s));
    }
    let rejected = match judge(id, code, locale).map_err(Refusal::Cart)? {
        Entered::Kept => return Ok(None),
        Entered::Rejected(rejected) => Some(rejected),
        Entered::NotJudged => None,
    };
    must(limits::CODES.note(&scopes));
    Ok(rejected)
}

fn judge(id: &str, code: &str, locale: &str) -> Result<Entered, Error> {
    let mut entered = Entered::NotJudged;
    change(id, |basket| {
        let before = basket.clone();
        basket.add_code(code, locale)?;
        if basket.lines.is_empty() {
            return Ok(());
        }
        // As the shopper sees it next, with delivery: which of several codes is better depends on it.
        let view = view(id, basket.clone(), locale)?;
        let (code, rejected) = (entry::code(code), view.rejected);
        entered = match rejected.iter().find(|rejected| entry::code(&rejected.code) == code).cloned() {
            // One that others outdo stays: with a later one it may save more, and the cart says why it does not count now.
            Some(rejected) if !applies_alone(id, basket, &code, locale)? => {
                *basket = before;
                Entered::Rejected(rejected)
            }
            _ => {
                let outdone: Vec<String> = rejected.iter().map(|rejected| entry::code(&rejected.code)).collect();
                basket.taken_off.retain(|code, _| !outdone.contains(code));
                basket.taken_off.extend(view.applied.into_iter().filter_map(|applied| Some((applied.code?, applied.amount))));
                Entered::Kept
            }
        };
        Ok(())
    })?;
    Ok(entered)
}

fn applies_alone(id: &str, basket: &Basket, code: &str, locale: &str) -> Result<bool, Error> {
    let alone = Basket { codes: vec![code.to_owned()], ..basket.clone() };
    Ok(view(id, alone, locale)?.rejected.is_empty())
}

impl cart_review::Guest for Cart {
    fn review(id: String, locale: String) -> Result<Reviewed, Error> {
        let basket = load(&id)?;
        basket.open()?;
        let (lines, taken_off) = (basket.lines.clone(), basket.taken_off.clone());
        let view = view(&id, basket, &locale)?;
        let changes = quote::changes(&view, &lines, &taken_off);
        Ok(Reviewed { view, changes })
    }
}

impl jobs::Guest for Cart {
    fn run(job: jobs::Job) -> Result<bool, String> {
        if job.name != EXPIRE {
            return Err(format!("cart has no job `{}`", job.name));
        }
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let Some(basket) = CARTS.get(&job.key).map_err(|error| text(&error))? else { return Ok(false) };
        let end_ms = basket.changed_ms.saturating_add(LIFETIME_MS);
        if end_ms > clock::now_ms() {
            jobs::schedule_json(EXPIRE, &job.key, end_ms, &()).map_err(|error| text(&error))?;
        } else {
            CARTS.delete(&job.key).map_err(|error| text(&error))?;
        }
        Ok(false)
    }
}

/// The unit cannot go on; the interface has no error for it.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("cart: {error}"))
}

fn load(id: &str) -> Result<Basket, Error> {
    // An id from a client that no key can be.
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::NotFound);
    }
    let is_fresh = || id::made_ms(id).is_some_and(|made_ms| clock::now_ms() < made_ms + LIFETIME_MS);
    // One that was made and not changed yet is stored by its first change.
    must(CARTS.get(id)).or_else(|| is_fresh().then(Basket::default)).ok_or(Error::NotFound)
}

/// Reads, changes and writes one document; what changes nothing writes nothing.
fn change(id: &str, work: impl FnOnce(&mut Basket) -> Result<(), Error>) -> Result<(), Error> {
    let before = load(id)?;
    before.open()?;
    let mut basket = before.clone();
    work(&mut basket)?;
    if basket != before {
        let is_new = basket.changed_ms == 0;
        basket.revision += 1;
        basket.changed_ms = clock::now_ms();
        must(CARTS.put(id, &basket));
        if is_new {
            must(jobs::schedule_json(EXPIRE, id, basket.changed_ms + LIFETIME_MS, &()));
        }
    }
    Ok(())
}

/// The price of one piece of so many, where there are so many.
fn check_stock(sku: &str, quantity: u32) -> Result<Option<Money>, Error> {
    let fits = (1..=SKU_BYTES_MAX).contains(&sku.len()) && sku.bytes().all(|byte| byte.is_ascii_graphic());
    let skus = [sku.to_owned()];
    let price = if fits { price_now(sku, quantity) } else { None };
    if price.is_none() {
        return Err(Error::UnknownSku(sku.into()));
    }
    let available = inventory::available(&skus).first().copied().unwrap_or(0);
    if available < i64::from(quantity) {
        return Err(Error::InsufficientStock((sku.into(), available.max(0))));
    }
    Ok(price)
}

/// None where it is not sold.
fn price_now(sku: &str, quantity: u32) -> Option<Money> {
    if quantity == 0 {
        return None;
    }
    let sellable = catalog::sellables(&[sku.to_owned()], &default_locale()).into_iter().flatten().next()?;
    let request = pricing::Request { sku: sku.into(), quantity, base: sellable.price };
    pricing::prices(&[request]).into_iter().next().map(|price| price.unit)
}

/// Messages of calls that are given no locale.
fn default_locale() -> String {
    config::shop().locales.into_iter().next().unwrap_or_else(|| "en".into())
}

/// Sums that do not fit in 64 bits: nobody can pay them.
fn too_large(locale: &str, error: &MoneyError) -> Error {
    souk_sdk::log::warn!("a cart cannot be summed up: {error}");
    basket::invalid("lines", "too-large", locale)
}

/// Lines with their prices, and for each what promotions and taxes go by.
struct Priced {
    lines: Vec<cart::Line>,
    facts: Vec<promotions::Line>,
    tax_classes: Vec<String>,
    /// What each line's sku stands for.
    identities: Vec<Option<catalog_records::Identity>>,
}

fn price(basket: &Basket, currency: &str, locale: &str) -> Result<Priced, MoneyError> {
    let mut priced = Priced { lines: Vec::new(), facts: Vec::new(), tax_classes: Vec::new(), identities: Vec::new() };
    if basket.lines.is_empty() {
        return Ok(priced);
    }
    let skus: Vec<String> = basket.lines.iter().map(|line| line.sku.clone()).collect();
    let sellables = catalog::sellables(&skus, locale);
    priced.identities = catalog_records::identities(&skus, locale);
    let available = inventory::available(&skus);
    let found = || basket.lines.iter().zip(&sellables).filter_map(|(line, sellable)| Some((line, sellable.as_ref()?)));
    let requests: Vec<pricing::Request> = found()
        .map(|(line, sellable)| pricing::Request { sku: line.sku.clone(), quantity: line.quantity, base: sellable.price.clone() })
        .collect();
    let mut prices = pricing::prices(&requests).into_iter();
    for (place, stored) in basket.lines.iter().enumerate() {
        let sellable = sellables.get(place).and_then(Option::as_ref);
        let price = if sellable.is_some() { prices.next() } else { None };
        let line = quote::line(stored, sellable, priced.identities.get(place).and_then(Option::as_ref), price.as_ref(), available.get(place).copied().unwrap_or(0), currency)?;
        priced.facts.push(promotions::Line {
            id: line.id.clone(),
            sku: line.sku.clone(),
            product: line.product.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price.clone(),
            categories: sellable.map(|sellable| sellable.categories.clone()).unwrap_or_default(),
            tags: sellable.map(|sellable| sellable.tags.clone()).unwrap_or_default(),
        });
        priced.tax_classes.push(sellable.map(|sellable| sellable.tax_class.clone()).unwrap_or_default());
        priced.lines.push(line);
    }
    Ok(priced)
}

/// Discounts for a price of shipping, taken off the lines.
fn apply(priced: &mut Priced, shipping: &Money, basket: &Basket, locale: &str) -> Result<promotions::Outcome, MoneyError> {
    let customer = basket.contact.as_ref().and_then(basket::customer);
    let outcome = promotions::apply(&priced.facts, shipping, &basket.codes, customer.as_deref(), locale);
    quote::discount(&mut priced.lines, &outcome.allocations)?;
    Ok(outcome)
}

/// `priced` has its discounts. What is delivered free is judged without the
/// codes: a code is to lower the total, and must not cost a shopper free delivery.
fn methods(priced: &Priced, basket: &Basket, currency: &str, locale: &str) -> Result<Vec<Method>, MoneyError> {
    let Some(destination) = basket.shipping_address.as_ref() else { return Ok(Vec::new()) };
    let subtotal = if basket.codes.is_empty() {
        quote::goods(&priced.lines, currency)?
    } else {
        let customer = basket.contact.as_ref().and_then(basket::customer);
        let automatic = promotions::apply(&priced.facts, &Money::zero(currency), &[], customer.as_deref(), locale);
        quote::goods_after(&priced.lines, &automatic.allocations, currency)?
    };
    let parcel = shipping::Parcel { weight_g: quote::weight_g(&priced.lines), subtotal };
    Ok(shipping::methods(destination, &parcel, locale))
}

/// The ways this cart can be delivered. Notes what its codes take off, for the
/// shopper sees that next.
fn offers(basket: &mut Basket, locale: &str) -> Result<Vec<Method>, Error> {
    let currency = config::shop().currency;
    let mut offers = || {
        let mut priced = price(basket, &currency, locale)?;
        let outcome = apply(&mut priced, &Money::zero(&currency), basket, locale)?;
        for applied in outcome.applied {
            if let Some(code) = applied.code {
                basket.taken_off.insert(code, applied.amount);
            }
        }
        methods(&priced, basket, &currency, locale)
    };
    offers().map_err(|error| too_large(locale, &error))
}

fn view(id: &str, basket: Basket, locale: &str) -> Result<View, Error> {
    summed(id, basket, locale).map_err(|error| too_large(locale, &error))
}

/// What a cart costs with some of its codes.
struct Sums {
    priced: Priced,
    outcome: promotions::Outcome,
    method: Option<Method>,
    taxes: Vec<tax::TaxLine>,
    totals: cart::Totals,
}

fn sums(basket: &Basket, currency: &str, locale: &str) -> Result<Sums, MoneyError> {
    let mut priced = price(basket, currency, locale)?;
    let mut outcome = apply(&mut priced, &Money::zero(currency), basket, locale)?;
    let mut method = None;
    if let Some(chosen) = &basket.shipping_method {
        let offered = methods(&priced, basket, currency, locale)?;
        method = offered.into_iter().find(|method| method.id == *chosen);
    }
    let shipping = method.as_ref().map(|method| method.price.clone());
    if let Some(price) = shipping.as_ref().filter(|price| price.amount > 0) {
        outcome = apply(&mut priced, price, basket, locale)?;
    }
    let totals_without_tax = quote::totals(&priced.lines, shipping.as_ref(), &outcome.shipping, &[], currency)?;
    let mut taxable: Vec<tax::Line> = priced
        .lines
        .iter()
        .zip(&priced.tax_classes)
        .map(|(line, class)| tax::Line { id: line.id.clone(), tax_class: class.clone(), amount: line.total.clone() })
        .collect();
    if let Some(amount) = totals_without_tax.shipping.clone() {
        taxable.push(tax::Line { id: quote::SHIPPING.into(), tax_class: String::new(), amount });
    }
    let taxes = if taxable.is_empty() { Vec::new() } else { tax::quote(&taxable, basket.shipping_address.as_ref(), locale) };
    let totals = quote::totals(&priced.lines, shipping.as_ref(), &outcome.shipping, &taxes, currency)?;
    Ok(Sums { priced, outcome, method, taxes, totals })
}

/// Discounts are compared before tax. Where tax is added, one that takes more off
/// goods that are taxed less may cost more in the end: then no code counts.
fn sums_for_buyer(basket: &Basket, currency: &str, locale: &str) -> Result<Sums, MoneyError> {
    let sums = sums(basket, currency, locale)?;
    if sums.totals.tax_added.amount == 0 || sums.outcome.applied.iter().all(|applied| applied.code.is_none()) {
        return Ok(sums);
    }
    let mut without = self::sums(&Basket { codes: Vec::new(), ..basket.clone() }, currency, locale)?;
    if without.totals.total.amount >= sums.totals.total.amount {
        return Ok(sums);
    }
    without.outcome.rejected = basket.codes.iter().map(|code| RejectedCode { code: code.clone(), reason: quote::takes_nothing_off(locale) }).collect();
    Ok(without)
}

fn summed(id: &str, basket: Basket, locale: &str) -> Result<View, MoneyError> {
    let currency = config::shop().currency;
    let Sums { priced, outcome, method, taxes, totals } = sums_for_buyer(&basket, &currency, locale)?;
    let mut view = View {
        id: id.into(),
        currency,
        item_count: basket.item_count(),
        lines: priced.lines,
        codes: basket.codes,
        applied: outcome.applied,
        rejected: outcome.rejected,
        taxes,
        totals,
        contact: basket.contact,
        shipping_address: basket.shipping_address,
        billing_address: basket.billing_address,
        shipping_method: method,
        fingerprint: String::new(),
        revision: basket.revision,
    };
    view.fingerprint = quote::fingerprint(&view, &priced.identities);
    Ok(view)
}

souk_sdk::export!(Cart: commerce::cart, commerce::cart_codes, commerce::cart_review, commerce::shopper_carts, host::job_handler);

#[cfg(test)]
mod tests {
    use souk_sdk::commerce::cart::Guest as _;
    use souk_sdk::jobs::Guest as _;
    use souk_sdk::testing;

    use super::*;

    fn run(id: &str) {
        Cart::run(jobs::Job { name: EXPIRE.into(), key: id.into(), due_ms: 0, payload: b"null".to_vec() }).unwrap();
    }

    #[test]
    fn a_cart_ends_thirty_days_after_its_last_change() {
        let id = Cart::create();
        testing::advance_ms(LIFETIME_MS - 1);
        Cart::add_code(id.clone(), "once".into()).unwrap();
        testing::advance_ms(1);
        run(&id);
        let due = testing::jobs()[&(EXPIRE.to_owned(), id.clone())].at_ms;
        assert_eq!(due, clock::now_ms() - 1 + LIFETIME_MS, "used meanwhile, so it moves on");
        testing::set_now_ms(due);
        run(&id);
        assert_eq!(Cart::add_code(id, "twice".into()), Err(Error::NotFound));
    }

    #[test]
    fn nothing_is_stored_of_a_cart_before_its_first_change() {
        let ids: Vec<String> = (0..100).map(|_| Cart::create()).collect();
        let stored = || CARTS.scan(&souk_sdk::storage::after(None), 1_000, false).unwrap().len();
        assert_eq!((stored(), testing::jobs().len(), Cart::item_count(ids[0].clone())), (0, 0, 0));
        Cart::add_code(ids[0].clone(), "once".into()).unwrap();
        assert_eq!((stored(), testing::jobs().len()), (1, 1));
        testing::advance_ms(LIFETIME_MS);
        run(&ids[0]);
        assert_eq!(stored(), 0);
        for id in &ids[..2] {
            assert_eq!(Cart::add_code(id.clone(), "twice".into()), Err(Error::NotFound), "nobody fills it after its end");
        }
    }

    fn client(address: &str, session: Option<&str>) -> Client {
        Client { address: address.into(), session: session.map(Into::into) }
    }

    #[test]
    fn codes_are_tried_so_often_by_a_browser_and_by_a_network() {
        // Without lines no code is judged, and each could be one of many that are.
        let tried = |client: &Client| enter(&Cart::create(), &souk_sdk::random::token(8), "en", client);
        let tries = |client: &dyn Fn(u32) -> Client| (0..).take_while(|&at| tried(&client(at)).is_ok()).take(10_000).count();
        assert_eq!(tries(&|_| client("192.0.2.1", Some("a"))), 20);
        assert_eq!(tries(&|_| client("192.0.2.1", Some("b"))), 20, "another browser there");
        assert_eq!(tries(&|at| client("192.0.2.1", Some(&at.to_string()))), 160, "the rest of what its network may");
        assert_eq!(tries(&|at| client(&format!("2001:db8:0:{at:x}::1"), None)), 800, "all of a /48");
        assert_eq!(tries(&|at| client("127.0.0.1", Some(&at.to_string()))), 2_000, "where everybody may come from");
        let Err(Refusal::Later(wait_s)) = tried(&client("192.0.2.1", None)) else { panic!("its network has tried enough") };
        assert!((1..=30 * 60).contains(&wait_s), "{wait_s}");
        assert_eq!(tried(&client("198.51.100.7", Some("c"))), Ok(None));
        testing::advance_ms(30 * 60 * 1_000);
        assert_eq!(tried(&client("192.0.2.1", Some("a"))), Ok(None));
    }

    #[test]
    fn a_cart_of_which_no_client_is_known_has_its_own_limit() {
        let id = Cart::create();
        for code in 0..20 {
            Cart::add_code(id.clone(), code.to_string()).unwrap();
            Cart::remove_code(id.clone(), code.to_string()).unwrap();
        }
        let Err(Error::Invalid(errors)) = Cart::add_code(id.clone(), "one-more".into()) else { panic!("it was tried often enough") };
        assert_eq!((errors[0].field.as_str(), errors[0].code.as_str()), ("code", "later"));
        assert_eq!(<Cart as cart_codes::Guest>::enter(id, "one-more".into(), "en".into()), Err(Error::Invalid(errors)));
    }

    /// Whether somebody has used a code of which each customer has one.
    #[test]
    fn contacts_are_not_tried_one_after_the_other_with_a_code() {
        let id = Cart::create();
        let set = |who: usize| Cart::set_contact(id.clone(), Contact { email: format!("{who}@shop.example"), phone: String::new() });
        for who in 0..50 {
            set(who).expect("without a code it says nothing");
        }
        Cart::add_code(id.clone(), "FIRST".into()).unwrap();
        assert_eq!((0..50).take_while(|who| set(*who).is_ok()).count(), 20);
        let Err(Error::Invalid(errors)) = set(7) else { panic!("it was tried often enough") };
        assert_eq!((errors[0].field.as_str(), errors[0].code.as_str()), ("contact.email", "later"));
        set(19).expect("the same as before");
    }

    #[test]
    fn a_network_makes_so_many_carts_an_hour() {
        let made = |address: &str| <Cart as shopper_carts::Guest>::create(client(address, None));
        for _ in 0..1_000 {
            made("192.0.2.1").unwrap();
        }
        assert_eq!(made("192.0.2.1"), Err(3_600));
        made("192.0.2.2").expect("another network");
        testing::advance_ms(3_600_000);
        made("192.0.2.1").unwrap();
        for _ in 0..1_000 {
            made("127.0.0.1").expect("all shoppers may come from there");
        }
    }

    #[test]
    fn a_cart_completes_once_and_then_names_its_order() {
        let id = Cart::create();
        Cart::complete(id.clone(), "order-1".into()).unwrap();
        let done = Error::Completed("order-1".into());
        assert_eq!(Cart::complete(id.clone(), "order-2".into()), Err(done.clone()));
        assert_eq!(Cart::get(id.clone(), "en".into()), Err(done.clone()));
        assert_eq!(Cart::add(id, "TEA".into(), 1), Err(done));
    }

    #[test]
    fn ids_that_were_not_made_here_are_not_found() {
        for id in ["", "nobody", "../x", "a\0b", &"x".repeat(600)] {
            assert_eq!(Cart::get(id.into(), "en".into()), Err(Error::NotFound));
            assert_eq!(Cart::item_count(id.into()), 0);
        }
    }

    #[test]
    fn a_change_that_changes_nothing_keeps_the_revision() {
        let id = Cart::create();
        Cart::add_code(id.clone(), "A".into()).unwrap();
        let revision = load(&id).unwrap().revision;
        Cart::add_code(id.clone(), "a".into()).unwrap();
        assert_eq!(load(&id).unwrap().revision, revision);
    }
}
