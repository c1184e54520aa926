//! The orders that this browser has placed: remembered by its session, so that
//! who goes back, presses twice or comes again finds them. Others are found by
//! their number and what they were placed with.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use souk_sdk::commerce::order_look_up;
use souk_sdk::commerce::order_reopening::{self, Error as ReopenError};
use souk_sdk::commerce::orders::{self, Order, Status};
use souk_sdk::commerce::payment;
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{serde_json, session};

use crate::basket::{self, alert, personal};
use crate::layout::Site;
use crate::order::{iso, spoken};
use crate::url;

const SESSION_KEY: &str = "orders";
/// The session's value for them stays under its limit of 4 KiB.
const REMEMBERED_MAX: usize = 20;
/// The newest; a page must not read all of them for one sentence.
const WAITING_SHOWN: usize = 3;
const ENTRY_CHARS_MAX: usize = 254;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    token: String,
    /// What the shopper agreed to: a form that is sent again names it.
    seen: String,
}

/// The newest first.
fn remembered() -> Vec<Remembered> {
    let kept = session::get(SESSION_KEY).ok().flatten();
    kept.and_then(|kept| serde_json::from_str(&kept).ok()).unwrap_or_default()
}

/// One of this browser's own.
pub fn by_number(number: &str) -> Option<Order> {
    remembered().into_iter().filter_map(|known| orders::by_token(&known.token)).find(|order| order.number == number)
}

/// Puts it first. What was agreed to is kept from the first time.
pub fn remember(token: &str, seen: &str) {
    let before = remembered();
    let known = before.iter().find(|known| known.token == token && seen.is_empty());
    let mut all = vec![known.cloned().unwrap_or(Remembered { token: token.into(), seen: seen.into() })];
    all.extend(before.iter().filter(|known| known.token != token).cloned());
    all.truncate(REMEMBERED_MAX);
    if all == before {
        return;
    }
    // Text alone always has a JSON form. Without a session the order is still there by its link.
    let _ = session::set(SESSION_KEY, &serde_json::to_string(&all).unwrap_or_default());
}

/// The order that this form placed when it was sent before.
pub fn placed_with(seen: &str) -> Option<String> {
    remembered().into_iter().find(|known| known.seen == seen).map(|known| known.token)
}

/// Those that are not paid, the newest first.
fn waiting() -> Vec<Order> {
    let orders = remembered().into_iter().take(WAITING_SHOWN).filter_map(|known| orders::by_token(&known.token));
    orders.filter(|order| order.status == Status::PaymentPending).collect()
}

/// On the cart's page: what was ordered and not paid is not lost.
pub fn waiting_notice(site: &Site) -> Markup {
    html! {
        @for order in waiting() {
            section.waiting aria-labelledby=(format!("order-{}", order.number)) {
                h2 id=(format!("order-{}", order.number)) { (heading(site, &order)) }
                p { (site.say("Its goods are kept for you. You can pay it, or change it: then it is given up, and all of it is in your cart again.", "商品已为您保留。您可以继续支付，或修改订单：原订单将取消，商品会回到购物车。")) }
                (actions(site, &order))
            }
        }
    }
}

fn heading(site: &Site, order: &Order) -> String {
    let total = order.totals.total.format(site.locale);
    if site.is_chinese() { format!("订单 {} 待支付：{total}", order.number) } else { format!("Order {} is not paid yet: {total}", order.number) }
}

/// What can be done with an order that is not paid.
pub fn actions(site: &Site, order: &Order) -> Markup {
    let link = |path: &str| site.link(&format!("/orders/{}{path}", order.token));
    html! {
        div.order-actions {
            a.button href=(link("")) { (site.say("Pay", "去支付")) span.hidden { " " (order.number) } }
            form method="post" action=(link("/change")) { button.plain { (site.say("Change the order", "修改订单")) span.hidden { " " (order.number) } } }
            form method="post" action=(link("/cancel")) { button.plain { (site.say("Cancel the order", "取消订单")) span.hidden { " " (order.number) } } }
        }
    }
}

/// `/orders`: what this browser has ordered, and the way to what it has not.
pub fn page(request: &Request) -> Response {
    let site = Site::of(request);
    personal(render(&site, None, "", ""))
}

/// Finds an order by its number. What was not found is no error, so that it is counted.
pub fn find(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let form = request.form()?;
    let number = form.optional_text("number", ENTRY_CHARS_MAX)?.unwrap_or_default();
    let contact = form.optional_text("contact", ENTRY_CHARS_MAX)?.unwrap_or_default();
    if number.is_empty() || contact.is_empty() {
        let notice = site.say("Enter both the order's number, and the e-mail address or phone number you gave with it.", "请填写订单号，以及下单时填写的邮箱或手机号。");
        return Ok(personal(render(&site, Some(notice), number, contact)).with_status(422));
    }
    Ok(match order_look_up::find(number, contact, &request.client_address) {
        Ok(Some(order)) => {
            remember(&order.token, "");
            web::redirect(&site.link(&format!("/orders/{}", order.token)))
        }
        Ok(None) => {
            let notice = site.say("No order has this number together with this e-mail address or phone number. Check both.", "没有找到同时符合该订单号与联系方式的订单，请核对后重试。");
            personal(render(&site, Some(notice), number, contact))
        }
        Err(wait_s) => {
            let notice = basket::try_later(&site, wait_s);
            personal(render(&site, Some(&notice), number, contact)).with_status(429).with_header("retry-after", wait_s.to_string())
        }
    })
}

/// Gives up an order that is not paid, and fills the cart with what was in it.
pub fn change(request: &Request) -> Response {
    let site = Site::of(request);
    let token = request.param("token");
    match order_reopening::reopen(token) {
        Ok(reopened) => {
            let number = orders::by_token(token).map(|order| order.number).unwrap_or_default();
            if let Err(problem) = basket::replace(request, &reopened.cart_id) {
                return crate::for_people(request, problem);
            }
            // From a link that was kept, it may be another browser's.
            remember(token, "");
            Response { await_effects: true, ..web::redirect(&site.link(&format!("/cart?changed={}", url::part(&number)))) }
        }
        Err(ReopenError::UnknownOrder) => crate::not_found(request),
        Err(ReopenError::Paid) => {
            let notice = site.say("The order is paid and can no longer be changed here.", "订单已支付，无法在此修改。");
            crate::order::with_notice(&site, token, notice).unwrap_or_else(|| crate::not_found(request))
        }
    }
}

fn render(site: &Site, notice: Option<&str>, number: &str, contact: &str) -> Markup {
    let title = site.say("Your orders", "我的订单");
    let known: Vec<Order> = remembered().into_iter().filter_map(|known| orders::by_token(&known.token)).collect();
    site.own_page(
        title,
        html! {
            div.wide.columns {
                section {
                    h1 { (title) }
                    @if known.is_empty() {
                        p.empty { (site.say("Nothing was ordered in this browser yet. Orders placed elsewhere are found by their number.", "此浏览器中还没有订单。在其他设备上的订单可用订单号查询。")) }
                    }
                    ul.orders { @for order in &known { (entry(site, order)) } }
                }
                aside {
                    h2 { (site.say("Find an order", "查询订单")) }
                    @if let Some(notice) = notice { (alert(notice)) }
                    form.stacked method="post" action=(site.link("/orders/find")) {
                        div.field {
                            label for="number" { (site.say("Order number", "订单号")) }
                            input #number name="number" required maxlength="40" autocomplete="off" autocapitalize="characters" spellcheck="false" placeholder="7K3M-0VWX" value=(number);
                        }
                        div.field {
                            label for="contact" { (site.say("E-mail address or phone number", "邮箱或手机号")) }
                            input #contact name="contact" required maxlength=(ENTRY_CHARS_MAX) autocomplete="email" spellcheck="false" aria-describedby="contact-hint" value=(contact);
                            p.hint #contact-hint { (site.say("As you gave it with the order.", "下单时填写的邮箱或手机号。")) }
                        }
                        button.full { (site.say("Find the order", "查询订单")) }
                    }
                }
            }
        },
    )
}

fn entry(site: &Site, order: &Order) -> Markup {
    let link = site.link(&format!("/orders/{}", order.token));
    let payment = payment::latest(&order.token);
    let state = crate::order::state_in_words(site, order, payment.as_ref());
    html! {
        li {
            div {
                h2 { a href=(link) { (site.say("Order", "订单")) " " (order.number) } }
                p.sub { time datetime=(iso(order.created_ms)) { (spoken(site, order.created_ms)) } }
                p { (state) }
                @if order.status == Status::PaymentPending { (actions(site, order)) }
            }
            p.price { (order.totals.total.format(site.locale)) }
        }
    }
}
