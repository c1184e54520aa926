//! Payments: exports `souk:commerce/payment` over the providers of
//! `souk:extend/payment-method`. [`ledger`] says what follows from what is heard.

mod ledger;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::orders::{self, PaidOutcome};
use souk_sdk::commerce::payment::{self, Method, NotifyOutcome, Payment, Start, Status};
use souk_sdk::extend::payment_method::{self, State};
use souk_sdk::extend::types::FailureKind;
use souk_sdk::money::Money;
use souk_sdk::storage::{self, Collection, CollectionError, Index, Range};
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{clock, config, crypto, effects, events, ids, jobs, log};

use ledger::{Duty, News, Record};

/// By id. Those that the provider should have news of are found by the time to ask.
const PAYMENTS: Collection<Record> = Collection::new(
    "payments",
    &[Index::many("ask", |record| if record.is_awaited() { vec![storage::ordered(record.ask_ms as i64)] } else { Vec::new() })],
);
/// Ids of the newest payments, by the orders' tokens.
const LATEST: Collection<String> = Collection::new("latest", &[]);
/// How long the order waits for another payment.
const RETRY_MS: u64 = 30 * 60 * 1_000;

const CREATE: &str = "payment.create";
const CANCEL: &str = "payment.cancel";
const REFUND: &str = "payment.refund";

struct Plugin;

/// What is asked of a provider: see `souk:extend/payment-method`.
#[derive(Serialize)]
struct Create<'a> {
    payment_id: &'a str,
    variant: &'a str,
    order_number: &'a str,
    amount: i64,
    currency: &'a str,
    description: String,
    locale: &'a str,
    return_url: &'a str,
    notify_url: String,
}

#[derive(Serialize)]
struct Cancel<'a> {
    payment_id: &'a str,
    reference: &'a str,
}

#[derive(Serialize)]
struct Refund<'a> {
    payment_id: &'a str,
    reference: &'a str,
    amount: i64,
    currency: &'a str,
    reason: &'a str,
}

#[derive(Deserialize)]
struct Created {
    status: Status,
    #[serde(default)]
    reference: String,
    redirect_url: Option<String>,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Cancelled {
    status: Status,
}

impl payment::Guest for Plugin {
    fn methods(amount: Money, locale: String) -> Vec<Method> {
        let mut offered = payment_method::methods(&amount, &locale).unwrap_or_else(|failure| {
            log::error!("no way to pay is offered: {}", failure.message; provider = failure.provider);
            Vec::new()
        });
        offered.sort_by(|a, b| (a.position, &a.name).cmp(&(b.position, &b.name)));
        let id = |provider: String, variant: String| if variant.is_empty() { provider } else { format!("{provider}/{variant}") };
        offered.into_iter().map(|method| Method { id: id(method.provider, method.variant), name: method.name, description: method.description }).collect()
    }

    fn begin(start: Start) -> Result<(), String> {
        if load(&start.id).is_some() {
            return Ok(());
        }
        begin(start).map(drop)
    }

    fn get(id: String) -> Option<Payment> {
        load(&id).map(|record| record.payment)
    }

    fn latest(order_token: String) -> Option<Payment> {
        latest(&order_token).map(|record| record.payment)
    }

    fn retry(id: String, method_id: String, locale: String) -> Result<Payment, String> {
        let old = load(&id).and_then(|record| latest(&record.payment.order_token)).ok_or("There is no such payment.")?;
        if !Self::methods(old.payment.amount.clone(), locale.clone()).iter().any(|method| method.id == method_id) {
            return Err(format!("`{method_id}` is not offered for this amount."));
        }
        match old.payment.status {
            Status::Declined | Status::Cancelled => {}
            Status::ActionRequired => _ = Self::cancel(old.payment.id.clone()),
            Status::Starting | Status::Unknown => return Err("The last payment is still being asked about. Wait for its answer.".into()),
            Status::Captured | Status::Refunding | Status::Refunded => return Err("The order is paid.".into()),
        }
        if !orders::extend(&old.payment.order_token, clock::now_ms() + RETRY_MS) {
            return Err("The order was given up. Put the goods into a new cart.".into());
        }
        begin(Start {
            id: ids::unguessable(),
            method_id,
            order_token: old.payment.order_token,
            order_number: old.order_number,
            amount: old.payment.amount,
            locale,
            return_url: old.return_url,
        })
        .map(|record| record.payment)
    }

    fn refresh(id: String) -> Option<Payment> {
        let record = load(&id)?;
        Some(if record.is_awaited() { ask(record).payment } else { record.payment })
    }

    fn cancel(id: String) -> bool {
        let Some(mut record) = load(&id).filter(Record::is_open) else { return false };
        let duty = record.give_up();
        carry_out(&mut record, duty);
        save(&record);
        true
    }

    fn notify(provider: String, headers: Vec<(String, String)>, body: Vec<u8>) -> NotifyOutcome {
        let heard = match payment_method::verify_notification(&provider, &headers, &body) {
            Ok(heard) => heard,
            Err(failure) if failure.kind == FailureKind::NotFound => return NotifyOutcome::Unknown,
            // It cannot be told now whether it is authentic: the provider repeats it.
            Err(failure) if failure.kind == FailureKind::Failed => panic!("notifications of `{provider}` cannot be checked: {}", failure.message),
            Err(failure) => {
                log::warn!("a notification is not authentic: {}", failure.message; provider = provider);
                return NotifyOutcome::Rejected(failure.message);
            }
        };
        let Some(mut record) = load(&heard.payment_id).filter(|record| record.payment.provider == provider) else {
            log::warn!("a notification of a payment that is not known here"; provider = provider, payment = heard.payment_id);
            return NotifyOutcome::Unknown;
        };
        let seen: String = crypto::digest(heard.id.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        if record.see(&seen) {
            learn(&mut record, heard.state, &heard.reference, &heard.amount, String::new());
            save(&record);
        }
        NotifyOutcome::Accepted
    }
}

impl effects::Guest for Plugin {
    fn perform(effect: effects::Order) -> Result<Vec<u8>, effects::Failure> {
        Err(effects::Failure::Refused(format!("payment carries out no `{}`", effect.kind)))
    }

    fn completed(completion: effects::Completion) -> Result<(), String> {
        let id = completion.key.split_once('/').map_or("", |(id, _)| id);
        let mut record = load(id).ok_or_else(|| format!("no payment `{id}`"))?;
        let duty = match completion.kind.as_str() {
            CREATE => match completion.answer_json::<Created>()? {
                Ok(created) => {
                    record.reference = created.reference;
                    record.ask_soon(clock::now_ms());
                    match created.status {
                        Status::ActionRequired => record.hear(News::ActionRequired { redirect_url: created.redirect_url }),
                        Status::Captured => record.hear(News::Captured),
                        Status::Declined => record.hear(News::Declined { message: created.message }),
                        other => return Err(format!("{} answers {CREATE} with {other:?}", completion.target)),
                    }
                }
                Err(reason) => {
                    log::error!("a payment was not started: {reason}"; provider = completion.target, payment = id);
                    record.hear(News::NoAnswer);
                    // Whatever reached the provider, it knows.
                    if record.is_awaited() {
                        ask(record);
                    }
                    return Ok(());
                }
            },
            CANCEL => match completion.answer_json::<Cancelled>()? {
                Ok(cancelled) if cancelled.status == Status::Captured => record.hear(News::Captured),
                Ok(_) => Duty::Nothing,
                Err(reason) => {
                    tell_staff(&record, "payment.cancel-failed", &reason);
                    Duty::Nothing
                }
            },
            REFUND => match &completion.outcome {
                Ok(_) => record.hear(News::Refunded),
                Err(reason) => {
                    tell_staff(&record, "payment.refund-failed", reason);
                    Duty::Nothing
                }
            },
            other => return Err(format!("payment asked for no `{other}`")),
        };
        carry_out(&mut record, duty);
        save(&record);
        Ok(())
    }
}

impl events::Guest for Plugin {
    fn handle(event: events::Event) -> Result<(), String> {
        if let Some(record) = latest(&event.key) {
            <Self as payment::Guest>::cancel(record.payment.id);
        }
        Ok(())
    }
}

impl jobs::Guest for Plugin {
    /// One payment a run: a provider may fetch only while nothing is written.
    fn run(_: jobs::Job) -> Result<bool, String> {
        let due = Range { start: None, end: Some(storage::ordered(clock::now_ms() as i64)) };
        let Some((_, id)) = must(PAYMENTS.scan_index("ask", &due, 1, false)).pop() else { return Ok(false) };
        if let Some(record) = load(&id) {
            ask(record);
        }
        Ok(true)
    }
}

impl web::Guest for Plugin {
    fn handle(request: Request) -> Response {
        web::answer(|| match <Self as payment::Guest>::notify(request.param("provider").into(), request.headers.clone(), request.body.clone()) {
            NotifyOutcome::Accepted => Ok(web::response(204, "text/plain", Vec::new())),
            NotifyOutcome::Rejected(reason) => Err(Problem::new(401, "Not authentic").detail(reason)),
            NotifyOutcome::Unknown => Err(Problem::new(404, "No such payment").detail("Repeat it later.")),
        })
    }
}

fn begin(start: Start) -> Result<Record, String> {
    let (provider, variant) = start.method_id.split_once('/').unwrap_or((&start.method_id, ""));
    let base = config::shop().base_url;
    let create = Create {
        payment_id: &start.id,
        variant,
        order_number: &start.order_number,
        amount: start.amount.amount,
        currency: &start.amount.currency,
        description: format!("{} {}", config::shop().name, start.order_number),
        locale: &start.locale,
        return_url: &start.return_url,
        notify_url: format!("{base}/payments/{provider}/notify"),
    };
    effects::request_json(provider, CREATE, &format!("{}/create", start.id), &create).map_err(|error| format!("{error:?}"))?;
    let mut record = Record {
        payment: Payment {
            id: start.id.clone(),
            provider: provider.into(),
            order_token: start.order_token,
            amount: start.amount,
            status: Status::Starting,
            redirect_url: None,
            message: String::new(),
        },
        method_id: start.method_id,
        order_number: start.order_number,
        locale: start.locale,
        return_url: start.return_url,
        reference: String::new(),
        ask_ms: 0,
        asked: 0,
        unsettled: false,
        notifications: Vec::new(),
    };
    record.ask_soon(clock::now_ms());
    save(&record);
    must(LATEST.put(&record.payment.order_token, &record.payment.id));
    Ok(record)
}

/// Asks the provider and acts on the answer. Nothing may be written before.
fn ask(mut record: Record) -> Record {
    let was_started = record.payment.status != Status::Starting;
    let answer = payment_method::query(&record.payment.provider, &record.payment.id, &record.reference);
    let is_late = record.ask_later(clock::now_ms());
    let is_silent = answer.as_ref().map_or(true, |status| status.state == State::Unknown);
    match answer {
        // Its effect is over, or will be carried out yet.
        Ok(status) if status.state == State::Unknown && was_started => {
            let duty = record.hear(News::Declined { message: status.message });
            carry_out(&mut record, duty);
        }
        // It can be paid still, though nobody waits for it.
        Ok(status) if status.state == State::Open && record.unsettled => {
            record.reference = status.reference;
            let duty = record.hear(News::ActionRequired { redirect_url: None });
            carry_out(&mut record, duty);
        }
        Ok(status) => learn(&mut record, status.state, &status.reference, &status.amount, status.message),
        Err(failure) => log::warn!("a provider does not say what became of a payment: {}", failure.message; provider = record.payment.provider, payment = record.payment.id),
    }
    if is_late && is_silent && record.is_awaited() {
        tell_staff(&record, "payment.without-news", "the provider does not say what became of it");
    }
    save(&record);
    record
}

/// Takes what a provider says of a payment, if it is of this one.
fn learn(record: &mut Record, state: State, reference: &str, amount: &Money, message: String) {
    let news = match state {
        State::Captured => News::Captured,
        State::Declined => News::Declined { message },
        State::Cancelled => News::Cancelled,
        State::Refunded => News::Refunded,
        State::Open | State::Unknown => return,
    };
    if !record.fits(reference, amount) {
        tell_staff(record, "payment.mismatch", &format!("{state:?} of {} {} under reference {reference}", amount.to_decimal(), amount.currency));
        return;
    }
    if record.reference.is_empty() {
        record.reference = reference.into();
    }
    let duty = record.hear(news);
    carry_out(record, duty);
}

fn carry_out(record: &mut Record, duty: Duty) {
    let Payment { id, order_token, amount, .. } = record.payment.clone();
    match duty {
        Duty::Nothing => {}
        Duty::PayOrder => match orders::paid(&order_token, &id, &amount) {
            // The shopper may have begun another one meanwhile, and could pay that too.
            PaidOutcome::Placed => {
                if let Some(other) = latest(&order_token).filter(|other| other.payment.id != id) {
                    <Plugin as payment::Guest>::cancel(other.payment.id);
                }
            }
            outcome => {
                if outcome == PaidOutcome::UnknownOrder {
                    log::error!("money for an order that is not known goes back"; payment = id, order = order_token);
                }
                if record.refund(clock::now_ms()) {
                    let refund = Refund { payment_id: &id, reference: &record.reference, amount: amount.amount, currency: &amount.currency, reason: "the order cannot be fulfilled" };
                    request(record, REFUND, &format!("{id}/refund"), &refund);
                }
            }
        },
        Duty::CancelAtProvider => {
            request(record, CANCEL, &format!("{id}/cancel"), &Cancel { payment_id: &id, reference: &record.reference });
        }
        Duty::TellStaff => tell_staff(record, "payment.refunded-elsewhere", "the provider says that the money went back"),
        Duty::TellRefunded => {
            if !orders::refunded(&order_token, &id) {
                log::error!("a refund that no order waited for"; payment = id, order = order_token);
            }
        }
    }
}

/// What cannot be asked of a provider, because it was taken out, is left to a person.
fn request(record: &Record, kind: &str, key: &str, payload: &impl Serialize) {
    if let Err(error) = effects::request_json(&record.payment.provider, kind, key, payload) {
        tell_staff(record, &format!("{kind}-failed"), &format!("{error:?}"));
    }
}

/// For a person to act upon.
fn tell_staff(record: &Record, kind: &str, detail: &str) {
    log::error!("{kind}: {detail}"; payment = record.payment.id, order = record.order_number, provider = record.payment.provider);
    orders::note(&record.payment.order_token, kind, detail);
}

fn latest(order_token: &str) -> Option<Record> {
    known(LATEST.get(order_token)).and_then(|id| load(&id))
}

fn load(id: &str) -> Option<Record> {
    known(PAYMENTS.get(id))
}

/// Ids come from links; one that can be no key names nothing.
fn known<T>(found: Result<Option<T>, CollectionError>) -> Option<T> {
    match found {
        Err(CollectionError::Storage(storage::Error::Invalid(_))) => None,
        found => must(found),
    }
}

fn save(record: &Record) {
    must(PAYMENTS.put(&record.payment.id, record));
}

/// The unit cannot go on; the interface has no error for it.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("payment storage: {error}"))
}

souk_sdk::export!(Plugin: commerce::payment, host::effect_handler, host::event_handler, host::job_handler, web::handler);
