//! A payment provider that whoever sends it the right bytes can break: it panics at
//! notifications of `break`, and takes its time over those of `stall`. All others are
//! authentic, of the payment that their body names, and say that it is still open.

use std::hint::black_box;

use souk_sdk::effects::{self, Completion, Failure, Order};
use souk_sdk::extend::payment_method::{self, Method, Notification, State, Status};
use souk_sdk::extend::types::Failure as Refused;
use souk_sdk::money::Money;
use souk_sdk::{clock, serde_json};

struct Fragile;

fn nothing() -> Money {
    Money { amount: 0, currency: "EUR".into() }
}

impl payment_method::Guest for Fragile {
    fn methods(_: Money, _: String) -> Result<Vec<Method>, Refused> {
        let method = Method { provider: String::new(), variant: String::new(), name: "Fragile".into(), description: String::new(), position: 9 };
        Ok(vec![method])
    }

    fn verify_notification(_: String, _: Vec<(String, String)>, body: Vec<u8>) -> Result<Notification, Refused> {
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body != "break", "broken");
        while body == "stall" {
            black_box(&body);
        }
        let id = body.clone();
        Ok(Notification { id, payment_id: body, reference: "fragile".into(), state: State::Open, amount: nothing(), at_ms: clock::now_ms() })
    }

    fn query(_: String, _: String, _: String) -> Result<Status, Refused> {
        Ok(Status { state: State::Open, reference: "fragile".into(), amount: nothing(), message: String::new() })
    }
}

impl effects::Guest for Fragile {
    fn perform(_: Order) -> Result<Vec<u8>, Failure> {
        let begun = serde_json::json!({ "status": "action-required", "reference": "fragile", "redirect_url": "https://fragile.example/" });
        Ok(begun.to_string().into_bytes())
    }

    fn completed(_: Completion) -> Result<(), String> {
        Err("it asks for nothing".into())
    }
}

souk_sdk::export!(Fragile: extend::payment_method, host::effect_handler);
