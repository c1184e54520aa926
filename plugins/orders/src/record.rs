//! What is stored of an order, and which step follows from what. Knows no
//! storage, no stock and no discounts: [`super`] carries out what is decided here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::order_cancellation::Canceller;
use souk_sdk::commerce::order_history::Step;
use souk_sdk::commerce::orders::{Draft, Order, Status, TimelineEntry};
use souk_sdk::money::Money;

use crate::limits::Counted;

const TIMELINE_MAX: usize = 100;
const KIND_CHARS_MAX: usize = 64;
const DETAIL_CHARS_MAX: usize = 500;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub order: Order,
    pub cart_id: String,
    /// Of stock and discounts.
    pub hold_id: String,
    /// When it is given up if it is not paid.
    pub expires_ms: u64,
    /// The payment that placed it.
    #[serde(default)]
    pub paid_by: Option<String>,
    /// Payments to be given back.
    #[serde(default)]
    pub owed: BTreeSet<String>,
    /// Payments that were given back.
    #[serde(default)]
    pub returned: BTreeSet<String>,
    /// Under what it is counted as long as it is not paid.
    #[serde(default)]
    pub counted: Option<Counted>,
    /// Unknown where it was cancelled before this was kept.
    #[serde(default)]
    pub cancelled_by: Option<Canceller>,
    /// What each payment that is or was owed gives back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub amounts: BTreeMap<String, Money>,
    /// Of the parcel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tracking: String,
    /// What the shopper is told with the parcel. Details of the timeline are the staff's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

const OWED: &str = "payment.owed";
const REFUNDED: &str = "payment.refunded";
const FULFILLED: &str = "order.fulfilled";
/// What of the timeline is told the shopper.
const TOLD: [&str; 7] = ["order.created", "order.placed", "order.cancelled", FULFILLED, OWED, "payment.mismatch", REFUNDED];
const TRACKING_CHARS_MAX: usize = 100;
const MESSAGE_CHARS_MAX: usize = 500;

/// What money that came in means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    /// Known and dealt with.
    Placed,
    /// Known, or not for this order: it goes back.
    Owed,
    /// The order is placed if what was held can be had.
    Take,
}

/// Who brings a step about, as the host knows it, and when.
pub struct By {
    pub actor: String,
    pub at_ms: u64,
}

impl Record {
    pub fn new(draft: Draft, number: String, token: String, by: &By) -> Self {
        let mut record = Self {
            cart_id: draft.cart_id,
            hold_id: draft.hold_id,
            expires_ms: draft.expires_ms,
            paid_by: None,
            owed: BTreeSet::new(),
            returned: BTreeSet::new(),
            counted: None,
            cancelled_by: None,
            amounts: BTreeMap::new(),
            tracking: String::new(),
            message: String::new(),
            order: Order {
                number,
                token,
                status: Status::PaymentPending,
                locale: draft.locale,
                created_ms: by.at_ms,
                lines: draft.lines,
                applied: draft.applied,
                taxes: draft.taxes,
                totals: draft.totals,
                contact: draft.contact,
                shipping_address: draft.shipping_address,
                billing_address: draft.billing_address,
                shipping_method: draft.shipping_method,
                payment_id: draft.payment_id,
                timeline: Vec::new(),
            },
        };
        record.note(by, "order.created", "");
        record
    }

    /// The first entry and the newest are kept.
    pub fn note(&mut self, by: &By, kind: &str, detail: &str) {
        let timeline = &mut self.order.timeline;
        if timeline.len() >= TIMELINE_MAX {
            timeline.remove(1);
        }
        let detail = detail.chars().take(DETAIL_CHARS_MAX).collect();
        let kind = kind.chars().take(KIND_CHARS_MAX).collect();
        timeline.push(TimelineEntry { at_ms: by.at_ms, actor: by.actor.clone(), kind, detail });
    }

    /// Whose money it is.
    pub fn receive(&mut self, payment_id: &str, amount: &Money, by: &By) -> Payment {
        if self.paid_by.as_deref() == Some(payment_id) {
            return Payment::Placed;
        }
        if self.owed.contains(payment_id) || self.returned.contains(payment_id) {
            return Payment::Owed;
        }
        if self.paid_by.is_some() {
            self.owe(payment_id, amount, "another payment placed the order", by);
            return Payment::Owed;
        }
        if *amount != self.order.totals.total {
            self.owe(payment_id, amount, "the amount is not the order's total", by);
            return Payment::Owed;
        }
        match self.order.status {
            Status::PaymentPending => Payment::Take,
            Status::Cancelled if self.who_cancelled() == Canceller::Expiry => Payment::Take,
            // Its shopper was told that nothing is owed, or that the money goes back.
            _ => {
                self.owe(payment_id, amount, "the order was given up", by);
                Payment::Owed
            }
        }
    }

    /// Before it was kept, the reason said it.
    fn who_cancelled(&self) -> Canceller {
        self.cancelled_by.unwrap_or_else(|| {
            let last = self.order.timeline.iter().rfind(|entry| entry.kind == "order.cancelled");
            if last.is_some_and(|entry| entry.detail == "not paid in time") { Canceller::Expiry } else { Canceller::Shopper }
        })
    }

    /// Who cancelled it and when, where nothing is left to cancel.
    pub fn cancelled_already(&self) -> Option<&TimelineEntry> {
        let is_over = match self.order.status {
            Status::Cancelled => self.who_cancelled() != Canceller::Expiry,
            status => matches!(status, Status::Refunding | Status::Refunded),
        };
        self.order.timeline.iter().rfind(|entry| is_over && entry.kind == "order.cancelled")
    }

    pub fn place(&mut self, payment_id: &str, by: &By) {
        self.order.status = Status::Placed;
        self.cancelled_by = None;
        self.paid_by = Some(payment_id.into());
        self.note(by, "order.placed", payment_id);
    }

    /// What was held cannot be had any more.
    pub fn give_up_paid(&mut self, payment_id: &str, reason: &str, by: &By) {
        self.order.status = Status::Refunding;
        self.owe_total(payment_id, reason, by);
    }

    /// Of a payment that placed the order, or would have: it was the total.
    fn owe_total(&mut self, payment_id: &str, reason: &str, by: &By) {
        let total = self.order.totals.total.clone();
        self.owe(payment_id, &total, reason, by);
    }

    fn owe(&mut self, payment_id: &str, amount: &Money, reason: &str, by: &By) {
        self.owed.insert(payment_id.into());
        self.amounts.insert(payment_id.into(), amount.clone());
        if matches!(self.order.status, Status::Refunded | Status::Cancelled) {
            self.order.status = Status::Refunding;
        }
        self.note(by, OWED, &format!("{payment_id}: {reason}"));
    }

    /// False for a payment that was not owed.
    pub fn refunded(&mut self, payment_id: &str, by: &By) -> bool {
        if !self.owed.remove(payment_id) {
            return self.returned.contains(payment_id);
        }
        self.returned.insert(payment_id.into());
        self.note(by, REFUNDED, payment_id);
        if self.order.status == Status::Refunding && self.owed.is_empty() {
            self.order.status = Status::Refunded;
        }
        true
    }

    /// One that is not paid, or is paid and not sent: what placed it is owed back.
    pub fn cancel(&mut self, canceller: Canceller, reason: &str, by: &By) {
        self.order.status = Status::Cancelled;
        self.cancelled_by = Some(canceller);
        self.note(by, "order.cancelled", reason);
        if let Some(payment_id) = self.paid_by.take()
            && self.order.totals.total.amount > 0
        {
            self.owe_total(&payment_id, "the order was cancelled", by);
        }
    }

    /// Who cancels what was given up already means it: money that comes late goes back.
    pub fn also_cancelled_by(&mut self, canceller: Canceller, reason: &str, by: &By) {
        if self.order.status == Status::Cancelled && canceller != Canceller::Expiry && self.who_cancelled() == Canceller::Expiry {
            self.cancelled_by = Some(canceller);
            self.note(by, "order.cancelled", reason);
        }
    }

    /// `message` and `tracking` are for the shopper.
    pub fn send(&mut self, tracking: &str, message: &str, by: &By) {
        self.order.status = Status::Fulfilled;
        self.tracking = tracking.trim().chars().take(TRACKING_CHARS_MAX).collect();
        self.message = message.trim().chars().take(MESSAGE_CHARS_MAX).collect();
        self.note(by, FULFILLED, message.trim());
    }

    /// What was wrong of a parcel that is sent; what is not given stays.
    pub fn correct_parcel(&mut self, tracking: Option<&str>, message: Option<&str>, by: &By) {
        if let Some(tracking) = tracking {
            let before = if self.tracking.is_empty() { "none" } else { &self.tracking };
            let detail = format!("{} instead of {before}", tracking.trim());
            self.note(by, "order.tracking", &detail);
            self.tracking = tracking.trim().chars().take(TRACKING_CHARS_MAX).collect();
        }
        if let Some(message) = message {
            self.note(by, "order.message", message.trim());
            self.message = message.trim().chars().take(MESSAGE_CHARS_MAX).collect();
        }
    }

    /// The timeline without what is not for the shopper's eyes.
    pub fn steps(&self) -> Vec<Step> {
        let told = self.order.timeline.iter().filter(|entry| TOLD.contains(&entry.kind.as_str()));
        let step = |entry: &TimelineEntry| {
            let is_sent = entry.kind == FULFILLED;
            let payment = if entry.kind == OWED || entry.kind == REFUNDED { entry.detail.split(": ").next() } else { None };
            Step {
                at_ms: entry.at_ms,
                kind: entry.kind.clone(),
                amount: payment.and_then(|payment| self.amounts.get(payment).cloned()),
                tracking: if is_sent { self.tracking.clone() } else { String::new() },
                message: if is_sent { self.message.clone() } else { String::new() },
            }
        };
        told.map(step).collect()
    }
}
