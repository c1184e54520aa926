//! What is stored of a payment, and what follows from news of it, whoever
//! brings them and in whatever order. Pure: [`super`] carries out the duties.

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::payment::{Payment, Status};
use souk_sdk::money::Money;

const NOTIFICATIONS_KEPT: usize = 32;
const FIRST_QUESTION_MS: u64 = 60_000;
const LAST_QUESTION_MS: u64 = 60 * 60_000;
/// At so many questions without an answer, seven minutes after the start, a
/// person is told: before the order is given up.
const QUESTIONS_MAX: u32 = 3;
/// So long after it was asked for, a refund should have come.
const REFUND_MS: u64 = 24 * 60 * 60_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub payment: Payment,
    pub method_id: String,
    pub order_number: String,
    pub locale: String,
    pub return_url: String,
    /// The provider's name for it; empty until the provider gave one.
    pub reference: String,
    /// When the provider is asked for news.
    pub ask_ms: u64,
    #[serde(default)]
    pub asked: u32,
    /// It was given up before the provider answered, which may yet take money.
    #[serde(default)]
    pub unsettled: bool,
    /// Ids of notifications seen, the newest last.
    #[serde(default)]
    pub notifications: Vec<String>,
}

/// What somebody says has become of a payment.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    ActionRequired { redirect_url: Option<String> },
    Captured,
    Declined { message: String },
    Cancelled,
    Refunded,
    /// The provider has never heard of it, or does not answer.
    NoAnswer,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Nothing,
    /// Money is there: tell the order, which says whether it stays.
    PayOrder,
    /// The provider may still take money for an order that was given up.
    CancelAtProvider,
    /// Money went back: tell the order.
    TellRefunded,
    /// Money went back that the order did not ask for.
    TellStaff,
}

impl Record {
    pub fn is_open(&self) -> bool {
        matches!(self.payment.status, Status::Starting | Status::ActionRequired | Status::Unknown)
    }

    /// Whether the provider owes news of it.
    pub fn is_awaited(&self) -> bool {
        self.is_open() || self.unsettled || self.payment.status == Status::Refunding
    }

    pub fn hear(&mut self, news: News) -> Duty {
        use Status::{ActionRequired, Cancelled, Captured, Declined, Refunded, Refunding, Starting, Unknown};
        let before = self.payment.status;
        if news != News::NoAnswer {
            self.unsettled = false;
        }
        let (status, duty) = match (before, news) {
            // Money that came is money that came, whatever was thought before.
            (Starting | ActionRequired | Unknown | Declined | Cancelled, News::Captured) => (Captured, Duty::PayOrder),
            (Starting | Unknown, News::ActionRequired { redirect_url }) => {
                self.payment.redirect_url = redirect_url;
                (ActionRequired, Duty::Nothing)
            }
            // It was given up while the provider was being asked.
            (Cancelled, News::ActionRequired { .. }) => (Cancelled, Duty::CancelAtProvider),
            (Starting | ActionRequired | Unknown, News::Declined { message }) => {
                self.payment.message = message;
                (Declined, Duty::Nothing)
            }
            (Starting | ActionRequired | Unknown, News::Cancelled) => (Cancelled, Duty::Nothing),
            (Starting, News::NoAnswer) => (Unknown, Duty::Nothing),
            (Refunding, News::Refunded) => (Refunded, Duty::TellRefunded),
            // By hand, at the provider: the order still stands.
            (Captured, News::Refunded) => (Captured, Duty::TellStaff),
            (same, _) => (same, Duty::Nothing),
        };
        self.payment.status = status;
        if !self.is_open() {
            self.payment.redirect_url = None;
        }
        duty
    }

    /// The shopper or the order gives it up.
    pub fn give_up(&mut self) -> Duty {
        if !self.is_open() {
            return Duty::Nothing;
        }
        // While it is starting, the answer to that will show what to cancel.
        let is_starting = self.payment.status == Status::Starting;
        let duty = if is_starting { Duty::Nothing } else { Duty::CancelAtProvider };
        self.unsettled = is_starting;
        self.payment.status = Status::Cancelled;
        self.payment.redirect_url = None;
        duty
    }

    /// The order does not want what was captured. False if it is on its way back already.
    pub fn refund(&mut self, now_ms: u64) -> bool {
        let is_captured = self.payment.status == Status::Captured;
        if is_captured {
            self.payment.status = Status::Refunding;
            (self.asked, self.ask_ms) = (0, now_ms + REFUND_MS);
        }
        is_captured
    }

    /// Whether a notification or an answer can be about this payment.
    pub fn fits(&self, reference: &str, amount: &Money) -> bool {
        (self.reference.is_empty() || self.reference == reference) && *amount == self.payment.amount
    }

    /// False for one that was seen.
    pub fn see(&mut self, notification: &str) -> bool {
        if self.notifications.iter().any(|seen| seen == notification) {
            return false;
        }
        if self.notifications.len() >= NOTIFICATIONS_KEPT {
            self.notifications.remove(0);
        }
        self.notifications.push(notification.into());
        true
    }

    pub fn ask_soon(&mut self, now_ms: u64) {
        self.asked = 0;
        self.ask_ms = now_ms + FIRST_QUESTION_MS;
    }

    /// Asks less and less often. True when a person should hear of it.
    pub fn ask_later(&mut self, now_ms: u64) -> bool {
        self.asked += 1;
        self.ask_ms = now_ms + (FIRST_QUESTION_MS << self.asked.min(16)).min(LAST_QUESTION_MS);
        self.asked == QUESTIONS_MAX
    }
}
