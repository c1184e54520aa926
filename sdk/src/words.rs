//! Errors of the host in words, for whoever reads them: an operator in `souk dead list`, a plugin's log.

use crate::{crypto, data, effects, events, http, jobs, storage};

/// What an error says, without the names that programs have for it.
///
/// ```
/// # use souk_sdk::{InWords, effects};
/// assert_eq!(effects::Error::NoTarget("no plugin `pay`".into()).in_words(), "no plugin `pay`");
/// ```
pub trait InWords {
    /// One sentence, or a part of one.
    fn in_words(&self) -> String;
}

const READ_ONLY: &str = "nothing may be written here";

impl InWords for http::Error {
    fn in_words(&self) -> String {
        match self {
            Self::Invalid(why) | Self::NotGranted(why) | Self::Failed(why) | Self::Quota(why) => why.clone(),
            Self::AfterWrite => "something was written before: web requests come first, or as an effect".into(),
            Self::Timeout => "no answer came in time".into(),
            Self::TooLarge => "the answer is too large".into(),
        }
    }
}

impl InWords for effects::Error {
    fn in_words(&self) -> String {
        match self {
            Self::Invalid(why) | Self::NoTarget(why) | Self::Quota(why) => why.clone(),
            Self::ReadOnly => READ_ONLY.into(),
        }
    }
}

impl InWords for events::Error {
    fn in_words(&self) -> String {
        match self {
            Self::Invalid(why) | Self::Quota(why) => why.clone(),
            Self::ReadOnly => READ_ONLY.into(),
        }
    }
}

impl InWords for jobs::Error {
    fn in_words(&self) -> String {
        match self {
            Self::Invalid(why) | Self::Quota(why) => why.clone(),
            Self::ReadOnly => READ_ONLY.into(),
        }
    }
}

impl InWords for storage::Error {
    fn in_words(&self) -> String {
        match self {
            Self::Invalid(why) | Self::Quota(why) | Self::Unavailable(why) => why.clone(),
            Self::BelowFloor(now) => format!("the counter would fall below its floor; it is {now} now"),
            Self::ReadOnly => READ_ONLY.into(),
        }
    }
}

impl InWords for crypto::Error {
    fn in_words(&self) -> String {
        match self {
            Self::Invalid(why) => why.clone(),
            Self::NotAuthentic => "it was changed, or sealed under another key".into(),
        }
    }
}

impl InWords for data::Error {
    fn in_words(&self) -> String {
        match self {
            Self::Quota(why) | Self::Unavailable(why) => why.clone(),
        }
    }
}
