//! Text of strangers, for a terminal or a log.
//!
//! What a plugin's manifest, a guest's error or a shopper's name says is printed
//! where an operator decides by it. It must not move the cursor, clear what
//! stands above, begin a line of its own, or show its letters in another order
//! than they are in. All that `souk` prints goes through here: `cli` by its
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
    if text.chars().all(is_printable) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_printable(c) { out.push(c) } else { escape(c, &mut out) }
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
