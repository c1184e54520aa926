//! Payments: exports `souk:commerce/payment` over the providers of
//! `souk:extend/payment-method`. [`ledger`] says what follows from what is heard.

mod ledger;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::orders::{self, PaidOutcome, Status as OrderStatus};
use souk_sdk::commerce::payment::{self, Method, NotifyOutcome, Payment, Start, Status};
use souk_sdk::extend::payment_method::{self, State};
use souk_sdk::extend::types::FailureKind;
use souk_sdk::host::command_handler;
use souk_sdk::money::Money;
use souk_sdk::storage::{self, Collection, CollectionError, Index, Range};
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{InWords, cache, clock, config, crypto, effects, events, ids, jobs, log, metrics, serde_json};

use ledger::{Duty, News, Record, Settlement, Task};

/// By id. Those that the provider should have news of are found by the time to ask.
const PAYMENTS: Collection<Record> = Collection::new(
    "payments",
    &[
        Index::many("ask", |record| if record.is_awaited() { vec![storage::ordered(record.ask_ms as i64)] } else { Vec::new() }),
        // Since when a person should have looked at it.
        Index::many("task", |record| record.tasks.values().map(|open| open.since_ms).min().map(|since_ms| storage::ordered(since_ms as i64)).into_iter().collect()),
    ],
);
/// Ids of the newest payments, by the orders' tokens.
const LATEST: Collection<String> = Collection::new("latest", &[]);
/// More on a page help nobody, and would hide those of others.
const METHODS_PER_PROVIDER_MAX: usize = 20;
/// How long the order waits for another payment.
const RETRY_MS: u64 = 30 * 60 * 1_000;
/// More than a list shows at once.
const TASKS_MAX: u32 = 501;
/// Of one order, after the first.
const TRIES_MAX: u32 = 20;
/// A job for one payment; and how many are made in one unit.
const ASK: &str = "ask";
const ASKED_AT_ONCE: u32 = 100;

/// As long as a provider's function is switched off at first.
const CHECK_AGAIN_S: u32 = 10;

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
    #[serde(flatten)]
    captured: Amount,
}

#[derive(Deserialize)]
struct Cancelled {
    status: Status,
    #[serde(flatten)]
    captured: Amount,
}

/// What was captured, if the provider says so.
#[derive(Deserialize)]
struct Amount {
    amount: Option<i64>,
    currency: Option<String>,
}

impl Amount {
    fn money(self) -> Option<Money> {
        Some(Money::new(self.amount?, self.currency?))
    }
}

/// Of `order.cancelled`.
#[derive(Deserialize)]
struct Ended {
    /// Payments that the order does not want any more.
    #[serde(default)]
    owed: Vec<String>,
}

/// A payment, as commands list it: those that wait for a person have tasks.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Waiting<'a> {
    payment: &'a str,
    order: &'a str,
    provider: &'a str,
    reference: &'a str,
    amount: &'a Money,
    status: Status,
    tasks: &'a BTreeMap<Task, ledger::Open>,
    mismatch: &'a Option<ledger::Mismatch>,
    refund: &'a Option<ledger::Refund>,
}

impl payment::Guest for Plugin {
    fn methods(amount: Money, locale: String) -> Vec<Method> {
        let mut offered = payment_method::methods(&amount, &locale).unwrap_or_else(|failure| {
            log::error!("no way to pay is offered: {}", failure.message; provider = failure.provider);
            Vec::new()
        });
        let cut = keep_of_each(&mut offered);
        if !cut.is_empty() {
            log::warn!("more ways to pay than one provider may offer, {METHODS_PER_PROVIDER_MAX}, were left out: {cut:?}");
        }
        offered.sort_by(|a, b| (a.position, &a.name).cmp(&(b.position, &b.name)));
        let id = |provider: String, variant: String| if variant.is_empty() { provider } else { format!("{provider}/{variant}") };
        offered.into_iter().map(|method| Method { id: id(method.provider, method.variant), name: method.name, description: method.description }).collect()
    }

    fn begin(start: Start) -> Result<(), String> {
        if load(&start.id).is_some() {
            return Ok(());
        }
        begin(start, 0).map(drop)
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
        let tries = old.tries + 1;
        if tries > TRIES_MAX {
            return Err("So many payments of this order were begun that there can be no other. Put the goods into a new cart.".into());
        }
        match old.payment.status {
            // What went back was not the order's amount: an order that is still waiting can be paid.
            Status::Declined | Status::Cancelled | Status::Refunding | Status::Refunded => {}
            // Also where its provider does not answer: should that take money after all, it goes back.
            Status::ActionRequired | Status::Starting | Status::Unknown => _ = Self::cancel(old.payment.id.clone()),
            Status::Captured => return Err("The order is paid.".into()),
        }
        if !orders::extend(&old.payment.order_token, clock::now_ms() + RETRY_MS) {
            return Err("The order was given up, or waits for no longer. Put the goods into a new cart.".into());
        }
        let start = Start {
            id: ids::unguessable(),
            method_id,
            order_token: old.payment.order_token,
            order_number: old.order_number,
            amount: old.payment.amount,
            locale,
            return_url: old.return_url,
        };
        begin(start, tries).map(|record| record.payment)
    }

    fn refresh(id: String) -> Option<Payment> {
        let mut record = load(&id)?;
        // When the shop asks by itself is not put off by it.
        Some(if record.is_awaited() && record.take_question(clock::now_ms()) { question(record).payment } else { record.payment })
    }

    fn cancel(id: String) -> bool {
        let Some(mut record) = load(&id).filter(Record::is_open) else { return false };
        let duty = record.give_up(clock::now_ms());
        carry_out(&mut record, duty);
        save(&record);
        true
    }

    /// One that cannot be checked now is unknown, too: the provider should repeat both.
    fn notify(provider: String, headers: Vec<(String, String)>, body: Vec<u8>) -> NotifyOutcome {
        hear_notification(&provider, &headers, &body).unwrap_or(NotifyOutcome::Unknown)
    }
}

/// The provider's plugin failed: it cannot be told now whether a notification is authentic.
struct CannotCheck;

fn hear_notification(provider: &str, headers: &[(String, String)], body: &[u8]) -> Result<NotifyOutcome, CannotCheck> {
    let heard = match payment_method::verify_notification(provider, headers, body) {
        Ok(heard) => heard,
        Err(failure) if failure.kind == FailureKind::NotFound => return Ok(NotifyOutcome::Unknown),
        // The host has told why, once a second at most.
        Err(failure) if failure.kind == FailureKind::Failed => return Err(CannotCheck),
        Err(failure) => {
            note_refused(provider, &failure.message);
            return Ok(NotifyOutcome::Rejected(failure.message));
        }
    };
    let Some(mut record) = load(&heard.payment_id).filter(|record| record.payment.provider == provider) else {
        log::warn!("a notification of a payment that is not known here"; provider = provider, payment = heard.payment_id);
        return Ok(NotifyOutcome::Unknown);
    };
    let seen: String = crypto::digest(heard.id.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    if record.see(&seen) {
        let duty = record.told(heard.state, &heard.reference, &heard.amount, String::new());
        carry_out(&mut record, duty);
        save(&record);
    }
    Ok(NotifyOutcome::Accepted)
}

impl effects::Guest for Plugin {
    fn perform(effect: effects::Order) -> Result<Vec<u8>, effects::Failure> {
        Err(effects::Failure::Refused(format!("payment carries out no `{}`", effect.kind)))
    }

    fn completed(completion: effects::Completion) -> Result<(), String> {
        let id = completion.key.split_once('/').map_or("", |(id, _)| id);
        let mut record = load(id).ok_or_else(|| format!("no payment `{id}`"))?;
        let now_ms = clock::now_ms();
        let duty = match completion.kind.as_str() {
            CREATE => match completion.answer_json::<Created>()? {
                Ok(created) => {
                    record.reference = ledger::short(&created.reference);
                    record.ask_soon(now_ms);
                    match created.status {
                        Status::ActionRequired => record.hear(News::ActionRequired { redirect_url: created.redirect_url }),
                        Status::Declined => record.hear(News::Declined { message: created.message }),
                        Status::Captured => match created.captured.money() {
                            Some(amount) => record.told(State::Captured, &created.reference, &amount, created.message),
                            None => return ask_now(record),
                        },
                        _ => return Err(format!("`{}` answers `{CREATE}` with a status that no new payment has", completion.target)),
                    }
                }
                Err(reason) => {
                    log::error!("a payment was not started: {reason}"; provider = completion.target, payment = id);
                    record.hear(News::NoAnswer);
                    // Whatever reached the provider, it knows.
                    return ask_now(record);
                }
            },
            CANCEL => match completion.answer_json::<Cancelled>()? {
                Ok(Cancelled { status: Status::Captured, captured }) => match captured.money() {
                    Some(amount) => {
                        let reference = record.reference.clone();
                        record.told(State::Captured, &reference, &amount, String::new())
                    }
                    None => return ask_now(record),
                },
                Ok(_) => record.ended(now_ms, String::new()),
                // It is asked what became of it, until it says so.
                Err(reason) => {
                    if record.withdrawn_ms.is_none() {
                        tell_order(&record, "payment.cancel-failed", &reason);
                    }
                    Duty::Nothing
                }
            },
            REFUND => match &completion.outcome {
                Ok(_) => record.hear(News::Refunded),
                Err(reason) => refund_refused(&mut record, reason),
            },
            other => return Err(format!("payment asked for no `{other}`")),
        };
        carry_out(&mut record, duty);
        save(&record);
        Ok(())
    }
}

impl events::Guest for Plugin {
    /// Whoever may publish such an event can say what they like: what has become of
    /// an order, the order says.
    fn handle(event: events::Event) -> Result<(), String> {
        let ended: Ended = event.json()?;
        if let Some(record) = latest(&event.key).filter(Record::is_open) {
            match orders::by_token(&event.key).map(|order| order.status) {
                Some(OrderStatus::Cancelled | OrderStatus::Refunding | OrderStatus::Refunded) => _ = <Self as payment::Guest>::cancel(record.payment.id),
                status => disbelieve(&event, &record, status),
            }
        }
        for mut record in ended.owed.iter().filter_map(|id| load(id)).filter(|record| record.payment.status == Status::Captured) {
            // No payment has placed an order of this status: all that was captured for it is owed.
            match orders::by_token(&record.payment.order_token).map(|order| order.status) {
                Some(OrderStatus::Refunding) => {
                    if record.refund(clock::now_ms()) {
                        carry_out(&mut record, Duty::Refund);
                        save(&record);
                    }
                }
                status => disbelieve(&event, &record, status),
            }
        }
        Ok(())
    }
}

fn disbelieve(event: &events::Event, record: &Record, status: Option<OrderStatus>) {
    let of_order = format!("{status:?}");
    log::warn!("an event says that an order was cancelled, and the order does not: nothing is done"; publisher = event.publisher, payment = record.payment.id, order = record.order_number, status = of_order);
}

impl command_handler::Guest for Plugin {
    fn run(name: String, arguments: Vec<(String, String)>, _: Vec<u8>) -> Result<Vec<u8>, String> {
        let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let limit = |name: &str| argument(name).map_or(Ok(TASKS_MAX as usize), str::parse).map_err(|_| format!("{name}: give a number"));
        let payment = || {
            let id = argument("payment").ok_or("give payment=ID, as list-payment-tasks shows it")?;
            load(id).ok_or_else(|| format!("there is no payment `{id}`"))
        };
        let json = match name.as_str() {
            "list-payment-tasks" => {
                let due = must(PAYMENTS.scan_index("task", &Range { start: None, end: None }, TASKS_MAX, false));
                let seen = match argument("after") {
                    Some(after) => due.iter().position(|(_, id)| id == after).ok_or_else(|| format!("after: no payment `{after}` waits for a person: begin anew without it"))? + 1,
                    None => 0,
                };
                let records: Vec<Record> = due[seen..].iter().take(limit("limit")?).filter_map(|(_, id)| load(id)).collect();
                serde_json::to_vec_pretty(&records.iter().map(waiting).collect::<Vec<_>>())
            }
            "list-payments" => {
                let (after, order, limit) = (argument("after"), argument("order").map(|number| number.trim().to_uppercase()), limit("limit")?);
                if let Some(after) = after.filter(|after| load(after).is_none()) {
                    return Err(format!("after: there is no payment `{after}`: begin anew without it"));
                }
                let records = payments(after, order.as_deref(), limit);
                serde_json::to_vec_pretty(&records.iter().map(waiting).collect::<Vec<_>>())
            }
            "retry-refund" => {
                let mut record = payment()?;
                match record.refund_again(clock::now_ms(), true) {
                    Duty::Refund => carry_out(&mut record, Duty::Refund),
                    _ => return Err("no money of it is on its way back: only a refund that is not done can be asked for again".into()),
                }
                save(&record);
                serde_json::to_vec_pretty(&waiting(&record))
            }
            "settle-payment" => {
                let mut record = payment()?;
                let how = match argument("as") {
                    Some("paid") => Settlement::Paid,
                    Some("not-paid") => Settlement::NotPaid,
                    Some("return") => Settlement::Return,
                    Some("refunded") => Settlement::Refunded,
                    _ => return Err("give as=paid, as=not-paid, as=return or as=refunded".into()),
                };
                let duty = record.settle(how, clock::now_ms())?;
                let note = argument("note").filter(|note| !note.is_empty()).map_or_else(String::new, |note| format!(": {note}"));
                tell_order(&record, "payment.settled", &format!("by hand, as {}{note}", how.name()));
                carry_out(&mut record, duty);
                save(&record);
                serde_json::to_vec_pretty(&waiting(&record))
            }
            other => return Err(format!("payment has no command `{other}`")),
        };
        json.map_err(|error| error.to_string())
    }
}

/// By id, behind one of them; of one order, or of all.
fn payments(after: Option<&str>, order: Option<&str>, limit: usize) -> Vec<Record> {
    let mut found: Vec<Record> = Vec::new();
    let mut last = after.map(str::to_owned);
    loop {
        let page = must(PAYMENTS.scan(&storage::after(last.as_deref()), TASKS_MAX, false));
        last = page.last().map(|(id, _)| id.clone());
        let is_last = page.len() < TASKS_MAX as usize;
        found.extend(page.into_iter().map(|(_, record)| record).filter(|record| order.is_none_or(|order| record.order_number == order)));
        if is_last || found.len() >= limit {
            found.truncate(limit);
            return found;
        }
    }
}

fn waiting(record: &Record) -> Waiting<'_> {
    Waiting {
        payment: &record.payment.id,
        order: &record.order_number,
        provider: &record.payment.provider,
        reference: &record.reference,
        amount: &record.payment.amount,
        status: record.payment.status,
        tasks: &record.tasks,
        mismatch: &record.mismatch,
        refund: &record.refund,
    }
}

impl jobs::Guest for Plugin {
    /// Each payment is asked after in a unit of its own: one that fails stands in the
    /// way of no other, for when to ask next was moved on before.
    fn run(job: jobs::Job) -> Result<bool, String> {
        if job.name == ASK {
            // Nothing is written before: the provider may fetch.
            if let Some(record) = load(&job.key).filter(Record::is_awaited) {
                question(record);
            }
            return Ok(false);
        }
        let now_ms = clock::now_ms();
        let due = Range { start: None, end: Some(storage::ordered(now_ms as i64)) };
        let due = must(PAYMENTS.scan_index("ask", &due, ASKED_AT_ONCE, false));
        for mut record in due.iter().filter_map(|(_, id)| load(id)) {
            record.ask_later(now_ms);
            save(&record);
            must(jobs::schedule_json(ASK, &record.payment.id, now_ms, &()).map_err(|error| error.in_words()));
        }
        Ok(due.len() == ASKED_AT_ONCE as usize)
    }
}

impl web::Guest for Plugin {
    fn handle(request: Request) -> Response {
        web::answer(|| match hear_notification(request.param("provider"), &request.headers, &request.body) {
            Ok(NotifyOutcome::Accepted) => Ok(web::response(204, "text/plain", Vec::new())),
            Ok(NotifyOutcome::Rejected(reason)) => Err(Problem::new(401, "Not authentic").detail(reason)),
            Ok(NotifyOutcome::Unknown) => Err(Problem::new(404, "No such payment").detail("Repeat it later.")),
            // Providers repeat what was answered so.
            Err(CannotCheck) => Err(Problem::new(503, "Cannot be checked now").detail("Repeat it later.").retry_after(CHECK_AGAIN_S)),
        })
    }
}

/// Anybody may send what is not authentic: it is counted, and logged once a minute.
fn note_refused(provider: &str, message: &str) {
    metrics::count("notifications_refused", &[("provider".into(), provider.into())], 1);
    let key = format!("refused/{provider}");
    if cache::get(&key).is_none() {
        cache::put(&key, b"told", 60_000);
        log::warn!("a notification is not authentic; others in the next minute are only counted (notifications_refused): {message}"; provider = provider);
    }
}

/// Of each provider as many as may be; how many of whom there were more.
fn keep_of_each(offered: &mut Vec<payment_method::Method>) -> BTreeMap<String, usize> {
    let mut of_provider: BTreeMap<String, usize> = BTreeMap::new();
    offered.retain(|method| {
        let seen = of_provider.entry(method.provider.clone()).or_default();
        *seen += 1;
        *seen <= METHODS_PER_PROVIDER_MAX
    });
    of_provider.retain(|_, seen| *seen > METHODS_PER_PROVIDER_MAX);
    of_provider.into_iter().map(|(provider, seen)| (provider, seen - METHODS_PER_PROVIDER_MAX)).collect()
}

/// `tries` is how many there were before for the same order.
fn begin(start: Start, tries: u32) -> Result<Record, String> {
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
    effects::request_json(provider, CREATE, &create_key(&start.id), &create).map_err(|error| error.in_words())?;
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
        withdrawn_ms: None,
        captured: None,
        mismatch: None,
        refund: None,
        tasks: BTreeMap::new(),
        tries,
        questions: 0,
        questions_since_ms: 0,
    };
    record.ask_soon(clock::now_ms());
    save(&record);
    must(LATEST.put(&record.payment.order_token, &record.payment.id));
    Ok(record)
}

/// In the unit of an effect's answer, in which nothing was written yet.
fn ask_now(record: Record) -> Result<(), String> {
    if record.is_awaited() {
        ask(record);
    } else {
        save(&record);
    }
    Ok(())
}

/// Asks the provider and acts on the answer. Nothing may be written before.
fn ask(mut record: Record) -> Record {
    record.ask_later(clock::now_ms());
    question(record)
}

/// When to ask next is decided already.
fn question(mut record: Record) -> Record {
    let now_ms = clock::now_ms();
    let was_started = record.payment.status != Status::Starting;
    let answer = payment_method::query(&record.payment.provider, &record.payment.id, &record.reference);
    let is_late = record.is_late();
    let is_silent = answer.as_ref().map_or(true, |status| status.state == State::Unknown);
    match answer {
        // Its effect is over, or will be carried out yet.
        Ok(status) if status.state == State::Unknown => {
            if was_started && record.mismatch.is_none() {
                let duty = record.ended(now_ms, status.message);
                carry_out(&mut record, duty);
            }
        }
        // It can be paid still, though nobody waits for it.
        Ok(status) if status.state == State::Open => {
            if record.unsettled {
                record.reference = ledger::short(&status.reference);
                let duty = record.hear(News::ActionRequired { redirect_url: None });
                carry_out(&mut record, duty);
            }
        }
        Ok(status) => {
            let duty = record.told(status.state, &status.reference, &status.amount, status.message);
            carry_out(&mut record, duty);
            let duty = record.refund_again(now_ms, false);
            carry_out(&mut record, duty);
        }
        Err(failure) => log::warn!("a provider does not say what became of a payment: {}", failure.message; provider = record.payment.provider, payment = record.payment.id),
    }
    let is_due = is_silent || record.payment.status == Status::Refunding && !record.tasks.contains_key(&Task::Refund);
    if is_late && is_due && record.is_awaited() {
        tell_staff(&mut record, Task::WithoutNews, "the provider does not say what became of it");
    }
    save(&record);
    record
}

fn carry_out(record: &mut Record, duty: Duty) {
    let Payment { id, order_token, .. } = record.payment.clone();
    match duty {
        Duty::Nothing => {}
        Duty::PayOrder => match orders::paid(&order_token, &id, &record.captured()) {
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
                    carry_out(record, Duty::Refund);
                }
            }
        },
        Duty::WithdrawCreate => {
            // Else its answer is on its way, and shows what to cancel.
            if must(effects::withdraw(&create_key(&id)).map_err(|error| error.in_words())) {
                record.withdrawn(clock::now_ms());
                carry_out(record, Duty::CancelAtProvider);
            }
        }
        Duty::CancelAtProvider => {
            let cancel = Cancel { payment_id: &id, reference: &record.reference };
            if let Err(error) = request(record, CANCEL, &format!("{id}/cancel"), &cancel) {
                tell_order(record, "payment.cancel-failed", &error);
            }
        }
        Duty::Refund => {
            let amount = record.captured();
            let refund =
                Refund { payment_id: &id, reference: &record.reference, amount: amount.amount, currency: &amount.currency, reason: "the order cannot be fulfilled" };
            if let Err(error) = request(record, REFUND, &format!("{id}/refund"), &refund) {
                let duty = refund_refused(record, &error);
                carry_out(record, duty);
            }
        }
        Duty::TellStaff(task) => {
            let detail = match (task, &record.mismatch) {
                (Task::Mismatch, Some(told)) => {
                    let what = if told.captured { "is said to be paid" } else { "is what it is said to be of" };
                    format!("{} {} {what}, under reference `{}`", told.amount.to_decimal(), told.amount.currency, told.reference)
                }
                (Task::RefundedElsewhere, _) => "the provider says that the money went back".into(),
                // Its reason was noted with the refusal.
                _ => return,
            };
            tell_staff(record, task, &detail);
        }
        Duty::TellRefunded => {
            if !orders::refunded(&order_token, &id) {
                log::error!("a refund that no order waited for"; payment = id, order = order_token);
            }
        }
    }
}

fn create_key(id: &str) -> String {
    format!("{id}/create")
}

fn refund_refused(record: &mut Record, reason: &str) -> Duty {
    let duty = record.refund_refused(clock::now_ms());
    if let Duty::TellStaff(task) = duty {
        let next = if record.refund.as_ref().is_some_and(|refund| refund.again_ms.is_some()) { "it is asked again later" } else { "it is not asked again" };
        tell_staff(record, task, &format!("{reason} ({next})"));
    }
    duty
}

/// Fails where the provider was taken out.
fn request(record: &Record, kind: &str, key: &str, payload: &impl Serialize) -> Result<(), String> {
    effects::request_json(&record.payment.provider, kind, key, payload).map_err(|error| error.in_words())
}

/// For a person to act upon: it stays in `list-payment-tasks` until it is settled.
fn tell_staff(record: &mut Record, task: Task, detail: &str) {
    record.open_task(task, detail, clock::now_ms());
    let kind = match task {
        Task::Mismatch => "payment.mismatch",
        Task::Refund => "payment.refund-failed",
        Task::WithoutNews => "payment.without-news",
        Task::RefundedElsewhere => "payment.refunded-elsewhere",
    };
    tell_order(record, kind, detail);
}

fn tell_order(record: &Record, kind: &str, detail: &str) {
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

souk_sdk::export!(Plugin: commerce::payment, host::effect_handler, host::event_handler, host::job_handler, host::command_handler, web::handler);
