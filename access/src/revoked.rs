//! Revocations: tokens that are right, and count no more.

use std::collections::HashMap;

use crate::principal::Principal;

/// Revocations that are kept. Bounded: for one more, the one goes that would be forgotten first.
#[derive(Debug, Default)]
pub struct Revoked {
    entries: HashMap<Entry, Until>,
}

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
    /// All tokens of this subject made before `before` count no more; by `forget` they have all expired.
    pub fn revoke_subject(&mut self, subject: &str, before: u64, forget: u64, now: u64) {
        self.revoke(Entry::Subject(subject.into()), Until { before, forget }, now);
    }

    /// The token of this number counts no more; by `forget` it has expired.
    pub fn revoke_token(&mut self, id: &str, forget: u64, now: u64) {
        self.revoke(Entry::Token(id.into()), Until { before: u64::MAX, forget }, now);
    }

    fn revoke(&mut self, entry: Entry, until: Until, now: u64) {
        if let Some(known) = self.entries.get_mut(&entry) {
            known.before = known.before.max(until.before);
            known.forget = known.forget.max(until.forget);
            return;
        }
        if self.entries.len() >= MAX {
            self.entries.retain(|_, until| until.forget > now);
        }
        if self.entries.len() >= MAX
            && let Some(first) = self.entries.iter().min_by_key(|(_, until)| until.forget)
        {
            let first = first.0.clone();
            self.entries.remove(&first);
        }
        self.entries.insert(entry, until);
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
        revoked.revoke_subject("ann", 100, 500, 10);
        assert!(revoked.has(&token("ann", "1", Some(99))));
        assert!(revoked.has(&token("ann", "1", None)));
        assert!(!revoked.has(&token("ann", "1", Some(100))));
        assert!(!revoked.has(&token("bob", "1", Some(99))));
        revoked.revoke_token("7", 500, 10);
        assert!(revoked.has(&token("bob", "7", Some(1_000))));
    }

    #[test]
    fn there_are_never_more_than_a_bound_and_those_go_first_that_are_over() {
        let mut revoked = Revoked::default();
        for number in 0..MAX as u64 + 10 {
            revoked.revoke_token(&number.to_string(), 100 + number, 0);
        }
        assert_eq!(revoked.len(), MAX);
        assert!(!revoked.has(&token("a", "9", None)));
        assert!(revoked.has(&token("a", "10", None)));
        revoked.revoke_token("x", 1 << 40, 1 << 30);
        assert_eq!(revoked.len(), 1);
    }
}
