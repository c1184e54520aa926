//! English word forms: what stands for a word whether it is one or many.
//!
//! Documents and queries have each word as it is written and, beside it, its
//! stem. A stem need not be a word: `vase` and `vases` meet at `vas`, since from
//! `vases` alone nobody knows whether the `e` belongs to the word. What matters is
//! that forms of one word meet, and that those of different words do not.

/// A stem is no shorter: `toes` must not become `to`.
const STEM_BYTES_MIN: usize = 3;
const WORD_BYTES_MAX: usize = 32;

/// Plurals that follow no rule.
const IRREGULAR: [(&str, &str); 23] = [
    ("men", "man"),
    ("women", "woman"),
    ("gentlemen", "gentleman"),
    ("snowmen", "snowman"),
    ("fishermen", "fisherman"),
    ("children", "child"),
    ("grandchildren", "grandchild"),
    ("people", "person"),
    ("feet", "foot"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("mice", "mouse"),
    ("oxen", "ox"),
    ("skis", "ski"),
    ("kiwis", "kiwi"),
    ("taxis", "taxi"),
    ("bikinis", "bikini"),
    ("zucchinis", "zucchini"),
    ("khakis", "khaki"),
    ("minis", "mini"),
    ("menus", "menu"),
    ("tofus", "tofu"),
    ("cacti", "cactus"),
];

/// End in `s` and are not plurals, or become another word without it.
const KEPT: [&str; 14] =
    ["always", "atlas", "canvas", "christmas", "gas", "goods", "lens", "news", "perhaps", "series", "species", "texas", "pancreas", "bias"];

/// What `-ves` was in the singular, at the end of a word: `bookshelves`, `penknives`.
const FROM_VES: [(&str, &str); 14] = [
    ("knives", "knife"),
    ("wives", "wife"),
    ("lives", "life"),
    ("leaves", "leaf"),
    ("loaves", "loaf"),
    ("halves", "half"),
    ("calves", "calf"),
    ("shelves", "shelf"),
    ("selves", "self"),
    ("wolves", "wolf"),
    ("scarves", "scarf"),
    ("thieves", "thief"),
    ("hooves", "hoof"),
    ("kerchieves", "kerchief"),
];
/// They end as the former do, and are regular.
const REGULAR_VES: [&str; 2] = ["olives", "cleaves"];

/// British spellings, and the American ones that stand for both.
const SPELLINGS: [(&str, &str); 16] = [
    ("aluminium", "aluminum"),
    ("armour", "armor"),
    ("centre", "center"),
    ("colour", "color"),
    ("coloured", "colored"),
    ("doughnut", "donut"),
    ("fibre", "fiber"),
    ("flavour", "flavor"),
    ("flavoured", "flavored"),
    ("grey", "gray"),
    ("jewellery", "jewelry"),
    ("litre", "liter"),
    ("metre", "meter"),
    ("pyjama", "pajama"),
    ("tyre", "tire"),
    ("yoghurt", "yogurt"),
];

/// The stem of a folded word, unless that is the word itself.
pub(super) fn stem(word: &str) -> Option<String> {
    if word.len() < STEM_BYTES_MIN || word.len() > WORD_BYTES_MAX || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let mut stem = word.to_owned();
    singular(&mut stem);
    if let Some((_, one)) = IRREGULAR.iter().find(|(many, _)| *many == stem) {
        // `womens`, without its apostrophe.
        stem = (*one).to_owned();
    }
    // At the end of a word: `watercolour`.
    if let Some((british, american)) = SPELLINGS.iter().find(|(british, _)| stem.ends_with(british)) {
        let length = stem.len() - british.len();
        stem.truncate(length);
        stem.push_str(american);
    }
    (stem != word).then_some(stem)
}

/// Beginnings under which other forms of a word are found while it is typed.
pub(super) fn beginnings(word: &str) -> Vec<String> {
    let mut beginnings: Vec<String> = stem(word).into_iter().collect();
    beginnings.extend(IRREGULAR.iter().filter(|(_, one)| *one == word).map(|(many, _)| (*many).to_owned()));
    if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        for (end, plural) in [("ies", "y"), ("y", "ie"), ("fe", "ve"), ("f", "ve"), ("ves", "f")] {
            beginnings.extend(word.strip_suffix(end).filter(|rest| rest.len() >= STEM_BYTES_MIN - 1).map(|rest| format!("{rest}{plural}")));
        }
    }
    beginnings.dedup();
    beginnings
}

fn singular(word: &mut String) {
    if let Some((_, one)) = IRREGULAR.iter().find(|(many, _)| many == word) {
        *word = (*one).to_owned();
        return;
    }
    if KEPT.contains(&word.as_str()) {
        return;
    }
    let from_ves = FROM_VES.iter().find(|(many, _)| word.ends_with(many)).filter(|_| !REGULAR_VES.iter().any(|end| word.ends_with(end)));
    if let Some((many, one)) = from_ves {
        let length = word.len() - many.len();
        word.truncate(length);
        word.push_str(one);
        return;
    }
    let is_long = |stem: &str| stem.len() >= STEM_BYTES_MIN;
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        *word = format!("{stem}y");
    } else if let Some(stem) = word.strip_suffix("ie").filter(|stem| is_long(stem)) {
        // As `cookies` would.
        *word = format!("{stem}y");
    } else if let Some(stem) = word.strip_suffix("zzes").or_else(|| word.strip_suffix("zz")).filter(|stem| stem.len() > 1) {
        *word = format!("{stem}z");
    } else if let Some(stem) = word.strip_suffix("es").filter(|stem| is_long(stem) && takes_es(stem)) {
        let length = stem.len();
        word.truncate(length);
    } else if let Some(stem) = word.strip_suffix('e').filter(|stem| is_long(stem) && takes_es(stem)) {
        let length = stem.len();
        word.truncate(length);
    } else if let Some(stem) = word.strip_suffix('s').filter(|stem| is_long(stem) && !stem.ends_with(['s', 'u', 'i'])) {
        let length = stem.len();
        word.truncate(length);
    }
}

/// Words that end so form their plural with `-es`, as those do that have an `e` there already.
fn takes_es(stem: &str) -> bool {
    ["s", "z", "x", "ch", "sh", "o"].iter().any(|end| stem.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(one: &str, other: &str) -> bool {
        let forms = |word: &str| [Some(word.to_owned()), stem(word)].into_iter().flatten().collect::<Vec<_>>();
        forms(one).iter().any(|form| forms(other).contains(form))
    }

    #[test]
    fn one_and_many_meet() {
        let pairs = "tea teas|chair chairs|box boxes|knife knives|penknife penknives|watch watches|cherry cherries|woman women|woman womens|women womens|man mens\
            |shelf shelves|bookshelf bookshelves|leaf leaves|loaf loaves|scarf scarves|glove gloves|sleeve sleeves|olive olives|stove stoves|curve curves\
            |vase vases|case cases|house houses|rose roses|bus buses|lens lenses|glass glasses|dress dresses|size sizes|quiz quizzes|buzz buzzes\
            |cache caches|headache headaches|brush brushes|dish dishes|axe axes|fox foxes|potato potatoes|tomato tomatoes|shoe shoes|toe toes|canoe canoes\
            |photo photos|cookie cookies|movie movies|hoodie hoodies|pie pies|tie ties|berry berries|battery batteries|toy toys|key keys|monkey monkeys\
            |foot feet|tooth teeth|mouse mice|goose geese|child children|spice spices|orange oranges|menu menus|ski skis|sofa sofas|canvas canvases\
            |prize prizes|horse horses|cheese cheeses|pen pens|jar jars|bag bags|bra bras|color colours|gray grey|donut doughnuts|meter metres|watercolor watercolours";
        let apart = |pair: &&str| pair.split_once(' ').is_none_or(|(one, many)| !meet(one.trim(), many.trim()));
        assert_eq!(pairs.split('|').filter(apart).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn different_words_do_not_meet() {
        let pairs = "wine win|pine pin|cape cap|cafe cave|robe rob|new news|good goods|to toes|safe save|tub tube|care car|hat hate|glove glof|bus bu\
            |dress dres|ramen raman|specimen speciman|kite kit|plane plan|cute cut|this thi|tennis tenni";
        let together = |pair: &&str| pair.split_once(' ').is_none_or(|(one, other)| meet(one.trim(), other.trim()));
        assert_eq!(pairs.split('|').filter(together).collect::<Vec<_>>(), [""; 0]);
    }

    proptest::proptest! {
        #[test]
        fn any_word_has_a_stem_or_none(word in "\\PC{0,40}|[a-z]{1,12}(s|es|ies|ves|zzes)") {
            if let Some(stem) = stem(&word) {
                assert!(!stem.is_empty() && stem != word);
            }
            beginnings(&word);
        }
    }
}
