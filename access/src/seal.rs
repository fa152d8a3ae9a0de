//! Keyed hashes of secrets: what was found right once need not be computed again, and is not kept either.

use std::fmt;

use aws_lc_rs::{hmac, rand};

/// A key of this process, which is never written down.
pub struct Seal(hmac::Key);

/// The hash of a secret under such a key. Without the key it tells nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sealed([u8; 32]);

impl Seal {
    /// A key that nobody knows.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn random() -> Result<Self, &'static str> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map(Self)
            .map_err(|_| "the system has no random numbers")
    }

    /// The hash of these parts, none of which can be taken for a part of its neighbour.
    pub fn of(&self, parts: &[&[u8]]) -> Sealed {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        // SHA-256 has as many.
        hash.copy_from_slice(context.sign().as_ref());
        Sealed(hash)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let seal = Seal::random().expect("there are random numbers");
        assert!(seal.of(&[b"ann", b"secret"]) == seal.of(&[b"ann", b"secret"]));
        assert!(seal.of(&[b"ann", b"secret"]) != seal.of(&[b"anns", b"ecret"]));
        assert!(seal.of(&[b"a\0b"]) != seal.of(&[b"a", b"b"]));
        let other = Seal::random().expect("there are random numbers");
        assert!(seal.of(&[b"ann"]) != other.of(&[b"ann"]));
    }
}
