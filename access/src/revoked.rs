//! Revocations: tokens that are right, and count no more.

use std::{collections::HashMap, fmt};

use crate::principal::Principal;

/// Revocations that are kept, as many as there may be. One that still counts never gives way to another.
#[derive(Debug, Default)]
pub struct Revoked {
    entries: HashMap<Entry, Until>,
}

/// There are as many revocations as are kept, and all of them count still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRevoked;

impl fmt::Display for TooManyRevoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MAX} revocations are kept, and all of them count still: take a key from those that are trusted \
             instead, or say by \"until\" when those have expired that are meant"
        )
    }
}

impl std::error::Error for TooManyRevoked {}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Subject(Box<str>),
    Token(Box<str>),
}

#[derive(Clone, Copy, Debug)]
struct Until {
    /// Tokens that were made before this are meant.
    before: u64,
    /// By then all of them have expired.
    forget: u64,
}

/// Revocations at a time.
const MAX: usize = 10_000;

impl Revoked {
    /// All that this subject came in with before `before` counts no more; by `forget` it has all expired.
    ///
    /// # Errors
    /// If there are as many as are kept.
    pub fn revoke_subject(
        &mut self,
        subject: &str,
        before: u64,
        forget: u64,
        now: u64,
    ) -> Result<(), TooManyRevoked> {
        self.revoke(Entry::Subject(subject.into()), Until { before, forget }, now)
    }

    /// The token of this number counts no more; by `forget` it has expired.
    ///
    /// # Errors
    /// If there are as many as are kept.
    pub fn revoke_token(&mut self, id: &str, forget: u64, now: u64) -> Result<(), TooManyRevoked> {
        self.revoke(Entry::Token(id.into()), Until { before: u64::MAX, forget }, now)
    }

    fn revoke(&mut self, entry: Entry, until: Until, now: u64) -> Result<(), TooManyRevoked> {
        if let Some(known) = self.entries.get_mut(&entry) {
            known.before = known.before.max(until.before);
            known.forget = known.forget.max(until.forget);
            return Ok(());
        }
        if self.entries.len() >= MAX {
            self.entries.retain(|_, until| until.forget > now);
        }
        if self.entries.len() >= MAX {
            return Err(TooManyRevoked);
        }
        self.entries.insert(entry, until);
        Ok(())
    }

    /// Whether this counts no more. A token that does not say when it was made counts as an old one.
    pub fn has(&self, principal: &Principal) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let meets = |entry: Entry| {
            let until = self.entries.get(&entry);
            until.is_some_and(|until| principal.issued.unwrap_or(0) < until.before)
        };
        let token = principal.token_id.as_deref();
        let subject = principal.subject.as_deref();
        token.is_some_and(|id| meets(Entry::Token(id.into())))
            || subject.is_some_and(|subject| meets(Entry::Subject(subject.into())))
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Method;

    fn token(subject: &str, id: &str, issued: Option<u64>) -> Principal {
        let mut principal = Principal::new(Some(subject.into()), [].into(), Method::Token);
        principal.token_id = Some(id.into());
        principal.issued = issued;
        principal
    }

    #[test]
    fn tokens_made_before_are_meant_and_those_made_after_are_not() {
        let mut revoked = Revoked::default();
        assert_eq!(revoked.revoke_subject("ann", 100, 500, 10), Ok(()));
        assert!(revoked.has(&token("ann", "1", Some(99))));
        assert!(revoked.has(&token("ann", "1", None)));
        assert!(!revoked.has(&token("ann", "1", Some(100))));
        assert!(!revoked.has(&token("bob", "1", Some(99))));
        assert_eq!(revoked.revoke_token("7", 500, 10), Ok(()));
        assert!(revoked.has(&token("bob", "7", Some(1_000))));
    }

    #[test]
    fn there_are_never_more_than_a_bound_and_those_go_that_are_over_and_no_others() {
        let mut revoked = Revoked::default();
        for number in 0..MAX as u64 {
            assert_eq!(revoked.revoke_token(&number.to_string(), 100 + number, 0), Ok(()));
        }
        assert_eq!(revoked.revoke_token("x", 1 << 40, 99), Err(TooManyRevoked));
        assert_eq!(revoked.revoke_token("7", 1 << 40, 99), Ok(()));
        assert!(revoked.has(&token("a", "0", None)) && !revoked.has(&token("a", "x", None)));
        assert_eq!(revoked.revoke_token("x", 1 << 40, 100), Ok(()));
        assert_eq!(revoked.len(), MAX);
        assert!(!revoked.has(&token("a", "0", None)) && revoked.has(&token("a", "x", None)));
        assert_eq!(revoked.revoke_token("y", 1 << 40, 1 << 30), Ok(()));
        assert_eq!(revoked.len(), 3);
    }
}
