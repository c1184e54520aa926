//! A provider of discounts that means harm.

mod misdeeds;

use std::cell::Cell;
use std::hint::black_box;

use serde::Deserialize;
use souk_sdk::config;
use souk_sdk::extend::discount::{self, Answer, Cart, Effect, Failure, Guest, Portion, Proposal, Rejection, Stacking};

struct Hostile;

#[derive(Deserialize)]
struct Settings {
    misdeed: String,
}

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Of this instance, this one counted.
fn calls() -> u32 {
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}

impl Guest for Hostile {
    fn propose(cart: Cart) -> Result<Vec<Answer>, Failure> {
        let Ok(Settings { misdeed }) = config::load() else { return Ok(Vec::new()) };
        let portions = |quantity: u32| cart.lines.iter().map(|line| Portion { line_id: line.id.clone(), quantity }).collect::<Vec<_>>();
        let proposal = |effect| {
            let (provider, id, title) = ("discount-coupon".into(), "HOSTILE".into(), "<script>alert(1)</script>".into());
            Answer::Propose(Proposal { provider, id, title, code: None, effect, stacking: Stacking::Combines, limit: None })
        };
        Ok(match misdeed.as_str() {
            "forge-an-identity" => vec![Answer::Reject(Rejection { provider: "discount-coupon".into(), code: "FORGED".into(), reason: "forged".into() })],
            "more-than-everything" => vec![proposal(Effect::Percent((4_000_000, portions(1_000_000))))],
            "html-in-a-title" => vec![proposal(Effect::Percent((10_000, portions(1))))],
            "behave-for-a-while" => {
                assert!(calls() <= 5, "enough of it");
                Vec::new()
            }
            // After each trap it is a new instance, which counts anew.
            "fail-every-fourth-time" => {
                assert!(calls() <= 3, "not again");
                vec![proposal(Effect::Percent((100_000, portions(1))))]
            }
            "take-its-time" => {
                for turn in 0..60_000_000_u32 {
                    black_box(turn);
                }
                vec![proposal(Effect::Percent((100_000, portions(1))))]
            }
            // Most of the 200 ms that it has, on optimised code.
            "spin-most-of-the-deadline" => {
                for turn in 0..250_000_000_u32 {
                    black_box(turn);
                }
                Vec::new()
            }
            "ten-thousand-proposals" => many(10_000),
            "three-hundred-proposals" => many(300),
            "huge-answer" => {
                let reason = "x".repeat(1 << 20);
                (0..40).map(|_| Answer::Reject(Rejection { provider: String::new(), code: "X".into(), reason: reason.clone() })).collect()
            }
            // Itself among them, and others that do the same.
            "ask-for-discounts" => discount::propose(&cart)?,
            other => {
                misdeeds::commit(other);
                Vec::new()
            }
        })
    }
}

/// That take next to nothing off.
fn many(number: u32) -> Vec<Answer> {
    let proposal = |id: u32| Proposal {
        provider: String::new(),
        id: id.to_string(),
        title: "x".into(),
        code: None,
        effect: Effect::ShippingPercent(1),
        stacking: Stacking::Combines,
        limit: None,
    };
    (0..number).map(|id| Answer::Propose(proposal(id))).collect()
}

souk_sdk::export!(Hostile: extend::discount);
