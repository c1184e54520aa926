//! Text as the index sees it: words, folded to lower case without accents.
//!
//! Chinese (and Japanese, Korean) is indexed twice: each character at its own
//! position, and over them the dictionary's words. Characters make every
//! substring findable as a phrase, however a query happens to be segmented;
//! words make the better matches weigh more.

use std::sync::LazyLock;

use tantivy::tokenizer::{AsciiFoldingFilter, LowerCaser, RawTokenizer, TextAnalyzer, Token, TokenStream, Tokenizer};
use tantivy_jieba::jieba_rs::Jieba;

/// The dictionary takes some 90 ms to load: see [`warm_up`].
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

const WORDS_MAX: usize = 16;
/// Left out of queries that have other words.
const STOP_WORDS: [&str; 26] = [
    "a", "an", "and", "at", "by", "for", "in", "is", "of", "on", "or", "the", "to", "with", "的", "了", "和", "与", "及", "是", "在", "之", "等", "款", "个", "吗",
];

/// Loads the dictionary, so that no shopper waits for it.
pub(super) fn warm_up() {
    LazyLock::force(&JIEBA);
}

pub(super) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(Words).filter(LowerCaser).filter(AsciiFoldingFilter).build()
}

/// Lower case without accents, one space for any white space, none in front.
pub(super) fn fold(text: &str) -> String {
    let mut folding = TextAnalyzer::builder(RawTokenizer::default()).filter(LowerCaser).filter(AsciiFoldingFilter).build();
    let spaced: String = text.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }).collect();
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

/// Characters of scripts that are written without spaces.
pub(super) fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[derive(Clone, Copy, PartialEq)]
enum Script {
    Spaced,
    Cjk,
}

/// Unbroken stretches of one script, each with where it begins.
fn runs(text: &str) -> impl Iterator<Item = (Script, usize, &str)> {
    let script = |c: char| match c {
        c if is_cjk(c) => Some(Script::Cjk),
        c if c.is_alphanumeric() => Some(Script::Spaced),
        _ => None,
    };
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (from, c) = rest.next()?;
            let Some(found) = script(c) else { continue };
            while rest.next_if(|(_, c)| script(*c) == Some(found)).is_some() {}
            let to = rest.peek().map_or(text.len(), |(at, _)| *at);
            return Some((found, from, &text[from..to]));
        }
    })
}

/// Where each word of the text begins.
pub(super) fn word_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    for (script, from, run) in runs(text) {
        match script {
            Script::Spaced => starts.push(from),
            Script::Cjk => starts.extend(JIEBA.cut(run, false).iter().map(|token| from + token.byte_start)),
        }
    }
    starts
}

/// A stretch of a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Run {
    Word(String),
    Cjk { text: String, words: Vec<String> },
}

/// What a shopper typed, folded, without the words that say nothing. None of it
/// has a meaning as syntax.
pub(super) fn query_runs(text: &str) -> Vec<Run> {
    let folded = fold(text);
    let mut all: Vec<Run> = Vec::new();
    let mut words_left = WORDS_MAX;
    for (script, _, run) in runs(&folded) {
        let run = match script {
            Script::Spaced => Run::Word(run.to_owned()),
            Script::Cjk => Run::Cjk {
                text: run.to_owned(),
                words: JIEBA.cut(run, false).iter().take(words_left).map(|token| token.word.to_owned()).collect(),
            },
        };
        words_left = words_left.saturating_sub(match &run {
            Run::Word(_) => 1,
            Run::Cjk { words, .. } => words.len(),
        });
        all.push(run);
        if words_left == 0 {
            break;
        }
    }
    let telling: Vec<Run> = all.iter().filter_map(without_stop_words).collect();
    if telling.is_empty() { all } else { telling }
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

/// The smaller words inside a longer one, and the characters that none of them
/// covers: 陶瓷杯 → 陶瓷, 杯.
pub(super) fn parts(word: &str) -> Vec<String> {
    let inner: Vec<_> = JIEBA.cut_for_search(word, false).into_iter().filter(|token| token.word != word).collect();
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

#[derive(Clone)]
struct Words;

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream {
        let mut tokens = Vec::new();
        let mut position = 0;
        let mut push = |from: usize, word: &str, position: usize, position_length: usize| {
            tokens.push(Token { offset_from: from, offset_to: from + word.len(), position, text: word.to_owned(), position_length });
        };
        for (script, from, run) in runs(text) {
            match script {
                Script::Spaced => {
                    push(from, run, position, 1);
                    position += 1;
                }
                Script::Cjk => {
                    for token in JIEBA.cut_for_search(run, false).iter().filter(|token| token.end - token.start > 1) {
                        push(from + token.byte_start, token.word, position + token.start, token.end - token.start);
                    }
                    for (at, c) in run.char_indices() {
                        push(from + at, &run[at..at + c.len_utf8()], position, 1);
                        position += 1;
                    }
                }
            }
        }
        WordStream { tokens, next: 0 }
    }
}

struct WordStream {
    tokens: Vec<Token>,
    next: usize,
}

impl TokenStream for WordStream {
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

/// How many letters of a word may be wrong. Numbers are meant as they are.
pub(super) fn typos_of(word: &str) -> u8 {
    match word.chars().count() {
        _ if word.bytes().any(|byte| byte.is_ascii_digit()) => 0,
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(String, usize)> {
        let mut analyzer = analyzer();
        let mut stream = analyzer.token_stream(text);
        let mut tokens = Vec::new();
        stream.process(&mut |token| {
            assert!(text.is_char_boundary(token.offset_from) && text.is_char_boundary(token.offset_to));
            tokens.push((token.text.clone(), token.position));
        });
        tokens
    }

    #[test]
    fn latin_words_are_folded_and_chinese_has_words_over_characters() {
        assert_eq!(tokens("Café-Tasse"), [("cafe".into(), 0), ("tasse".into(), 1)]);
        let mixed = tokens("Tea 乌龙茶 XL");
        for expected in [("tea", 0), ("乌龙茶", 1), ("乌", 1), ("龙", 2), ("茶", 3), ("xl", 4)] {
            assert!(mixed.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {mixed:?}");
        }
    }

    #[test]
    fn folding_leaves_one_space_between_and_none_in_front() {
        assert_eq!(fold("  Crème\t Brûlée ＡＢＣ\u{0}"), "creme brulee abc ");
    }

    #[test]
    fn queries_lose_stop_words_only_when_others_remain() {
        assert_eq!(query_runs("the TEA"), [Run::Word("tea".into())]);
        assert_eq!(query_runs("the"), [Run::Word("the".into())]);
        let Run::Cjk { words, .. } = &query_runs("红色的茶壶")[0] else { panic!() };
        assert!(!words.contains(&"的".to_owned()) && words.iter().any(|w| w.contains('茶')), "{words:?}");
        assert!(query_runs("\"' ()*:^~").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_analysed(text in "\\PC*") {
            tokens(&text);
            fold(&text);
            query_runs(&text);
            word_starts(&text).iter().for_each(|at| assert!(text.is_char_boundary(*at)));
        }
    }
}
