//! Contact and address as a shopper enters them: the fields of a country, and
//! whether what was entered fits them. Pure.

use regex_lite::Regex;
use souk_sdk::commerce::cart::Contact;
use souk_sdk::commerce::checkout::{AddressField, Subdivision};
use souk_sdk::commerce::types::{Address, FieldError};
use souk_sdk::entry;

use crate::countries::{Country, Part};

const REGION: &str = "region";
const FIELD_CHARS_MAX: u32 = 100;
const EMAIL_CHARS_MAX: usize = 254;
/// Written so that it means the same in browsers (with their `v` flag) and here.
const PHONE_PATTERN: &str = r"\+?[0-9][0-9 \(\)\-]{5,19}";
const PHONE: &str = "Phone";
/// Where couriers do not set out without calling.
const PHONE_REQUIRED: [&str; 4] = ["CN", "HK", "MO", "TW"];

/// `Postal code` is `the postal code`; `ZIP code` and the like keep their capitals.
fn in_a_sentence(label: &str) -> String {
    if label == PHONE {
        return "the phone number".into();
    }
    let is_word = label.chars().nth(1).is_some_and(char::is_lowercase);
    let mut letters = label.chars();
    let first = letters.next().filter(|_| is_word).map(char::to_lowercase);
    first.map_or_else(|| format!("the {label}"), |first| format!("the {first}{}", letters.as_str()))
}

pub fn is_chinese(locale: &str) -> bool {
    locale.starts_with("zh")
}

pub fn fields(country: &Country, locale: &str) -> Vec<AddressField> {
    let chinese = is_chinese(locale);
    let mut fields = fields_without_subdivisions(country, chinese);
    if let Some(region) = fields.iter_mut().find(|field| field.name == REGION) {
        region.subdivisions = country.regions().map(|region| Subdivision { code: region.code.into(), name: region.name(chinese).into() }).collect();
    }
    fields
}

fn fields_without_subdivisions(country: &Country, chinese: bool) -> Vec<AddressField> {
    let plain = |name: &str, label: &str, required, pattern: &str, example: &str, autocomplete: &str| AddressField {
        name: name.into(),
        label: label.into(),
        required,
        pattern: pattern.into(),
        example: example.into(),
        autocomplete: autocomplete.into(),
        subdivisions: Vec::new(),
        length_max: FIELD_CHARS_MAX,
    };
    let say = |en: &'static str, zh: &'static str| if chinese { zh } else { en };
    let phone_example = if country.code == "CN" { "13800138000" } else { "" };
    let mut fields = vec![
        plain("name", say("Full name", "收货人姓名"), true, "", "", "name"),
        plain("phone", say(PHONE, "手机号码"), PHONE_REQUIRED.contains(&country.code), PHONE_PATTERN, phone_example, "tel"),
    ];
    for part in country.parts() {
        let required = country.requires(part);
        fields.push(match part {
            Part::Region => plain(REGION, region_label(country.region_word, chinese), required, "", "", "address-level1"),
            Part::City => plain("city", city_label(country.city_word, chinese), required, "", "", "address-level2"),
            Part::District => plain("district", district_label(country.district_word, chinese), required, "", "", "address-level3"),
            Part::Street => plain("street", say("Street and house number", "详细地址"), required, "", "", "street-address"),
            Part::PostalCode => {
                plain("postal-code", postal_label(country.postal_word, chinese), required, country.postal_pattern, country.postal_example, "postal-code")
            }
        });
    }
    fields.push(plain("company", say("Company", "公司名称"), false, "", "", "organization"));
    fields
}

fn region_label(word: &str, chinese: bool) -> &'static str {
    match (word, chinese) {
        ("state", false) => "State",
        ("island", false) => "Island",
        ("department", false) => "Department",
        ("parish", false) => "Parish",
        ("county", false) => "County",
        ("oblast", false) => "Oblast",
        ("emirate", false) => "Emirate",
        ("area", false) => "Area",
        ("prefecture", false) => "Prefecture",
        ("do_si", false) => "Province or city",
        ("district", false) => "District",
        (_, false) => "Province",
        ("state" | "oblast", true) => "州",
        ("island", true) => "岛屿",
        ("department", true) => "省",
        ("parish", true) => "教区",
        ("county", true) => "县市",
        ("emirate", true) => "酋长国",
        ("area", true) => "地区",
        ("prefecture", true) => "都道府县",
        ("do_si", true) => "道/市",
        ("district", true) => "区",
        (_, true) => "省份",
    }
}

fn city_label(word: &str, chinese: bool) -> &'static str {
    match (word, chinese) {
        ("post_town", false) => "Town",
        ("district", false) => "District",
        ("suburb", false) => "Suburb",
        (_, false) => "City",
        ("post_town", true) => "城镇",
        ("district", true) => "区",
        ("suburb", true) => "城区",
        (_, true) => "城市",
    }
}

fn district_label(word: &str, chinese: bool) -> &'static str {
    match (word, chinese) {
        ("district", false) => "District",
        ("neighborhood", false) => "Neighbourhood",
        ("village_township", false) => "Village or township",
        ("townland", false) => "Townland",
        (_, false) => "Suburb",
        ("village_township", true) => "乡镇",
        (_, true) => "区/县",
    }
}

fn postal_label(word: &str, chinese: bool) -> &'static str {
    match (word, chinese) {
        (_, true) => "邮政编码",
        ("zip", false) => "ZIP code",
        ("pin", false) => "PIN code",
        ("eircode", false) => "Eircode",
        (_, false) => "Postal code",
    }
}

/// Makes each part plain, empties what the country has no field for, and writes
/// a region as its code and a postal code as it is written there.
pub fn tidy(address: &Address, country: &Country) -> Address {
    let kept = |part: Part, text: &str| if country.has(part) { entry::line(text) } else { String::new() };
    let region = kept(Part::Region, &address.region);
    let postal_code = if country.has(Part::PostalCode) { entry::postal_code(&address.postal_code, country.postal_example) } else { String::new() };
    Address {
        country: country.code.into(),
        name: entry::line(&address.name),
        phone: entry::phone(&address.phone, country.code),
        company: entry::line(&address.company),
        region: country.region(&region).map_or(region, |found| found.code.into()),
        city: kept(Part::City, &address.city),
        district: kept(Part::District, &address.district),
        street: kept(Part::Street, &address.street),
        postal_code,
    }
}

/// Mistakes in a tidy address. `prefix` is the path of the address.
pub fn check(prefix: &str, address: &Address, country: &Country, locale: &str) -> Vec<FieldError> {
    let chinese = is_chinese(locale);
    let mistake = |field: &AddressField| {
        let value = value(address, &field.name);
        let example = if field.example.is_empty() { String::new() } else if chinese { format!("，例如 {}", field.example) } else { format!(", for example {}", field.example) };
        let (code, message) = if value.is_empty() {
            if !field.required {
                return None;
            }
            ("required", if chinese { format!("请填写{}。", field.label) } else { format!("Enter: {}.", field.label) })
        } else if value.chars().count() > field.length_max as usize {
            ("too-long", if chinese { format!("最多 {} 个字符。", field.length_max) } else { format!("Use at most {} characters.", field.length_max) })
        } else if field.name == REGION && !country.has_region(value) {
            ("unknown", if chinese { format!("请从列表中选择{}。", field.label) } else { format!("Choose from the list: {}.", field.label) })
        } else if !matches(&field.pattern, value) {
            ("pattern", if chinese { format!("{}格式不正确{example}。", field.label) } else { format!("Check {}{example}.", in_a_sentence(&field.label)) })
        } else {
            return None;
        };
        Some(FieldError { field: format!("{prefix}.{}", field.name), code: code.into(), message })
    };
    fields_without_subdivisions(country, chinese).iter().filter_map(mistake).collect()
}

fn value<'a>(address: &'a Address, name: &str) -> &'a str {
    match name {
        "name" => &address.name,
        "phone" => &address.phone,
        "company" => &address.company,
        REGION => &address.region,
        "city" => &address.city,
        "district" => &address.district,
        "street" => &address.street,
        _ => &address.postal_code,
    }
}

/// Patterns of the table are tested to be valid.
fn matches(pattern: &str, value: &str) -> bool {
    pattern.is_empty() || Regex::new(&format!("(?i)^(?:{pattern})$")).is_ok_and(|pattern| pattern.is_match(value))
}

pub fn tidy_contact(contact: &Contact) -> Contact {
    Contact { email: entry::email(&contact.email), phone: entry::phone(&contact.phone, "") }
}

pub fn check_contact(contact: &Contact, locale: &str) -> Vec<FieldError> {
    let chinese = is_chinese(locale);
    let error = |field: &str, code: &str, en: &str, zh: &str| FieldError { field: field.into(), code: code.into(), message: if chinese { zh } else { en }.into() };
    let mut errors = Vec::new();
    if contact.email.is_empty() {
        errors.push(error("contact.email", "required", "Enter your e-mail address.", "请填写电子邮箱。"));
    } else if !is_email(&contact.email) {
        errors.push(error("contact.email", "pattern", "Enter an e-mail address such as name@example.com.", "请填写正确的电子邮箱，例如 name@example.com。"));
    }
    if !contact.phone.is_empty() && !matches(PHONE_PATTERN, &contact.phone) {
        errors.push(error("contact.phone", "pattern", "Enter digits, with + and the country's code if you like.", "请填写正确的电话号码。"));
    }
    errors
}

/// Only what no mail could reach: the rest is known when mail is sent.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    text.chars().count() <= EMAIL_CHARS_MAX
        && (1..=64).contains(&local.chars().count())
        && !text.chars().any(|character| character.is_whitespace() || character.is_control())
        && domain.split('.').count() > 1
        && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::countries;

    fn address(country: &str) -> Address {
        Address {
            country: country.into(),
            name: " 李雷 ".into(),
            phone: "13800138000".into(),
            company: String::new(),
            region: "浙江省".into(),
            city: "杭州市".into(),
            district: "西湖区".into(),
            street: "龙井路 1 号".into(),
            postal_code: String::new(),
        }
    }

    fn mistakes(address: &Address) -> Vec<(String, String)> {
        let country = countries::find(&address.country).unwrap();
        let errors = check("shipping-address", &tidy(address, &country), &country, "en");
        errors.into_iter().map(|error| (error.field, error.code)).collect()
    }

    fn mistake(field: &str, code: &str) -> (String, String) {
        (format!("shipping-address.{field}"), code.into())
    }

    #[test]
    fn every_country_has_a_form_that_its_own_example_passes() {
        for country in countries::all() {
            assert_eq!(countries::find(country.code).map(|found| found.code), Some(country.code), "the table is in the order of codes");
            for locale in ["en", "zh-CN"] {
                let fields = fields(&country, locale);
                assert!(fields.iter().all(|field| !field.label.is_empty()), "{}", country.code);
                let postal = fields.iter().find(|field| field.name == "postal-code");
                for field in postal.iter().filter(|field| !field.pattern.is_empty()) {
                    assert!(Regex::new(&field.pattern).is_ok(), "{}: {}", country.code, field.pattern);
                    assert!(field.example.is_empty() || matches(&field.pattern, &field.example), "{}: {}", country.code, field.example);
                }
                assert!(!country.name(false).is_empty() && !country.name(true).is_empty());
            }
        }
        assert!(countries::find("XX").is_none() && countries::find("").is_none() && countries::find("C").is_none());
    }

    #[test]
    fn a_chinese_address_is_asked_for_from_the_province_down_and_needs_no_postal_code() {
        let china = countries::find("CN").unwrap();
        let fields = fields(&china, "zh-CN");
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["name", "phone", "region", "city", "district", "street", "postal-code", "company"]);
        assert!(fields[2].subdivisions.iter().any(|region| region.code == "33" && region.name == "浙江省"));
        assert_eq!(mistakes(&address("CN")), []);
        assert_eq!(tidy(&address("CN"), &china).region, "33");
        assert_eq!(tidy(&address("CN"), &china).name, "李雷");
    }

    #[test]
    fn what_is_written_in_full_width_or_with_other_signs_is_no_mistake() {
        let japan = countries::find("JP").unwrap();
        let typed = Address { phone: "０９０－１２３４－５６７８".into(), region: "13".into(), city: String::new(), street: "千代田１－１".into(), postal_code: "〒１０００００１".into(), ..address("JP") };
        let tidied = tidy(&typed, &japan);
        assert_eq!((tidied.phone.as_str(), tidied.postal_code.as_str(), tidied.street.as_str()), ("090-1234-5678", "100-0001", "千代田1-1"));
        assert_eq!(mistakes(&typed), []);
        let china = Address { phone: "+86 138.0013.8000".into(), postal_code: "３１００１３".into(), ..address("CN") };
        assert_eq!(mistakes(&china), []);
        assert_eq!(tidy(&china, &countries::find("CN").unwrap()).phone, "13800138000");
        assert_eq!(mistakes(&Address { street: "路".repeat(100), ..address("CN") }), [], "a hundred characters, whatever their bytes");
    }

    #[test]
    fn each_mistake_names_its_field() {
        let wrong = Address { phone: "call me".into(), region: "Narnia".into(), city: " ".into(), street: "x".repeat(101), postal_code: "12".into(), ..address("CN") };
        assert_eq!(
            mistakes(&wrong),
            [mistake("phone", "pattern"), mistake("region", "unknown"), mistake("city", "required"), mistake("street", "too-long"), mistake("postal-code", "pattern")]
        );
        let american = Address { region: "ca".into(), district: "ignored".into(), postal_code: "95014-1234".into(), ..address("US") };
        assert_eq!(mistakes(&american), []);
        let tidied = tidy(&american, &countries::find("US").unwrap());
        assert_eq!((tidied.region.as_str(), tidied.district.as_str()), ("CA", ""));
    }

    #[test]
    fn a_contact_needs_an_address_that_mail_can_reach() {
        for (email, fits) in [("a@b.cn", true), ("名@例子.中国", true), ("", false), ("a", false), ("a@b", false), ("a b@c.cn", false), ("a@-b.cn", false), ("a@b..cn", false)] {
            let contact = Contact { email: email.into(), phone: String::new() };
            assert_eq!(check_contact(&contact, "en").is_empty(), fits, "{email}");
        }
        let contact = Contact { email: "a@b.cn".into(), phone: "<script>".into() };
        assert_eq!(check_contact(&contact, "zh-CN")[0].field, "contact.phone");
    }
}
