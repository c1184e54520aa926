//! Sums of money for people: the smallest unit and an ISO 4217 code, as
//! `12.50 CNY`.

/// Currencies without two decimals, by ISO 4217.
const DECIMALS: [(usize, &[&str]); 2] = [
    (0, &["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"]),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
];

fn decimals(currency: &str) -> usize {
    DECIMALS.iter().find(|(_, codes)| codes.contains(&currency)).map_or(2, |(decimals, _)| *decimals)
}

/// An amount as people write it, without a sign and a symbol: in the smallest unit.
pub fn parse(text: &str, currency: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let is_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = decimals(currency);
    if !is_digits(whole) || !part.is_none_or(|part| is_digits(part) && part.len() <= decimals) {
        return None;
    }
    format!("{whole}{:0<decimals$}", part.unwrap_or_default()).parse().ok()
}

pub fn decimal(amount: i64, currency: &str) -> String {
    let decimals = decimals(currency);
    let digits = format!("{:0>width$}", amount.unsigned_abs(), width = decimals + 1);
    let (whole, part) = digits.split_at(digits.len() - decimals);
    let sign = if amount < 0 { "-" } else { "" };
    let point = if decimals > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{part} {currency}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_amount_is_read_as_it_is_written() {
        for (text, currency, amount) in [
            ("12.50", "CNY", Some(1250)),
            ("12.5", "CNY", Some(1250)),
            ("12", "CNY", Some(1200)),
            ("12.505", "CNY", None),
            ("300", "JPY", Some(300)),
            ("300.0", "JPY", None),
            ("0.001", "KWD", Some(1)),
            ("-1", "CNY", None),
            ("¥3", "CNY", None),
            ("1,000", "CNY", None),
            (".5", "CNY", None),
            ("5.", "CNY", None),
            ("", "CNY", None),
            ("99999999999999999999", "CNY", None),
        ] {
            assert_eq!(super::parse(text, currency), amount, "{text} {currency}");
        }
    }

    #[test]
    fn each_currency_has_its_decimals() {
        for (amount, currency, shown) in [(1250, "CNY", "12.50 CNY"), (-5, "EUR", "-0.05 EUR"), (300, "JPY", "300 JPY"), (1, "KWD", "0.001 KWD"), (i64::MIN, "CNY", "-92233720368547758.08 CNY")] {
            assert_eq!(super::decimal(amount, currency), shown);
        }
    }
}
