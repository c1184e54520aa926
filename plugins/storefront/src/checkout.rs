//! The steps from the cart to the order: who and where, how it is sent, what it
//! costs in the end and how it is paid. A step that lacks the one before it
//! leads back there.

use maud::{Markup, html};
use souk_sdk::commerce::cart::{self, Contact};
use souk_sdk::commerce::cart_review::Reviewed;
use souk_sdk::commerce::checkout::{self, AddressField, CartError, Country, Details, Error};
use souk_sdk::commerce::order_placing::{self, Error as PlacingError};
use souk_sdk::commerce::payment::{self, Method};
use souk_sdk::commerce::types::{Address, FieldError};
use souk_sdk::commerce::unpaid_orders::{Holder, Limit};
use souk_sdk::web::{self, Fields, Problem, Request, Response};
use souk_sdk::{config, entry, session};

use crate::basket::{self, Current, alert, personal};
use crate::differences::{self, Seen};
use crate::layout::Site;
use crate::{mine, summary};

/// Longer input is a mistake; the form's own limits are checked by `checkout`.
const INPUT_CHARS_MAX: usize = 500;

fn to(site: &Site, path: &str) -> Response {
    web::redirect(&site.link(path))
}

/// Who goes back after ordering is led to the order.
fn filled(site: &Site) -> Result<Box<Reviewed>, Response> {
    match basket::current(site) {
        Current::Open(reviewed) if !reviewed.view.lines.is_empty() => Ok(reviewed),
        Current::Ordered(token) => Err(to(site, &format!("/orders/{token}"))),
        Current::Open(_) | Current::None => Err(to(site, "/cart")),
    }
}

fn details_form(site: &Site, reviewed: &Reviewed, typed: &Details, countries: &[Country], errors: &[FieldError]) -> Markup {
    let title = site.say("Delivery address", "收货信息");
    let form = checkout::address_form(&typed.shipping_address.country, site.locale);
    step(
        site,
        title,
        1,
        reviewed,
        html! {
            @if !errors.is_empty() {
                div.alert role="alert" tabindex="-1" autofocus {
                    p { (site.say("Please check these fields:", "请检查以下内容：")) }
                    ul { @for error in errors { li { a href=(format!("#{}", short(&error.field))) { (error.message) } } } }
                }
            }
            form.stacked method="post" action=(site.link("/checkout")) {
                // The first button is the one that Enter presses in any field.
                button.hidden tabindex="-1" aria-hidden="true" { (site.say("Continue to delivery", "下一步：选择配送方式")) }
                (input(site, "email", site.say("E-mail", "电子邮箱"), &typed.contact.email, errors, true, "email", "", 254))
                div.field {
                    label for="country" { (site.say("Country or region", "国家或地区")) }
                    select #country name="country" autocomplete="country" data-change {
                        @for country in countries { option value=(country.code) selected[country.code == typed.shipping_address.country] { (country.name) } }
                    }
                    (mistake("country", errors))
                    button.plain name="change" value="1" formnovalidate { (site.say("Update the form for this country", "切换国家或地区")) }
                }
                @for field in &form { (address_input(site, field, &typed.shipping_address, errors)) }
                button.full { (site.say("Continue to delivery", "下一步：选择配送方式")) }
            }
        },
    )
}

fn address_input(site: &Site, field: &AddressField, address: &Address, errors: &[FieldError]) -> Markup {
    let value = part(address, &field.name);
    if field.subdivisions.is_empty() {
        return input(site, &field.name, &field.label, value, errors, field.required, &field.autocomplete, &field.example, field.length_max);
    }
    html! {
        div.field {
            label for=(field.name) { (field.label) }
            select id=(field.name) name=(field.name) required[field.required] autocomplete=(field.autocomplete) aria-describedby=[described(&field.name, errors)]
                aria-invalid=[described(&field.name, errors).map(|_| "true")] {
                option value="" { (site.say("Please choose", "请选择")) }
                @for region in &field.subdivisions { option value=(region.code) selected[region.code == value] { (region.name) } }
            }
            (mistake(&field.name, errors))
        }
    }
}

#[allow(clippy::too_many_arguments)] // One for each attribute of the element.
fn input(site: &Site, name: &str, label: &str, value: &str, errors: &[FieldError], required: bool, autocomplete: &str, example: &str, length_max: u32) -> Markup {
    let wrong = described(name, errors);
    // Browsers judge before anything is made plain: no `pattern`, and text where they would refuse full-width signs.
    let (kind, keyboard) = match name {
        "phone" => ("tel", "tel"),
        "email" => ("text", "email"),
        _ => ("text", "text"),
    };
    html! {
        div.field {
            label for=(name) { (label) @if !required { " " small { (site.say("(optional)", "（选填）")) } } }
            input id=(name) name=(name) type=(kind) inputmode=(keyboard) value=(value) required[required] autocomplete=(autocomplete) maxlength=(length_max)
                placeholder=[(!example.is_empty()).then_some(example)]
                aria-describedby=[wrong.as_deref()] aria-invalid=[wrong.is_some().then_some("true")];
            (mistake(name, errors))
        }
    }
}

/// The last part of a field's path, which is the input's name.
fn short(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

fn described(name: &str, errors: &[FieldError]) -> Option<String> {
    errors.iter().any(|error| short(&error.field) == name).then(|| format!("{name}-error"))
}

fn mistake(name: &str, errors: &[FieldError]) -> Markup {
    html! { @if let Some(error) = errors.iter().find(|error| short(&error.field) == name) { p.mistake id=(format!("{name}-error")) { (error.message) } } }
}

fn part<'a>(address: &'a Address, name: &str) -> &'a str {
    match name {
        "name" => &address.name,
        "phone" => &address.phone,
        "company" => &address.company,
        "region" => &address.region,
        "city" => &address.city,
        "district" => &address.district,
        "street" => &address.street,
        _ => &address.postal_code,
    }
}

pub fn details(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let reviewed = match filled(&site) {
        Ok(reviewed) => reviewed,
        Err(back) => return Ok(back),
    };
    let view = &reviewed.view;
    let countries = checkout::countries(site.locale);
    if request.method != "POST" {
        let home = config::shop().country;
        let first = countries.iter().find(|country| country.code == home).or(countries.first()).map(|country| country.code.clone());
        let typed = Details {
            contact: view.contact.clone().unwrap_or_else(|| Contact { email: String::new(), phone: String::new() }),
            shipping_address: view.shipping_address.clone().unwrap_or_else(|| empty_address(first.unwrap_or_default())),
            billing_address: None,
        };
        return Ok(personal(details_form(&site, &reviewed, &typed, &countries, &[])));
    }
    let form = request.form()?;
    let typed = typed(&form)?;
    if form.get("change").is_some() {
        return Ok(personal(details_form(&site, &reviewed, &typed, &countries, &[])));
    }
    match checkout::set_details(&view.id, &typed, site.locale) {
        Ok(()) => {
            choose_cheapest(&view.id, &site);
            Ok(to(&site, "/checkout/shipping"))
        }
        Err(Error::Invalid(errors)) => Ok(personal(details_form(&site, &reviewed, &typed, &countries, &errors)).with_status(422)),
        Err(Error::Cart(CartError::Invalid(errors))) => {
            // The cart does not know in which language it is read.
            let errors: Vec<FieldError> = errors.iter().map(|error| entry::mistake(&error.field, &error.code, site.locale)).collect();
            Ok(personal(details_form(&site, &reviewed, &typed, &countries, &errors)).with_status(422))
        }
        Err(_) => Ok(to(&site, "/cart")),
    }
}

/// So that the next step shows what it costs with delivery; the shopper may choose another one there.
fn choose_cheapest(cart: &str, site: &Site) {
    let is_chosen = cart::get(cart, site.locale).is_ok_and(|view| view.shipping_method.is_some());
    if let Some(cheapest) = cart::shipping_methods(cart, site.locale).unwrap_or_default().first().filter(|_| !is_chosen) {
        // One that was offered a moment ago; if not, the next step asks for it.
        let _ = cart::set_shipping_method(cart, &cheapest.id);
    }
}

fn empty_address(country: String) -> Address {
    let none = String::new;
    Address { country, name: none(), phone: none(), company: none(), region: none(), city: none(), district: none(), street: none(), postal_code: none() }
}

fn typed(form: &Fields) -> Result<Details, Problem> {
    let text = |name: &str| form.optional_text(name, INPUT_CHARS_MAX).map(|text| text.unwrap_or_default().to_owned());
    Ok(Details {
        contact: Contact { email: text("email")?, phone: String::new() },
        shipping_address: Address {
            country: text("country")?,
            name: text("name")?,
            phone: text("phone")?,
            company: text("company")?,
            region: text("region")?,
            city: text("city")?,
            district: text("district")?,
            street: text("street")?,
            postal_code: text("postal-code")?,
        },
        billing_address: None,
    })
}

pub fn shipping(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let reviewed = match filled(&site) {
        Ok(reviewed) if reviewed.view.shipping_address.is_none() => return Ok(to(&site, "/checkout")),
        Ok(reviewed) => reviewed,
        Err(back) => return Ok(back),
    };
    let view = &reviewed.view;
    if request.method == "POST" {
        let form = request.form()?;
        if let Some(method) = form.optional_text("method", INPUT_CHARS_MAX)?
            && cart::set_shipping_method(&view.id, method).is_ok()
        {
            return Ok(to(&site, if form.get("change").is_some() { "/checkout/shipping" } else { "/checkout/payment" }));
        }
    }
    let methods = cart::shipping_methods(&view.id, site.locale).unwrap_or_default();
    let chosen = view.shipping_method.as_ref().or(methods.first()).map(|method| method.id.clone());
    let title = site.say("Delivery", "配送方式");
    let page = step(
        &site,
        title,
        2,
        &reviewed,
        html! {
            @if request.method == "POST" { (alert(site.say("Choose a delivery method.", "请选择配送方式。"))) }
            @if methods.is_empty() {
                p.alert { (site.say("We cannot deliver this to your address: it may be too heavy. Edit the address or the cart.", "暂无可用的配送方式，可能是商品过重。请修改地址或购物车。")) }
                p { a href=(site.link("/checkout")) { (site.say("Edit the address", "修改地址")) } }
            } @else {
                form.stacked method="post" action=(site.link("/checkout/shipping")) {
                    fieldset data-refresh {
                        legend { (site.say("How should we deliver it?", "请选择配送方式")) }
                        ul.options {
                            @for method in &methods {
                                li {
                                    label {
                                        input type="radio" name="method" value=(method.id) required checked[chosen.as_ref() == Some(&method.id)];
                                        span { b { (method.name) } @if !method.description.is_empty() { br; small { (method.description) } } }
                                        span.price { @if method.price.amount == 0 { (site.say("Free", "免运费")) } @else { (method.price.format(site.locale)) } }
                                    }
                                }
                            }
                        }
                    }
                    button.full { (site.say("Continue to payment", "下一步：确认订单")) }
                    button.plain name="change" value="1" { (site.say("Update the total", "更新总额")) }
                }
            }
        },
    );
    Ok(personal(page).with_status(if request.method == "POST" { 422 } else { 200 }))
}

pub fn payment(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    Ok(review(&site, None, None).unwrap_or_else(|back| back))
}

/// The last look at everything before it is bought.
fn review(site: &Site, notice: Option<&str>, seen: Option<&Seen>) -> Result<Response, Response> {
    let reviewed = filled(site)?;
    let view = &reviewed.view;
    let (Some(contact), Some(address)) = (&view.contact, &view.shipping_address) else { return Err(to(site, "/checkout")) };
    let Some(method) = &view.shipping_method else { return Err(to(site, "/checkout/shipping")) };
    let total = &view.totals.total;
    let is_free = total.amount == 0;
    let methods = if is_free { Vec::new() } else { payment::methods(total, site.locale) };
    let title = site.say("Review and pay", "确认订单");
    let page = step(
        site,
        title,
        3,
        &reviewed,
        html! {
            @if let Some(notice) = notice { (alert(notice)) }
            @if let Some(seen) = seen { (differences::list(site.say("What is different now:", "变化如下："), &seen.against(site, view, |sku| differences::title_of(site, sku)))) }
            (differences::list(site.say("Changed since you added it:", "与加入购物车时相比："), &differences::since_chosen(site, &reviewed)))
            div.facts-pair {
                section {
                    h2 { (site.say("Ship to", "收货信息")) }
                    (summary::address(site, address))
                    p { (contact.email) }
                    p { a href=(site.link("/checkout")) { (site.say("Edit the address", "修改地址")) } }
                }
                section {
                    h2 { (site.say("Delivery", "配送方式")) }
                    p { (method.name) }
                    p { a href=(site.link("/checkout/shipping")) { (site.say("Edit the delivery", "修改配送方式")) } }
                }
            }
            form.stacked method="post" action=(site.link("/checkout/place")) {
                input type="hidden" name="fingerprint" value=(view.fingerprint);
                (Seen::inputs(view))
                @if !is_free { (method_choice(site, &methods)) }
                @if is_free || !methods.is_empty() {
                    button.full { (if is_free { site.say("Order now", "提交订单").to_owned() } else { pay_label(site, &total.format(site.locale)) }) }
                }
            }
        },
    );
    Ok(personal(page).with_status(if notice.is_some() { 409 } else { 200 }))
}

fn pay_label(site: &Site, total: &str) -> String {
    if site.is_chinese() { format!("提交订单并支付 {total}") } else { format!("Order and pay {total}") }
}

pub fn method_choice(site: &Site, methods: &[Method]) -> Markup {
    html! {
        fieldset {
            legend { (site.say("How would you like to pay?", "请选择支付方式")) }
            @if methods.is_empty() { p.alert { (site.say("No payment method is available right now. Please try again in a few minutes.", "暂时没有可用的支付方式，请稍后再试。")) } }
            ul.options {
                @for (place, method) in methods.iter().enumerate() {
                    li {
                        label {
                            input type="radio" name="method" value=(method.id) required checked[place == 0];
                            span { b { (method.name) } @if !method.description.is_empty() { br; small { (method.description) } } }
                        }
                    }
                }
            }
        }
    }
}

pub fn place(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let form = request.form()?;
    let method = form.optional_text("method", INPUT_CHARS_MAX)?.unwrap_or_default();
    let fingerprint = form.text("fingerprint", INPUT_CHARS_MAX)?;
    let Some(id) = basket::id() else { return Ok(before(&site, fingerprint).unwrap_or_else(|| to(&site, "/cart"))) };
    let seen = Seen::of(&form);
    let again = |notice: &str| review(&site, Some(notice), seen.as_ref()).unwrap_or_else(|back| back);
    let holder = Holder { address: request.client_address.clone(), session: session::id().ok() };
    let placed = match order_placing::place(&id, method, Some(fingerprint), site.locale, &holder) {
        Ok(placed) => Ok(placed),
        Err(PlacingError::Checkout(error)) => Err(error),
        Err(PlacingError::Limited(limit)) => return Ok(again(too_much(&site, &limit))),
    };
    Ok(match placed {
        Ok(placed) => {
            // The cart stays the session's: sent again, the form leads to the same order.
            mine::remember(&placed.token, fingerprint);
            Response { await_effects: true, ..to_order(&site, &placed.token) }
        }
        Err(Error::Invalid(errors)) if errors.iter().all(|error| error.field == "shipping-method") => to(&site, "/checkout/shipping"),
        Err(Error::Invalid(_)) => to(&site, "/checkout"),
        Err(Error::Shortage(_)) => basket::with_alert(
            &site,
            site.say("Somebody else was faster: what is marked below cannot be had any more, or not so often. Nothing was ordered yet.", "有商品刚刚被其他顾客买走，以下已标记的商品已售罄或库存不足。订单尚未提交。"),
        ),
        Err(Error::DiscountsGone(_)) => {
            again(site.say("A discount has just been used up by others. Please check the new total.", "有优惠刚刚被领完，请确认新的总额。"))
        }
        Err(Error::Changed) => before(&site, fingerprint)
            .unwrap_or_else(|| again(site.say("The order is not what you saw. Please look at it again before you pay.", "订单内容与您看到的不同，请重新确认后再支付。"))),
        Err(Error::UnknownPaymentMethod(_)) => again(site.say("Choose how you would like to pay.", "请选择支付方式。")),
        Err(Error::Empty | Error::Cart(_)) => before(&site, fingerprint).unwrap_or_else(|| to(&site, "/cart")),
    })
}

fn too_much(site: &Site, limit: &Limit) -> &'static str {
    if limit.name.starts_with("given-up") {
        site.say("Very many orders were placed and not paid lately. Please pay for one that you have, or try again in an hour.", "近期有过多订单未支付。请先支付已有订单，或一小时后再试。")
    } else if limit.name.starts_with("free-orders") {
        site.say("So many free orders were placed today that there can be no more. Please try again tomorrow.", "今日的免费订单已达上限，请明天再试。")
    } else {
        let en = "Orders that are not paid yet hold too many goods. Pay for one of them, cancel it, or order less.";
        site.say(en, "尚未支付的订单占用了过多商品。请先支付或取消其中一个订单，或减少购买数量。")
    }
}

/// To the order that this form placed when it was sent before: another cart
/// may have been begun since.
fn before(site: &Site, fingerprint: &str) -> Option<Response> {
    mine::placed_with(fingerprint).map(|token| to_order(site, &token))
}

fn to_order(site: &Site, token: &str) -> Response {
    to(site, &format!("/orders/{token}?pay=1"))
}

/// One of three, beside what is bought.
fn step(site: &Site, title: &str, number: u32, reviewed: &Reviewed, main: Markup) -> Markup {
    let names = [site.say("Address", "收货信息"), site.say("Delivery", "配送方式"), site.say("Payment", "确认支付")];
    let view = &reviewed.view;
    site.own_page(
        title,
        html! {
            div.wide.columns {
                section {
                    ol.steps { @for (place, name) in (1_u32..).zip(names) { li aria-current=[(place == number).then_some("step")] { (name) } } }
                    h1 { (title) }
                    (main)
                }
                aside {
                    h2 { (site.say("Your order", "订单明细")) }
                    (summary::lines(site, &view.lines))
                    @if !view.rejected.is_empty() {
                        ul.codes { @for rejected in &view.rejected { li.refused { span { b { (rejected.code) } " " (rejected.reason) } } } }
                    }
                    (summary::totals(site, summary::to_pay(site), &view.totals, &view.applied, &view.taxes))
                    p { a href=(site.link("/cart")) { (site.say("Edit the cart", "返回购物车修改")) } }
                }
            }
        },
    )
}
