//! What is known of Chinese characters: which traditional ones are written how
//! in simplified script, how they are read, and which words say the same without
//! their last character.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use pinyin::{ToPinyin, ToPinyinMulti};

/// Simplified characters, each with the traditional ones that are written so.
static SIMPLIFIED: LazyLock<HashMap<char, char, rustc_hash::FxBuildHasher>> = LazyLock::new(|| {
    let lines = include_str!("traditional.txt").lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        let mut characters = line.chars();
        characters.next().map(|simplified| characters.map(move |traditional| (traditional, simplified)))
    });
    pairs.flatten().collect()
});

/// Every syllable that some character is read as.
static SYLLABLES: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let read = ('\u{4e00}'..='\u{9fff}').filter_map(|c| c.to_pinyin()).map(|read| ascii(read.plain()));
    // Interjections like `n` and `hm` would make syllables of anything.
    let mut syllables: HashSet<&str> = read.filter(|syllable| syllable.contains(['a', 'e', 'i', 'o', 'u', 'v'])).collect();
    syllables.extend(["lu", "nu", "lue", "nue"]);
    syllables
});

/// Of a character that is read in many ways, and of a word of such.
const READINGS_MAX: usize = 3;
const WORD_READINGS_MAX: usize = 6;
const SYLLABLE_BYTES_MAX: usize = 6;
/// Of what was typed in one stretch.
const LETTERS_MAX: usize = 30;
const DIVISIONS_MAX: usize = 4;

/// Nouns that say the same without 子. 种子, 电子, 包子 are not among them.
const WITHOUT_ZI: &str = "椅帽桌杯盘碟瓶罐盒箱袋篮筐桶鞋靴裙裤袜袍被毯褥垫帘镜架柜凳梯刷夹钳钉锤锯斧叉勺筷刀锅炉壶铲笼笛哨旗扇伞绳链珠簪钗梳\
    桃李杏橘柿柚栗榛椰梨枣茄豆饺粽饼狮兔鸽猴猫虫蚊叶屋亭棍棒管板本册";
/// Others of the kind, with what they say it shorter.
const SHORTER: [(&str, &str); 8] =
    [("茶叶", "茶"), ("枕头", "枕"), ("石头", "石"), ("木头", "木"), ("斧头", "斧"), ("锄头", "锄"), ("花朵", "花"), ("书本", "书")];

/// Loads the tables, so that no shopper waits for them.
pub(super) fn warm_up() {
    LazyLock::force(&SIMPLIFIED);
    LazyLock::force(&SYLLABLES);
}

/// As long in bytes as what it stands for.
pub(super) fn simplified(c: char) -> char {
    if c < '\u{4e00}' { c } else { SIMPLIFIED.get(&c).copied().unwrap_or(c) }
}

/// A word that says the same.
pub(super) fn shorter(word: &str) -> Option<&str> {
    let stem = word.strip_suffix('子').filter(|stem| stem.chars().count() == 1 && WITHOUT_ZI.contains(stem));
    stem.or_else(|| SHORTER.iter().find(|(longer, _)| *longer == word).map(|(_, shorter)| *shorter))
}

/// ü is typed as v.
fn ascii(syllable: &'static str) -> &'static str {
    match syllable {
        "lü" => "lv",
        "nü" => "nv",
        "lüe" => "lve",
        "nüe" => "nve",
        other => other,
    }
}

/// What a character is read as, the most usual first; ü as `v` and as `u`.
pub(super) fn syllables(c: char) -> Vec<&'static str> {
    let mut syllables: Vec<&'static str> = Vec::new();
    for read in c.to_pinyin_multi().into_iter().flatten() {
        let read = ascii(read.plain());
        let also = match read {
            "lv" => Some("lu"),
            "nv" => Some("nu"),
            "lve" => Some("lue"),
            "nve" => Some("nue"),
            _ => None,
        };
        for read in [Some(read), also].into_iter().flatten() {
            if read.is_ascii() && !syllables.contains(&read) {
                syllables.push(read);
            }
        }
        if syllables.len() >= READINGS_MAX {
            break;
        }
    }
    syllables
}

/// What a word is read as, in one stretch of letters; none where it has other characters.
pub(super) fn readings(word: &str) -> Vec<String> {
    let mut readings = vec![String::new()];
    for c in word.chars() {
        let syllables = syllables(c);
        let longer = readings.iter().flat_map(|begun| syllables.iter().map(move |syllable| format!("{begun}{syllable}")));
        readings = longer.take(WORD_READINGS_MAX).collect();
    }
    readings
}

/// Letters that may have been meant as syllables, fewest first. Tones given as digits are left out.
pub(super) fn divided(typed: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    if typed.len() <= LETTERS_MAX && typed.bytes().all(|byte| byte.is_ascii_lowercase() || (b'1'..=b'5').contains(&byte)) {
        divide(typed, &dividable(typed), &mut Vec::new(), &mut found);
    }
    found.sort_by_key(Vec::len);
    found.truncate(DIVISIONS_MAX);
    found
}

/// The syllables that these letters may begin with, the longest first, each with what is left.
fn firsts(letters: &str) -> impl Iterator<Item = (&str, &str)> {
    let lengths = (1..=letters.len().min(SYLLABLE_BYTES_MAX)).rev();
    let splits = lengths.map(|length| letters.split_at(length)).filter(|(syllable, _)| SYLLABLES.contains(syllable));
    splits.map(|(syllable, rest)| (syllable, rest.trim_start_matches(|c: char| c.is_ascii_digit())))
}

/// By how many letters are left: whether those are syllables to the end. Without it, letters that
/// are none would be divided in every way there is.
fn dividable(letters: &str) -> Vec<bool> {
    let mut dividable = vec![true];
    for left in 1..=letters.len() {
        let is_so = firsts(&letters[letters.len() - left..]).any(|(_, rest)| dividable[rest.len()]);
        dividable.push(is_so);
    }
    dividable
}

fn divide<'a>(rest: &'a str, dividable: &[bool], begun: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) {
    if rest.is_empty() {
        found.push(begun.clone());
        return;
    }
    for (syllable, after) in firsts(rest) {
        if found.len() < 2 * DIVISIONS_MAX && dividable[after.len()] {
            begun.push(syllable);
            divide(after, dividable, begun, found);
            begun.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traditional_script_is_read_as_simplified_in_as_many_bytes() {
        let written = |text: &str| text.chars().map(simplified).collect::<String>();
        assert_eq!(written("龍井綠茶，麵條與烏龍茶餅 teaＡ"), "龙井绿茶，面条与乌龙茶饼 teaＡ");
        assert!(SIMPLIFIED.len() > 2_500 && SIMPLIFIED.iter().all(|(from, to)| from.len_utf8() == to.len_utf8()));
    }

    #[test]
    fn words_are_read_without_tones_and_v_for_the_umlaut() {
        assert_eq!(readings("龙井"), ["longjing"]);
        assert!(readings("绿茶").contains(&"lvcha".to_owned()) && readings("绿茶").contains(&"lucha".to_owned()));
        assert!(readings("银行").contains(&"yinhang".to_owned()), "{:?}", readings("银行"));
        assert!(readings("茶a").is_empty());
    }

    #[test]
    fn letters_are_divided_into_syllables() {
        let divided = |typed: &str| divided(typed).iter().map(|syllables| syllables.join(" ")).collect::<Vec<_>>();
        assert_eq!(divided("longjing"), ["long jing"]);
        assert_eq!(divided("lvcha"), ["lv cha"]);
        assert_eq!(divided("xian")[0], "xian");
        assert!(divided("xian").contains(&"xi an".to_owned()));
        assert_eq!(divided("long2jing3"), ["long jing"]);
        assert_eq!(divided("knife"), [""; 0]);
        assert_eq!(divided("boxes"), [""; 0]);
    }

    #[test]
    fn nouns_are_known_without_their_ending() {
        assert_eq!(["椅子", "帽子", "茶叶", "种子", "包子", "电子", "兔子们"].map(shorter), [
            Some("椅"),
            Some("帽"),
            Some("茶"),
            None,
            None,
            None,
            None
        ]);
    }

    proptest::proptest! {
        #[test]
        fn any_letters_end(typed in "[a-z1-5]{0,40}|(a|an|ang|e|en|er){0,20}") {
            assert!(divided(&typed).len() <= DIVISIONS_MAX);
        }
    }
}
