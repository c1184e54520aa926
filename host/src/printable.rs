//! Text of strangers, for a terminal or a log.
//!
//! What a plugin's manifest, a guest's error or a shopper's name says is printed
//! where an operator decides by it. It must not move the cursor, clear what
//! stands above, begin a line of its own, or show its letters in another order
//! than they are in, or pile up marks over the lines around. All that `souk` prints goes through here: `cli` by its
//! macros `say!` and `complain!`, the log by its formatter.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether it shows as itself, in its own place: no control character, no line
/// break, no change of direction, nothing without a width.
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            // Soft hyphen, Arabic letter mark, fillers of Hangul and Khmer, Mongolian separators.
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            // Zero width and marks of direction, breaks of lines and paragraphs, embeddings, isolates.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Filler, byte order mark, halfwidth filler, interlinear marks.
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            // Of musical notation, and tags.
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Marks over and under one character, as scripts have them: Thai and Vietnamese two,
/// Hebrew and Tibetan some more.
const MARKS_MAX: usize = 4;

/// Whether it has no place of its own, but stands on the character before it: the
/// combining marks of the blocks that have little else, and what selects variants.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}' | '\u{5c4}'..='\u{5c5}' | '\u{5c7}'
        | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}' | '\u{6df}'..='\u{6e4}' | '\u{6e7}'..='\u{6e8}' | '\u{6ea}'..='\u{6ed}'
        | '\u{711}' | '\u{730}'..='\u{74a}' | '\u{7a6}'..='\u{7b0}' | '\u{7eb}'..='\u{7f3}' | '\u{816}'..='\u{82d}' | '\u{859}'..='\u{85b}' | '\u{898}'..='\u{89f}'
        | '\u{8ca}'..='\u{8e1}' | '\u{8e3}'..='\u{902}' | '\u{93a}' | '\u{93c}' | '\u{941}'..='\u{948}' | '\u{94d}' | '\u{951}'..='\u{957}' | '\u{962}'..='\u{963}'
        | '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}' | '\u{eb1}' | '\u{eb4}'..='\u{ebc}' | '\u{ec8}'..='\u{ece}'
        | '\u{f18}'..='\u{f19}' | '\u{f35}' | '\u{f37}' | '\u{f39}' | '\u{f71}'..='\u{f7e}' | '\u{f80}'..='\u{f84}' | '\u{f86}'..='\u{f87}' | '\u{f8d}'..='\u{fbc}'
        | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20f0}' | '\u{2cef}'..='\u{2cf1}' | '\u{2de0}'..='\u{2dff}'
        | '\u{302a}'..='\u{302f}' | '\u{3099}'..='\u{309a}' | '\u{a66f}'..='\u{a67d}' | '\u{a69e}'..='\u{a69f}' | '\u{a6f0}'..='\u{a6f1}' | '\u{a8e0}'..='\u{a8f1}'
        | '\u{fb1e}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{101fd}' | '\u{1d165}'..='\u{1d169}' | '\u{1d16d}'..='\u{1d172}' | '\u{1d17b}'..='\u{1d182}'
        | '\u{1e000}'..='\u{1e02a}' | '\u{1e8d0}'..='\u{1e8d6}' | '\u{1e944}'..='\u{1e94a}')
}

/// Which characters of a text show as themselves: the printable ones, and of marks
/// those few that a character may carry. The first of a text has nothing to stand on.
#[derive(Default)]
struct Shown {
    /// Marks of the character that was last; none where there was none.
    marks: Option<usize>,
}

impl Shown {
    fn shows(&mut self, c: char) -> bool {
        if !is_mark(c) {
            self.marks = Some(0);
            return is_printable(c);
        }
        let marks = self.marks.as_mut().filter(|marks| **marks < MARKS_MAX);
        marks.map(|marks| *marks += 1).is_some()
    }
}

/// One line, whatever is in it. What is printable already stays as it is.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c, out| out.extend(c.escape_default()))
}

/// JSON as it may be printed and still means the same. Its line breaks lie between its parts.
pub fn json(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        escaped(line, |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Several lines, each with what follows the first set in: none looks like one of the program's own.
pub fn complaint(text: &str) -> String {
    text.split('\n').map(|part| line(part.trim()).into_owned()).collect::<Vec<_>>().join("\n  ")
}

/// What a plugin's command has answered, for a terminal: its lines and tabs stay.
pub fn document(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split('\n').map(|part| part.trim_end_matches('\r').split('\t').map(line).collect::<Vec<_>>().join("\t"));
    lines.collect::<Vec<_>>().join("\n")
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let mut shown = Shown::default();
    if text.chars().all(|c| shown.shows(c)) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut shown = Shown::default();
    for c in text.chars() {
        if shown.shows(c) { out.push(c) } else { escape(c, &mut out) }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_moves_hides_or_turns_is_shown_as_what_it_is() {
        for (text, shown) in [
            ("茶 thé — 🍵", "茶 thé — 🍵"),
            ("a\nb\u{1b}[2J", "a\\nb\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("pay\u{202e}yap\u{2069}", "pay\\u{202e}yap\\u{2069}"),
            ("str\u{200b}ipe\u{feff}", "str\\u{200b}ipe\\u{feff}"),
            ("a\u{2028}b\r", "a\\u{2028}b\\r"),
            ("\u{e0041}", "\\u{e0041}"),
            ("Vie\u{323}\u{302}t ❤\u{fe0f} กี่", "Vie\u{323}\u{302}t ❤\u{fe0f} กี่"),
            ("Z\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}a\u{300}", "Z\u{300}\u{301}\u{302}\u{303}\\u{304}\\u{305}a\u{300}"),
            ("\u{20dd}over what stands before", "\\u{20dd}over what stands before"),
            ("a\u{fe0f}\u{fe0e}\u{fe0f}\u{fe0e}\u{fe0f}", "a\u{fe0f}\u{fe0e}\u{fe0f}\u{fe0e}\\u{fe0f}"),
        ] {
            assert_eq!(line(text), shown);
            assert_eq!(line(shown), shown, "nothing is escaped twice");
        }
        assert_eq!(complaint("no\nIt asks for nothing."), "no\n  It asks for nothing.");
        assert_eq!(document(b"a\tb\x1b[A\r\nc"), "a\tb\\u{1b}[A\nc");
    }

    proptest! {
        #[test]
        fn whatever_is_printed_is_printable_and_json_means_the_same(text in any::<String>()) {
            prop_assert!(line(&text).chars().all(is_printable));
            let written = serde_json::to_string_pretty(&[&text]).unwrap();
            let shown = json(&written);
            prop_assert!(shown.chars().all(|c| c == '\n' || is_printable(c)));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
        }
    }
}
