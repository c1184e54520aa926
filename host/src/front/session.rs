//! The session cookie: an id that this host signed, and nothing else.
//!
//! State stays on the server (`work`). A forged or damaged cookie counts as
//! none. No cookie is sent before a plugin wrote to the session, so that
//! browsing leaves no trace and pages stay the same for everyone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;

use super::SessionId;

/// Carts of guests live as long as their cookie.
const AGE_S_MAX: u32 = 30 * 24 * 3_600;
/// Keeps these signatures apart from others made with the same key.
const PURPOSE: &[u8] = b"souk session cookie 1\0";

pub struct SessionCookies {
    keyed: Hmac<Sha256>,
    https: bool,
}

impl SessionCookies {
    pub fn new(key: &[u8; 32], https: bool) -> Self {
        // HMAC fills short keys up with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        let mut keyed = Hmac::<Sha256>::new(&block.into());
        keyed.update(PURPOSE);
        Self { keyed, https }
    }

    /// `__Host-` makes browsers refuse the cookie from other hosts of the same
    /// domain and over plain HTTP.
    fn name(&self) -> &'static str {
        if self.https { "__Host-souk" } else { "souk" }
    }

    pub fn came_with(&self, headers: &HeaderMap) -> bool {
        cookies(headers, self.name()).next().is_some()
    }

    pub fn verified(&self, headers: &HeaderMap) -> Option<SessionId> {
        // Two of them: one may be planted by a neighbouring host.
        cookies(headers, self.name()).take(4).find_map(|value| {
            let (id, mac) = value.split_once('.')?;
            if !is_session_id(id) {
                return None;
            }
            let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
            // Constant time.
            self.keyed.clone().chain_update(id).verify_slice(&mac).ok()?;
            Some(SessionId(id.into()))
        })
    }

    /// `Set-Cookie` for an id; nothing if it is not one.
    pub fn set(&self, id: &SessionId) -> Option<HeaderValue> {
        if !is_session_id(&id.0) {
            return None;
        }
        let mac = URL_SAFE_NO_PAD.encode(self.keyed.clone().chain_update(&*id.0).finalize().into_bytes());
        let (name, secure) = (self.name(), if self.https { "; Secure" } else { "" });
        let cookie = format!("{name}={}.{mac}; Path=/; Max-Age={AGE_S_MAX}; HttpOnly; SameSite=Lax{secure}", id.0);
        HeaderValue::from_str(&cookie).ok()
    }

    pub fn clear(&self) -> HeaderValue {
        HeaderValue::from_static(if self.https {
            "__Host-souk=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        } else {
            "souk=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        })
    }
}

fn is_session_id(id: &str) -> bool {
    (16..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Values of all cookies with this name, as sent.
pub fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(move |pair| pair.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cookie(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_own_signatures_count() {
        let ours = SessionCookies::new(&[7; 32], false);
        let id = SessionId("abcdefghijklmnop".into());
        let set = ours.set(&id).unwrap();
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        assert_eq!(ours.verified(&with_cookie(&pair)), Some(id.clone()));
        // Beside others, and after a planted one.
        assert_eq!(ours.verified(&with_cookie(&format!("a=b; souk=x.y; {pair}; c=d"))), Some(id));
        let theirs = SessionCookies::new(&[8; 32], false);
        assert_eq!(theirs.verified(&with_cookie(&pair)), None);
        for bad in [pair.replace("abc", "abd"), pair.replace('.', ""), pair[..pair.len() - 2].to_owned(), "souk=abcdefghijklmnop.".into()] {
            assert_eq!(ours.verified(&with_cookie(&bad)), None, "{bad}");
        }
        assert_eq!(SessionCookies::new(&[7; 32], true).verified(&with_cookie(&pair)), None, "another name under https");
    }

    #[test]
    fn ids_that_could_break_the_header_are_not_sent() {
        let ours = SessionCookies::new(&[7; 32], true);
        assert_eq!(ours.set(&SessionId("abcdefghijklmnop; Domain=evil".into())), None);
        assert_eq!(ours.set(&SessionId("short".into())), None);
    }
}
