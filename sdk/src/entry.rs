//! What people type, made plain before it is judged: the same rules for every
//! form, for the cart and for the checkout.
//!
//! Input methods for Chinese and Japanese write full-width digits and letters,
//! phones are written with dots, blanks and brackets, and what is pasted holds
//! characters that nobody sees. None of that is a mistake.
//!
//! ```
//! use souk_sdk::entry;
//!
//! assert_eq!(entry::phone("０９０－１２３４－５６７８", "JP"), "090-1234-5678");
//! assert_eq!(entry::phone("+86 138 0013 8000", "CN"), "13800138000");
//! assert_eq!(entry::postal_code("〒１００ー０００１", "154-0023"), "100-0001");
//! assert_eq!(entry::email(" Li.Lei＠Shop.Example "), "Li.Lei@shop.example");
//! ```

use crate::commerce::types::FieldError;

/// Where the digits of other scripts begin: Arabic, Persian, Devanagari, Bengali, Thai.
const ZEROS: [u32; 5] = [0x0660, 0x06f0, 0x0966, 0x09e6, 0x0e50];
/// Digits of a Chinese mobile phone; the first one is 1.
const CHINESE_MOBILE_DIGITS: usize = 11;

fn is_invisible(character: char) -> bool {
    // The joiners U+200C and U+200D are letters of some scripts.
    character.is_control() || matches!(character, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_dash(character: char) -> bool {
    matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2500}' | '\u{30fc}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' | '\u{ff70}')
}

/// A full-width sign as its plain one, a digit of any script as a plain digit.
fn narrow(character: char) -> char {
    let code = character as u32;
    if (0xff01..=0xff5e).contains(&code) {
        return char::from_u32(code - 0xfee0).unwrap_or(character);
    }
    let digit = ZEROS.iter().find_map(|zero| code.checked_sub(*zero).filter(|digit| *digit < 10));
    digit.and_then(|digit| char::from_digit(digit, 10)).unwrap_or(character)
}

/// One line of text, such as a name or a street: blanks at its ends and
/// characters that nobody sees are left out, several blanks become one, and
/// full-width letters and digits plain ones. Other signs stay as they are.
pub fn line(typed: &str) -> String {
    let mut plain = String::with_capacity(typed.len());
    let mut characters = typed.chars().filter(|character| !is_invisible(*character) || character.is_whitespace()).peekable();
    while let Some(character) = characters.next() {
        let narrowed = narrow(character);
        let follows_digit = plain.ends_with(|last: char| last.is_ascii_alphanumeric());
        if character.is_whitespace() {
            if !plain.is_empty() && !plain.ends_with(' ') {
                plain.push(' ');
            }
        } else if narrowed.is_ascii_alphanumeric() {
            plain.push(narrowed);
        } else if is_dash(character) && follows_digit && characters.peek().is_some_and(|next| narrow(*next).is_ascii_digit()) {
            plain.push('-');
        } else {
            plain.push(character);
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// Text that is made of letters, digits and signs alone: all of it plain, with
/// every kind of hyphen as `-`, and without blanks at its ends.
pub fn plain(typed: &str) -> String {
    let visible = typed.chars().filter(|character| !is_invisible(*character) || character.is_whitespace());
    let plain: String = visible
        .map(|character| match character {
            dash if is_dash(dash) => '-',
            blank if blank.is_whitespace() => ' ',
            '。' | '｡' => '.',
            other => narrow(other),
        })
        .collect();
    plain.trim().to_owned()
}

/// Groups of digits joined by hyphens, after a `+` if there was one. A mobile
/// phone of mainland China is its eleven digits. What has letters or other
/// signs stays as it is, to be refused by who knows its field.
pub fn phone(typed: &str, country: &str) -> String {
    let plain = plain(typed);
    let is_separator = |character: char| matches!(character, ' ' | '-' | '.' | '/' | '(' | ')' | '[' | ']' | '·');
    let (plus, rest) = match plain.strip_prefix('+') {
        Some(rest) => ("+", rest),
        None => ("", plain.as_str()),
    };
    if !rest.chars().all(|character| character.is_ascii_digit() || is_separator(character)) {
        return plain;
    }
    let groups: Vec<&str> = rest.split(is_separator).filter(|group| !group.is_empty()).collect();
    if country == "CN" {
        let digits = groups.concat();
        let is_mobile = |digits: &&str| digits.len() == CHINESE_MOBILE_DIGITS && digits.starts_with('1');
        let mobile = if plus.is_empty() { Some(digits.as_str()).filter(is_mobile) } else { None };
        let abroad = || digits.trim_start_matches("00").strip_prefix("86").filter(is_mobile);
        if let Some(mobile) = mobile.or_else(abroad) {
            return mobile.to_owned();
        }
    }
    format!("{plus}{}", groups.join("-"))
}

/// The digits of a phone number, to tell whether two are the same.
pub fn digits(typed: &str) -> String {
    plain(typed).chars().filter(char::is_ascii_digit).collect()
}

/// Without blanks, and its domain in lower case.
pub fn email(typed: &str) -> String {
    let plain: String = plain(typed).chars().filter(|character| *character != ' ').collect();
    match plain.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
        None => plain,
    }
}

/// Domains whose mailboxes ignore dots, and the one they all are.
const DOTLESS: [(&str, &str); 2] = [("gmail.com", "gmail.com"), ("googlemail.com", "gmail.com")];

/// Whose mailbox an address leads to, for limits per customer: addresses that
/// differ by letter case, by a `+tag`, or by dots where the domain ignores them,
/// are one. Never written to: mail goes to the address as it was typed.
///
/// ```
/// use souk_sdk::entry;
///
/// assert_eq!(entry::mailbox("Li.Lei+tea@GoogleMail.com"), "lilei@gmail.com");
/// assert_eq!(entry::mailbox("Li.Lei+tea@Shop.example"), "li.lei@shop.example");
/// ```
pub fn mailbox(typed: &str) -> String {
    let address = email(typed).to_lowercase();
    let Some((local, domain)) = address.rsplit_once('@') else { return address };
    let domain = domain.trim_end_matches('.');
    let dotless = DOTLESS.iter().find(|(known, _)| *known == domain).map(|(_, domain)| *domain);
    // An address that begins with the sign has no name before its tag.
    let named = local.split_once('+').map(|(name, _)| name).filter(|name| !name.is_empty()).unwrap_or(local);
    let plain = dotless.map(|_| named.replace('.', "")).filter(|plain| !plain.is_empty());
    format!("{}@{}", plain.as_deref().unwrap_or(named), dotless.unwrap_or(domain))
}

/// A coupon's code: in capitals, as codes are compared without regard to case.
pub fn code(typed: &str) -> String {
    plain(typed).to_uppercase()
}

/// In capitals, without `〒`. Where `example` has as many letters and digits in
/// the same places, its hyphens and blanks are put where they belong.
pub fn postal_code(typed: &str, example: &str) -> String {
    let plain = plain(typed).to_uppercase();
    let plain = plain.trim_start_matches(['〒', ' ']).trim();
    let signs: Vec<char> = plain.chars().filter(char::is_ascii_alphanumeric).collect();
    let separated = |character: char| matches!(character, ' ' | '-' | '.');
    let shape = example.chars().filter(char::is_ascii_alphanumeric);
    let alike = shape.clone().count() == signs.len() && shape.zip(&signs).all(|(known, given)| known.is_ascii_digit() == given.is_ascii_digit());
    if !alike || signs.is_empty() || !plain.chars().all(|character| character.is_ascii_alphanumeric() || separated(character)) {
        return plain.to_owned();
    }
    let mut signs = signs.into_iter();
    example.chars().filter_map(|known| if known.is_ascii_alphanumeric() { signs.next() } else { Some(known) }).collect()
}


/// What is wrong with a field, in the reader's language: for codes that mean
/// the same in every field. Services that are not told the language use the
/// shop's, and who shows it says it again by this.
pub fn mistake(field: &str, code: &str, locale: &str) -> FieldError {
    let last = field.rsplit(['.', '/']).next().unwrap_or(field);
    let (en, zh) = match (last, code) {
        ("code", "required") => ("Enter the code as it was given to you.", "请输入您收到的优惠码。"),
        ("code", "later") => ("Too many codes were tried. Try again later.", "尝试次数过多，请稍后再试。"),
        ("code", _) => ("This is longer than any code. Enter it as it was given to you.", "优惠码过长，请按收到的内容输入。"),
        ("shipping-method", _) => ("Choose one of the delivery methods offered.", "请选择所提供的配送方式之一。"),
        ("country", _) => ("Choose a country from the list.", "请从列表中选择国家或地区。"),
        ("lines", _) => ("Reduce the quantities in the cart.", "请减少购物车中的商品数量。"),
        (_, "later") => ("This was changed too often. Try again later.", "修改过于频繁，请稍后再试。"),
        (_, "required") => ("Fill this in.", "请填写此项。"),
        (_, "too-long") => ("Shorten this entry.", "请缩短此项内容。"),
        _ => ("Check this entry.", "请检查此项内容。"),
    };
    let message = if locale.starts_with("zh") { zh } else { en };
    FieldError { field: field.into(), code: code.into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn phones_are_groups_of_plain_digits() {
        for (typed, country, plain) in [
            ("０９０－１２３４－５６７８", "JP", "090-1234-5678"),
            ("090ー1234ー5678", "JP", "090-1234-5678"),
            (" 138 0013 8000 ", "CN", "13800138000"),
            ("+86-138-0013-8000", "CN", "13800138000"),
            ("＋８６ 13800138000", "CN", "13800138000"),
            ("008613800138000", "CN", "13800138000"),
            ("8613800138000", "CN", "13800138000"),
            ("(010) 6552.9988", "CN", "010-6552-9988"),
            ("（０１０）６５５２９９８８", "CN", "010-65529988"),
            ("+1 (408) 996.1010", "US", "+1-408-996-1010"),
            ("+81\u{a0}90 1234 5678", "JP", "+81-90-1234-5678"),
            ("٠٩١٢٣٤٥٦٧", "AE", "091234567"),
            ("call me", "CN", "call me"),
            ("", "CN", ""),
        ] {
            assert_eq!(phone(typed, country), plain, "{typed}");
        }
    }

    #[test]
    fn postal_codes_have_the_shape_of_their_country() {
        for (typed, example, plain) in [
            ("１００－０００１", "154-0023", "100-0001"),
            ("〒100-0001", "154-0023", "100-0001"),
            ("1000001", "154-0023", "100-0001"),
            ("310013", "266033", "310013"),
            ("h3z 2y7", "H3Z 2Y7", "H3Z 2Y7"),
            ("h3z2y7", "H3Z 2Y7", "H3Z 2Y7"),
            ("sw1a 1aa", "EC1Y 8SY", "SW1A 1AA"),
            ("95014-1234", "95014", "95014-1234"),
            ("12", "266033", "12"),
            ("", "266033", ""),
        ] {
            assert_eq!(postal_code(typed, example), plain, "{typed}");
        }
    }

    #[test]
    fn lines_keep_their_words_and_signs() {
        for (typed, plain) in [
            ("千代田区千代田１－１", "千代田区千代田1-1"),
            ("　龙井路　　１号（后门） ", "龙井路 1号（后门）"),
            ("パーク・タワー１０１", "パーク・タワー101"),
            ("a\u{200b}b\tc\nd", "ab c d"),
            ("O’Connor – Smith", "O’Connor – Smith"),
        ] {
            assert_eq!(line(typed), plain, "{typed}");
        }
        assert_eq!(email(" Li.Lei＠Shop.Example "), "Li.Lei@shop.example");
        assert_eq!(code(" ｔｅａtime "), "TEATIME");
    }

    #[test]
    fn one_mailbox_is_one_customer_however_its_address_is_written() {
        for (typed, mailbox_) in [
            (" Li.Lei＠Shop.Example ", "li.lei@shop.example"),
            ("li.lei+1@shop.example", "li.lei@shop.example"),
            ("lilei@shop.example", "lilei@shop.example"),
            ("L.i.Lei+2+3@gmail.com", "lilei@gmail.com"),
            ("lilei@GOOGLEMAIL.com", "lilei@gmail.com"),
            ("+1@shop.example", "+1@shop.example"),
            ("...@gmail.com", "...@gmail.com"),
            ("nobody", "nobody"),
            ("", ""),
        ] {
            assert_eq!(mailbox(typed), mailbox_, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn tidying_twice_changes_nothing(typed in "\\PC{0,40}") {
            prop_assert_eq!(line(&line(&typed)), line(&typed));
            prop_assert_eq!(plain(&plain(&typed)), plain(&typed));
            prop_assert_eq!(email(&email(&typed)), email(&typed));
            prop_assert_eq!(mailbox(&mailbox(&typed)), mailbox(&typed));
            prop_assert_eq!(phone(&phone(&typed, "CN"), "CN"), phone(&typed, "CN"));
            prop_assert_eq!(postal_code(&postal_code(&typed, "154-0023"), "154-0023"), postal_code(&typed, "154-0023"));
        }
    }
}
