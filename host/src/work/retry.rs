//! When what has failed is tried again, and when it is given up.

use crate::chance;

/// Exponential back-off with a longest wait, over hours: an outage of a provider
/// ends some day, and what waited for it must still be there then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries of an event, an effect, its answer or a job before it is given up.
    pub attempts_max: u32,
    /// The wait after the first failure; it doubles with each more.
    pub first_ms: u64,
    /// The longest wait between two tries.
    pub most_ms: u64,
    /// How long a repeating job may fail before that is a dead letter.
    pub horizon_ms: u64,
}

pub const FIRST_MS: u64 = 250;
pub const MOST_MS: u64 = 600_000;
pub const HORIZON_MS: u64 = 24 * 3_600_000;

impl Default for Retry {
    fn default() -> Self {
        Self::within(FIRST_MS, MOST_MS, HORIZON_MS)
    }
}

impl Retry {
    /// With as many tries as begin before the horizon. What counts are waits,
    /// not the time by the clock: a shop that was shut down gives nothing up.
    pub fn within(first_ms: u64, most_ms: u64, horizon_ms: u64) -> Self {
        let mut retry = Self { attempts_max: 1, first_ms: first_ms.max(1), most_ms: most_ms.max(1), horizon_ms };
        let mut waited_ms = 0_u64;
        loop {
            waited_ms = waited_ms.saturating_add(retry.step_ms(retry.attempts_max));
            if waited_ms > horizon_ms || retry.attempts_max == ATTEMPTS_MOST {
                return retry;
            }
            retry.attempts_max += 1;
        }
    }

    fn step_ms(&self, failures: u32) -> u64 {
        self.first_ms.saturating_mul(1 << failures.saturating_sub(1).min(32)).min(self.most_ms)
    }

    /// With a quarter of jitter, so that what failed together does not come
    /// back together.
    pub(super) fn wait_ms(&self, failures: u32) -> u64 {
        let ms = self.step_ms(failures);
        ms - ms / 8 + chance::below(ms / 4 + 1)
    }

    pub(super) fn is_spent(&self, failures: u32) -> bool {
        failures >= self.attempts_max
    }
}

/// Whatever is set.
const ATTEMPTS_MOST: u32 = 100_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry { first_ms: 1_000, most_ms: 60_000, ..Retry::default() };
        for (failures, expected) in [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (40, 60_000), (u32::MAX, 60_000)] {
            for _ in 0..50 {
                let wait = retry.wait_ms(failures);
                assert!((expected - expected / 8..=expected + expected / 8).contains(&wait), "{failures}: {wait}");
            }
        }
    }

    #[test]
    fn an_outage_of_hours_gives_nothing_up() {
        let retry = Retry::default();
        let waited = |tries: u32| (1..tries).map(|failures| retry.step_ms(failures)).sum::<u64>();
        assert!(waited(8) <= 60_000, "what passes within a minute is over within a minute");
        assert!(waited(retry.attempts_max) > 23 * 3_600_000, "{}", waited(retry.attempts_max));
        assert!(waited(retry.attempts_max) <= 24 * 3_600_000);
    }

    proptest! {
        /// On a clock that only the schedule moves.
        #[test]
        fn every_try_begins_within_the_horizon_and_the_next_would_not(
            first_ms in 1_u64..60_000, factor in 1_u64..10_000, horizon_ms in 60_000_u64..30 * 24 * 3_600_000,
        ) {
            let most_ms = first_ms * factor;
            let retry = Retry::within(first_ms, most_ms, horizon_ms);
            prop_assert!(retry.attempts_max >= 1);
            let (mut now_ms, mut failures) = (0_u64, 0);
            loop {
                failures += 1;
                if retry.is_spent(failures) {
                    break;
                }
                let step = retry.step_ms(failures);
                prop_assert!(step <= most_ms && step >= first_ms.min(most_ms));
                now_ms += step;
                prop_assert!(now_ms <= horizon_ms);
            }
            prop_assert!(retry.attempts_max == ATTEMPTS_MOST || now_ms + retry.step_ms(failures) > horizon_ms);
        }
    }
}
