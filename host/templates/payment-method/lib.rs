//! A way to pay through a company with an HTTP API: the shopper pays on the
//! company's page, and the company notifies the shop. Put your company's paths
//! and fields where `ask` and `Charge` are; what is compared should stay.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use souk_sdk::extend::payment_method::{self, Failure, Method, Notification, State, Status};
use souk_sdk::extend::types::FailureKind;
use souk_sdk::money::Money;
use souk_sdk::serde_json::{self, Value, json};
use souk_sdk::storage::{Collection, CollectionError};
use souk_sdk::{InWords, clock, config, crypto, effects, http, secrets};

/// What was begun, by the shop's payment id. Notifications of anything else are refused.
const PAYMENTS: Collection<Begun> = Collection::new("payments", &[]);
const API_KEY: &str = "{name}-api-key";
const NOTIFICATION_KEY: &str = "{name}-notification-key";
const SIGNATURE: &str = "x-signature";
/// Of a key in the host, under which signatures are compared.
const COMPARE: &str = "compare";
const NOTIFICATION_AGE_MAX_MS: u64 = 5 * 60 * 1_000;

config! {
    /// What the retailer can change, under [config.{name}] in souk.toml.
    struct Settings {
        /// Where the company's API is. Its host must be granted.
        api: String = "https://api.pay.example/v1";
        /// What shoppers choose.
        title: String = "Card";
    }
}

#[derive(Serialize, Deserialize)]
struct Begun {
    reference: String,
}

/// What the shop asks for with `payment.create`.
#[derive(Serialize, Deserialize)]
struct Create {
    payment_id: String,
    order_number: String,
    description: String,
    amount: i64,
    currency: String,
    locale: String,
    return_url: String,
    notify_url: String,
}

#[derive(Serialize, Deserialize)]
struct Refund {
    payment_id: String,
    reference: String,
    amount: i64,
    currency: String,
    reason: String,
}

#[derive(Deserialize)]
struct Cancel {
    payment_id: String,
}

/// A payment as the company tells of it. Amounts are in minor units.
#[derive(Deserialize)]
struct Charge {
    id: String,
    payment_id: String,
    status: State,
    amount: i64,
    currency: String,
    /// Where the shopper pays.
    #[serde(default)]
    url: String,
    /// For the shopper.
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Refunded {
    id: String,
    amount: i64,
    currency: String,
}

/// A notification's body.
#[derive(Deserialize)]
struct Told {
    id: String,
    charge: Charge,
    at_ms: u64,
}

/// Why the company did not do it.
enum Trouble {
    /// It knows no such payment.
    Unknown,
    /// It will not.
    Refused(String),
    /// Whether it has done it is not known: the same key asks again without harm.
    Again(String),
}

struct {Type};

impl payment_method::Guest for {Type} {
    fn methods(amount: Money, _: String) -> Result<Vec<Method>, Failure> {
        if amount.amount <= 0 {
            return Ok(Vec::new());
        }
        let title = Settings::load().title;
        Ok(vec![Method { provider: String::new(), variant: String::new(), name: title, description: String::new(), position: 100 }])
    }

    /// News that come late, of a payment that was given up, are news all the
    /// same: the shop sends back what it does not want.
    fn verify_notification(_: String, headers: Vec<(String, String)>, body: Vec<u8>) -> Result<Notification, Failure> {
        let refused = |reason: &str| failure(FailureKind::Refused, reason);
        let header = headers.iter().find(|(name, _)| name == SIGNATURE).map(|(_, value)| value.as_str()).ok_or_else(|| refused("no signature"))?;
        let (sent_ms, given) = parse_signature(header).ok_or_else(|| refused("a malformed signature"))?;
        let signed = [sent_ms.to_string().as_bytes(), b".", &body].concat();
        if !is_signature(&signed, &given).map_err(|error| failure(FailureKind::Failed, error.in_words()))? {
            return Err(refused("a wrong signature"));
        }
        if clock::now_ms().abs_diff(sent_ms) > NOTIFICATION_AGE_MAX_MS {
            return Err(refused("an old notification"));
        }
        let Told { id, charge, at_ms } = serde_json::from_slice(&body).map_err(|error| refused(&error.to_string()))?;
        let begun = PAYMENTS.get(&charge.payment_id).map_err(|error| failure(FailureKind::Failed, error.to_string()))?;
        if begun.is_none_or(|begun| begun.reference != charge.id) {
            return Err(refused("a payment that was not begun here"));
        }
        // The shop compares the amount with what the order owes, and tells its staff where they differ.
        Ok(Notification {
            id,
            amount: Money::new(charge.amount, charge.currency),
            payment_id: charge.payment_id,
            reference: charge.id,
            state: charge.status,
            at_ms,
        })
    }

    fn query(_: String, payment_id: String, _: String) -> Result<Status, Failure> {
        match ask::<Charge>("GET", &format!("payments/{payment_id}"), "", &Value::Null) {
            Ok(charge) => Ok(Status {
                state: charge.status,
                reference: charge.id,
                amount: Money::new(charge.amount, charge.currency),
                message: charge.message,
            }),
            Err(Trouble::Unknown) => Ok(Status { state: State::Unknown, reference: String::new(), amount: Money::zero("XXX"), message: String::new() }),
            Err(Trouble::Refused(reason) | Trouble::Again(reason)) => Err(failure(FailureKind::Failed, reason)),
        }
    }
}

/// An effect is carried out at least once, always under the same key. The
/// company does what it is asked once for each key.
impl effects::Guest for {Type} {
    fn perform(effect: effects::Order) -> Result<Vec<u8>, effects::Failure> {
        let answer = match effect.kind.as_str() {
            "payment.create" => create(&effect.key, &effect.json()?)?,
            "payment.refund" => refund(&effect.key, &effect.json()?)?,
            "payment.cancel" => {
                let Cancel { payment_id } = effect.json()?;
                let charge: Charge = match ask("POST", &format!("payments/{payment_id}/cancel"), &effect.key, &json!({})) {
                    // It was given up before it was begun.
                    Err(Trouble::Unknown) => return Ok(json!({ "status": "cancelled" }).to_string().into_bytes()),
                    asked => asked?,
                };
                match charge.status {
                    // The shopper was faster. The shop compares the amount.
                    State::Captured => json!({ "status": "captured", "amount": charge.amount, "currency": charge.currency }),
                    State::Cancelled | State::Declined => json!({ "status": "cancelled" }),
                    State::Open | State::Unknown | State::Refunded => return Err(effects::Failure::Retry("the payment is not over after it was cancelled".into())),
                }
            }
            other => return Err(effects::Failure::Refused(format!("no `{other}` is carried out here"))),
        };
        Ok(answer.to_string().into_bytes())
    }

    /// It asks for no effects itself.
    fn completed(_: effects::Completion) -> Result<(), String> {
        Ok(())
    }
}

fn create(key: &str, create: &Create) -> Result<Value, effects::Failure> {
    if create.amount <= 0 {
        return Err(effects::Failure::Refused("there is nothing to pay".into()));
    }
    let charge: Charge = ask("POST", "payments", key, create)?;
    if (charge.payment_id.as_str(), charge.amount, charge.currency.as_str()) != (&create.payment_id, create.amount, &create.currency) {
        // Nobody is sent to a page that asks for another sum.
        return Err(effects::Failure::Refused(format!(
            "asked for {} {}, the company began {} {} for payment `{}`",
            create.amount, create.currency, charge.amount, charge.currency, charge.payment_id
        )));
    }
    // Written after the company was asked: a crash between the two asks again, under the same key.
    PAYMENTS.put(&create.payment_id, &Begun { reference: charge.id.clone() }).map_err(again)?;
    match charge.status {
        State::Open => Ok(json!({ "status": "action-required", "reference": charge.id, "redirect_url": charge.url })),
        State::Captured => Ok(json!({ "status": "captured", "reference": charge.id, "amount": charge.amount, "currency": charge.currency })),
        State::Declined | State::Cancelled => Ok(json!({ "status": "declined", "reference": charge.id, "message": charge.message })),
        State::Unknown | State::Refunded => Err(effects::Failure::Refused("the company says of a new payment that it is unknown, or was paid back".into())),
    }
}

fn refund(key: &str, refund: &Refund) -> Result<Value, effects::Failure> {
    let refunded: Refunded = ask("POST", &format!("payments/{}/refunds", refund.payment_id), key, refund)?;
    if (refunded.amount, refunded.currency.as_str()) != (refund.amount, &refund.currency) {
        return Err(effects::Failure::Refused(format!("asked for {} {}, {} {} went back", refund.amount, refund.currency, refunded.amount, refunded.currency)));
    }
    Ok(json!({ "reference": refunded.id }))
}

/// `key` makes the request safe to repeat; reading needs none.
fn ask<T: DeserializeOwned>(method: &str, path: &str, key: &str, body: &impl Serialize) -> Result<T, Trouble> {
    let secret = secrets::get(API_KEY).ok_or_else(|| Trouble::Again(format!("no secret `{API_KEY}`: put it into secrets.toml, and grant it")))?;
    let mut request = http::Request {
        method: method.into(),
        url: format!("{}/{path}", Settings::load().api),
        headers: vec![("authorization".into(), format!("Bearer {secret}")), ("accept".into(), "application/json".into())],
        body: Vec::new(),
        timeout_ms: 0,
    };
    if method != "GET" {
        request.headers.extend([("content-type".into(), "application/json".into()), ("idempotency-key".into(), key.into())]);
        request.body = serde_json::to_vec(body).map_err(|error| Trouble::Refused(error.to_string()))?;
    }
    let answer = http::fetch(&request).map_err(|error| Trouble::Again(format!("the company cannot be reached: {}", error.in_words())))?;
    match answer.status {
        // What cannot be read may have been done.
        200..300 => serde_json::from_slice(&answer.body).map_err(|error| Trouble::Again(format!("the company's answer: {error}"))),
        404 => Err(Trouble::Unknown),
        408 | 409 | 425 | 429 | 500.. => Err(Trouble::Again(format!("the company answers {}", answer.status))),
        status => Err(Trouble::Refused(format!("the company answers {status}"))),
    }
}

/// Compared in the host, in constant time: a signature of both.
fn is_signature(signed: &[u8], given: &[u8]) -> Result<bool, crypto::Error> {
    let expected = crypto::secret_mac(NOTIFICATION_KEY, signed)?;
    crypto::verify_mac(COMPARE, given, &crypto::mac(COMPARE, &expected)?)
}

/// `t=MILLISECONDS,v1=HEX`
fn parse_signature(header: &str) -> Option<(u64, Vec<u8>)> {
    let (sent_ms, mac) = header.strip_prefix("t=")?.split_once(",v1=")?;
    if mac.len() != 64 || !mac.is_ascii() {
        return None;
    }
    let mac: Result<Vec<u8>, _> = (0..32).map(|place| u8::from_str_radix(&mac[place * 2..place * 2 + 2], 16)).collect();
    Some((sent_ms.parse().ok()?, mac.ok()?))
}

impl From<Trouble> for effects::Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unknown => Self::Refused("the company knows no such payment".into()),
            Trouble::Refused(reason) => Self::Refused(reason),
            Trouble::Again(reason) => Self::Retry(reason),
        }
    }
}

fn again(error: CollectionError) -> effects::Failure {
    effects::Failure::Retry(error.to_string())
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { provider: String::new(), kind, message: message.into() }
}

souk_sdk::export!({Type}: extend::payment_method, host::effect_handler);
