//! Sums of money for people: the smallest unit and an ISO 4217 code, as
//! `12.50 CNY`.

/// Currencies without two decimals, by ISO 4217.
const DECIMALS: [(usize, &[&str]); 2] = [
    (0, &["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"]),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
];

pub fn decimal(amount: i64, currency: &str) -> String {
    let decimals = DECIMALS.iter().find(|(_, codes)| codes.contains(&currency)).map_or(2, |(decimals, _)| *decimals);
    let digits = format!("{:0>width$}", amount.unsigned_abs(), width = decimals + 1);
    let (whole, part) = digits.split_at(digits.len() - decimals);
    let sign = if amount < 0 { "-" } else { "" };
    let point = if decimals > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{part} {currency}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_currency_has_its_decimals() {
        for (amount, currency, shown) in [(1250, "CNY", "12.50 CNY"), (-5, "EUR", "-0.05 EUR"), (300, "JPY", "300 JPY"), (1, "KWD", "0.001 KWD"), (i64::MIN, "CNY", "-92233720368547758.08 CNY")] {
            assert_eq!(super::decimal(amount, currency), shown);
        }
    }
}
