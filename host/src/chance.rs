//! Where everything unforeseeable comes from: tokens, keys, jitter, and when a
//! thread is done. The operating system, unless a simulation has said on its
//! thread where else, or a unit that is rehearsed brings its own.

use std::cell::Cell;
use std::time::Duration;

use tokio::task::JoinError;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Of work that is done [`aside`], in a simulation.
const ASIDE_MS_MAX: u64 = 100;

thread_local! {
    static SIMULATED: Cell<Option<Seeded>> = const { Cell::new(None) };
}

/// What follows from a seed, and how much of it was drawn.
#[derive(Debug, Clone, Copy)]
struct Seeded {
    seed: u64,
    drawn: u64,
}

impl Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for (place, chunk) in (self.drawn..).zip(bytes.chunks_mut(8)) {
            chunk.copy_from_slice(&xxh3_64_with_seed(&place.to_le_bytes(), self.seed).to_le_bytes()[..chunk.len()]);
        }
        self.drawn += bytes.len().div_ceil(8) as u64;
    }
}

/// What a unit draws from: as the host does, unless it is to be the same again.
#[derive(Debug, Default)]
pub struct Chance(Option<Seeded>);

impl Chance {
    /// Never where anything real is kept: it can be foretold.
    pub fn repeatable() -> Self {
        Self(Some(Seeded { seed: 0, drawn: 0 }))
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        match &mut self.0 {
            None => fill(bytes),
            Some(seeded) => seeded.fill(bytes),
        }
    }

    pub fn bytes<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        self.fill(&mut bytes);
        bytes
    }

    /// Letters and digits. Each is drawn evenly: bytes past the last whole
    /// alphabet are thrown away.
    pub fn token(&mut self, length: usize) -> String {
        let mut token = String::with_capacity(length);
        while token.len() < length {
            let mut bytes = vec![0; length + 8];
            self.fill(&mut bytes);
            let even = bytes.into_iter().filter(|byte| *byte < 248);
            token.extend(even.take(length - token.len()).map(|byte| char::from(ALPHABET[usize::from(byte) % 62])));
        }
        token
    }

    /// 128 bits in hexadecimal.
    pub fn id(&mut self) -> String {
        hex::encode(self.bytes::<16>())
    }
}

/// From here on, all that is drawn on this thread follows from the seed. Never
/// where anything real is kept: it can be foretold.
pub fn simulate(seed: u64) {
    SIMULATED.set(Some(Seeded { seed, drawn: 0 }));
}

pub fn fill(bytes: &mut [u8]) {
    match SIMULATED.get() {
        None => getrandom::fill(bytes).expect("the operating system gives randomness"),
        Some(mut seeded) => {
            seeded.fill(bytes);
            SIMULATED.set(Some(seeded));
        }
    }
}

/// Even enough for jitter: 0 to below `end`, or 0.
pub fn below(end: u64) -> u64 {
    u64::from_le_bytes(Chance::default().bytes()) % end.max(1)
}

/// Long work, kept off the threads that serve. A simulation has but one: there it
/// is done at once, and then takes as long as the seed says.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if SIMULATED.get().is_none() {
        return tokio::task::spawn_blocking(work).await;
    }
    let done = work();
    tokio::time::sleep(Duration::from_millis(below(ASIDE_MS_MAX))).await;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_again_and_no_seed_does_not() {
        let drawn = || (Chance::default().bytes::<21>(), below(1 << 40));
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

    #[test]
    fn tokens_have_the_length_and_alphabet_asked_for() {
        for mut chance in [Chance::default(), Chance::repeatable()] {
            for length in [0, 1, 32, 256] {
                let token = chance.token(length);
                assert_eq!(token.len(), length);
                assert!(token.bytes().all(|byte| ALPHABET.contains(&byte)));
            }
            assert_ne!(chance.token(32), chance.token(32));
        }
        assert_eq!(Chance::repeatable().token(32), Chance::repeatable().token(32));
    }
}
