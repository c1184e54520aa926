//! Where everything unforeseeable comes from: tokens, keys, jitter. The
//! operating system, unless a simulation has said on its thread where else.

use std::cell::Cell;

use xxhash_rust::xxh3::xxh3_64_with_seed;

thread_local! {
    /// Seed of a simulation, and how much was drawn from it.
    static SIMULATED: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// From here on, all that is drawn on this thread follows from the seed. Never
/// where anything real is kept: it can be foretold.
pub fn simulate(seed: u64) {
    SIMULATED.set(Some((seed, 0)));
}

pub fn fill(bytes: &mut [u8]) {
    match SIMULATED.get() {
        None => getrandom::fill(bytes).expect("the operating system gives randomness"),
        Some((seed, drawn)) => {
            for (place, chunk) in (drawn..).zip(bytes.chunks_mut(8)) {
                chunk.copy_from_slice(&xxh3_64_with_seed(&place.to_le_bytes(), seed).to_le_bytes()[..chunk.len()]);
            }
            SIMULATED.set(Some((seed, drawn + bytes.len().div_ceil(8) as u64)));
        }
    }
}

/// Even enough for jitter: 0 to below `end`, or 0.
pub fn below(end: u64) -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes) % end.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_again_and_no_seed_does_not() {
        let drawn = || {
            let mut bytes = [0; 21];
            fill(&mut bytes);
            (bytes, below(1 << 40))
        };
        assert_ne!(drawn(), drawn());
        simulate(7);
        let first = drawn();
        let second = drawn();
        assert_ne!(first, second);
        simulate(7);
        assert_eq!((drawn(), drawn()), (first, second));
        simulate(8);
        assert_ne!(drawn(), first);
    }
}
