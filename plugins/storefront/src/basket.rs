//! The cart that belongs to a browser, its page, and the forms that change it.
//! Each form answers with a redirect, or with the page and what is wrong.

use maud::{Markup, html};
use souk_sdk::commerce::cart::{self, Error, Line, View};
use souk_sdk::session;
use souk_sdk::web::{self, Problem, Request, Response};

use crate::layout::{Site, picture};
use crate::summary;

/// Under which the session keeps the cart's id.
const SESSION_KEY: &str = "cart";
const CODE_CHARS_MAX: usize = 64;

/// The browser's open cart, priced now.
pub fn view(site: &Site) -> Option<View> {
    cart::get(&id()?, site.locale).ok()
}

pub fn id() -> Option<String> {
    session::get(SESSION_KEY).ok().flatten()
}

pub fn forget() {
    // Without a session there is nothing to forget.
    let _ = session::delete(SESSION_KEY);
}

pub fn page(request: &Request) -> Response {
    let site = Site::of(request);
    let view = view(&site);
    let added = request.query().get("added").is_some();
    let notice = added.then(|| html! { p.notice role="status" { (site.say("It is in your cart.", "已加入购物车。")) } });
    personal(render(&site, view.as_ref(), notice))
}

/// For the badge, without pricing anything.
pub fn count() -> Response {
    let count = id().map_or(0, |id| cart::item_count(&id));
    web::response(200, "text/plain; charset=utf-8", count.to_string().into_bytes()).with_header("cache-control", "no-store")
}

pub fn add(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let form = request.form()?;
    let (sku, quantity) = (form.text("sku", 100)?.to_owned(), form.number_or("quantity", 1)?);
    let known = session::get(SESSION_KEY).map_err(no_session)?;
    let added = match known {
        Some(id) => match cart::add(&id, &sku, quantity) {
            // It became an order, or was left alone for too long.
            Err(Error::Completed(_) | Error::NotFound) => add_to_new(&sku, quantity)?,
            added => added,
        },
        None => add_to_new(&sku, quantity)?,
    };
    Ok(answer(&site, added, "/cart?added=1"))
}

fn add_to_new(sku: &str, quantity: u32) -> Result<Result<(), Error>, Problem> {
    let id = cart::create();
    session::set(SESSION_KEY, &id).map_err(no_session)?;
    Ok(cart::add(&id, sku, quantity))
}

fn no_session(error: session::Error) -> Problem {
    Problem::new(503, "No session").detail(format!("{error:?}"))
}

/// `route` is one of those that change what is in the cart.
pub fn change(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let form = request.form()?;
    let Some(id) = session::get(SESSION_KEY).map_err(no_session)? else { return Ok(web::redirect(&site.link("/cart"))) };
    let changed = match request.route.as_str() {
        "cart-quantity" => cart::set_quantity(&id, form.text("line", 100)?, form.number("quantity")?),
        "cart-code" => match form.optional_text("code", CODE_CHARS_MAX)? {
            Some(code) => cart::add_code(&id, code),
            None => Ok(()),
        },
        _ => cart::remove_code(&id, form.text("code", CODE_CHARS_MAX)?),
    };
    Ok(answer(&site, changed, "/cart"))
}

fn answer(site: &Site, changed: Result<(), Error>, then: &str) -> Response {
    match changed {
        Ok(()) | Err(Error::NotFound | Error::Completed(_)) => web::redirect(&site.link(then)),
        Err(error) => with_alert(site, &message(site, &error)),
    }
}

/// The cart, and above it why something was not done.
pub fn with_alert(site: &Site, message: &str) -> Response {
    personal(render(site, view(site).as_ref(), Some(alert(message)))).with_status(409)
}

pub fn alert(message: &str) -> Markup {
    html! { p.alert role="alert" tabindex="-1" autofocus { (message) } }
}

fn message(site: &Site, error: &Error) -> String {
    match error {
        Error::InsufficientStock((_, 0)) => site.say("It is sold out.", "该商品已售罄。").into(),
        Error::InsufficientStock((_, 1)) => site.say("Only one is left. Please choose one.", "仅剩 1 件，请减少数量。").into(),
        Error::InsufficientStock((_, available)) => {
            if site.is_chinese() { format!("仅剩 {available} 件，请减少数量。") } else { format!("Only {available} are left. Please choose fewer.") }
        }
        Error::UnknownSku(_) => site.say("It is no longer sold.", "该商品已下架。").into(),
        Error::InvalidQuantity(_) => site.say("Choose a quantity from 1 to 999.", "请输入 1 到 999 之间的数量。").into(),
        Error::Full => site.say("The cart is full. Remove something first.", "购物车已满，请先移除部分内容。").into(),
        Error::Invalid(errors) => errors.first().map(|error| error.message.clone()).unwrap_or_default(),
        Error::NotFound | Error::Completed(_) => site.say("The cart is empty.", "购物车是空的。").into(),
    }
}

/// Nobody between shop and shopper may keep it.
pub fn personal(markup: Markup) -> Response {
    web::html(markup.into_string()).with_header("cache-control", "no-store")
}

fn render(site: &Site, view: Option<&View>, notice: Option<Markup>) -> Markup {
    let title = site.say("Your cart", "购物车");
    let Some(view) = view.filter(|view| !view.lines.is_empty()) else {
        return site.page(
            title,
            title,
            html! {
                div.wide.lost {
                    h1 { (title) }
                    @if let Some(notice) = notice { (notice) }
                    p { (site.say("There is nothing in it yet.", "购物车里还没有商品。")) }
                    p { a.button href=(site.link("/products")) { (site.texts.browse) } }
                }
            },
        );
    };
    let is_short = view.lines.iter().any(|line| line.available < i64::from(line.quantity));
    site.page(
        title,
        title,
        html! {
            div.wide.columns {
                section {
                    h1 { (title) }
                    @if let Some(notice) = notice { (notice) }
                    ul.lines { @for line in &view.lines { (line_row(site, line)) } }
                }
                aside {
                    h2 { (site.say("Total", "合计")) }
                    (codes(site, view))
                    (summary::totals(site, &view.totals, &view.taxes))
                    @if view.totals.shipping.is_none() { p.hint { (site.say("Delivery is added at the checkout.", "运费将在结算时计算。")) } }
                    @if is_short {
                        p.alert { (site.say("Some of it is not available as often as you want it. Please lower the quantities marked.", "部分商品库存不足，请减少标记商品的数量。")) }
                    } @else {
                        a.button.full href=(site.link("/checkout")) { (site.say("Check out", "去结算")) }
                    }
                }
            }
        },
    )
}

fn line_row(site: &Site, line: &Line) -> Markup {
    let link = site.link(&format!("/p/{}?sku={}", line.product, line.sku));
    let field = format!("quantity-{}", line.id);
    let short = line.available < i64::from(line.quantity);
    html! {
        li {
            a.thumb href=(link) tabindex="-1" aria-hidden="true" { (picture(line.image.as_ref(), true)) }
            div {
                h2 { a href=(link) { (line.title) } }
                @if !line.variant_title.is_empty() { p.sub { (line.variant_title) } }
                p.sub { (line.unit_price.format(site.locale)) }
                @if short {
                    p.alert {
                        @if line.available <= 0 { (site.texts.sold_out) } @else { (site.texts.only_left(line.available)) }
                    }
                }
                div.actions {
                    form method="post" action=(site.link("/cart/quantity")) {
                        input type="hidden" name="line" value=(line.id);
                        label for=(field) { (site.say("Quantity", "数量")) }
                        input.number id=(field) type="number" name="quantity" min="0" max="999" required value=(line.quantity);
                        button.plain { (site.say("Change", "更新")) span.hidden { ": " (line.title) } }
                    }
                    form method="post" action=(site.link("/cart/quantity")) {
                        input type="hidden" name="line" value=(line.id);
                        input type="hidden" name="quantity" value="0";
                        button.plain { (site.say("Remove", "移除")) span.hidden { ": " (line.title) } }
                    }
                }
            }
            (summary::line_price(site, line))
        }
    }
}

fn codes(site: &Site, view: &View) -> Markup {
    html! {
        form.code method="post" action=(site.link("/cart/codes")) {
            label for="code" { (site.say("Coupon code", "优惠码")) }
            div {
                input #code name="code" maxlength=(CODE_CHARS_MAX) autocomplete="off" autocapitalize="characters" spellcheck="false";
                button.plain { (site.say("Apply", "使用")) }
            }
        }
        @if !view.codes.is_empty() {
            ul.codes {
                @for code in &view.codes {
                    @let rejected = view.rejected.iter().find(|rejected| rejected.code == *code);
                    li.refused[rejected.is_some()] {
                        span { b { (code) } @if let Some(rejected) = rejected { " " (rejected.reason) } }
                        form method="post" action=(site.link("/cart/codes/remove")) {
                            input type="hidden" name="code" value=(code);
                            button.plain { (site.say("Remove", "移除")) span.hidden { ": " (code) } }
                        }
                    }
                }
            }
        }
        @if !view.applied.is_empty() {
            ul.applied {
                @for applied in &view.applied { li { span { (applied.title) } span { "−" (applied.amount.format(site.locale)) } } }
            }
        }
    }
}
