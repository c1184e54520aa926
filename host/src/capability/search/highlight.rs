//! Fragments of text with the words found marked, as escaped HTML.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use tantivy::tokenizer::{TextAnalyzer, TokenStream as _};

use super::english;
use super::text::{Analysis, Run, is_cjk, simplify};
use super::typos::letters_of;

const FRAGMENT_CHARACTERS: usize = 160;
/// Shown before the first word found.
const LEAD_CHARACTERS: usize = 40;

pub(super) struct Highlighter {
    analyzer: TextAnalyzer,
    words: Vec<String>,
    /// Their stems, and neighbours as one word: only equal ones are marked.
    forms: HashSet<String>,
    /// Words and their parts in scripts without spaces: only equal ones are marked.
    cjk: HashSet<String>,
    corrected: bool,
}

impl Highlighter {
    pub fn new(analysis: &Arc<Analysis>, runs: &[Run], corrected: bool) -> Self {
        let mut words = Vec::new();
        let mut forms = HashSet::new();
        let mut cjk = HashSet::new();
        for run in runs {
            match run {
                Run::Word(word) => {
                    forms.extend(english::stem(word));
                    words.push(word.clone());
                }
                Run::Cjk { text, words } => {
                    cjk.extend(words.iter().flat_map(|word| analysis.parts(word)));
                    cjk.extend(words.iter().cloned());
                    if corrected {
                        cjk.extend(text.chars().map(String::from));
                    }
                }
            }
        }
        for neighbours in runs.windows(2) {
            if let [Run::Word(first), Run::Word(second)] = neighbours {
                forms.insert(format!("{first}{second}"));
            }
        }
        Self { analyzer: analysis.words(), words, forms, cjk, corrected }
    }

    /// Of several values the one in which most was found; none where nothing was.
    pub fn best_fragment<'a>(&mut self, values: impl Iterator<Item = &'a str>) -> Option<String> {
        let found = values.map(|value| (value, self.found(value))).filter(|(_, found)| !found.is_empty());
        // The first of equals.
        let (value, found) = found.reduce(|best, next| if next.1.len() > best.1.len() { next } else { best })?;
        Some(fragment(value, &found))
    }

    fn found(&mut self, value: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let (words, forms, cjk, corrected) = (&self.words, &self.forms, &self.cjk, self.corrected);
        self.analyzer.token_stream(value).process(&mut |token| {
            let marked = if token.text.starts_with(is_cjk) {
                cjk.contains(&token.text)
            } else {
                forms.contains(&token.text) || words.iter().any(|word| is_hit(&token.text, word, corrected))
            };
            if marked {
                found.push(token.offset_from..token.offset_to);
            }
        });
        // Dictionary words of the query that are none in this text. In simplified script as many bytes lie before them.
        let simplified = simplify(value);
        for word in cjk.iter().filter(|word| word.chars().count() > 1) {
            found.extend(simplified.match_indices(word.as_str()).map(|(at, _)| at..at + word.len()));
        }
        found.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

fn is_hit(token: &str, word: &str, corrected: bool) -> bool {
    (word.chars().count() > 1 && token.starts_with(word)) || token == word || (corrected && is_within(token, word, letters_of(word).into()))
}

/// Whether so many insertions, deletions, replacements or swaps of neighbours
/// make one of the other. Lengths first: a token may be as long as its text.
fn is_within(a: &str, b: &str, distance: usize) -> bool {
    a.chars().count().abs_diff(b.chars().count()) <= distance && strsim::osa_distance(a, b) <= distance
}

/// The stretch that begins a little before the first word found.
fn fragment(value: &str, found: &[Range<usize>]) -> String {
    let first = found.first().map_or(0, |range| range.start);
    let before = value[..first].char_indices().rev().nth(LEAD_CHARACTERS - 1);
    let mut start = before.map_or(0, |(at, _)| at);
    if start > 0 {
        // Not in the middle of a word, where there are spaces.
        start = value[start..first].find(' ').map_or(start, |space| start + space + 1);
    }
    let end = value[start..].char_indices().nth(FRAGMENT_CHARACTERS).map_or(value.len(), |(at, _)| start + at);
    let mut html = String::new();
    if start > 0 {
        html.push('…');
    }
    let mut at = start;
    for range in found.iter().filter(|range| range.end <= end) {
        escape(&value[at..range.start], &mut html);
        html.push_str("<mark>");
        escape(&value[range.clone()], &mut html);
        html.push_str("</mark>");
        at = range.end;
    }
    escape(&value[at..end], &mut html);
    if end < value.len() {
        html.push('…');
    }
    html
}

fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn highlight(query: &str, corrected: bool, value: &str) -> Option<String> {
        let analysis = Analysis::new(Vec::new());
        Highlighter::new(&analysis, &analysis.query_runs(query), corrected).best_fragment([value].into_iter())
    }

    #[test]
    fn words_are_marked_and_everything_is_escaped() {
        for (query, corrected, value, expected) in [
            ("tea", false, "<b>Tea</b> & \"cups\"", Some("&lt;b&gt;<mark>Tea</mark>&lt;/b&gt; &amp; &quot;cups&quot;")),
            ("tea", false, "A teapot", Some("A <mark>teapot</mark>")),
            ("cafe", false, "Grand Café", Some("Grand <mark>Café</mark>")),
            ("coffe", true, "Black coffee", Some("Black <mark>coffee</mark>")),
            ("coffe", false, "Black cofee", None),
            ("乌龙茶", false, "高山乌龙茶礼盒", Some("高山<mark>乌龙茶</mark>礼盒")),
            ("b", false, "plan b", Some("plan <mark>b</mark>")),
            ("knives", false, "Chef's Knife", Some("Chef&#39;s <mark>Knife</mark>")),
            ("wifi", false, "Wi-Fi plug", Some("<mark>Wi-Fi</mark> plug")),
            ("龙井", false, "雨前龍井", Some("雨前<mark>龍井</mark>")),
        ] {
            assert_eq!(highlight(query, corrected, value).as_deref(), expected, "{query} in {value}");
        }
    }

    #[test]
    fn long_text_is_cut_around_the_first_word() {
        let value = format!("{}needle {}", "hay ".repeat(100), "straw ".repeat(100));
        let fragment = highlight("needle", false, &value).unwrap();
        assert!(fragment.starts_with("…hay ") && fragment.ends_with('…') && fragment.contains("<mark>needle</mark>"), "{fragment}");
        assert!(fragment.chars().count() < FRAGMENT_CHARACTERS + 20);
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_closed_marks_and_no_other_tags(query in "[a-c<>茶壶 ]{1,8}", value in "[a-c<>&茶壶é ]{0,300}") {
            if let Some(fragment) = highlight(&query, true, &value) {
                let bare = fragment.replace("<mark>", "").replace("</mark>", "");
                assert!(!bare.contains(['<', '>']));
                assert_eq!(fragment.matches("<mark>").count(), fragment.matches("</mark>").count());
            }
        }
    }
}
