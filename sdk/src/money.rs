//! Amounts of money: minor units of one currency, checked for overflow and
//! mixing, rounded half to even in one place.

use std::fmt;

pub use crate::bindings::commerce::types::Money;

/// Why there is no sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoneyError {
    /// The amount does not fit in 64 bits.
    Overflow,
    /// Two currencies in one sum.
    Mixed(String, String),
    /// A ratio with a denominator that is not positive, or shares that sum to 0.
    Ratio,
    /// Not an amount of this currency; holds what was entered.
    Unreadable(String),
}

impl fmt::Display for MoneyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow => write!(out, "amount too large"),
            Self::Mixed(a, b) => write!(out, "{a} and {b} in one sum"),
            Self::Ratio => write!(out, "ratio without a positive denominator"),
            Self::Unreadable(text) => write!(out, "`{text}` is not an amount"),
        }
    }
}

impl std::error::Error for MoneyError {}

/// Digits after the decimal point (ISO 4217).
pub fn exponent(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// `amount × numerator ÷ denominator`, half to even. The only rounding of money.
///
/// ```
/// # use souk_sdk::money::mul_ratio;
/// assert_eq!(mul_ratio(5, 1, 2), Ok(2));
/// assert_eq!(mul_ratio(7, 1, 2), Ok(4));
/// assert_eq!(mul_ratio(-5, 1, 2), Ok(-2));
/// ```
pub fn mul_ratio(amount: i64, numerator: i64, denominator: i64) -> Result<i64, MoneyError> {
    if denominator <= 0 {
        return Err(MoneyError::Ratio);
    }
    let (product, denominator) = (i128::from(amount) * i128::from(numerator), i128::from(denominator));
    let (quotient, remainder) = (product.div_euclid(denominator), product.rem_euclid(denominator));
    let up = match (remainder * 2).cmp(&denominator) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => quotient & 1,
        std::cmp::Ordering::Greater => 1,
    };
    i64::try_from(quotient + up).map_err(|_| MoneyError::Overflow)
}

/// Splits an amount in proportion to shares so that the parts sum to it
/// exactly: each gets its part rounded towards zero, and what is left goes, unit
/// by unit, to the parts that lost most (the first of equals).
///
/// ```
/// # use souk_sdk::money::allocate;
/// assert_eq!(allocate(100, &[1, 1, 1]), Ok(vec![34, 33, 33]));
/// assert_eq!(allocate(-100, &[1, 1, 1]), Ok(vec![-34, -33, -33]));
/// ```
pub fn allocate(amount: i64, shares: &[u64]) -> Result<Vec<i64>, MoneyError> {
    let total: u128 = shares.iter().map(|&share| u128::from(share)).sum();
    if total == 0 {
        return Err(MoneyError::Ratio);
    }
    let magnitude = u128::from(amount.unsigned_abs());
    let mut parts: Vec<u128> = Vec::with_capacity(shares.len());
    let mut lost: Vec<(u128, usize)> = Vec::with_capacity(shares.len());
    for (place, &share) in shares.iter().enumerate() {
        // Both factors are below 2^64.
        let product = magnitude * u128::from(share);
        parts.push(product / total);
        lost.push((product % total, place));
    }
    lost.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    // Fewer than the parts with a remainder, which is below 1 for each.
    let left = magnitude - parts.iter().sum::<u128>();
    for &(_, place) in lost.iter().take(left as usize) {
        parts[place] += 1;
    }
    // No part exceeds the whole, so it fits with the same sign.
    Ok(parts.into_iter().map(|part| (part as i128 * i128::from(amount.signum())) as i64).collect())
}

impl Money {
    /// Of an amount in minor units and an ISO 4217 code.
    pub fn new(amount: i64, currency: impl Into<String>) -> Self {
        Self { amount, currency: currency.into() }
    }

    /// Nothing, in this currency.
    pub fn zero(currency: impl Into<String>) -> Self {
        Self::new(0, currency)
    }

    /// The sum, of one currency alone.
    pub fn add(&self, other: &Self) -> Result<Self, MoneyError> {
        self.with(other, i64::checked_add)
    }

    /// The difference, which may be negative.
    pub fn sub(&self, other: &Self) -> Result<Self, MoneyError> {
        self.with(other, i64::checked_sub)
    }

    /// A unit price times a quantity.
    pub fn times(&self, quantity: i64) -> Result<Self, MoneyError> {
        let amount = self.amount.checked_mul(quantity).ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, &self.currency))
    }

    /// See [`mul_ratio`].
    pub fn mul_ratio(&self, numerator: i64, denominator: i64) -> Result<Self, MoneyError> {
        Ok(Self::new(mul_ratio(self.amount, numerator, denominator)?, &self.currency))
    }

    /// See [`allocate`].
    pub fn allocate(&self, shares: &[u64]) -> Result<Vec<Self>, MoneyError> {
        Ok(allocate(self.amount, shares)?.into_iter().map(|amount| Self::new(amount, &self.currency)).collect())
    }

    /// The sum, zero for none; all must be in `currency`.
    pub fn sum<'a>(currency: &str, amounts: impl IntoIterator<Item = &'a Self>) -> Result<Self, MoneyError> {
        amounts.into_iter().try_fold(Self::zero(currency), |sum, amount| sum.add(amount))
    }

    /// As a reader of the locale (BCP 47) expects it.
    ///
    /// ```
    /// # use souk_sdk::Money;
    /// assert_eq!(Money::new(123_450, "CNY").format("zh-CN"), "¥1,234.50");
    /// assert_eq!(Money::new(123_450, "CNY").format("en"), "CN¥1,234.50");
    /// assert_eq!(Money::new(-5, "USD").format("en"), "-$0.05");
    /// assert_eq!(Money::new(1234, "JPY").format("ja"), "¥1,234");
    /// assert_eq!(Money::new(1_234_567, "KWD").format("de"), "1.234,567\u{a0}KWD");
    /// ```
    pub fn format(&self, locale: &str) -> String {
        let language = locale.split(['-', '_']).next().unwrap_or_default();
        let (group, point, symbol_last) = match language {
            "de" | "es" | "it" | "nl" | "pt" | "id" | "tr" => (".", ",", true),
            "fr" | "ru" | "pl" | "uk" | "sv" | "cs" => ("\u{202f}", ",", true),
            _ => (",", ".", false),
        };
        let sign = if self.amount < 0 { "-" } else { "" };
        let number = number(self.amount.unsigned_abs(), exponent(&self.currency), group, point);
        let symbol = symbol(&self.currency, language);
        let is_code = symbol.len() == 3 && symbol.is_ascii();
        match (symbol_last, is_code) {
            (true, _) => format!("{sign}{number}\u{a0}{symbol}"),
            (false, true) => format!("{sign}{symbol}\u{a0}{number}"),
            (false, false) => format!("{sign}{symbol}{number}"),
        }
    }

    /// `1234.50` without symbol or grouping, as APIs, CSV and `schema.org` want it.
    pub fn to_decimal(&self) -> String {
        let sign = if self.amount < 0 { "-" } else { "" };
        format!("{sign}{}", number(self.amount.unsigned_abs(), exponent(&self.currency), "", "."))
    }

    /// Reads what [`Money::to_decimal`] writes. Refuses more digits than the currency has.
    pub fn from_decimal(text: &str, currency: &str) -> Result<Self, MoneyError> {
        let unreadable = || MoneyError::Unreadable(text.to_owned());
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let places = exponent(currency) as usize;
        let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !numeric(whole) || !numeric(fraction) || fraction.len() > places || digits.ends_with('.') {
            return Err(unreadable());
        }
        let minor = format!("{}{whole}{fraction:0<places$}", if negative { "-" } else { "" });
        minor.parse().map(|amount| Self::new(amount, currency)).map_err(|_| MoneyError::Overflow)
    }

    fn with(&self, other: &Self, operation: fn(i64, i64) -> Option<i64>) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed(self.currency.clone(), other.currency.clone()));
        }
        let amount = operation(self.amount, other.amount).ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, &self.currency))
    }
}

fn number(minor: u64, exponent: u32, group: &str, point: &str) -> String {
    let scale = 10_u64.pow(exponent);
    let whole = (minor / scale).to_string();
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            text.push_str(group);
        }
        text.push(digit);
    }
    if exponent > 0 {
        text += &format!("{point}{:0width$}", minor % scale, width = exponent as usize);
    }
    text
}

/// As CLDR has them, for the currencies whose code is not what people write.
fn symbol<'a>(currency: &'a str, language: &str) -> &'a str {
    match (currency, language) {
        ("CNY", "zh") | ("JPY", "ja" | "en") => "¥",
        ("CNY", "ja") => "元",
        ("CNY", _) => "CN¥",
        ("JPY", "zh") => "JP¥",
        ("JPY", _) => "¥",
        ("USD", "zh") => "US$",
        ("USD", _) => "$",
        ("EUR", _) => "€",
        ("GBP", _) => "£",
        ("KRW", _) => "₩",
        ("INR", _) => "₹",
        ("HKD", _) => "HK$",
        ("TWD", _) => "NT$",
        (code, _) => code,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_sum_to_the_whole_and_are_within_one_unit_of_their_share(
            amount: i64, shares in prop::collection::vec(0_u64.., 1..20)
        ) {
            prop_assume!(shares.iter().any(|&share| share > 0));
            let parts = allocate(amount, &shares).unwrap();
            prop_assert_eq!(parts.iter().map(|&part| i128::from(part)).sum::<i128>(), i128::from(amount));
            let total: u128 = shares.iter().map(|&share| u128::from(share)).sum();
            for (part, share) in parts.iter().zip(&shares) {
                let floor = u128::from(amount.unsigned_abs()) * u128::from(*share) / total;
                let part = u128::from(part.unsigned_abs());
                prop_assert!(part == floor || part == floor + 1);
                prop_assert!(*share > 0 || part == 0, "a part without a share got something");
            }
        }

        #[test]
        fn rounding_is_the_same_on_both_sides_of_zero(amount in -i64::MAX.., numerator in 0..1_000_000_i64, denominator in 1_000_000..2_000_000_i64) {
            prop_assert_eq!(
                mul_ratio(-amount, numerator, denominator).unwrap(),
                -mul_ratio(amount, numerator, denominator).unwrap()
            );
        }

        #[test]
        fn decimals_are_read_as_they_are_written(amount: i64, currency in prop::sample::select(vec!["CNY", "JPY", "KWD", "CLF"])) {
            let money = Money::new(amount, currency);
            prop_assert_eq!(Money::from_decimal(&money.to_decimal(), currency), Ok(money));
        }
    }

    #[test]
    fn sums_refuse_overflow_and_mixing() {
        let most = Money::new(i64::MAX, "CNY");
        assert_eq!(most.add(&Money::new(1, "CNY")), Err(MoneyError::Overflow));
        assert_eq!(most.times(2), Err(MoneyError::Overflow));
        assert!(matches!(most.add(&Money::new(1, "USD")), Err(MoneyError::Mixed(..))));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-", ".5", "1.", "1.234", "1,5", "1e3", "٣", "+1", "--1"] {
            assert!(Money::from_decimal(text, "CNY").is_err(), "{text}");
        }
    }
}
