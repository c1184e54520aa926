//! A payment provider without money: `souk:extend/payment-method`, the effects
//! that go with it, and the page that shoppers are sent to. It stands for a
//! company outside: it knows the shop by its notifications' address alone.

mod page;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use souk_sdk::extend::payment_method::{self, Failure, Method, Notification, Status};
use souk_sdk::extend::types::FailureKind;
use souk_sdk::money::Money;
use souk_sdk::storage::{self, Collection, CollectionError};
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{InWords, clock, config, crypto, effects, http, serde_json};

/// By the shop's payment id.
const PAYMENTS: Collection<Record> = Collection::new("payments", &[]);
const OWN_NAME: &str = "pay-sandbox";
const INSTANT: &str = "instant";
/// Does not answer for a while, and then captures at once.
const HANGS: &str = "hangs";
/// Four seconds and more, as the host repeats what failed.
const HANGS_ATTEMPTS: u32 = 5;
/// So long the refund of a payment approved without one is refused.
const REFUSED_MS: u64 = 20 * 60 * 1_000;
/// What arrives of a payment of which too little is paid, in minor units.
const LESS: i64 = 1;
const SIGNATURE: &str = "pay-sandbox-signature";
/// Of the key in the host.
const KEY: &str = "notifications";
const NOTIFY: &str = "notify";
/// The shop itself, whatever its public name.
const NOTIFY_URL: &str = "http://shop.internal/payments/pay-sandbox/notify";
const NOTIFICATION_AGE_MAX_MS: u64 = 5 * 60 * 1_000;
const LATE_MS: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Open,
    Captured,
    Declined,
    Cancelled,
    Refunded,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    payment_id: String,
    order_number: String,
    amount: i64,
    currency: String,
    locale: String,
    return_url: String,
    state: State,
    /// What was paid; the amount unless it was less.
    #[serde(default)]
    paid: Option<i64>,
    /// Until when a refund is refused.
    #[serde(default)]
    refuses_until_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Approve,
    Late,
    Less,
    NoRefund,
    Decline,
    TimeOut,
}

impl Decision {
    const ALL: [Self; 6] = [Self::Approve, Self::Late, Self::Less, Self::NoRefund, Self::Decline, Self::TimeOut];

    fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Late => "late",
            Self::Less => "less",
            Self::NoRefund => "no-refund",
            Self::Decline => "decline",
            Self::TimeOut => "time-out",
        }
    }
}

/// On the page of a payment whose refund is refused.
const ALLOW_REFUND: &str = "allow-refund";

config! {
    struct Settings {
        /// Also offers payments that are captured at once, without a page.
        instant: bool = true;
        /// Also offers payments that hang for some seconds before they are captured, for trying what the shop does meanwhile.
        hangs: bool = false;
    }
}

#[derive(Deserialize)]
struct Create {
    payment_id: String,
    variant: String,
    order_number: String,
    amount: i64,
    currency: String,
    locale: String,
    return_url: String,
}

/// What refunds and cancellations name.
#[derive(Deserialize)]
struct Named {
    payment_id: String,
}

#[derive(Deserialize)]
struct Refund {
    payment_id: String,
    amount: i64,
    currency: String,
}

/// A notification's body.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    id: String,
    payment_id: String,
    reference: String,
    state: State,
    amount: i64,
    currency: String,
    at_ms: u64,
}

impl Record {
    fn reference(&self) -> String {
        format!("sandbox-{}", self.payment_id)
    }

    fn money(&self) -> Money {
        Money::new(self.paid.unwrap_or(self.amount), &self.currency)
    }

    /// It was cancelled before it was begun, and is remembered lest it is begun later.
    fn never_began(&self) -> bool {
        self.amount == 0
    }
}

struct PaySandbox;

impl payment_method::Guest for PaySandbox {
    fn methods(amount: Money, locale: String) -> Result<Vec<Method>, Failure> {
        if amount.amount <= 0 {
            return Ok(Vec::new());
        }
        let chinese = locale.starts_with("zh");
        let method = |variant: &str, position, (en, zh): (&str, &str), (en_more, zh_more): (&str, &str)| Method {
            provider: String::new(),
            variant: variant.into(),
            name: if chinese { zh } else { en }.into(),
            description: if chinese { zh_more } else { en_more }.into(),
            position,
        };
        let page = method(
            "",
            900,
            ("Sandbox", "沙箱支付"),
            ("A page that asks what should happen. No money moves.", "打开一个页面，由您选择支付结果，不会产生真实扣款。"),
        );
        let instant = method(
            INSTANT,
            910,
            ("Sandbox, at once", "沙箱即时支付"),
            ("Paid without a page. No money moves.", "无需打开页面即视为已支付，不会产生真实扣款。"),
        );
        let hangs = method(
            HANGS,
            920,
            ("Sandbox, slow", "沙箱慢速支付"),
            ("The provider hangs for some seconds, then it is paid. No money moves.", "支付服务商数秒内无响应，随后视为已支付，不会产生真实扣款。"),
        );
        let settings = Settings::load();
        let offered = [(true, page), (settings.instant, instant), (settings.hangs, hangs)];
        Ok(offered.into_iter().filter(|(is_offered, _)| *is_offered).map(|(_, method)| method).collect())
    }

    fn verify_notification(_: String, headers: Vec<(String, String)>, body: Vec<u8>) -> Result<Notification, Failure> {
        let refused = |reason: &str| failure(FailureKind::Refused, reason);
        let header = headers.iter().find(|(name, _)| name == SIGNATURE).map(|(_, value)| value.as_str()).ok_or_else(|| refused("no signature"))?;
        let (at_ms, mac) = parse_signature(header).ok_or_else(|| refused("a malformed signature"))?;
        if !crypto::verify_mac(KEY, &signed(at_ms, &body), &mac).unwrap_or(false) {
            return Err(refused("a wrong signature"));
        }
        if clock::now_ms().abs_diff(at_ms) > NOTIFICATION_AGE_MAX_MS {
            return Err(refused("an old notification"));
        }
        let told: Told = serde_json::from_slice(&body).map_err(|error| refused(&error.to_string()))?;
        Ok(Notification {
            id: told.id,
            payment_id: told.payment_id,
            reference: told.reference,
            state: wit_state(told.state),
            amount: Money::new(told.amount, told.currency),
            at_ms: told.at_ms,
        })
    }

    fn query(_: String, payment_id: String, _: String) -> Result<Status, Failure> {
        let found = load(&payment_id).map_err(|error| failure(FailureKind::Failed, error.to_string()))?;
        Ok(match found {
            Some(record) if !record.never_began() => Status { state: wit_state(record.state), reference: record.reference(), amount: record.money(), message: String::new() },
            _ => Status { state: payment_method::State::Unknown, reference: String::new(), amount: Money::zero("XXX"), message: String::new() },
        })
    }
}

impl effects::Guest for PaySandbox {
    fn perform(effect: effects::Order) -> Result<Vec<u8>, effects::Failure> {
        let answer = match effect.kind.as_str() {
            "payment.create" => create(effect.json()?, effect.attempt)?,
            "payment.cancel" => {
                let Named { payment_id } = effect.json()?;
                let record = match load(&payment_id).map_err(again)? {
                    None => {
                        let never_began = Record {
                            payment_id: payment_id.clone(),
                            order_number: String::new(),
                            amount: 0,
                            currency: String::new(),
                            locale: String::new(),
                            return_url: String::new(),
                            state: State::Cancelled,
                            paid: None,
                            refuses_until_ms: 0,
                        };
                        PAYMENTS.put(&payment_id, &never_began).map_err(again)?;
                        never_began
                    }
                    Some(_) => change(&payment_id, |state| if state == State::Open { State::Cancelled } else { state })?,
                };
                // Of how much, it is to be asked, as with many.
                let status = if record.state == State::Captured { "captured" } else { "cancelled" };
                serde_json::json!({ "status": status })
            }
            "payment.refund" => {
                let Refund { payment_id, amount, currency } = effect.json()?;
                let refused = |reason: &str| Err(effects::Failure::Refused(reason.into()));
                match load(&payment_id).map_err(again)? {
                    Some(record) if record.state == State::Captured && record.money() != Money::new(amount, &currency) => return refused("that is not what was captured"),
                    Some(record) if record.state == State::Captured && record.refuses_until_ms > clock::now_ms() => return refused("no refunds now: the balance is too low"),
                    _ => {}
                }
                let record = change(&payment_id, |state| if state == State::Captured { State::Refunded } else { state })?;
                if record.state != State::Refunded {
                    return refused("nothing was captured that could go back");
                }
                serde_json::json!({ "reference": record.reference() })
            }
            NOTIFY => {
                notify(effect.json()?)?;
                serde_json::Value::Null
            }
            other => return Err(effects::Failure::Refused(format!("{OWN_NAME} carries out no `{other}`"))),
        };
        Ok(answer.to_string().into_bytes())
    }

    /// Of the notifications it asked itself for.
    fn completed(_: effects::Completion) -> Result<(), String> {
        Ok(())
    }
}

impl web::Guest for PaySandbox {
    fn handle(request: Request) -> Response {
        let answer = web::answer(|| {
            let missing = || Problem::new(404, "No such payment").detail("Go back to the shop and choose how to pay again.");
            let mut record = load(request.param("payment")).map_err(|error| Problem::new(503, "Try again").detail(error.to_string()))?.ok_or_else(missing)?;
            if request.route == "page" {
                return Ok(web::html(page::page(&record)));
            }
            let form = request.form()?;
            let name = form.text("decision", 16)?;
            if name == ALLOW_REFUND {
                record.refuses_until_ms = 0;
                PAYMENTS.put(&record.payment_id, &record).map_err(|error| Problem::new(503, "Try again").detail(error.to_string()))?;
                return Ok(web::redirect(&record.return_url));
            }
            let decision = Decision::ALL.into_iter().find(|decision| decision.name() == name);
            let decision = decision.ok_or_else(|| Problem::field("decision", "unknown", "Use one of approve, late, less, no-refund, decline and time-out."))?;
            decide(&mut record, decision)
        });
        answer.with_header("cache-control", "no-store")
    }
}

/// The same answer however often it is asked.
fn create(create: Create, attempt: u32) -> Result<serde_json::Value, effects::Failure> {
    if create.amount <= 0 {
        return Err(effects::Failure::Refused("there is nothing to pay".into()));
    }
    let record = match load(&create.payment_id).map_err(again)? {
        Some(record) if record.never_began() => return Err(effects::Failure::Refused("it was cancelled before it was begun".into())),
        Some(record) => record,
        None => {
            let settings = Settings::load();
            let hangs = create.variant == HANGS;
            let is_instant = hangs || create.variant == INSTANT;
            if hangs && !settings.hangs || create.variant == INSTANT && !settings.instant {
                return Err(effects::Failure::Refused("this shop does not offer payments without a page".into()));
            }
            if hangs && attempt < HANGS_ATTEMPTS {
                return Err(effects::Failure::Retry("the sandbox does not answer".into()));
            }
            let record = Record {
                payment_id: create.payment_id,
                order_number: create.order_number,
                amount: create.amount,
                currency: create.currency,
                locale: create.locale,
                return_url: create.return_url,
                state: if is_instant { State::Captured } else { State::Open },
                paid: None,
                refuses_until_ms: 0,
            };
            PAYMENTS.put(&record.payment_id, &record).map_err(again)?;
            record
        }
    };
    Ok(if record.state == State::Captured {
        let captured = record.money();
        serde_json::json!({ "status": "captured", "reference": record.reference(), "amount": captured.amount, "currency": captured.currency })
    } else {
        let url = format!("{}/{OWN_NAME}/{}", config::shop().base_url, record.payment_id);
        serde_json::json!({ "status": "action-required", "reference": record.reference(), "redirect_url": url })
    })
}

fn change(payment_id: &str, next: impl FnOnce(State) -> State) -> Result<Record, effects::Failure> {
    let unknown = || effects::Failure::Refused("no such payment".into());
    let mut record = load(payment_id).map_err(again)?.ok_or_else(unknown)?;
    let state = next(record.state);
    if state != record.state {
        record.state = state;
        PAYMENTS.put(payment_id, &record).map_err(again)?;
    }
    Ok(record)
}

/// Sends the shopper back to the shop, which hears of it by a notification.
fn decide(record: &mut Record, decision: Decision) -> Result<Response, Problem> {
    let back = web::redirect(&record.return_url);
    let (state, late) = match decision {
        _ if record.state != State::Open => return Ok(back),
        Decision::TimeOut => return Ok(back),
        Decision::Approve | Decision::Less | Decision::NoRefund => (State::Captured, false),
        Decision::Late => (State::Captured, true),
        Decision::Decline => (State::Declined, false),
    };
    record.state = state;
    record.paid = (decision == Decision::Less).then_some(LESS);
    if decision == Decision::NoRefund {
        record.refuses_until_ms = clock::now_ms() + REFUSED_MS;
    }
    let broken = |error: String| Problem::new(503, "Try again").detail(error);
    PAYMENTS.put(&record.payment_id, record).map_err(|error| broken(error.to_string()))?;
    let now_ms = clock::now_ms();
    let told = Told {
        id: format!("{}/{}", record.payment_id, decision.name()),
        payment_id: record.payment_id.clone(),
        reference: record.reference(),
        state,
        amount: record.money().amount,
        currency: record.currency.clone(),
        at_ms: now_ms,
    };
    let effect = effects::Effect {
        target: OWN_NAME.into(),
        kind: NOTIFY.into(),
        key: told.id.clone(),
        payload: serde_json::to_vec(&told).map_err(|error| broken(error.to_string()))?,
        not_before_ms: if late { now_ms + LATE_MS } else { 0 },
    };
    effects::request(&effect).map_err(|error| broken(error.in_words()))?;
    // The next page shows what was decided, unless the shop is to hear of it late.
    Ok(Response { await_effects: !late, ..back })
}

fn notify(told: Told) -> Result<(), effects::Failure> {
    let body = serde_json::to_vec(&told).map_err(|error| effects::Failure::Refused(error.to_string()))?;
    let now_ms = clock::now_ms();
    let mac = crypto::mac(KEY, &signed(now_ms, &body)).map_err(|error| effects::Failure::Retry(error.in_words()))?;
    let signature = mac.iter().fold(format!("t={now_ms},v1="), |text, byte| text + &format!("{byte:02x}"));
    let request = http::Request {
        method: "POST".into(),
        url: NOTIFY_URL.into(),
        headers: vec![("content-type".into(), "application/json".into()), (SIGNATURE.into(), signature)],
        body,
        timeout_ms: 0,
    };
    match http::fetch(&request) {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(effects::Failure::Retry(format!("the shop answers {}", answer.status))),
        Err(error) => Err(effects::Failure::Retry(format!("the shop cannot be reached: {}", error.in_words()))),
    }
}

fn signed(at_ms: u64, body: &[u8]) -> Vec<u8> {
    [at_ms.to_string().as_bytes(), b".", body].concat()
}

fn parse_signature(header: &str) -> Option<(u64, Vec<u8>)> {
    let (at_ms, mac) = header.strip_prefix("t=")?.split_once(",v1=")?;
    if mac.len() != 64 || !mac.is_ascii() {
        return None;
    }
    let mac: Result<Vec<u8>, _> = (0..32).map(|place| u8::from_str_radix(&mac[place * 2..place * 2 + 2], 16)).collect();
    Some((at_ms.parse().ok()?, mac.ok()?))
}

fn wit_state(state: State) -> payment_method::State {
    match state {
        State::Open => payment_method::State::Open,
        State::Captured => payment_method::State::Captured,
        State::Declined => payment_method::State::Declined,
        State::Cancelled => payment_method::State::Cancelled,
        State::Refunded => payment_method::State::Refunded,
    }
}

/// Ids come from links; one that can be no key names no payment.
fn load(payment_id: &str) -> Result<Option<Record>, CollectionError> {
    match PAYMENTS.get(payment_id) {
        Err(CollectionError::Storage(storage::Error::Invalid(_))) => Ok(None),
        found => found,
    }
}

fn again(error: CollectionError) -> effects::Failure {
    effects::Failure::Retry(error.to_string())
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { provider: String::new(), kind, message: message.into() }
}

souk_sdk::export!(PaySandbox: extend::payment_method, host::effect_handler, web::handler);
