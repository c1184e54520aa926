//! What is stored of a cart, and the changes to it. Knows no other service, no
//! price and no storage.

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::cart::{Contact, Error};
use souk_sdk::commerce::types::{Address, FieldError};

pub const QUANTITY_MAX: u32 = 999;
pub const LINES_MAX: usize = 200;
pub const CODES_MAX: usize = 10;
const CODE_BYTES_MAX: usize = 64;
const FIELD_BYTES_MAX: usize = 256;
/// The longest address that mail can be sent to (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;
const PHONE_BYTES_MAX: usize = 40;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Basket {
    pub lines: Vec<Line>,
    #[serde(default)]
    pub codes: Vec<String>,
    #[serde(default)]
    pub contact: Option<Contact>,
    #[serde(default)]
    pub shipping_address: Option<Address>,
    #[serde(default)]
    pub billing_address: Option<Address>,
    #[serde(default)]
    pub shipping_method: Option<String>,
    /// The order's token.
    #[serde(default)]
    pub completed: Option<String>,
    pub revision: u64,
    pub changed_ms: u64,
}

/// One for a sku, which is also the line's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub sku: String,
    pub quantity: u32,
}

impl Basket {
    pub fn open(&self) -> Result<(), Error> {
        self.completed.as_ref().map_or(Ok(()), |token| Err(Error::Completed(token.clone())))
    }

    pub fn item_count(&self) -> u32 {
        self.lines.iter().map(|line| line.quantity).sum()
    }

    pub fn quantity(&self, sku: &str) -> u32 {
        self.lines.iter().find(|line| line.sku == sku).map_or(0, |line| line.quantity)
    }

    /// What the line of this sku would hold after adding; checks the limits.
    pub fn quantity_after_adding(&self, sku: &str, quantity: u32) -> Result<u32, Error> {
        if quantity == 0 || quantity > QUANTITY_MAX {
            return Err(Error::InvalidQuantity(quantity));
        }
        match self.quantity(sku) {
            0 if self.lines.len() >= LINES_MAX => Err(Error::Full),
            held if held + quantity > QUANTITY_MAX => Err(Error::InvalidQuantity(held + quantity)),
            held => Ok(held + quantity),
        }
    }

    /// 0 removes the line.
    pub fn set(&mut self, sku: &str, quantity: u32) {
        match self.lines.iter_mut().find(|line| line.sku == sku) {
            _ if quantity == 0 => self.lines.retain(|line| line.sku != sku),
            Some(line) => line.quantity = quantity,
            None => self.lines.push(Line { sku: sku.into(), quantity }),
        }
    }

    pub fn add_code(&mut self, code: &str, locale: &str) -> Result<(), Error> {
        let code = code_key(code);
        if code.is_empty() || code.len() > CODE_BYTES_MAX {
            let (en, zh) = ("Enter the code as it was given to you.", "请输入您收到的优惠码。");
            return Err(invalid("code", if code.is_empty() { "required" } else { "too-long" }, locale, en, zh));
        }
        if self.codes.contains(&code) {
            return Ok(());
        }
        if self.codes.len() >= CODES_MAX {
            return Err(Error::Full);
        }
        self.codes.push(code);
        Ok(())
    }

    pub fn remove_code(&mut self, code: &str) {
        let code = code_key(code);
        self.codes.retain(|held| *held != code);
    }
}

/// Codes are compared without regard to case.
fn code_key(code: &str) -> String {
    code.trim().to_uppercase()
}

/// Who a buyer is for limits per customer.
pub fn customer(contact: &Contact) -> Option<String> {
    let email = contact.email.trim().to_lowercase();
    (!email.is_empty()).then_some(email)
}

/// Only lengths: what a country's address needs is known to the checkout.
pub fn check_contact(contact: &Contact, locale: &str) -> Result<(), Error> {
    let limits = [("contact.email", &contact.email, EMAIL_BYTES_MAX), ("contact.phone", &contact.phone, PHONE_BYTES_MAX)];
    check_lengths(limits.into_iter().map(|(field, value, max)| (field.to_owned(), value, max)), locale)
}

pub fn check_address(prefix: &str, address: &Address, locale: &str) -> Result<(), Error> {
    if address.country.len() != 2 || !address.country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let field = format!("{prefix}.country");
        return Err(invalid(&field, "unknown", locale, "Choose a country from the list.", "请从列表中选择国家或地区。"));
    }
    let fields = [
        ("name", &address.name),
        ("phone", &address.phone),
        ("company", &address.company),
        ("region", &address.region),
        ("city", &address.city),
        ("district", &address.district),
        ("street", &address.street),
        ("postal-code", &address.postal_code),
    ];
    check_lengths(fields.into_iter().map(|(name, value)| (format!("{prefix}.{name}"), value, FIELD_BYTES_MAX)), locale)
}

fn check_lengths<'a>(fields: impl Iterator<Item = (String, &'a String, usize)>, locale: &str) -> Result<(), Error> {
    let too_long = fields.filter(|(_, value, max)| value.len() > *max).map(|(field, ..)| {
        field_error(&field, "too-long", locale, "Shorten this entry.", "请缩短此项内容。")
    });
    let errors: Vec<FieldError> = too_long.collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
}

pub fn invalid(field: &str, code: &str, locale: &str, en: &str, zh: &str) -> Error {
    Error::Invalid(vec![field_error(field, code, locale, en, zh)])
}

fn field_error(field: &str, code: &str, locale: &str, en: &str, zh: &str) -> FieldError {
    let message = if locale.starts_with("zh") { zh } else { en };
    FieldError { field: field.into(), code: code.into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_sequence_of_changes_breaks_the_limits(
            changes in prop::collection::vec((0_usize..260, 0_u32..1_200, any::<bool>()), 0..500)
        ) {
            let mut basket = Basket::default();
            for (sku, quantity, adds) in changes {
                let sku = sku.to_string();
                if !adds {
                    if basket.quantity(&sku) > 0 && quantity <= QUANTITY_MAX {
                        basket.set(&sku, quantity);
                    }
                } else if let Ok(after) = basket.quantity_after_adding(&sku, quantity) {
                    basket.set(&sku, after);
                }
            }
            prop_assert!(basket.lines.len() <= LINES_MAX);
            prop_assert!(basket.lines.iter().all(|line| (1..=QUANTITY_MAX).contains(&line.quantity)));
            let mut skus: Vec<&str> = basket.lines.iter().map(|line| line.sku.as_str()).collect();
            skus.sort_unstable();
            skus.dedup();
            prop_assert_eq!(skus.len(), basket.lines.len(), "one line a sku");
        }
    }

    #[test]
    fn quantities_outside_the_limits_are_refused() {
        let mut basket = Basket::default();
        for quantity in [0, 1_000, u32::MAX] {
            assert_eq!(basket.quantity_after_adding("A", quantity), Err(Error::InvalidQuantity(quantity)));
        }
        basket.set("A", 998);
        assert_eq!(basket.quantity_after_adding("A", 1), Ok(999));
        assert_eq!(basket.quantity_after_adding("A", 2), Err(Error::InvalidQuantity(1_000)));
    }

    #[test]
    fn a_code_is_held_once_whatever_its_case_and_ten_at_most() {
        let mut basket = Basket::default();
        basket.add_code(" once ", "en").unwrap();
        basket.add_code("ONCE", "en").unwrap();
        assert_eq!(basket.codes, ["ONCE"]);
        for code in 1..10 {
            basket.add_code(&code.to_string(), "en").unwrap();
        }
        assert_eq!(basket.add_code("one-more", "en"), Err(Error::Full));
        assert!(matches!(basket.add_code("  ", "zh-CN"), Err(Error::Invalid(_))));
        basket.remove_code("once");
        assert_eq!(basket.codes.len(), 9);
    }
}
