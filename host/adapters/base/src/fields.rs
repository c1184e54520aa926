//! Headers: names in lower case, checked when they are set.

use std::cell::RefCell;

use crate::exports::wasi::http::types::{FieldName, FieldValue, Fields, GuestFields, HeaderError};

/// Set by the host, or belonging to one hop.
const FORBIDDEN: [&str; 11] = [
    "connection",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub type Entries = Vec<(FieldName, FieldValue)>;

pub struct Headers {
    entries: RefCell<Entries>,
    mutable: bool,
}

impl Headers {
    pub fn new(entries: Entries) -> Self {
        Self { entries: RefCell::new(entries), mutable: true }
    }

    pub fn frozen(entries: Entries) -> Self {
        Self { entries: RefCell::new(entries), mutable: false }
    }

    pub fn into_entries(self) -> Entries {
        self.entries.into_inner()
    }

    fn change(&self, name: &str, values: &[FieldValue]) -> Result<String, HeaderError> {
        if !self.mutable {
            return Err(HeaderError::Immutable);
        }
        allowed(name, values)
    }
}

/// The name as it is kept.
fn allowed(name: &str, values: &[FieldValue]) -> Result<String, HeaderError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if name.is_empty() || !name.bytes().all(is_token) || !values.iter().flatten().all(is_text) {
        return Err(HeaderError::InvalidSyntax);
    }
    let name = name.to_ascii_lowercase();
    if FORBIDDEN.contains(&name.as_str()) { Err(HeaderError::Forbidden) } else { Ok(name) }
}

impl GuestFields for Headers {
    fn new() -> Self {
        Self::new(Entries::new())
    }

    fn from_list(entries: Entries) -> Result<Fields, HeaderError> {
        let entries = entries.into_iter().map(|(name, value)| Ok((allowed(&name, std::slice::from_ref(&value))?, value)));
        Ok(Fields::new(Self::new(entries.collect::<Result<_, _>>()?)))
    }

    fn get(&self, name: FieldName) -> Vec<FieldValue> {
        let entries = self.entries.borrow();
        entries.iter().filter(|(known, _)| known.eq_ignore_ascii_case(&name)).map(|(_, value)| value.clone()).collect()
    }

    fn has(&self, name: FieldName) -> bool {
        self.entries.borrow().iter().any(|(known, _)| known.eq_ignore_ascii_case(&name))
    }

    fn set(&self, name: FieldName, values: Vec<FieldValue>) -> Result<(), HeaderError> {
        let name = self.change(&name, &values)?;
        let mut entries = self.entries.borrow_mut();
        entries.retain(|(known, _)| *known != name);
        entries.extend(values.into_iter().map(|value| (name.clone(), value)));
        Ok(())
    }

    fn delete(&self, name: FieldName) -> Result<(), HeaderError> {
        self.set(name, Vec::new())
    }

    fn append(&self, name: FieldName, value: FieldValue) -> Result<(), HeaderError> {
        let name = self.change(&name, std::slice::from_ref(&value))?;
        self.entries.borrow_mut().push((name, value));
        Ok(())
    }

    fn entries(&self) -> Entries {
        self.entries.borrow().clone()
    }

    fn clone(&self) -> Fields {
        Fields::new(Self::new(self.entries.borrow().clone()))
    }
}
