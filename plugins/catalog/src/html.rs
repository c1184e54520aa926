//! Descriptions of other shops are HTML, ours are plain paragraphs: the text of
//! the markup, without what no shopper reads. Pure.

/// Elements whose content is no text for people.
const DROPPED: [&str; 8] = ["script", "style", "head", "title", "noscript", "template", "svg", "iframe"];
/// Elements that stand on lines of their own; those with `true` are set apart as paragraphs.
const BLOCKS: [(&str, bool); 30] = [
    ("p", true), ("div", true), ("section", true), ("article", true), ("header", true), ("footer", true), ("main", true), ("aside", true),
    ("h1", true), ("h2", true), ("h3", true), ("h4", true), ("h5", true), ("h6", true), ("ul", true), ("ol", true), ("dl", true),
    ("table", true), ("blockquote", true), ("pre", true), ("figure", true), ("form", true), ("hr", true),
    ("li", false), ("tr", false), ("dt", false), ("dd", false), ("br", false), ("figcaption", false), ("option", false),
];
const ENTITIES: [(&str, &str); 36] = [
    ("amp", "&"), ("lt", "<"), ("gt", ">"), ("quot", "\""), ("apos", "'"), ("nbsp", " "), ("ensp", " "), ("emsp", " "), ("thinsp", " "),
    ("ndash", "–"), ("mdash", "—"), ("hellip", "…"), ("bull", "•"), ("middot", "·"), ("lsquo", "‘"), ("rsquo", "’"), ("ldquo", "“"),
    ("rdquo", "”"), ("laquo", "«"), ("raquo", "»"), ("times", "×"), ("deg", "°"), ("reg", "®"), ("copy", "©"), ("trade", "™"), ("euro", "€"),
    ("pound", "£"), ("yen", "¥"), ("frac12", "½"), ("eacute", "é"), ("egrave", "è"), ("auml", "ä"), ("ouml", "ö"), ("uuml", "ü"), ("szlig", "ß"),
    ("shy", ""),
];
/// Longer ones do not exist.
const ENTITY_BYTES_MAX: usize = 32;

/// Whether a text was written as HTML: it has a tag, a comment or an entity.
pub fn is_html(text: &str) -> bool {
    let tag = |(at, _): (usize, &str)| tag(&text[at..]).is_some() || text[at..].starts_with("<!--");
    text.match_indices('<').any(tag) || text.match_indices('&').any(|(at, _)| entity(&text[at..]).is_some())
}

/// Paragraphs set apart by an empty line, list items begun by a bullet.
pub fn to_text(html: &str) -> String {
    let mut text = Text::default();
    let mut rest = html;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
        } else if let Some((name, closes, length)) = tag(rest) {
            rest = &rest[length..];
            if !closes && DROPPED.contains(&name.as_str()) {
                rest = after_end_of(rest, &name);
            } else {
                text.element(&name, closes);
            }
        } else if let Some((meant, length)) = entity(rest) {
            text.push_str(&meant);
            rest = &rest[length..];
        } else {
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    text.out
}

#[derive(Default)]
struct Text {
    out: String,
    /// Ends of lines that are due before the next text.
    breaks: usize,
    blank: bool,
    /// A list item has begun, and nothing of it was written yet.
    bullet: bool,
    /// List items that are open: within them nothing is set apart.
    items: usize,
    /// Within `pre`, where ends of lines are meant.
    kept: usize,
}

impl Text {
    fn element(&mut self, name: &str, closes: bool) {
        let depth = |depth: usize| if closes { depth.saturating_sub(1) } else { depth + 1 };
        match name {
            "pre" => self.kept = depth(self.kept),
            "li" => (self.items, self.bullet) = (depth(self.items), !closes),
            "td" | "th" => self.blank = true,
            _ => {}
        }
        if name == "br" {
            self.breaks = (self.breaks + 1).min(2);
        } else if let Some((_, paragraph)) = BLOCKS.iter().find(|(block, _)| *block == name) {
            self.breaks = self.breaks.max(if *paragraph && self.items == 0 { 2 } else { 1 });
        }
    }

    fn push_str(&mut self, text: &str) {
        text.chars().for_each(|c| self.push(c));
    }

    fn push(&mut self, c: char) {
        if c == '\n' && self.kept > 0 {
            self.breaks = (self.breaks + 1).min(2);
        } else if c.is_whitespace() {
            self.blank = true;
        } else {
            if self.breaks > 0 && !self.out.is_empty() {
                self.out.push_str(if self.breaks > 1 { "\n\n" } else { "\n" });
            } else if self.blank && !self.out.is_empty() {
                self.out.push(' ');
            }
            if std::mem::take(&mut self.bullet) {
                self.out.push_str("• ");
            }
            (self.breaks, self.blank) = (0, false);
            self.out.push(c);
        }
    }
}

/// The element that the text begins with, whether it is its end, and how long the tag is.
fn tag(text: &str) -> Option<(String, bool, usize)> {
    let inner = text.strip_prefix('<')?;
    let (closes, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
    let declares = inner.starts_with(['!', '?']);
    if !declares && !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let name: String = inner.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    // A name is followed by a blank or the end; `<b@c>` is none.
    if !declares && !inner[name.len()..].starts_with(|c: char| c.is_whitespace() || ['>', '/'].contains(&c)) {
        return None;
    }
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return Some((name, closes, at + 1)),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

fn after_end_of<'t>(text: &'t str, name: &str) -> &'t str {
    let ends = text.match_indices("</").find(|(at, _)| text.get(at + 2..at + 2 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)));
    ends.and_then(|(at, _)| Some(&text[at + text[at..].find('>')? + 1..])).unwrap_or("")
}

/// What the entity that the text begins with stands for, and its length.
fn entity(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix('&')?;
    let end = inner.bytes().take(ENTITY_BYTES_MAX).position(|byte| byte == b';')?;
    let name = &inner[..end];
    let meant = match name.strip_prefix('#') {
        Some(number) => {
            let code = number.strip_prefix(['x', 'X']).map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())?;
            char::from_u32(code).filter(|c| !c.is_control()).map_or_else(String::new, String::from)
        }
        None => ENTITIES.iter().find(|(known, _)| *known == name)?.1.to_owned(),
    };
    Some((meant, end + 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_becomes_the_text_that_a_shopper_reads() {
        for (html, text) in [
            ("<p>Fresh.</p><p>From <b>Hangzhou</b>,\nby hand.</p>", "Fresh.\n\nFrom Hangzhou, by hand."),
            ("<p>Fish &amp; chips&nbsp;&#8211; &#x4f60;</p>", "Fish & chips – 你"),
            ("One<br>two<BR/>three<br /><br />four", "One\ntwo\nthree\n\nfour"),
            ("<ul>\n <li>Oak</li>\n <li><p>Wax</p></li><li></li></ul>Care", "• Oak\n• Wax\n\nCare"),
            ("<style>p { color: red }</style><script>alert('</p>')</script>Tea<!-- <p>no</p> -->", "Tea"),
            ("<meta charset=\"utf-8\"><span title=\"a > b\">Cup</span>", "Cup"),
            ("<table><tr><td>Size</td><td>L</td></tr><tr><td>Weight</td><td>1 kg</td></tr></table>", "Size L\nWeight 1 kg"),
            ("2 < 3 & 4 > 1, <3", "2 < 3 & 4 > 1, <3"),
            ("<p>never closed", "never closed"),
            ("<script>never closed", ""),
            ("&unknown; stays", "&unknown; stays"),
        ] {
            assert_eq!(to_text(html), text, "{html}");
        }
    }

    #[test]
    fn what_only_looks_like_markup_is_text() {
        for (text, html) in [("a < b", false), ("<3", false), ("me <me@shop.example>", false), ("R&D", false), ("a<br>b", true), ("&amp;", true), ("<p>", true)] {
            assert_eq!(is_html(text), html, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(html in "(<|>|&|;|/|p|script|br|li|\"|'|!|-| |茶|\n){0,60}") {
            let text = to_text(&html);
            prop_assert_eq!(text.trim(), &text);
        }
    }
}
