//! A provider that only says which version it is.

use souk_sdk::extend::discount::{Answer, Cart, Failure, Guest, Rejection};

struct Provider;

impl Guest for Provider {
    fn propose(_: Cart) -> Result<Vec<Answer>, Failure> {
        // The benchmark writes another number into the component.
        let reason = "provider version 0000".to_owned();
        Ok(vec![Answer::Reject(Rejection { provider: String::new(), code: "CODE".into(), reason })])
    }
}

souk_sdk::export!(Provider: extend::discount);
