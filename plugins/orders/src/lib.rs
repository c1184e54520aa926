//! Orders: exports `souk:commerce/orders`. [`record`] decides; what is held is
//! had from `inventory` and `promotions` in the same unit of work.

mod limits;
mod look_up;
mod record;
mod settings;
#[cfg(test)]
mod tests;

use souk_sdk::commerce::order_cancellation::{self, Canceller, Outcome};
use souk_sdk::commerce::order_history::{self, Step};
use souk_sdk::commerce::orders::{self, Created, Draft, Order, PaidOutcome, Status};
use souk_sdk::commerce::unpaid_orders::{self, Holder, Limit};
use souk_sdk::commerce::{commitments, counted_holds, inventory, order_look_up, promotions};
use souk_sdk::host::{command_handler, data_migrate};
use souk_sdk::money::Money;
use souk_sdk::storage::{self, Collection, CollectionError, Index, Range};
use souk_sdk::{caller, clock, data, events, ids, jobs, serde_json};

use limits::{Counted, Often};
use record::{By, Payment, Record};
use settings::Settings;

/// By token.
const ORDERS: Collection<Record> = Collection::new(
    "orders",
    &[
        Index::unique("number", |record| vec![record.order.number.clone()]),
        Index::many("created", |record| vec![created(record)]),
        // Those that their shopper may give up to make room for another.
        Index::many("unpaid", |record| match &record.counted {
            Some(counted) if record.order.status == Status::PaymentPending => vec![counted.shopper()],
            _ => Vec::new(),
        }),
    ],
);
const EXPIRE: &str = "expire";
/// How much longer than the order its stock is held, so that the order's own
/// end gives it back.
const HOLD_LONGER_MS: u64 = 10 * 60 * 1_000;
/// One more than `souk list` shows at most.
const LIST_MAX: u32 = 501;
/// Who runs a command.
const STAFF: &str = "staff";
/// Of one shopper, given up to make room.
const GIVEN_UP_MAX: u32 = 20;
const MIGRATED_AT_ONCE: u32 = 100;

struct Orders;

impl orders::Guest for Orders {
    fn create(draft: Draft) -> Created {
        let nobody = Holder { address: String::new(), session: None };
        within_limits(draft, &nobody).unwrap_or_else(|Limit { name, most, .. }| {
            panic!("`{}` has drafted orders that are not paid up to `{name}` ({most}): let it say for whom it drafts them (unpaid-orders.create), or raise the limit", by().actor)
        })
    }

    fn by_token(token: String) -> Option<Order> {
        load(&token).map(|record| record.order)
    }

    fn recent(before: Option<String>, limit: u32) -> Vec<Order> {
        must(newest(before.as_deref(), limit)).unwrap_or_default()
    }

    fn paid(token: String, payment_id: String, amount: Money) -> PaidOutcome {
        let Some(mut record) = load(&token) else { return PaidOutcome::UnknownOrder };
        let before = record.clone();
        let outcome = match record.receive(&payment_id, &amount, &by()) {
            Payment::Placed => PaidOutcome::Placed,
            Payment::Owed => PaidOutcome::Refund,
            Payment::Take => take(&mut record, &payment_id),
        };
        if record != before {
            save(&record);
        }
        outcome
    }

    fn cancel(token: String, reason: String) -> bool {
        let Some(mut record) = load(&token) else { return false };
        if matches!(record.order.status, Status::Placed | Status::Fulfilled) {
            return false;
        }
        cancel(&mut record, Canceller::Shopper, &reason, &by());
        true
    }

    fn extend(token: String, expires_ms: u64) -> bool {
        let Some(mut record) = load(&token).filter(|record| record.order.status == Status::PaymentPending) else { return false };
        let end_ms = record.order.created_ms + u64::from(Settings::load().unpaid_minutes_max) * 60 * 1_000;
        if end_ms <= clock::now_ms() {
            return false;
        }
        let expires_ms = expires_ms.min(end_ms);
        if expires_ms > record.expires_ms {
            if !inventory::extend(&record.hold_id, expires_ms + HOLD_LONGER_MS) {
                return false;
            }
            record.expires_ms = expires_ms;
            save(&record);
            schedule(&record);
        }
        true
    }

    fn refunded(token: String, payment_id: String) -> bool {
        let Some(mut record) = load(&token) else { return false };
        let known = record.refunded(&payment_id, &by());
        if known {
            save(&record);
        }
        known
    }

    fn note(token: String, kind: String, detail: String) {
        let Some(mut record) = load(&token) else { return };
        record.note(&by(), &kind, &detail);
        save(&record);
    }
}

impl order_history::Guest for Orders {
    fn steps(token: String) -> Vec<Step> {
        load(&token).map(|record| record.steps()).unwrap_or_default()
    }
}

impl order_look_up::Guest for Orders {
    fn find(number: String, contact: String, client: String) -> Result<Option<Order>, u32> {
        let find = |number: &str| must(ORDERS.find("number", number)).map(|(_, record)| record.order);
        look_up::run(&number, &contact, &client, find, || must(newest(None, 1)).unwrap_or_default().into_iter().next())
    }
}

impl jobs::Guest for Orders {
    fn run(job: jobs::Job) -> Result<bool, String> {
        if job.name != EXPIRE {
            return Err(format!("orders has no job `{}`", job.name));
        }
        let Some(mut record) = load(&job.key).filter(|record| record.order.status == Status::PaymentPending) else { return Ok(false) };
        if record.expires_ms > clock::now_ms() {
            schedule(&record);
        } else {
            cancel(&mut record, Canceller::Expiry, "not paid in time", &by());
        }
        Ok(false)
    }
}

impl unpaid_orders::Guest for Orders {
    fn create(draft: Draft, holder: Holder) -> Result<Created, Limit> {
        within_limits(draft, &holder)
    }

    fn give_up(holder: Holder, email: String) -> u32 {
        let shopper = Counted::of(&holder, &email, &by().actor).shopper();
        let tokens = must(ORDERS.keys_by("unpaid", &shopper, None, GIVEN_UP_MAX));
        let found: Vec<Record> = tokens.iter().filter_map(|token| load(token)).collect();
        for mut record in found {
            cancel(&mut record, Canceller::Shopper, "the same shopper orders again", &by());
        }
        tokens.len().try_into().unwrap_or(u32::MAX)
    }
}

impl order_cancellation::Guest for Orders {
    fn cancel(token: String, canceller: Canceller, reason: String) -> Outcome {
        let Some(mut record) = load(&token) else { return Outcome::UnknownOrder };
        let is_sent = match record.order.status {
            Status::Fulfilled => true,
            Status::Placed => canceller == Canceller::Shopper && !Settings::load().shopper_cancels_paid,
            _ => false,
        };
        if is_sent {
            return Outcome::Sent;
        }
        cancel(&mut record, canceller, &reason, &by());
        if matches!(record.order.status, Status::Refunding | Status::Refunded) { Outcome::Refunding } else { Outcome::Cancelled }
    }
}

impl data_migrate::Guest for Orders {
    /// To the second form: `inventory` is told which claims have not been sent,
    /// which it could not know before. The orders themselves stay as they are.
    fn migrate(cursor: String) -> Result<Option<String>, String> {
        if data::form().map_err(|error| format!("{error:?}"))? < 2 {
            return Ok(None);
        }
        let from = storage::after(Some(cursor.as_str()).filter(|cursor| !cursor.is_empty()));
        let found = ORDERS.scan(&from, MIGRATED_AT_ONCE, false).map_err(|error| error.to_string())?;
        for (_, record) in &found {
            if record.order.status == Status::Placed && !commitments::keep(&record.hold_id) {
                return Err("migrate the documents of `inventory` first".into());
            }
        }
        Ok(found.last().filter(|_| found.len() == MIGRATED_AT_ONCE as usize).map(|(token, _)| token.clone()))
    }
}

impl command_handler::Guest for Orders {
    fn run(name: String, arguments: Vec<(String, String)>, _: Vec<u8>) -> Result<Vec<u8>, String> {
        let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let by_number = || {
            let number = argument("number").ok_or("give number=NUMBER")?;
            let found = ORDERS.find("number", &number.trim().to_uppercase()).map_err(|error| error.to_string())?;
            found.map(|(_, record)| record).ok_or_else(|| format!("no order has the number `{number}`"))
        };
        let json = match name.as_str() {
            "list-orders" => {
                let limit = argument("limit").map_or(Ok(50), str::parse).map_err(|_| "limit is not a number".to_owned())?;
                let orders = newest(argument("after"), limit).map_err(|error| error.to_string())?;
                serde_json::to_vec_pretty(&orders.ok_or_else(|| format!("after: no order has the number `{}`: begin anew without it", argument("after").unwrap_or_default()))?)
            }
            "show-order" => serde_json::to_vec_pretty(&by_number()?),
            "fulfil-order" => {
                let mut record = by_number()?;
                if record.order.status == Status::Fulfilled {
                    return Err(format!("order {} is sent already; set-tracking corrects what was said of the parcel", record.order.number));
                }
                if record.order.status != Status::Placed {
                    return Err(format!("order {} is not placed: only a placed order can be sent", record.order.number));
                }
                commitments::ship(&record.hold_id);
                record.send(argument("tracking").unwrap_or_default(), argument("note").unwrap_or_default(), &staff());
                save(&record);
                publish("order.fulfilled", &record);
                answer(&record, None)
            }
            "set-tracking" => {
                let mut record = by_number()?;
                if record.order.status != Status::Fulfilled {
                    return Err(format!("order {} is not sent: fulfil-order says that it is, with its tracking number", record.order.number));
                }
                let (tracking, message) = (argument("tracking"), argument("note"));
                if tracking.is_none() && message.is_none() {
                    return Err("give tracking=NUMBER, note=TEXT, or both".into());
                }
                record.correct_parcel(tracking, message, &staff());
                save(&record);
                answer(&record, None)
            }
            "cancel-order" => {
                let mut record = by_number()?;
                if record.order.status == Status::Fulfilled {
                    return Err(format!("order {} is sent: only an order that is not sent can be cancelled", record.order.number));
                }
                let already = record.cancelled_already().map(|entry| {
                    serde_json::json!({ "note": "nothing was changed: it was cancelled before", "cancelled": { "by": entry.actor, "at_ms": entry.at_ms, "reason": entry.detail } })
                });
                cancel(&mut record, Canceller::Staff, argument("reason").unwrap_or_default(), &staff());
                answer(&record, already)
            }
            other => return Err(format!("orders has no command `{other}`")),
        };
        json.map_err(|error| error.to_string())
    }
}

/// What staff are told of an order that they have changed, or have not: then `more` says why.
fn answer(record: &Record, more: Option<serde_json::Value>) -> serde_json::Result<Vec<u8>> {
    let mut order = serde_json::to_value(&record.order)?;
    if let Some(serde_json::Value::Object(more)) = more {
        more.into_iter().for_each(|(member, value)| order[member] = value);
    }
    for (member, text) in [("tracking", &record.tracking), ("message", &record.message)] {
        if !text.is_empty() {
            order[member] = text.as_str().into();
        }
    }
    serde_json::to_vec_pretty(&order)
}

fn within_limits(draft: Draft, holder: &Holder) -> Result<Created, Limit> {
    let settings = Settings::load();
    let mut counted = Counted::of(holder, &draft.contact.email, &by().actor);
    let is_free = draft.totals.total.amount == 0;
    let often = [Often::GivenUp, Often::Free];
    if let Some(limit) = often.into_iter().filter(|often| *often == Often::GivenUp || is_free).find_map(|often| often.limit(&counted, &settings)) {
        return Err(limit);
    }
    let units = limits::units(&draft.lines);
    let skus: Vec<String> = units.keys().cloned().collect();
    let counts = commitments::counts(&skus);
    let stock = |sku: &str| counts.iter().find(|count| count.sku == sku).map_or(0, |count| count.available + count.reserved);
    limits::take(&mut counted, &units, stock, &settings)?;
    if is_free {
        Often::Free.note(&counted, &settings);
    }
    Ok(create(draft, counted))
}

fn create(draft: Draft, counted: Counted) -> Created {
    let mut record = Record { counted: Some(counted), ..Record::new(draft, number(), ids::unguessable(), &by()) };
    loop {
        match ORDERS.put(&record.order.token, &record) {
            Err(CollectionError::Duplicate { .. }) => record.order.number = number(),
            stored => break must(stored),
        }
    }
    schedule(&record);
    Created { number: record.order.number, token: record.order.token }
}

/// Claims what is held; takes it anew if it was given back meanwhile.
fn take(record: &mut Record, payment_id: &str) -> PaidOutcome {
    let by = by();
    if let Err(reason) = claim(record, by.at_ms) {
        if record.order.status == Status::PaymentPending {
            give_up(record, Canceller::Expiry, "what was held for it is gone", &by);
        }
        record.give_up_paid(payment_id, reason, &by);
        return PaidOutcome::Refund;
    }
    record.place(payment_id, &by);
    no_longer_unpaid(record);
    publish("order.placed", record);
    PaidOutcome::Placed
}

fn claim(record: &Record, now_ms: u64) -> Result<(), &'static str> {
    let hold = &record.hold_id;
    if inventory::claim(hold) {
        return Ok(());
    }
    let lines = record.order.lines.iter().map(|line| inventory::Line { sku: line.sku.clone(), quantity: line.quantity });
    if counted_holds::reserve(hold, &lines.collect::<Vec<_>>(), now_ms + HOLD_LONGER_MS).is_err() {
        return Err("paid too late: the goods are sold out");
    }
    let applied: Vec<String> = record.order.applied.iter().map(|applied| applied.id.clone()).collect();
    if promotions::claim(hold, &applied, Some(&record.order.contact.email)).is_err() {
        inventory::release(hold);
        return Err("paid too late: a discount in it is used up");
    }
    if inventory::claim(hold) { Ok(()) } else { Err("paid too late: the goods cannot be claimed") }
}

/// Ends an order that is not sent, and stores it; one that has ended stays as it is.
fn cancel(record: &mut Record, canceller: Canceller, reason: &str, by: &By) {
    let before = record.clone();
    match record.order.status {
        Status::PaymentPending | Status::Placed => give_up(record, canceller, reason, by),
        Status::Cancelled => record.also_cancelled_by(canceller, reason, by),
        Status::Refunding | Status::Refunded | Status::Fulfilled => return,
    }
    if *record != before {
        save(record);
    }
}

/// Gives stock and discounts back. Of what was paid, `payment` hears by the event.
fn give_up(record: &mut Record, canceller: Canceller, reason: &str, by: &By) {
    if record.order.status == Status::Placed {
        inventory::restock(&record.hold_id);
    } else {
        inventory::release(&record.hold_id);
        if let Some(counted) = record.counted.as_ref().filter(|_| canceller != Canceller::Staff) {
            Often::GivenUp.note(counted, &Settings::load());
        }
    }
    promotions::release(&record.hold_id);
    record.cancel(canceller, reason, by);
    no_longer_unpaid(record);
    publish("order.cancelled", record);
}

/// Whoever calls this plugin, or itself where its own job does it.
fn by() -> By {
    By { actor: caller::name().unwrap_or_else(|| "orders".into()), at_ms: clock::now_ms() }
}

fn staff() -> By {
    By { actor: STAFF.into(), at_ms: clock::now_ms() }
}

/// Nothing waits for its payment any more.
fn no_longer_unpaid(record: &mut Record) {
    must(jobs::cancel(EXPIRE, &record.order.token).map_err(|error| format!("{error:?}")));
    if let Some(counted) = record.counted.take() {
        limits::give_back(&counted, &limits::units(&record.order.lines), &Settings::load());
    }
}

fn publish(topic: &str, record: &Record) {
    let payload = serde_json::json!({ "token": record.order.token, "number": record.order.number, "owed": record.owed });
    must(events::publish_json(topic, &record.order.token, &payload).map_err(|error| format!("{error:?}")));
}

fn schedule(record: &Record) {
    let scheduled = jobs::schedule_json(EXPIRE, &record.order.token, record.expires_ms, &());
    must(scheduled.map_err(|error| format!("{error:?}")));
}

/// Two groups of four that can be read over the phone: forty random bits, of
/// which nobody can tell how much the shop sells.
fn number() -> String {
    let id = ids::sortable();
    format!("{}-{}", &id[18..22], &id[22..])
}

/// Orders sort by it from the oldest to the newest.
fn created(record: &Record) -> String {
    format!("{}-{}", storage::ordered(record.order.created_ms as i64), record.order.number)
}

/// `None` where there is no such order to go on from.
fn newest(before: Option<&str>, limit: u32) -> Result<Option<Vec<Order>>, CollectionError> {
    let end = match before {
        None => None,
        Some(number) => match ORDERS.find("number", &number.trim().to_uppercase())? {
            Some((_, record)) => Some(created(&record)),
            None => return Ok(None),
        },
    };
    let found = ORDERS.scan_index("created", &Range { start: None, end }, limit.clamp(1, LIST_MAX), true)?;
    let tokens: Vec<String> = found.into_iter().map(|(_, token)| token).collect();
    if tokens.is_empty() {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(ORDERS.get_many(&tokens)?.into_iter().flatten().map(|record| record.order).collect()))
}

/// Tokens come from links; one that can be no key names no order.
fn load(token: &str) -> Option<Record> {
    match ORDERS.get(token) {
        Err(CollectionError::Storage(storage::Error::Invalid(_))) => None,
        found => must(found),
    }
}

fn save(record: &Record) {
    must(ORDERS.put(&record.order.token, record));
}

/// The unit cannot go on; the interface has no error for it.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("orders storage: {error}"))
}

souk_sdk::export!(
    Orders: commerce::orders, commerce::unpaid_orders, commerce::order_cancellation, commerce::order_look_up, commerce::order_history, host::job_handler, host::command_handler,
    host::data_migrate
);
