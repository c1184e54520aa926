//! The order as its shopper sees it, known by a link that cannot be guessed.

use maud::{Markup, html};
use souk_sdk::commerce::order_cancellation::{self, Canceller, Outcome};
use souk_sdk::commerce::order_history::{self, Step};
use souk_sdk::commerce::orders::{self, Order, Status};
use souk_sdk::commerce::payment::{self, Payment, Status as Paying};
use souk_sdk::money::Money;
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{clock, config, zone};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::basket::{alert, personal};
use crate::checkout::method_choice;
use crate::layout::Site;
use crate::summary;

/// A page that waits looks again by itself, so often and so long.
const LOOK_AGAIN_S: u32 = 4;
const LOOK_AGAIN_UP_TO_MS: u64 = 3 * 60 * 1_000;
/// In the timeline: another amount came than was asked for.
const MISMATCH: &str = "payment.mismatch";
const OWED: &str = "payment.owed";
const REFUNDED: &str = "payment.refunded";

pub fn page(request: &Request) -> Response {
    let site = Site::of(request);
    let Some(order) = orders::by_token(request.param("token")) else { return crate::not_found(request) };
    let payment = payment::latest(&order.token);
    // Straight on to the provider's page after the order was placed.
    if request.query().get("pay").is_some()
        && let Some(url) = payment.as_ref().and_then(|payment| payment.redirect_url.as_deref())
    {
        return web::redirect(url).with_header("cache-control", "no-store");
    }
    show(&site, &order, payment.as_ref(), None)
}

pub fn retry(request: &Request) -> Result<Response, Problem> {
    let site = Site::of(request);
    let token = request.param("token");
    let (Some(order), Some(last)) = (orders::by_token(token), payment::latest(token)) else { return Ok(crate::not_found(request)) };
    let form = request.form()?;
    let method = form.text("method", 128)?;
    if payment::retry(&last.id, method, site.locale).is_err() {
        let notice = site.say("This payment method is not available right now. You see the state of your order below.", "目前无法使用该支付方式，请查看下方订单状态。");
        return Ok(show(&site, &order, Some(&last), Some(notice)).with_status(409));
    }
    let next = web::redirect(&site.link(&format!("/orders/{token}?pay=1")));
    Ok(Response { await_effects: true, ..next })
}

/// Asks the provider now, for a shopper who has paid and does not see it here.
pub fn check(request: &Request) -> Response {
    let site = Site::of(request);
    let token = request.param("token");
    match payment::latest(token) {
        Some(last) => _ = payment::refresh(&last.id),
        // Whoever guesses is told, so that the shop sees it too.
        None if orders::by_token(token).is_none() => return crate::not_found(request),
        None => {}
    }
    web::redirect(&site.link(&format!("/orders/{token}")))
}

/// What is paid cannot be brought back by the shopper: they are asked first.
pub fn cancel(request: &Request) -> Response {
    let site = Site::of(request);
    let token = request.param("token");
    let is_sure = request.form().is_ok_and(|form| form.get("sure").is_some());
    if !is_sure
        && let Some(order) = orders::by_token(token).filter(|order| order.status == Status::Placed)
    {
        return personal(ask_to_cancel(&site, &order)).with_header("x-robots-tag", "noindex");
    }
    cancel_now(&site, token)
}

fn ask_to_cancel(site: &Site, order: &Order) -> Markup {
    let title = site.say("Cancel this order?", "确定取消订单吗？");
    let link = |path: &str| site.link(&format!("/orders/{}{path}", order.token));
    let total = order.totals.total.format(site.locale);
    site.own_page(
        title,
        html! {
            div.wide {
                h1 { (title) }
                p.number { (site.say("Order number", "订单号")) " " b { (order.number) } }
                p.lead {
                    @if site.is_chinese() { "取消后订单不会发货，已付的 " (total) " 将原路退回。取消后无法恢复。" }
                    @else { "Nothing will be sent, and " (total) " goes back the way you paid. This cannot be undone." }
                }
                div.order-actions {
                    form method="post" action=(link("/cancel")) {
                        input type="hidden" name="sure" value="1";
                        button.plain { (site.say("Yes, cancel the order", "确定取消")) }
                    }
                    a.button href=(link("")) { (site.say("Keep the order", "暂不取消")) }
                }
            }
        },
    )
}

fn cancel_now(site: &Site, token: &str) -> Response {
    match order_cancellation::cancel(token, Canceller::Shopper, "by the shopper") {
        Outcome::Sent => {
            let notice = site.say("The order is on its way and can no longer be cancelled here.", "订单已发货，无法在此取消。");
            with_notice(site, token, notice).unwrap_or_else(|| unknown(site))
        }
        Outcome::UnknownOrder => unknown(site),
        Outcome::Cancelled | Outcome::Refunding => Response { await_effects: true, ..web::redirect(&site.link(&format!("/orders/{token}"))) },
    }
}

fn unknown(site: &Site) -> Response {
    web::html(crate::pages::not_found(site).into_string()).with_status(404)
}

/// The page of an order, and above it why something was not done.
pub fn with_notice(site: &Site, token: &str, notice: &str) -> Option<Response> {
    let order = orders::by_token(token)?;
    Some(show(site, &order, payment::latest(token).as_ref(), Some(notice)).with_status(409))
}

fn show(site: &Site, order: &Order, payment: Option<&Payment>, notice: Option<&str>) -> Response {
    let waits = order.status == Status::PaymentPending
        && payment.is_some_and(|payment| matches!(payment.status, Paying::Starting | Paying::Unknown | Paying::ActionRequired | Paying::Captured));
    let response = personal(render(site, order, payment, notice)).with_header("x-robots-tag", "noindex");
    if waits && notice.is_none() && clock::now_ms().saturating_sub(order.created_ms) < LOOK_AGAIN_UP_TO_MS {
        return response.with_header("refresh", LOOK_AGAIN_S.to_string());
    }
    response
}

/// Whether money came that is not the order's total, and the staff have not yet said what becomes of it.
fn is_being_checked(order: &Order, payment: Option<&Payment>) -> bool {
    let is_over = payment.is_some_and(|payment| matches!(payment.status, Paying::Declined | Paying::Cancelled | Paying::Refunding | Paying::Refunded));
    order.status == Status::PaymentPending && !is_over && order.timeline.iter().any(|entry| entry.kind == MISMATCH)
}

/// Heading and sentence.
fn state(site: &Site, order: &Order, payment: Option<&Payment>) -> (&'static str, &'static str) {
    if is_being_checked(order, payment) {
        return (
            site.say("We are checking your payment", "正在核实您的付款"),
            site.say("We received another amount and are looking at it. Please do not pay again.", "收到的金额与订单不符，正在核实，请勿重复支付。"),
        );
    }
    match (order.status, payment.map(|payment| payment.status)) {
        (Status::PaymentPending, Some(Paying::Declined)) => (
            site.say("The payment was declined", "支付未成功"),
            site.say("Nothing was charged. Your goods are still kept for you: try again or choose another way to pay.", "您没有被扣款，商品仍为您保留。请重试或更换支付方式。"),
        ),
        (Status::PaymentPending, Some(Paying::Cancelled)) => (
            site.say("The payment was cancelled", "支付已取消"),
            site.say("Nothing was charged. Choose how you would like to pay.", "您没有被扣款，请重新选择支付方式。"),
        ),
        (Status::PaymentPending, Some(Paying::ActionRequired)) => (
            site.say("Waiting for your payment", "等待支付"),
            site.say("If you have just paid, this page will say so in a moment.", "如果您刚刚完成支付，此页面稍后会更新。"),
        ),
        (Status::PaymentPending, Some(Paying::Refunding | Paying::Refunded)) => (
            site.say("Not paid yet", "尚未支付"),
            site.say(
                "What you paid was not the amount of the order, and goes back to you: see the order history. Your goods are still kept for you: choose how you would like to pay.",
                "您支付的金额与订单不符，该款项将原路退回，详见订单进度。商品仍为您保留，请重新选择支付方式。",
            ),
        ),
        (Status::PaymentPending, _) => (
            site.say("We are starting your payment", "正在处理支付"),
            site.say(
                "We are contacting the payment provider. This page updates by itself. If it takes too long, choose another way to pay: should the first one charge you after all, we refund it.",
                "正在联系支付服务商，此页面会自动更新。如等待过久，可更换支付方式；若之前的支付仍然扣款，款项将自动退回。",
            ),
        ),
        (Status::Placed, _) => {
            (site.say("Thank you for your order", "下单成功，感谢惠顾"), site.say("Your payment has arrived, and we are packing your order.", "我们已收到您的付款，正在为您备货。"))
        }
        (Status::Fulfilled, _) => (site.say("Your order is on its way", "订单已发货"), site.say("It has left our warehouse.", "商品已出库，请留意收货。")),
        (Status::Cancelled, _) => {
            (
                site.say("The order was cancelled", "订单已取消"),
                site.say("Nothing will be sent, and you owe nothing. Should a payment arrive all the same, we refund it.", "订单不会发货，您也无需付款。如仍有款项到账，将自动原路退回。"),
            )
        }
        (Status::Refunding, _) => (
            site.say("Your refund is on its way", "退款处理中"),
            site.say("Nothing will be sent. We are refunding all of it the way you paid.", "订单不会发货，您支付的款项将原路全额退回。"),
        ),
        (Status::Refunded, _) => (site.say("You were refunded", "已退款"), site.say("All of it went back the way you paid.", "款项已原路全额退回。")),
    }
}

/// The same in a few words, for a list.
pub fn state_in_words(site: &Site, order: &Order, payment: Option<&Payment>) -> &'static str {
    if is_being_checked(order, payment) {
        return site.say("Payment being checked", "付款核实中");
    }
    match (order.status, payment.map(|payment| payment.status)) {
        (Status::PaymentPending, Some(Paying::Declined)) => site.say("Not paid: the payment was declined", "待支付（支付未成功）"),
        (Status::PaymentPending, _) => site.say("Not paid yet", "待支付"),
        (Status::Placed, _) => site.say("Paid, being packed", "已支付，备货中"),
        (Status::Fulfilled, _) => site.say("Sent", "已发货"),
        (Status::Cancelled, _) => site.say("Cancelled", "已取消"),
        (Status::Refunding, _) => site.say("Cancelled, refund on its way", "已取消，退款中"),
        (Status::Refunded, _) => site.say("Cancelled and refunded", "已取消并退款"),
    }
}

fn happened(site: &Site, step: &Step) -> Option<String> {
    let amount = step.amount.as_ref().map(|amount| amount.format(site.locale));
    Some(match (step.kind.as_str(), amount, site.is_chinese()) {
        ("order.created", ..) => site.say("Order received", "提交订单").into(),
        ("order.placed", ..) => site.say("Payment received", "支付成功").into(),
        ("order.cancelled", ..) => site.say("Cancelled", "订单取消").into(),
        ("order.fulfilled", ..) => site.say("Sent", "已发货").into(),
        (OWED, Some(amount), false) => format!("Refund of {amount} started"),
        (OWED, Some(amount), true) => format!("发起退款 {amount}"),
        (OWED, None, _) => site.say("Refund started", "发起退款").into(),
        (MISMATCH, ..) => site.say("Another amount was paid than was asked for: we are looking at it", "收到的金额与订单不符，正在人工核实").into(),
        (REFUNDED, Some(amount), false) => format!("Refund of {amount} done"),
        (REFUNDED, Some(amount), true) => format!("退款 {amount} 已完成"),
        (REFUNDED, None, _) => site.say("Refund done", "退款完成").into(),
        _ => return None,
    })
}

/// Money that went back, or is going to, from an order that stands: it was not the money that paid it.
fn returned_beside(site: &Site, order: &Order, steps: &[Step]) -> Option<String> {
    if !matches!(order.status, Status::Placed | Status::Fulfilled) {
        return None;
    }
    let owed = steps.iter().filter(|step| step.kind == OWED).filter_map(|step| step.amount.as_ref());
    let sum = Money::sum(&order.totals.total.currency, owed).ok().filter(|sum| sum.amount > 0)?.format(site.locale);
    Some(if site.is_chinese() {
        format!("您另有 {sum} 的付款并非此订单所需，已安排原路退回，不影响此订单。")
    } else {
        format!("We also received {sum} that this order did not need. It goes back the way you paid; your order stays as it is.")
    })
}

fn sum_label(site: &Site, status: Status) -> &'static str {
    match status {
        Status::PaymentPending => summary::to_pay(site),
        Status::Cancelled => site.say("Total", "订单金额"),
        Status::Placed | Status::Fulfilled | Status::Refunding | Status::Refunded => site.say("Total", "实付金额"),
    }
}

fn render(site: &Site, order: &Order, payment: Option<&Payment>, notice: Option<&str>) -> Markup {
    let (title, sentence) = state(site, order, payment);
    let link = |path: &str| site.link(&format!("/orders/{}{path}", order.token));
    let pending = order.status == Status::PaymentPending;
    let may_pay = pending && !is_being_checked(order, payment);
    let pay_url = payment.filter(|_| may_pay).and_then(|payment| payment.redirect_url.as_deref());
    let asks = may_pay && payment.is_some_and(|payment| matches!(payment.status, Paying::ActionRequired | Paying::Unknown));
    let may_choose = may_pay && payment.is_some_and(|payment| payment.status != Paying::Captured);
    let may_cancel = pending || order.status == Status::Placed;
    let steps = order_history::steps(&order.token);
    let tracking = steps.iter().map(|step| step.tracking.as_str()).find(|tracking| !tracking.is_empty());
    let methods = if may_choose { payment::methods(&order.totals.total, site.locale) } else { Vec::new() };
    site.own_page(
        title,
        html! {
            div.wide.columns {
                section {
                    h1 { (title) }
                    @if let Some(notice) = notice { (alert(notice)) }
                    p.lead role="status" { (sentence) }
                    p.number { (site.say("Order number", "订单号")) " " b { (order.number) } }
                    @if let Some(tracking) = tracking { p.number { (site.say("Tracking number", "物流单号")) " " b { (tracking) } } }
                    @if let Some(told) = returned_beside(site, order, &steps) { p.hint { (told) } }
                    @if let Some(message) = payment.map(|payment| payment.message.as_str()).filter(|message| may_pay && !message.is_empty()) { p.hint { (message) } }
                    @if asks {
                        div.order-actions {
                            @if let Some(url) = pay_url { a.button href=(url) { (site.say("Go to the payment", "前往支付")) } }
                            form method="post" action=(link("/check")) { button.plain { (site.say("I have paid: check now", "我已完成支付")) } }
                        }
                    }
                    @if may_choose {
                        form.stacked method="post" action=(link("/retry")) {
                            (method_choice(site, &methods))
                            button.full.plain[pay_url.is_some()] { (site.say("Pay this way", "使用此方式支付")) }
                        }
                    }
                    @if may_cancel {
                        div.order-actions {
                            @if pending { form method="post" action=(link("/change")) { button.plain { (site.say("Change the order", "修改订单")) } } }
                            form method="post" action=(link("/cancel")) { button.plain { (site.say("Cancel the order", "取消订单")) } }
                        }
                        @if pending { p.hint { (site.say("To change it, this order is cancelled, and its items are put back into your cart.", "修改订单会取消当前订单，商品将放回购物车。")) } }
                    }
                    @if order.status == Status::Cancelled {
                        form.order-actions method="post" action=(link("/change")) { button.plain { (site.say("Put it into the cart again", "重新加入购物车")) } }
                    }
                    div.facts-pair {
                        section { h2 { (site.say("Ship to", "收货信息")) } (summary::address(site, &order.shipping_address)) p { (order.contact.email) } }
                        section { h2 { (site.say("Delivery", "配送方式")) } p { (order.shipping_method.name) } }
                    }
                    h2 { (site.say("Order history", "订单进度")) }
                    ol.timeline {
                        @for step in &steps {
                            @if let Some(what) = happened(site, step) {
                                li {
                                    time datetime=(iso(step.at_ms)) { (spoken(site, step.at_ms)) } " " (what)
                                    @if !step.message.is_empty() { br; (step.message) }
                                }
                            }
                        }
                    }
                    p.hint {
                        (site.say("This browser remembers the order. Elsewhere it is found by its number and your e-mail address or phone number:", "此浏览器会记住该订单。在其他设备上，可用订单号和邮箱或手机号查询："))
                        " " a href=(site.link("/orders")) { (site.say("your orders", "我的订单")) }
                    }
                }
                aside {
                    h2 { (site.say("Your order", "订单明细")) }
                    (summary::lines(site, &order.lines))
                    (summary::totals(site, sum_label(site, order.status), &order.totals, &order.applied, &order.taxes))
                }
            }
        },
    )
}

/// `2026-11-24T15:30:00Z`
pub fn iso(at_ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp((at_ms / 1_000) as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

/// By the shop's clock, and whose that is. A script turns it into the reader's own time.
pub fn spoken(site: &Site, at_ms: u64) -> String {
    let zone = config::shop().time_zone;
    let shown = zone::show(i64::try_from(at_ms).unwrap_or(i64::MAX), &zone);
    let (day, time) = (shown.get(..10).unwrap_or_default(), shown.get(11..16).unwrap_or_default());
    if site.is_chinese() { format!("{day} {time}（{}）", zone_name(&zone, true)) } else { format!("{day} {time} ({})", zone_name(&zone, false)) }
}

/// What people call a zone's time: by its city.
fn zone_name(zone: &str, chinese: bool) -> String {
    let known = match zone {
        "Asia/Shanghai" | "Asia/Chongqing" | "Asia/Harbin" => "北京时间",
        "Asia/Hong_Kong" => "香港时间",
        "Asia/Macau" => "澳门时间",
        "Asia/Taipei" => "台北时间",
        "Asia/Singapore" => "新加坡时间",
        "Asia/Tokyo" => "东京时间",
        _ => "",
    };
    match zone.rsplit_once('/') {
        _ if chinese && !known.is_empty() => known.into(),
        Some(_) if chinese => zone.into(),
        Some((_, city)) => format!("{} time", city.replace('_', " ")),
        None => zone.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_dates() {
        for (at_ms, text) in [(0, "1970-01-01T00:00:00Z"), (951_782_400_000, "2000-02-29T00:00:00Z"), (1_795_534_199_000, "2026-11-24T15:29:59Z")] {
            assert_eq!(iso(at_ms), text);
        }
    }

    #[test]
    fn zones_are_called_by_their_city() {
        for (zone, english, chinese) in [
            ("Asia/Shanghai", "Shanghai time", "北京时间"),
            ("America/New_York", "New York time", "America/New_York"),
            ("America/Argentina/Buenos_Aires", "Buenos Aires time", "America/Argentina/Buenos_Aires"),
            ("UTC", "UTC", "UTC"),
        ] {
            assert_eq!((zone_name(zone, false).as_str(), zone_name(zone, true).as_str()), (english, chinese));
        }
    }
}
