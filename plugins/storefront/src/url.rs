//! Addresses: what comes from data is encoded here, and nowhere else, and what
//! must be absolute is made so once.

use std::fmt::Write as _;

/// Percent-encodes all but what RFC 3986 reserves for nothing.
fn encode(text: &str, into: &mut String, is_kept: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || is_kept(byte) {
            into.push(char::from(byte));
        } else {
            // Writing to text cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// One part of a path, or a value of a query.
pub fn part(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 8);
    encode(text, &mut encoded, |_| false);
    encoded
}

/// A path as the host decoded it, encoded again.
pub fn path(decoded: &str) -> String {
    let mut encoded = String::with_capacity(decoded.len() + 8);
    encode(decoded, &mut encoded, |byte| byte == b'/');
    encoded
}

/// For machines that do not know where they read: pictures may lie at another
/// host already.
pub fn absolute(base_url: &str, url: &str) -> String {
    if url.starts_with("https://") || url.starts_with("http://") {
        url.to_owned()
    } else if let Some(rest) = url.strip_prefix("//") {
        let scheme = base_url.split("//").next().unwrap_or("https:");
        format!("{scheme}//{rest}")
    } else {
        format!("{base_url}/{}", url.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_survives_once() {
        assert_eq!(part("PL+L"), "PL%2BL");
        assert_eq!(part("CB&L#100%/?"), "CB%26L%23100%25%2F%3F");
        assert_eq!(part("龙井"), "%E9%BE%99%E4%BA%95");
        assert_eq!(path("/p/龙 井"), "/p/%E9%BE%99%20%E4%BA%95");
    }

    #[test]
    fn pictures_are_made_absolute_once() {
        for (url, whole) in [
            ("/media/a.webp", "https://shop.example/media/a.webp"),
            ("media/a.webp", "https://shop.example/media/a.webp"),
            ("https://cdn.example/a.jpg?v=1", "https://cdn.example/a.jpg?v=1"),
            ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ] {
            assert_eq!(absolute("https://shop.example", url), whole);
        }
    }
}
