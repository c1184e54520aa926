//! Text as the index sees it: words, folded to lower case without accents, in
//! simplified script, each beside its stem.
//!
//! Chinese (and Japanese, Korean) is indexed twice: each character at its own
//! position, and over them the dictionary's words. Characters make every
//! substring findable as a phrase, however a query happens to be segmented;
//! words make the better matches weigh more. How the characters are read goes
//! into fields of its own ([`Analysis::pinyin`]), so that no English word is
//! taken for a syllable.

use std::sync::{Arc, OnceLock};

use tantivy::tokenizer::{
    AsciiFoldingFilter, LowerCaser, RawTokenizer, TextAnalyzer, Token, TokenFilter, TokenStream, Tokenizer,
};
use tantivy_jieba::jieba_rs::Jieba;

use super::{chinese, english};

/// Goes up when text is to be analysed otherwise than before: indexes are then built again.
const ANALYSIS: u32 = 2;
const WORDS_MAX: usize = 16;
/// Parts of `ACC-01-BLUE` that are indexed as one word too.
const JOINED_PARTS_MAX: usize = 4;
/// Left out of queries that have other words.
const STOP_WORDS: [&str; 26] = [
    "a", "an", "and", "at", "by", "for", "in", "is", "of", "on", "or", "the", "to", "with", "的", "了", "和", "与", "及", "是", "在", "之", "等", "款", "个", "吗",
];

/// How text becomes words. One for all indexes of a shop.
pub(super) struct Analysis {
    /// The dictionary takes some 90 ms to load: see [`Self::warm_up`].
    jieba: OnceLock<Jieba>,
    /// The shop's own, beside those of the general dictionary.
    words: Vec<String>,
    /// Of the code and the dictionary. An index that was made with another is built again.
    pub fingerprint: String,
}

impl Analysis {
    pub fn new(words: Vec<String>) -> Arc<Self> {
        let fingerprint = format!("{ANALYSIS}-{}", &blake3::hash(words.join("\n").as_bytes()).to_hex()[..16]);
        Arc::new(Self { jieba: OnceLock::new(), words, fingerprint })
    }

    fn jieba(&self) -> &Jieba {
        self.jieba.get_or_init(|| {
            let mut jieba = Jieba::new();
            for word in &self.words {
                jieba.add_word(word, None, None);
            }
            jieba
        })
    }

    /// Loads the dictionary and the tables, so that no shopper waits for them.
    pub fn warm_up(&self) {
        self.jieba();
        chinese::warm_up();
    }

    /// Of text fields.
    pub fn words(self: &Arc<Self>) -> TextAnalyzer {
        TextAnalyzer::builder(Words(self.clone())).filter(LowerCaser).filter(AsciiFoldingFilter).filter(Stems).build()
    }

    /// How Chinese text is read: syllables, each at the place of its character, and words.
    pub fn pinyin(self: &Arc<Self>) -> TextAnalyzer {
        TextAnalyzer::builder(Readings(self.clone())).build()
    }

    /// Where each word of the text begins.
    pub fn word_starts(&self, text: &str) -> Vec<usize> {
        let mut starts = Vec::new();
        for (script, from, run) in runs(text) {
            match script {
                Script::Spaced => starts.push(from),
                Script::Cjk => {
                    // Those within longer words too: 雨前龙井 is also looked for by 龙井.
                    let run = simplify(run);
                    let mut within: Vec<usize> = self.jieba().cut_for_search(&run, false).iter().map(|token| from + token.byte_start).collect();
                    within.sort_unstable();
                    within.dedup();
                    starts.extend(within);
                }
            }
        }
        starts
    }

    /// What a shopper typed, folded, without the words that say nothing. None of it
    /// has a meaning as syntax.
    pub fn query_runs(&self, text: &str) -> Vec<Run> {
        let folded = fold(text);
        let mut all: Vec<Run> = Vec::new();
        let mut left = WORDS_MAX;
        for (script, _, run) in runs(&folded) {
            match script {
                Script::Spaced => {
                    let parts = parts_of(run);
                    left = left.saturating_sub(parts.len());
                    all.extend(parts.into_iter().map(|(_, part)| Run::Word(part.to_owned())));
                }
                Script::Cjk => {
                    let words: Vec<String> = self.jieba().cut(run, false).iter().take(left).map(|token| token.word.to_owned()).collect();
                    left = left.saturating_sub(words.len());
                    all.push(Run::Cjk { text: run.to_owned(), words });
                }
            }
            if left == 0 {
                break;
            }
        }
        all.truncate(WORDS_MAX);
        let telling: Vec<Run> = all.iter().filter_map(without_stop_words).collect();
        if telling.is_empty() { all } else { telling }
    }

    /// The smaller words inside a longer one, and the characters that none of them
    /// covers: 陶瓷杯 → 陶瓷, 杯.
    pub fn parts(&self, word: &str) -> Vec<String> {
        let inner: Vec<_> = self.jieba().cut_for_search(word, false).into_iter().filter(|token| token.word != word).collect();
        let mut parts: Vec<String> = inner.iter().map(|token| token.word.to_owned()).collect();
        if parts.is_empty() {
            return parts;
        }
        for (at, c) in word.char_indices() {
            if !inner.iter().any(|token| (token.byte_start..token.byte_end).contains(&at)) {
                parts.push(c.into());
            }
        }
        parts
    }
}

/// Lower case without accents, in simplified script, one space for any white space, none in front.
pub(super) fn fold(text: &str) -> String {
    let mut folding = TextAnalyzer::builder(RawTokenizer::default()).filter(LowerCaser).filter(AsciiFoldingFilter).build();
    let spaced: String = text.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { chinese::simplified(c) }).collect();
    let mut stream = folding.token_stream(&spaced);
    stream.advance();
    let mut folded = String::with_capacity(text.len());
    for c in stream.token().text.chars() {
        if c != ' ' || !(folded.is_empty() || folded.ends_with(' ')) {
            folded.push(c);
        }
    }
    folded
}

/// Letters, digits and characters alone: by what is typed, values are completed
/// whatever stands between their words.
pub(super) fn bare(folded: &str) -> String {
    folded.chars().filter(|c| c.is_alphanumeric()).collect()
}

pub(super) fn simplify(text: &str) -> String {
    text.chars().map(chinese::simplified).collect()
}

/// Characters of scripts that are written without spaces.
pub(super) fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{02bc}' | '\u{ff07}' | '`' | '\u{00b4}')
}

/// Stands within a word: between letters or digits.
fn joins(c: char) -> bool {
    is_apostrophe(c) || matches!(c, '-' | '\u{2010}' | '\u{2011}' | '\u{2013}' | '\u{ff0d}' | '\u{00ad}')
}

#[derive(Clone, Copy, PartialEq)]
enum Script {
    Spaced,
    Cjk,
}

fn script(c: char) -> Option<Script> {
    match c {
        c if is_cjk(c) => Some(Script::Cjk),
        c if c.is_alphanumeric() => Some(Script::Spaced),
        _ => None,
    }
}

/// Unbroken stretches of one script, each with where it begins. Hyphens and apostrophes do not break words.
fn runs(text: &str) -> impl Iterator<Item = (Script, usize, &str)> {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (from, c) = rest.next()?;
            let Some(found) = script(c) else { continue };
            loop {
                while rest.next_if(|(_, c)| script(*c) == Some(found)).is_some() {}
                let within = |at: usize, c: char| joins(c) && text[at + c.len_utf8()..].chars().next().and_then(script) == Some(found);
                if found != Script::Spaced || rest.next_if(|(at, c)| within(*at, *c)).is_none() {
                    break;
                }
            }
            let to = rest.peek().map_or(text.len(), |(at, _)| *at);
            return Some((found, from, &text[from..to]));
        }
    })
}

/// What hyphens and apostrophes stand between, each with where it begins; without a possessive's `s`.
fn parts_of(run: &str) -> Vec<(usize, &str)> {
    let mut parts: Vec<(usize, &str)> = Vec::new();
    let mut from = 0;
    let mut possessive = false;
    for (at, c) in run.char_indices().filter(|(_, c)| joins(*c)) {
        parts.push((from, &run[from..at]));
        from = at + c.len_utf8();
        possessive = is_apostrophe(c) && matches!(&run[from..], "s" | "S");
    }
    if !possessive {
        parts.push((from, &run[from..]));
    }
    parts
}

/// A stretch of a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Run {
    Word(String),
    Cjk { text: String, words: Vec<String> },
}

fn without_stop_words(run: &Run) -> Option<Run> {
    match run {
        Run::Word(word) => (!STOP_WORDS.contains(&word.as_str())).then(|| run.clone()),
        Run::Cjk { text, words } => {
            let words: Vec<String> = words.iter().filter(|word| !STOP_WORDS.contains(&word.as_str())).cloned().collect();
            (!words.is_empty()).then(|| Run::Cjk { text: text.clone(), words })
        }
    }
}

struct Tokens {
    tokens: Vec<Token>,
    next: usize,
}

impl Tokens {
    fn none_yet() -> Self {
        Self { tokens: Vec::new(), next: 0 }
    }

    fn push(&mut self, offset_from: usize, length: usize, text: String, position: usize, position_length: usize) {
        self.tokens.push(Token { offset_from, offset_to: offset_from + length, position, text, position_length });
    }
}

impl TokenStream for Tokens {
    fn advance(&mut self) -> bool {
        self.next += 1;
        self.next <= self.tokens.len()
    }

    fn token(&self) -> &Token {
        &self.tokens[self.next - 1]
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.tokens[self.next - 1]
    }
}

#[derive(Clone)]
struct Words(Arc<Analysis>);

impl Tokenizer for Words {
    type TokenStream<'a> = Tokens;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Tokens {
        let mut tokens = Tokens::none_yet();
        let mut position = 0;
        for (script, from, run) in runs(text) {
            match script {
                Script::Spaced => {
                    let parts = parts_of(run);
                    if (2..=JOINED_PARTS_MAX).contains(&parts.len()) {
                        let joined = parts.iter().map(|(_, part)| *part).collect();
                        tokens.push(from, run.len(), joined, position, parts.len());
                    }
                    for (at, part) in parts {
                        tokens.push(from + at, part.len(), part.to_owned(), position, 1);
                        position += 1;
                    }
                }
                Script::Cjk => {
                    let run = simplify(run);
                    for token in self.0.jieba().cut_for_search(&run, false).iter().filter(|token| token.end - token.start > 1) {
                        tokens.push(from + token.byte_start, token.word.len(), token.word.to_owned(), position + token.start, token.end - token.start);
                    }
                    for (at, c) in run.char_indices() {
                        tokens.push(from + at, c.len_utf8(), c.into(), position, 1);
                        position += 1;
                    }
                }
            }
        }
        tokens
    }
}

#[derive(Clone)]
struct Readings(Arc<Analysis>);

impl Tokenizer for Readings {
    type TokenStream<'a> = Tokens;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Tokens {
        let mut tokens = Tokens::none_yet();
        let mut position = 0;
        for (_, from, run) in runs(text).filter(|(script, ..)| *script == Script::Cjk) {
            let run = simplify(run);
            for token in self.0.jieba().cut_for_search(&run, false).iter().filter(|token| token.end - token.start > 1) {
                for reading in chinese::readings(token.word) {
                    tokens.push(from + token.byte_start, token.word.len(), reading, position + token.start, token.end - token.start);
                }
            }
            for (at, c) in run.char_indices() {
                for syllable in chinese::syllables(c) {
                    tokens.push(from + at, c.len_utf8(), syllable.to_owned(), position, 1);
                }
                position += 1;
            }
            // Nobody reads on over what stands between.
            position += 1;
        }
        // A word of two may be read as a character before it is.
        tokens.tokens.sort_by_key(|token| token.position);
        tokens
    }
}

/// Puts a word's stem beside it, at the same place.
#[derive(Clone)]
struct Stems;

impl TokenFilter for Stems {
    type Tokenizer<T: Tokenizer> = StemsOf<T>;

    fn transform<T: Tokenizer>(self, tokenizer: T) -> StemsOf<T> {
        StemsOf(tokenizer)
    }
}

#[derive(Clone)]
struct StemsOf<T>(T);

impl<T: Tokenizer> Tokenizer for StemsOf<T> {
    type TokenStream<'a> = StemStream<T::TokenStream<'a>>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Self::TokenStream<'a> {
        StemStream { words: self.0.token_stream(text), stem: None, at_stem: false }
    }
}

struct StemStream<S> {
    words: S,
    /// Of the word before.
    stem: Option<Token>,
    at_stem: bool,
}

impl<S: TokenStream> TokenStream for StemStream<S> {
    fn advance(&mut self) -> bool {
        if self.stem.is_some() && !self.at_stem {
            self.at_stem = true;
            return true;
        }
        self.at_stem = false;
        self.stem = None;
        let more = self.words.advance();
        if more {
            let word = self.words.token();
            self.stem = english::stem(&word.text).map(|stem| Token { text: stem, ..word.clone() });
        }
        more
    }

    fn token(&self) -> &Token {
        self.stem.as_ref().filter(|_| self.at_stem).unwrap_or_else(|| self.words.token())
    }

    fn token_mut(&mut self) -> &mut Token {
        self.stem.as_mut().filter(|_| self.at_stem).unwrap_or_else(|| self.words.token_mut())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static ANALYSIS: LazyLock<Arc<Analysis>> = LazyLock::new(|| Analysis::new(vec!["雨前龙井".into()]));

    fn analysis() -> Arc<Analysis> {
        ANALYSIS.clone()
    }

    fn tokens_of(mut analyzer: TextAnalyzer, text: &str) -> Vec<(String, usize)> {
        let mut stream = analyzer.token_stream(text);
        let mut tokens = Vec::new();
        stream.process(&mut |token| {
            assert!(text.is_char_boundary(token.offset_from) && text.is_char_boundary(token.offset_to));
            tokens.push((token.text.clone(), token.position));
        });
        tokens
    }

    fn tokens(text: &str) -> Vec<(String, usize)> {
        tokens_of(analysis().words(), text)
    }

    #[track_caller]
    fn holds(tokens: &[(String, usize)], expected: &[(&str, usize)]) {
        for (word, position) in expected {
            assert!(tokens.contains(&((*word).to_owned(), *position)), "{word:?} at {position} in {tokens:?}");
        }
    }

    #[test]
    fn latin_words_are_folded_and_chinese_has_words_over_characters() {
        assert_eq!(tokens("Café Tasse"), [("cafe".into(), 0), ("tasse".into(), 1), ("tass".into(), 1)]);
        holds(&tokens("Tea 乌龙茶 XL"), &[("tea", 0), ("乌龙茶", 1), ("乌", 1), ("龙", 2), ("茶", 3), ("xl", 4)]);
        holds(&tokens("雨前龍井"), &[("雨前龙井", 0), ("龙井", 2), ("井", 3)]);
    }

    #[test]
    fn hyphens_and_apostrophes_join_and_possessives_are_left_out() {
        for (text, expected) in [
            ("Wi-Fi 6", &[("wifi", 0), ("wi", 0), ("fi", 1), ("6", 2)][..]),
            ("Women’s boxes", &[("women", 0), ("woman", 0), ("boxes", 1), ("box", 1)]),
            ("kids' room", &[("kids", 0), ("kid", 0), ("room", 1)]),
            ("Ripe Pu'er", &[("ripe", 0), ("puer", 1), ("pu", 1), ("er", 2)]),
            ("- 'tea' -", &[("tea", 0)]),
        ] {
            assert_eq!(tokens(text), expected.iter().map(|(word, at)| ((*word).to_owned(), *at)).collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn chinese_is_read_by_word_and_by_character() {
        let read = tokens_of(analysis().pinyin(), "Tea 綠茶, 礼盒");
        holds(&read, &[("lvcha", 0), ("lucha", 0), ("lv", 0), ("lu", 0), ("cha", 1), ("lihe", 3), ("li", 3), ("he", 4)]);
        assert!(read.iter().all(|(syllable, _)| syllable != "tea"));
    }

    #[test]
    fn folding_leaves_one_space_between_and_none_in_front() {
        assert_eq!(fold("  Crème\t Brûlée ＡＢＣ\u{0}"), "creme brulee abc ");
    }

    #[test]
    fn queries_lose_stop_words_only_when_others_remain() {
        let query_runs = |text: &str| analysis().query_runs(text);
        let words = |words: &[&str]| words.iter().map(|word| Run::Word((*word).to_owned())).collect::<Vec<_>>();
        assert_eq!(query_runs("the TEA"), words(&["tea"]));
        assert_eq!(query_runs("the"), words(&["the"]));
        assert_eq!(query_runs("women's wi-fi"), words(&["women", "wi", "fi"]));
        let Run::Cjk { words, .. } = &query_runs("红色的茶壶")[0] else { panic!() };
        assert!(!words.contains(&"的".to_owned()) && words.iter().any(|w| w.contains('茶')), "{words:?}");
        assert!(query_runs("\"' ()*:^~").is_empty());
        assert!(query_runs(&"a-b-c-d-e ".repeat(20)).len() <= WORDS_MAX);
    }

    #[test]
    fn other_words_or_another_version_are_another_analysis() {
        assert_ne!(analysis().fingerprint, Analysis::new(Vec::new()).fingerprint);
        assert_eq!(analysis().fingerprint, analysis().fingerprint);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_analysed(text in "\\PC*|[a-c'’ -]{0,20}|[龍井a' -]{0,20}") {
            let analysis = analysis();
            tokens_of(analysis.words(), &text);
            tokens_of(analysis.pinyin(), &text);
            fold(&text);
            analysis.query_runs(&text);
            analysis.word_starts(&text).iter().for_each(|at| assert!(text.is_char_boundary(*at)));
        }
    }
}
