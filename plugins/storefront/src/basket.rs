//! The cart that belongs to a browser, its page, and the forms that change it.
//! Each form answers with a redirect, or with the page and what is wrong.

use maud::{Markup, html};
use souk_sdk::commerce::cart::{self, Error, Line, View};
use souk_sdk::commerce::cart_review::{self, Reviewed};
use souk_sdk::commerce::orders::Order;
use souk_sdk::commerce::shopper_carts::{self, Client, Refusal};
use souk_sdk::web::{self, Fields, Problem, Request, Response};
use souk_sdk::{entry, session};

use crate::layout::{Loading, Site, picture};
use crate::{differences, mine, summary};

/// Under which the session keeps the cart's id. One that became an order stays
/// there until something is added: it leads to its order.
const SESSION_KEY: &str = "cart";
const CODE_CHARS_MAX: usize = 64;

/// What the browser's cart is now.
pub enum Current {
    /// Priced now.
    Open(Box<Reviewed>),
    /// It became the order of this token.
    Ordered(String),
    None,
}

pub fn current(site: &Site) -> Current {
    let Some(id) = id() else { return Current::None };
    match cart_review::review(&id, site.locale) {
        Ok(reviewed) => Current::Open(Box::new(reviewed)),
        Err(Error::Completed(token)) => Current::Ordered(token),
        Err(_) => Current::None,
    }
}

fn open(site: &Site) -> Option<Box<Reviewed>> {
    match current(site) {
        Current::Open(reviewed) => Some(reviewed),
        Current::Ordered(_) | Current::None => None,
    }
}

pub fn id() -> Option<String> {
    session::get(SESSION_KEY).ok().flatten()
}

/// Makes another cart the browser's, with what lay in the one before. One that had
/// none begins with it, and is counted as if it had made a cart.
pub fn replace(request: &Request, id: &str) -> Result<(), Problem> {
    if self::id().is_none() {
        create(request)?;
    }
    if let Some(before) = self::id().filter(|before| before != id)
        && let Ok(view) = cart::get(&before, "en")
    {
        for line in view.lines {
            // What is not there so often is told by the page, which compares.
            let _ = cart::add(id, &line.sku, line.quantity);
        }
        for code in view.codes {
            let _ = cart::add_code(id, &code);
        }
    }
    session::set(SESSION_KEY, id).map_err(no_session)
}

pub fn page(request: &Request) -> Response {
    let site = Site::of(request);
    let query = request.query();
    let reviewed = open(&site);
    let notice = if query.get("added").is_some() {
        Some(html! {
            p.notice role="status" { (site.say("Added to your cart.", "已加入购物车。")) " " (go_on(&site)) }
        })
    } else {
        query.get("changed").and_then(mine::by_number).map(|order| refilled(&site, &order, reviewed.as_deref().map(|reviewed| &reviewed.view)))
    };
    personal(render(&site, reviewed.as_deref(), notice, None))
}

fn go_on(site: &Site) -> Markup {
    html! { a href=(site.link("/products")) { (site.say("Continue shopping", "继续购物")) } }
}

/// After an order was given up to be changed: whether all of it is here.
fn refilled(site: &Site, order: &Order, view: Option<&View>) -> Markup {
    let held = |sku: &str| view.and_then(|view| view.lines.iter().find(|line| line.sku == sku)).map_or(0, |line| line.quantity);
    let less = order.lines.iter().filter(|line| held(&line.sku) < line.quantity).map(|line| {
        let (title, ordered, now) = (&line.title, line.quantity, held(&line.sku));
        if site.is_chinese() { format!("{title}：原订 {ordered} 件，现仅能购买 {now} 件。") } else { format!("{title}: you had ordered {ordered}, and {now} can be had now.") }
    });
    let less: Vec<String> = less.collect();
    let number = &order.number;
    let given_up = if site.is_chinese() { format!("订单 {number} 已取消，商品已放回购物车。") } else { format!("Order {number} was cancelled; its items are back in your cart.") };
    html! {
        p.notice role="status" { (given_up) }
        (differences::list(site.say("Not everything is available:", "部分商品数量有变："), &less))
    }
}

/// For the badge, without pricing anything.
fn item_count() -> u32 {
    id().map_or(0, |id| cart::item_count(&id))
}

pub fn count() -> Response {
    web::response(200, "text/plain; charset=utf-8", item_count().to_string().into_bytes()).with_header("cache-control", "no-store")
}

/// The same as a picture: pages are the same for everyone, and a browser
/// without scripts still shows how much is in its own cart.
pub fn badge() -> Response {
    const COUNT_MAX: u32 = 99;
    let drawn = match item_count() {
        0 => String::new(),
        count => {
            let text = if count > COUNT_MAX { format!("{COUNT_MAX}+") } else { count.to_string() };
            format!(
                "<rect width=\"32\" height=\"24\" rx=\"12\" fill=\"#a3412a\"/>\
                 <text x=\"16\" y=\"17\" fill=\"#fff\" font-family=\"sans-serif\" font-size=\"14\" font-weight=\"bold\" text-anchor=\"middle\">{text}</text>"
            )
        }
    };
    let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"32\" height=\"24\" viewBox=\"0 0 32 24\">{drawn}</svg>");
    web::response(200, "image/svg+xml", svg.into_bytes()).with_header("cache-control", "no-store")
}

/// As people type a number; none where it is none.
fn quantity(form: &Fields, default: Option<u32>) -> Option<u32> {
    let typed = form.get("quantity").map(entry::plain).filter(|typed| !typed.is_empty());
    typed.map_or(default, |typed| typed.parse().ok())
}

pub fn add(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let form = request.form()?;
    let sku = form.text("sku", 100)?.to_owned();
    let Some(quantity) = quantity(&form, Some(1)) else { return Ok(answer(&site, Err(Error::InvalidQuantity(0)), "/cart", Asked::More(0))) };
    let known = session::get(SESSION_KEY).map_err(no_session)?;
    let added = match known {
        Some(id) => match cart::add(&id, &sku, quantity) {
            // It became an order, or was left alone for too long.
            Err(Error::Completed(_) | Error::NotFound) => add_to_new(request, &sku, quantity)?,
            added => added,
        },
        None => add_to_new(request, &sku, quantity)?,
    };
    Ok(answer(&site, added, "/cart?added=1", Asked::More(quantity)))
}

fn add_to_new(request: &Request, sku: &str, quantity: u32) -> Result<Result<(), Error>, Problem> {
    let id = create(request)?;
    session::set(SESSION_KEY, &id).map_err(no_session)?;
    Ok(cart::add(&id, sku, quantity))
}

fn create(request: &Request) -> Result<String, Problem> {
    let client = Client { address: request.client_address.clone(), session: None };
    shopper_carts::create(&client).map_err(|wait_s| Problem::new(429, "Too many carts").retry_after(wait_s))
}

fn no_session(error: session::Error) -> Problem {
    Problem::new(503, "No session").detail(format!("{error:?}"))
}

/// `route` is one of those that change what is in the cart.
pub fn change(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let form = request.form()?;
    let Some(id) = session::get(SESSION_KEY).map_err(no_session)? else { return Ok(web::redirect(&site.link("/cart"))) };
    match request.route.as_str() {
        "cart-quantity" => change_quantity(&site, &id, &form),
        "cart-code" => enter_code(&site, request, &id, &form),
        _ => Ok(answer(&site, cart::remove_code(&id, form.text("code", CODE_CHARS_MAX)?), "/cart", Asked::More(0))),
    }
}

fn change_quantity(site: &Site, id: &str, form: &Fields) -> Result<Response, Problem> {
    let line = form.text("line", 100)?;
    let Some(quantity) = quantity(form, None) else { return Ok(answer(site, Err(Error::InvalidQuantity(0)), "/cart", Asked::More(0))) };
    let changed = cart::set_quantity(id, line, quantity);
    if matches!(changed, Err(Error::UnknownSku(_))) {
        let gone = site.say(
            "This was taken out of the cart meanwhile, perhaps in another window. Below is the cart as it is now.",
            "该商品已从购物车中移除（可能是在其他窗口）。以下是购物车的最新内容。",
        );
        return Ok(with_alert(site, gone));
    }
    Ok(answer(site, changed, "/cart", Asked::AsMany(quantity)))
}

/// What is wrong with a code is said at its field, which keeps what was typed.
struct Refused<'a> {
    typed: &'a str,
    reason: String,
}

/// What is refused is no error: one would roll back the count of what was tried.
fn enter_code(site: &Site, request: &Request, id: &str, form: &Fields) -> Result<Response, Problem> {
    let typed = form.optional_text("code", CODE_CHARS_MAX)?.unwrap_or_default();
    let client = Client { address: request.client_address.clone(), session: session::id().ok() };
    let refused = |reason: String| personal(render(site, open(site).as_deref(), None, Some(Refused { typed, reason })));
    Ok(match shopper_carts::enter_code(id, typed, site.locale, &client) {
        Ok(Some(rejected)) => refused(rejected.reason),
        Ok(None) | Err(Refusal::Cart(Error::NotFound | Error::Completed(_))) => web::redirect(&site.link("/cart")),
        Err(Refusal::Cart(error)) => refused(message(site, &error)).with_status(422),
        Err(Refusal::Later(wait_s)) => refused(try_later(site, wait_s)).with_status(429).with_header("retry-after", wait_s.to_string()),
    })
}

/// After something was tried too often in vain.
pub fn try_later(site: &Site, wait_s: u32) -> String {
    let minutes = wait_s.div_ceil(60);
    match (site.is_chinese(), minutes) {
        (true, _) => format!("尝试次数过多，请在 {minutes} 分钟后重试。"),
        (false, 1) => "This was tried too often. Try again in a minute.".to_owned(),
        (false, _) => format!("This was tried too often. Try again in {minutes} minutes."),
    }
}

/// How many the shopper wanted.
#[derive(Clone, Copy)]
enum Asked {
    /// Besides those in the cart.
    More(u32),
    /// Of the line.
    AsMany(u32),
}

fn answer(site: &Site, changed: Result<(), Error>, then: &str, asked: Asked) -> Response {
    match changed {
        Ok(()) | Err(Error::NotFound | Error::Completed(_)) => web::redirect(&site.link(then)),
        Err(Error::InsufficientStock((sku, available))) => {
            let reviewed = open(site);
            let notice = shortage(site, reviewed.as_deref().map(|reviewed| &reviewed.view), &sku, u32::try_from(available).unwrap_or(0), asked);
            personal(render(site, reviewed.as_deref(), Some(notice), None)).with_status(409)
        }
        Err(error) => with_alert(site, &message(site, &error)),
    }
}

/// Why it cannot be so many, and in one press as many as there are.
fn shortage(site: &Site, view: Option<&View>, sku: &str, available: u32, asked: Asked) -> Markup {
    let held = view.and_then(|view| view.lines.iter().find(|line| line.sku == sku)).map_or(0, |line| line.quantity);
    let title = differences::title_of(site, sku);
    let zh = site.is_chinese();
    let (wanted, path, field, possible) = match asked {
        Asked::More(more) => (held + more, "/cart/lines", "sku", available.saturating_sub(held)),
        Asked::AsMany(all) => (all, "/cart/quantity", "line", available),
    };
    let told = match (available, possible) {
        (0, _) if zh => format!("{title}已售罄。"),
        (0, _) => format!("{title} is sold out."),
        (_, 0) if zh => format!("{title}仅剩 {available} 件，已全部在您的购物车中。"),
        (_, 0) => format!("{title}: only {available} left, and your cart has them already."),
        _ if zh => format!("{title}仅剩 {available} 件，您需要 {wanted} 件。"),
        _ => format!("{title}: only {available} left; you asked for {wanted}."),
    };
    let press = match asked {
        Asked::More(_) if zh => format!("加入 {possible} 件"),
        Asked::More(_) => format!("Add {possible}"),
        Asked::AsMany(_) => take(site, possible),
    };
    html! {
        div.alert role="alert" tabindex="-1" autofocus {
            p { (told) }
            @if possible > 0 {
                form method="post" action=(site.link(path)) {
                    input type="hidden" name=(field) value=(sku);
                    input type="hidden" name="quantity" value=(possible);
                    button.plain { (press) }
                }
            }
        }
    }
}

fn take(site: &Site, quantity: u32) -> String {
    if site.is_chinese() { format!("改为 {quantity} 件") } else { format!("Take {quantity}") }
}

/// The cart, and above it why something was not done.
pub fn with_alert(site: &Site, message: &str) -> Response {
    personal(render(site, open(site).as_deref(), Some(alert(message)), None)).with_status(409)
}

pub fn alert(message: &str) -> Markup {
    html! { p.alert role="alert" tabindex="-1" autofocus { (message) } }
}

fn message(site: &Site, error: &Error) -> String {
    match error {
        Error::UnknownSku(_) => site.say("This is no longer sold.", "该商品已下架。").into(),
        Error::InvalidQuantity(_) => site.say("Choose a quantity from 1 to 999.", "请输入 1 到 999 之间的数量。").into(),
        Error::Full => site.say("The cart is full. Remove something first.", "购物车已满，请先移除部分内容。").into(),
        // The cart does not know in which language it is read.
        Error::Invalid(errors) => errors.first().map(|error| entry::mistake(&error.field, &error.code, site.locale).message).unwrap_or_default(),
        Error::InsufficientStock(_) => site.say("There are not so many.", "库存不足。").into(),
        Error::NotFound | Error::Completed(_) => site.say("The cart is empty.", "购物车是空的。").into(),
    }
}

/// Nobody between shop and shopper may keep it.
pub fn personal(markup: Markup) -> Response {
    web::html(markup.into_string()).with_header("cache-control", "no-store")
}

fn render(site: &Site, reviewed: Option<&Reviewed>, notice: Option<Markup>, refused: Option<Refused>) -> Markup {
    let title = site.say("Your cart", "购物车");
    let Some(reviewed) = reviewed.filter(|reviewed| !reviewed.view.lines.is_empty()) else {
        return site.own_page(
            title,
            html! {
                div.wide.lost {
                    h1 { (title) }
                    @if let Some(notice) = notice { (notice) }
                    (mine::waiting_notice(site))
                    p { (site.say("Your cart is empty.", "购物车里还没有商品。")) }
                    p.order-actions {
                        a.button href=(site.link("/products")) { (site.say("Continue shopping", "继续购物")) }
                        a href=(site.link("/orders")) { (site.say("Your orders", "我的订单")) }
                    }
                }
            },
        );
    };
    let view = &reviewed.view;
    let short: Vec<&Line> = view.lines.iter().filter(|line| is_short(line)).collect();
    site.own_page(
        title,
        html! {
            div.wide.columns {
                section {
                    h1 { (title) }
                    @if let Some(notice) = notice { (notice) }
                    (differences::list(site.say("Changed since you added it:", "与加入购物车时相比："), &differences::since_chosen(site, reviewed)))
                    (mine::waiting_notice(site))
                    ul.lines { @for line in &view.lines { (line_row(site, line)) } }
                    p { (go_on(site)) }
                }
                aside {
                    h2 { (site.say("Total", "合计")) }
                    (codes(site, view, refused.as_ref()))
                    (summary::totals(site, summary::to_pay(site), &view.totals, &view.applied, &view.taxes))
                    @if view.totals.shipping.is_none() { p.hint { (site.say("Delivery is calculated at the checkout.", "运费将在结算时计算。")) } }
                    @if !short.is_empty() {
                        p.alert { (what_to_do(site, &short)) }
                    } @else {
                        a.button.full href=(site.link("/checkout")) { (site.say("Check out", "去结算")) }
                    }
                }
            }
        },
    )
}

fn is_short(line: &Line) -> bool {
    line.available < i64::from(line.quantity)
}

/// Before it can be ordered, with lines of which there are not so many.
fn what_to_do(site: &Site, short: &[&Line]) -> &'static str {
    let gone = short.iter().filter(|line| line.available <= 0).count();
    if gone == short.len() {
        site.say("Some of it cannot be bought any more. To check out, remove what is marked.", "部分商品已无法购买。请移除已标记的商品后再结算。")
    } else if gone == 0 {
        site.say("There is less of some of it than you want. To check out, take fewer of what is marked.", "部分商品库存不足。请减少已标记商品的数量后再结算。")
    } else {
        site.say("Some of it is sold out or not there so often. To check out, remove or reduce what is marked.", "部分商品已售罄或库存不足。请移除或减少已标记的商品后再结算。")
    }
}

/// What is wrong with a line, and in one press as much of it as there is.
fn marked(site: &Site, line: &Line) -> Markup {
    let (left, asked) = (line.available, line.quantity);
    let told = match (line.product.is_empty(), left > 0, site.is_chinese()) {
        (true, _, _) => site.say("No longer sold. Please remove it.", "商品已下架，请移除。").to_owned(),
        (false, false, _) => site.say("Sold out. Please remove it.", "已售罄，请移除。").to_owned(),
        (false, true, false) => format!("Only {left} left; you asked for {asked}."),
        (false, true, true) => format!("仅剩 {left} 件，您需要 {asked} 件。"),
    };
    let possible = u32::try_from(left).unwrap_or(0);
    let press = if possible > 0 { take(site, possible) } else { site.say("Remove", "移除").to_owned() };
    html! {
        div.alert {
            p { (told) }
            form method="post" action=(site.link("/cart/quantity")) {
                input type="hidden" name="line" value=(line.id);
                input type="hidden" name="quantity" value=(possible);
                button.plain { (press) span.hidden { ": " (line.title) } }
            }
        }
    }
}

fn line_row(site: &Site, line: &Line) -> Markup {
    let link = site.variant(&line.product, &line.sku);
    let field = format!("quantity-{}", line.id);
    let short = is_short(line);
    html! {
        li {
            a.thumb href=(link) tabindex="-1" aria-hidden="true" { (picture(line.image.as_ref(), &line.title, Loading::Later)) }
            div {
                h2 { a href=(link) { (line.title) } }
                @if !line.variant_title.is_empty() { p.sub { (line.variant_title) } }
                @if !summary::is_unpriced(line) { p.sub { (site.amount(&line.unit_price)) } }
                @if short { (marked(site, line)) }
                div.actions {
                    form method="post" action=(site.link("/cart/quantity")) {
                        input type="hidden" name="line" value=(line.id);
                        label for=(field) { (site.say("Quantity", "数量")) }
                        input.number id=(field) type="number" name="quantity" min="0" max="999" required value=(line.quantity);
                        button.plain { (site.say("Change", "更新")) span.hidden { ": " (line.title) } }
                    }
                    // Where it is sold out, the mark has this button.
                    @if !short || line.available > 0 {
                        form method="post" action=(site.link("/cart/quantity")) {
                            input type="hidden" name="line" value=(line.id);
                            input type="hidden" name="quantity" value="0";
                            button.plain { (site.say("Remove", "移除")) span.hidden { ": " (line.title) } }
                        }
                    }
                }
            }
            (summary::line_price(site, line))
        }
    }
}

fn codes(site: &Site, view: &View, refused: Option<&Refused>) -> Markup {
    let wrong = refused.map(|_| "code-error");
    html! {
        form.code method="post" action=(site.link("/cart/codes")) {
            label for="code" { (site.say("Coupon code", "优惠码")) }
            div {
                input #code name="code" maxlength=(CODE_CHARS_MAX) autocomplete="off" autocapitalize="characters" spellcheck="false"
                    value=[refused.map(|refused| refused.typed)] aria-describedby=[wrong] aria-invalid=[wrong.map(|_| "true")] autofocus[refused.is_some()];
                button.plain { (site.say("Apply", "使用")) }
            }
            @if let Some(refused) = refused { p.mistake #code-error role="alert" { (refused.reason) } }
        }
        @if !view.codes.is_empty() {
            ul.codes {
                @for code in &view.codes {
                    @let rejected = view.rejected.iter().find(|rejected| rejected.code == *code);
                    @let is_idle = rejected.is_none() && !view.applied.iter().any(|applied| applied.code.as_ref() == Some(code));
                    li.refused[rejected.is_some()] {
                        span {
                            b { (code) }
                            @if let Some(rejected) = rejected { " " (rejected.reason) }
                            // Free delivery, where none is chosen yet or it is free already.
                            @if is_idle { " " (site.say("is kept. So far there is nothing that it could take off.", "已保存，目前没有可以抵扣的金额。")) }
                        }
                        form method="post" action=(site.link("/cart/codes/remove")) {
                            input type="hidden" name="code" value=(code);
                            button.plain { (site.say("Remove", "移除")) span.hidden { ": " (code) } }
                        }
                    }
                }
            }
        }
    }
}
