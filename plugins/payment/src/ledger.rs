//! What is stored of a payment, and what follows from news of it, whoever
//! brings them and in whatever order. Pure: [`super`] carries out the duties.
//!
//! Nothing makes a payment *captured* but an amount that is the payment's own, to
//! the last unit and in its currency, or a person.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::payment::{Payment, Status};
use souk_sdk::extend::payment_method::State;
use souk_sdk::money::Money;

/// Of a reference, a message or a currency that a provider tells, in bytes. A payment
/// that cannot be stored would be asked about for ever, before all others.
const TOLD_BYTES_MAX: usize = 500;
const URL_BYTES_MAX: usize = 4_000;

const NOTIFICATIONS_KEPT: usize = 32;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const FIRST_QUESTION_MS: u64 = MINUTE_MS;
const LAST_QUESTION_MS: u64 = HOUR_MS;
/// At so many questions without an answer, seven minutes after the start, a
/// person is told: before the order is given up.
const QUESTIONS_MAX: u32 = 3;
/// So often may shoppers have the provider asked after one payment, in so long.
const SHOPPERS_QUESTIONS_MAX: u32 = 20;
const SHOPPERS_QUESTIONS_MS: u64 = 10 * MINUTE_MS;
/// So long after it was asked for, a refund should have come.
const REFUND_MS: u64 = 24 * HOUR_MS;
/// How long after each refusal a refund is asked for again. After the last, only a person asks.
const REFUND_AGAIN_MS: [u64; 6] = [5 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS, 6 * HOUR_MS, 12 * HOUR_MS, 24 * HOUR_MS];
/// So long a try that was under way when its effect was withdrawn may take to reach the provider.
const UNDER_WAY_MS: u64 = 2 * MINUTE_MS;

/// As much of a text of the provider's as is kept.
pub fn short(told: &str) -> String {
    told[..told.floor_char_boundary(TOLD_BYTES_MAX)].to_owned()
}

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
    /// It was given up, and the provider has not yet said that it takes no money.
    #[serde(default)]
    pub unsettled: bool,
    /// Ids of notifications seen, the newest last.
    #[serde(default)]
    pub notifications: Vec<String>,
    /// When the provider's being asked for it was taken back.
    #[serde(default)]
    pub withdrawn_ms: Option<u64>,
    /// What is there; the payment's amount where this was not kept yet.
    #[serde(default)]
    pub captured: Option<Money>,
    /// The last that a provider said of it and that does not fit.
    #[serde(default)]
    pub mismatch: Option<Mismatch>,
    #[serde(default)]
    pub refund: Option<Refund>,
    /// What waits for a person, since when and why.
    #[serde(default)]
    pub tasks: BTreeMap<Task, Open>,
    /// How many payments of the same order were begun before it.
    #[serde(default)]
    pub tries: u32,
    /// How often shoppers had its provider asked lately, and since when.
    #[serde(default)]
    pub questions: u32,
    #[serde(default)]
    pub questions_since_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Whether money is said to be there.
    pub captured: bool,
    pub reference: String,
    pub amount: Money,
}

/// Money on its way back: one for each payment, under one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refund {
    pub amount: Money,
    /// How often the provider said no.
    #[serde(default)]
    pub refused: u32,
    /// When it is asked for again; none while the provider is being asked, and after the last time.
    #[serde(default)]
    pub again_ms: Option<u64>,
}

/// What only a person can settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The provider tells of another amount, currency or reference.
    Mismatch,
    /// A refund was refused.
    Refund,
    /// The provider does not say what became of it.
    WithoutNews,
    /// The provider says that money of a placed order went back.
    RefundedElsewhere,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    pub since_ms: u64,
    pub detail: String,
}

/// What a provider's answer to an effect says has become of a payment. That it was captured says [`Record::told`].
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    ActionRequired { redirect_url: Option<String> },
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
    /// The provider has perhaps not been asked yet: it should not be.
    WithdrawCreate,
    /// The provider may still take money for an order that was given up.
    CancelAtProvider,
    /// Ask for the refund.
    Refund,
    /// Money went back: tell the order.
    TellRefunded,
    /// Something waits for a person.
    TellStaff(Task),
}

/// How a person settles a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// All of the money is there.
    Paid,
    /// No money is there, or none that the shop keeps: it went back by hand.
    NotPaid,
    /// What the provider tells of is there, and goes back.
    Return,
    /// What was to go back went back.
    Refunded,
}

impl Settlement {
    /// As the command names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::NotPaid => "not-paid",
            Self::Return => "return",
            Self::Refunded => "refunded",
        }
    }
}

impl Record {
    pub fn is_open(&self) -> bool {
        matches!(self.payment.status, Status::Starting | Status::ActionRequired | Status::Unknown)
    }

    /// Whether the provider owes news of it.
    pub fn is_awaited(&self) -> bool {
        self.is_open() || self.unsettled || self.mismatch.is_some() || self.payment.status == Status::Refunding
    }

    pub fn hear(&mut self, news: News) -> Duty {
        use Status::{ActionRequired, Cancelled, Captured, Declined, Refunded, Refunding, Starting, Unknown};
        let before = self.payment.status;
        if news != News::NoAnswer {
            self.unsettled = false;
            self.tasks.remove(&Task::WithoutNews);
        }
        let (status, duty) = match (before, news) {
            (Starting | Unknown, News::ActionRequired { redirect_url }) => {
                self.payment.redirect_url = redirect_url.filter(|url| url.len() <= URL_BYTES_MAX);
                (ActionRequired, Duty::Nothing)
            }
            // It was given up while the provider was being asked.
            (Cancelled, News::ActionRequired { .. }) => {
                self.unsettled = true;
                (Cancelled, Duty::CancelAtProvider)
            }
            (Starting | ActionRequired | Unknown, News::Declined { message }) => {
                self.payment.message = short(&message);
                (Declined, Duty::Nothing)
            }
            (Starting | ActionRequired | Unknown, News::Cancelled) => (Cancelled, Duty::Nothing),
            (Starting, News::NoAnswer) => (Unknown, Duty::Nothing),
            (Refunding, News::Refunded) => {
                self.tasks.remove(&Task::Refund);
                (Refunded, Duty::TellRefunded)
            }
            // By hand, at the provider: the order still stands.
            (Captured, News::Refunded) => (Captured, Duty::TellStaff(Task::RefundedElsewhere)),
            (same, _) => (same, Duty::Nothing),
        };
        self.payment.status = status;
        if !self.is_open() {
            self.payment.redirect_url = None;
        }
        duty
    }

    /// What the provider says, with an amount: a notification, or an answer to a question.
    pub fn told(&mut self, state: State, reference: &str, amount: &Money, message: String) -> Duty {
        if matches!(state, State::Open | State::Unknown) {
            return Duty::Nothing;
        }
        let reference = short(reference);
        if !self.fits(&reference, amount) {
            let told = Money::new(amount.amount, &short(&amount.currency));
            let mismatch = Mismatch { captured: state == State::Captured, reference, amount: told };
            // Said again, it is nothing new; and that money is there is not forgotten for less.
            let is_known = self.mismatch.as_ref().is_some_and(|known| *known == mismatch || known.captured && !mismatch.captured);
            if is_known {
                return Duty::Nothing;
            }
            self.mismatch = Some(mismatch);
            return Duty::TellStaff(Task::Mismatch);
        }
        if self.reference.is_empty() {
            self.reference = reference;
        }
        self.mismatch = None;
        self.tasks.remove(&Task::Mismatch);
        match state {
            State::Captured => self.capture(amount.clone()),
            State::Declined => self.hear(News::Declined { message }),
            State::Cancelled => self.hear(News::Cancelled),
            State::Refunded => self.hear(News::Refunded),
            State::Open | State::Unknown => Duty::Nothing,
        }
    }

    /// Money that came is money that came, whatever was thought before.
    fn capture(&mut self, amount: Money) -> Duty {
        self.unsettled = false;
        self.tasks.remove(&Task::WithoutNews);
        if self.has_money() {
            return Duty::Nothing;
        }
        self.payment.status = Status::Captured;
        self.payment.redirect_url = None;
        self.captured = Some(amount);
        Duty::PayOrder
    }

    pub fn has_money(&self) -> bool {
        matches!(self.payment.status, Status::Captured | Status::Refunding | Status::Refunded)
    }

    pub fn captured(&self) -> Money {
        self.captured.clone().unwrap_or_else(|| self.payment.amount.clone())
    }

    /// The shopper or the order gives it up.
    pub fn give_up(&mut self, now_ms: u64) -> Duty {
        if !self.is_open() {
            return Duty::Nothing;
        }
        // While it is starting, the answer to that would show what to cancel.
        let duty = if self.payment.status == Status::Starting { Duty::WithdrawCreate } else { Duty::CancelAtProvider };
        self.unsettled = true;
        self.ask_soon(now_ms);
        self.payment.status = Status::Cancelled;
        self.payment.redirect_url = None;
        duty
    }

    /// The provider was never asked for it, or is asked no more.
    pub fn withdrawn(&mut self, now_ms: u64) {
        self.withdrawn_ms = Some(now_ms);
    }

    /// The provider has ended it, or knows nothing of it. It may yet hear of one that was withdrawn under way.
    pub fn ended(&mut self, now_ms: u64, message: String) -> Duty {
        if self.withdrawn_ms.is_some_and(|at_ms| now_ms < at_ms + UNDER_WAY_MS) {
            return Duty::Nothing;
        }
        self.hear(if self.payment.status == Status::Cancelled { News::Cancelled } else { News::Declined { message } })
    }

    /// The order does not want what was captured. False if it is on its way back already.
    pub fn refund(&mut self, now_ms: u64) -> bool {
        let is_captured = self.payment.status == Status::Captured;
        if is_captured {
            self.payment.status = Status::Refunding;
            self.refund = Some(Refund { amount: self.captured(), refused: 0, again_ms: None });
            (self.asked, self.ask_ms) = (0, now_ms + REFUND_MS);
        }
        is_captured
    }

    /// The provider does not pay back, now or for good.
    pub fn refund_refused(&mut self, now_ms: u64) -> Duty {
        if self.payment.status != Status::Refunding {
            return Duty::Nothing;
        }
        let amount = self.captured();
        let refund = self.refund.get_or_insert(Refund { amount, refused: 0, again_ms: None });
        refund.again_ms = REFUND_AGAIN_MS.get(refund.refused as usize).map(|wait_ms| now_ms + wait_ms);
        refund.refused = refund.refused.saturating_add(1);
        self.ask_ms = refund.again_ms.unwrap_or(now_ms + REFUND_MS);
        Duty::TellStaff(Task::Refund)
    }

    /// Whether it is time to ask for a refund that was refused; or a person says so.
    pub fn refund_again(&mut self, now_ms: u64, at_once: bool) -> Duty {
        let amount = self.captured();
        if self.payment.status != Status::Refunding {
            return Duty::Nothing;
        }
        // One from before refusals were kept.
        let refund = self.refund.get_or_insert(Refund { amount, refused: 0, again_ms: Some(0) });
        if !at_once && refund.again_ms.is_none_or(|again_ms| again_ms > now_ms) {
            return Duty::Nothing;
        }
        refund.again_ms = None;
        (self.asked, self.ask_ms) = (0, now_ms + REFUND_MS);
        Duty::Refund
    }

    /// A person has looked at the provider's books.
    pub fn settle(&mut self, how: Settlement, now_ms: u64) -> Result<Duty, &'static str> {
        let duty = match how {
            Settlement::Paid if self.has_money() && self.tasks.is_empty() => return Err("its money is there already"),
            Settlement::Paid => self.capture(self.payment.amount.clone()),
            Settlement::NotPaid if self.has_money() => return Err("its money is there: cancel the order, or wait for the refund"),
            Settlement::NotPaid if self.payment.status == Status::Starting => self.give_up(now_ms),
            Settlement::NotPaid => self.hear(News::Cancelled),
            Settlement::Return => match self.mismatch.clone().filter(|told| told.captured && !self.has_money()) {
                Some(told) => self.capture(told.amount),
                None => return Err("there is no other amount to return"),
            },
            Settlement::Refunded if self.payment.status == Status::Refunding => self.hear(News::Refunded),
            Settlement::Refunded => return Err("no money of it is on its way back"),
        };
        self.mismatch = None;
        self.tasks.clear();
        Ok(duty)
    }

    pub fn open_task(&mut self, task: Task, detail: &str, now_ms: u64) {
        let since_ms = self.tasks.get(&task).map_or(now_ms, |open| open.since_ms);
        self.tasks.insert(task, Open { since_ms, detail: detail.into() });
    }

    /// Whether a notification or an answer can be about this payment.
    pub fn fits(&self, reference: &str, amount: &Money) -> bool {
        (self.reference.is_empty() || self.reference == reference) && *amount == self.captured()
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

    /// Whether a person should hear that the provider does not say what became of it, and has not.
    pub fn is_late(&self) -> bool {
        self.asked >= QUESTIONS_MAX && !self.tasks.contains_key(&Task::WithoutNews)
    }

    /// Whether a shopper may have the provider asked, who answers so many questions
    /// and no more: what is asked too often is answered with what is known.
    pub fn take_question(&mut self, now_ms: u64) -> bool {
        if now_ms >= self.questions_since_ms.saturating_add(SHOPPERS_QUESTIONS_MS) {
            (self.questions, self.questions_since_ms) = (0, now_ms);
        }
        let may_ask = self.questions < SHOPPERS_QUESTIONS_MAX;
        self.questions += u32::from(may_ask);
        may_ask
    }

    /// Asks less and less often.
    pub fn ask_later(&mut self, now_ms: u64) {
        self.asked = self.asked.saturating_add(1);
        self.ask_ms = now_ms + (FIRST_QUESTION_MS << self.asked.min(16)).min(LAST_QUESTION_MS);
        if let Some(again_ms) = self.refund.as_ref().and_then(|refund| refund.again_ms) {
            self.ask_ms = self.ask_ms.min(again_ms.max(now_ms + FIRST_QUESTION_MS));
        }
    }
}
