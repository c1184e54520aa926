//! The provider's own page, in the language of the order.

use maud::{DOCTYPE, Markup, html};
use souk_sdk::assets;
use souk_sdk::money::Money;

use crate::{ALLOW_REFUND, Decision, Record, State};

pub fn page(record: &Record) -> Markup {
    let chinese = record.locale.starts_with("zh");
    let say = |en: &'static str, zh: &'static str| if chinese { zh } else { en };
    let amount = Money::new(record.amount, &record.currency).format(&record.locale);
    html! {
        (DOCTYPE)
        html lang=(say("en", "zh-CN")) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (say("Sandbox payment", "沙箱支付")) }
                link rel="stylesheet" href=(assets::url("sandbox.css").unwrap_or_default());
            }
            body {
                main {
                    p.mark { (say("Sandbox: no money moves", "沙箱环境：不会产生真实扣款")) }
                    h1 { (say("Pay for your order", "支付订单")) }
                    p.amount { (amount) }
                    p.order { (say("Order", "订单号")) " " (record.order_number) }
                    @if record.state == State::Open {
                        form method="post" {
                            (button(Decision::Approve, say("Approve the payment", "同意支付")))
                            (button(Decision::Late, say("Approve, but tell the shop late", "同意支付，但延迟通知商家")))
                            (button(Decision::Less, say("Pay too little", "少付金额")))
                            (button(Decision::NoRefund, say("Approve, but refuse a refund for twenty minutes", "同意支付，但二十分钟内拒绝退款")))
                            (button(Decision::Decline, say("Decline the payment", "拒绝支付")))
                            (button(Decision::TimeOut, say("Leave without an answer", "不作答复并离开")))
                        }
                    } @else {
                        p { (say("This payment is finished.", "此笔支付已结束。")) }
                        @if record.state == State::Captured && record.refuses_until_ms > 0 {
                            form method="post" { button name="decision" value=(ALLOW_REFUND) { (say("Allow its refund", "允许退款")) } }
                        }
                        a.back href=(record.return_url) { (say("Back to the shop", "返回商店")) }
                    }
                }
            }
        }
    }
}

fn button(decision: Decision, label: &str) -> Markup {
    html! { button.main[decision == Decision::Approve] name="decision" value=(decision.name()) { (label) } }
}
