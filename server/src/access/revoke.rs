//! Revocations: what somebody came in with counts no more, from now on and for those who are in.

use std::sync::atomic::Ordering::Release;

use rsock_access::{Principal, TooManyRevoked, check_name};
use serde::Deserialize;

use super::{Access, lock, unix_now};

/// Bytes of the longest number of a token.
const MAX_ID_BYTES: usize = 256;

/// A revocation, as somebody asks for it: of all that a subject came in with, or of one token.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Revoke {
    subject: Option<String>,
    jti: Option<String>,
    /// Of a subject what is older than this second since 1970; without it, all until now.
    before: Option<u64>,
    /// The second since 1970 by which all has expired that is meant; without it, it is never forgotten.
    until: Option<u64>,
}

impl Revoke {
    /// Reads one: JSON as `{"subject":"ann"}` or `{"jti":"7"}`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        const EXAMPLE: &str = "it is {\"subject\":\"ann\",\"before\":1800000000} or {\"jti\":\"7\"}, each with \
                               \"until\":1800003600 or without";
        let revoke: Self =
            serde_json::from_slice(json).map_err(|error| format!("{error}; {EXAMPLE}"))?;
        match (&revoke.subject, &revoke.jti) {
            (Some(subject), None) => {
                check_name(subject).map_err(|problem| format!("the subject {problem}"))?;
            }
            (None, Some(id))
                if (1..=MAX_ID_BYTES).contains(&id.len()) && revoke.before.is_none() => {}
            _ => return Err(EXAMPLE.to_owned()),
        }
        Ok(revoke)
    }

    fn object(&self) -> &str {
        self.subject.as_deref().or(self.jti.as_deref()).unwrap_or_default()
    }
}

impl Access {
    /// Has something count no more. Those who came in with it are let go at once; their number.
    ///
    /// # Errors
    /// If there are as many revocations as are kept.
    pub(crate) fn revoke(
        &self,
        revoke: &Revoke,
        address: &str,
        by: &Principal,
    ) -> Result<usize, TooManyRevoked> {
        let (inner, now) = (&self.0, unix_now());
        let forget = revoke.until.unwrap_or(u64::MAX);
        {
            let mut revoked = lock(&inner.revoked);
            match (&revoke.subject, &revoke.jti) {
                (Some(subject), _) => {
                    // What was made in this very second is meant as well.
                    let before = revoke.before.unwrap_or(now + 1);
                    revoked.revoke_subject(subject, before, forget, now)?;
                }
                (None, Some(id)) => revoked.revoke_token(id, forget, now)?,
                (None, None) => {}
            }
        }
        self.administered(address, by, "revoke", Some(revoke.object()));
        // Known ones are looked up again: not before, or one that is on its way would be known for long.
        lock(&inner.cache).clear();
        let sessions = inner.sessions().into_iter();
        let meant: Vec<_> = sessions
            .filter(|session| !session.is_over() && lock(&inner.revoked).has(&session.principal()))
            .collect();
        for session in &meant {
            inner.end_revoked(session);
        }
        inner.version.fetch_add(1, Release);
        Ok(meant.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_is_of_a_subject_or_of_a_token() {
        for right in [
            r#"{"subject":"ann"}"#,
            r#"{"subject":"ann","before":5,"until":9}"#,
            r#"{"jti":"7","until":9}"#,
        ] {
            assert!(Revoke::read(right.as_bytes()).is_ok(), "{right}");
        }
        for (wrong, expected) in [
            ("", "EOF"),
            ("{}", "it is {\"subject\":\"ann\""),
            (r#"{"subject":"ann","jti":"7"}"#, "it is {"),
            (r#"{"jti":"7","before":5}"#, "it is {"),
            (r#"{"jti":""}"#, "it is {"),
            (r#"{"sub":"ann"}"#, "unknown field `sub`"),
            (r#"{"subject":"~ann"}"#, "the subject begins with ~"),
            (r#"{"subject":"ann","before":-1}"#, "invalid value"),
        ] {
            let problem = Revoke::read(wrong.as_bytes()).expect_err(wrong);
            assert!(problem.contains(expected), "{wrong}: {problem}");
        }
    }
}
