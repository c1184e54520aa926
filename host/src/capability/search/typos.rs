//! Words of an index that differ from a mistyped one by a few letters. Each
//! dictionary is walked once for all distances: tantivy's own query for this walks it
//! for each, and again in each field with an automaton made anew.

use std::sync::{Arc, LazyLock};

use levenshtein_automata::{DFA, Distance, LevenshteinAutomatonBuilder, SINK_STATE};
use tantivy::InvertedIndexReader;
use tantivy_fst::Automaton;

/// What is made for a distance serves all words.
static BUILDERS: [LazyLock<LevenshteinAutomatonBuilder>; LETTERS_MAX as usize] =
    [LazyLock::new(|| LevenshteinAutomatonBuilder::new(1, true)), LazyLock::new(|| LevenshteinAutomatonBuilder::new(2, true))];
const LETTERS_MAX: u8 = 2;
/// A shorter word with one wrong letter is the beginning of half a dictionary.
const BEGUN_CHARACTERS_MIN: usize = 5;
/// Of one field, the nearest first.
const WORDS_MAX: usize = 256;

pub(super) struct Mistyped {
    whole: DFA,
    /// The word may be the beginning of a longer one, with one wrong letter.
    begun: Option<DFA>,
}

#[derive(Default)]
pub(super) struct Like {
    /// With one wrong letter, with two.
    pub by_letters: [Vec<String>; LETTERS_MAX as usize],
    pub begun: Vec<String>,
}

impl Mistyped {
    /// None where the word is too short to tell what it may have been.
    pub fn new(word: &str, is_begun: bool) -> Option<Self> {
        let builder = &BUILDERS[usize::from(letters_of(word).checked_sub(1)?)];
        let begun = is_begun && word.chars().count() >= BEGUN_CHARACTERS_MIN;
        Some(Self { whole: builder.build_dfa(word), begun: begun.then(|| BUILDERS[0].build_prefix_dfa(word)) })
    }

    /// In the dictionaries of one field.
    pub fn like(&self, dictionaries: &[Arc<InvertedIndexReader>]) -> tantivy::Result<Like> {
        let mut like = Like::default();
        for dictionary in dictionaries {
            each(dictionary, &self.whole, |word, letters| {
                if let Some(words) = usize::from(letters).checked_sub(1).and_then(|at| like.by_letters.get_mut(at)) {
                    words.push(word);
                }
            })?;
            if let Some(begun) = &self.begun {
                each(dictionary, begun, |word, _| like.begun.push(word))?;
            }
        }
        let mut room = WORDS_MAX;
        for words in like.by_letters.iter_mut().chain([&mut like.begun]) {
            words.truncate(room);
            room -= words.len();
        }
        Ok(like)
    }
}

/// The words that `dfa` takes, and by how many letters they differ.
fn each(dictionary: &InvertedIndexReader, dfa: &DFA, mut take: impl FnMut(String, u8)) -> tantivy::Result<()> {
    let mut words = dictionary.terms().search(Walk(dfa)).into_stream()?;
    while words.advance() {
        if let (Distance::Exact(letters), Ok(word)) = (dfa.eval(words.key()), std::str::from_utf8(words.key())) {
            take(word.to_owned(), letters);
        }
    }
    Ok(())
}

/// How many letters of a word may be wrong. Numbers are meant as they are.
pub(super) fn letters_of(word: &str) -> u8 {
    match word.chars().count() {
        _ if word.bytes().any(|byte| byte.is_ascii_digit()) => 0,
        0..=3 => 0,
        4..=7 => 1,
        _ => LETTERS_MAX,
    }
}

struct Walk<'a>(&'a DFA);

impl Automaton for Walk<'_> {
    type State = u32;

    fn start(&self) -> u32 {
        self.0.initial_state()
    }

    fn is_match(&self, state: &u32) -> bool {
        matches!(self.0.distance(*state), Distance::Exact(_))
    }

    fn can_match(&self, state: &u32) -> bool {
        *state != SINK_STATE
    }

    fn accept(&self, state: &u32, byte: u8) -> u32 {
        self.0.transition(*state, byte)
    }
}
