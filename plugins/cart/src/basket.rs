//! What is stored of a cart, and the changes to it. Knows no other service, no
//! price and no storage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::cart::{Contact, Error};
use souk_sdk::commerce::types::{Address, FieldError};
use souk_sdk::entry;
use souk_sdk::money::Money;

pub const QUANTITY_MAX: u32 = 999;
pub const LINES_MAX: usize = 200;
pub const CODES_MAX: usize = 10;
const CODE_CHARS_MAX: usize = 64;
const FIELD_CHARS_MAX: usize = 256;
/// The longest address that mail can be sent to (RFC 5321).
const EMAIL_CHARS_MAX: usize = 254;
const PHONE_CHARS_MAX: usize = 40;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Basket {
    pub lines: Vec<Line>,
    #[serde(default)]
    pub codes: Vec<String>,
    /// What each code took off when that was last said to the shopper.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken_off: BTreeMap<String, Money>,
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
    /// Of one piece, when the shopper last chose how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
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

    /// 0 removes the line. `price` is that of one piece now.
    pub fn set(&mut self, sku: &str, quantity: u32, price: Option<Money>) {
        match self.lines.iter_mut().find(|line| line.sku == sku) {
            _ if quantity == 0 => self.lines.retain(|line| line.sku != sku),
            Some(line) => (line.quantity, line.price) = (quantity, price),
            None => self.lines.push(Line { sku: sku.into(), quantity, price }),
        }
    }

    pub fn add_code(&mut self, code: &str, locale: &str) -> Result<(), Error> {
        let code = entry::code(code);
        if code.is_empty() || code.chars().count() > CODE_CHARS_MAX {
            return Err(invalid("code", if code.is_empty() { "required" } else { "too-long" }, locale));
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
        let code = entry::code(code);
        self.codes.retain(|held| *held != code);
        self.taken_off.remove(&code);
    }
}

/// Who a buyer is for limits per customer.
pub fn customer(contact: &Contact) -> Option<String> {
    let email = contact.email.trim().to_lowercase();
    (!email.is_empty()).then_some(email)
}

pub fn tidy_contact(contact: &Contact) -> Contact {
    Contact { email: entry::email(&contact.email), phone: entry::phone(&contact.phone, "") }
}

/// What is plain in every country; its own shapes are known to the checkout.
pub fn tidy_address(address: &Address) -> Address {
    let country = entry::plain(&address.country).to_ascii_uppercase();
    Address {
        name: entry::line(&address.name),
        phone: entry::phone(&address.phone, &country),
        company: entry::line(&address.company),
        region: entry::line(&address.region),
        city: entry::line(&address.city),
        district: entry::line(&address.district),
        street: entry::line(&address.street),
        postal_code: entry::postal_code(&address.postal_code, ""),
        country,
    }
}

/// Only lengths: what a country's address needs is known to the checkout.
pub fn check_contact(contact: &Contact, locale: &str) -> Result<(), Error> {
    let limits = [("contact.email", &contact.email, EMAIL_CHARS_MAX), ("contact.phone", &contact.phone, PHONE_CHARS_MAX)];
    check_lengths(limits.into_iter().map(|(field, value, max)| (field.to_owned(), value, max)), locale)
}

pub fn check_address(prefix: &str, address: &Address, locale: &str) -> Result<(), Error> {
    if address.country.len() != 2 || !address.country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid(&format!("{prefix}.country"), "unknown", locale));
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
    check_lengths(fields.into_iter().map(|(name, value)| (format!("{prefix}.{name}"), value, FIELD_CHARS_MAX)), locale)
}

fn check_lengths<'a>(fields: impl Iterator<Item = (String, &'a String, usize)>, locale: &str) -> Result<(), Error> {
    let too_long = fields.filter(|(_, value, max)| value.chars().count() > *max).map(|(field, ..)| entry::mistake(&field, "too-long", locale));
    let errors: Vec<FieldError> = too_long.collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
}

pub fn invalid(field: &str, code: &str, locale: &str) -> Error {
    Error::Invalid(vec![entry::mistake(field, code, locale)])
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
                        basket.set(&sku, quantity, None);
                    }
                } else if let Ok(after) = basket.quantity_after_adding(&sku, quantity) {
                    basket.set(&sku, after, None);
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
        basket.set("A", 998, None);
        assert_eq!(basket.quantity_after_adding("A", 1), Ok(999));
        assert_eq!(basket.quantity_after_adding("A", 2), Err(Error::InvalidQuantity(1_000)));
    }

    #[test]
    fn a_code_is_held_once_whatever_its_case_and_ten_at_most() {
        let mut basket = Basket::default();
        basket.add_code(" once ", "en").unwrap();
        basket.add_code("ＯＮＣＥ", "en").unwrap();
        assert_eq!(basket.codes, ["ONCE"]);
        for code in 1..10 {
            basket.add_code(&code.to_string(), "en").unwrap();
        }
        assert_eq!(basket.add_code("one-more", "en"), Err(Error::Full));
        assert!(matches!(basket.add_code("  ", "zh-CN"), Err(Error::Invalid(_))));
        basket.remove_code("once");
        assert_eq!(basket.codes.len(), 9);
    }
    #[test]
    fn entries_are_made_plain_and_measured_in_characters() {
        let contact = tidy_contact(&Contact { email: " a＠Shop.example".into(), phone: "０９０ １２３４".into() });
        assert_eq!((contact.email.as_str(), contact.phone.as_str()), ("a@shop.example", "090-1234"));
        let street = |text: String| Address {
            country: "cn".into(), name: "李雷".into(), phone: "+86 138 0013 8000".into(), company: String::new(), region: String::new(),
            city: String::new(), district: String::new(), street: text, postal_code: "〒１００".into(),
        };
        let tidied = tidy_address(&street("路".repeat(FIELD_CHARS_MAX)));
        assert_eq!((tidied.country.as_str(), tidied.phone.as_str(), tidied.postal_code.as_str()), ("CN", "13800138000", "100"));
        assert_eq!(check_address("shipping-address", &tidied, "zh-CN"), Ok(()));
        let too_long = tidy_address(&street("路".repeat(FIELD_CHARS_MAX + 1)));
        let Err(Error::Invalid(errors)) = check_address("shipping-address", &too_long, "zh-CN") else { panic!("too long") };
        assert_eq!((errors[0].field.as_str(), errors[0].message.as_str()), ("shipping-address.street", "请缩短此项内容。"));
    }
}
