//! Names of topics, and patterns of them.

use std::{borrow::Borrow, fmt, sync::Arc};

use rsock_access::is_token;

use crate::refusal::Refusal;

/// Bytes of the longest name.
const MAX_NAME_BYTES: usize = 200;

/// A topic's name: tokens of `A-Z a-z 0-9 _ -`, joined by dots, of 200 bytes at most.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks a name that a client has asked for.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what is not a name, and for those the service keeps for itself: they begin
    /// with `_`.
    pub fn of_client(text: &str) -> Result<Self, Refusal> {
        if text.starts_with('_') {
            return Err(Refusal::invalid(format_args!(
                "{text:?} is not a topic's name for you: those that begin with _ are the service's own"
            )));
        }
        Self::parse(text)
    }

    /// Checks a name, which may be the service's own.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what is not a name.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_NAME_BYTES || !text.split('.').all(is_token) {
            // A peer chose its length.
            let shown: String = text.chars().take(MAX_NAME_BYTES).collect();
            return Err(Refusal::invalid(format_args!(
                "{shown:?} is not a topic's name: tokens of A-Z a-z 0-9 _ - joined by dots, \
                 {MAX_NAME_BYTES} bytes at most"
            )));
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its tokens, in order.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

/// Names are ordered and found as text is.
impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern of topics: tokens as in a name, `*` for any one, a last `>` for one or more, and `{name}` for
/// the token of who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(rsock_access::Pattern);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        rsock_access::Pattern::parse(text, rsock_access::Kind::Topic).map(Self)
    }

    /// Whether it covers this topic, asked for by whoever has this name. A name that is not a token is
    /// nobody's `{name}`.
    pub fn covers(&self, topic: &TopicName, own: Option<&str>) -> bool {
        self.0.covers(topic.as_str(), own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName {
        TopicName::parse(text).expect("valid")
    }

    #[test]
    fn names_are_tokens_joined_by_dots() {
        let long = "x".repeat(MAX_NAME_BYTES);
        for good in ["a", "room.1", "A-Z_0.x", "_presence.room", &long] {
            assert_eq!(name(good).as_str(), good);
        }
        let longer = "x".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", ".", "a.", ".a", "a..b", "room 1", "a/b", "ä", "a.*", "a.>", "$x", &longer]
        {
            let refusal = TopicName::parse(bad).expect_err(bad);
            assert!(refusal.to_string().contains("is not a topic's name"), "{refusal}");
        }
        assert!(TopicName::of_client("_presence.room").is_err());
        assert!(TopicName::of_client("a._b").is_ok());
    }

    #[test]
    fn patterns_cover_whole_names() {
        for (pattern, covered, others) in [
            ("room.1", &["room.1"][..], &["room", "room.1.x", "room.12"][..]),
            ("room.*", &["room.1", "room.x"], &["room", "room.1.x", "rooms.1"]),
            ("room.>", &["room.1", "room.1.x"], &["room", "rooms.1"]),
            (">", &["a", "a.b"], &[]),
            ("*", &["a"], &["a.b"]),
            ("user.{name}.>", &["user.ann.inbox"], &["user.bob.inbox", "user.ann", "user.name.x"]),
        ] {
            let pattern = Pattern::parse(pattern).expect("valid");
            for topic in covered {
                assert!(pattern.covers(&name(topic), Some("ann")), "{pattern:?} {topic}");
            }
            for topic in others {
                assert!(!pattern.covers(&name(topic), Some("ann")), "{pattern:?} {topic}");
            }
        }
    }

    /// Names that look like more than one token, or like a pattern, are no one's own.
    #[test]
    fn a_name_that_is_not_a_token_has_no_topic_of_its_own() {
        let pattern = Pattern::parse("user.{name}").expect("valid");
        for own in ["a.b", "*", ">", "", "Ann ", "%61nn", "{name}"] {
            for topic in ["user.a", "user.a.b", "user.ann", "user.Ann"] {
                assert!(!pattern.covers(&name(topic), Some(own)), "{own:?} {topic}");
            }
        }
        assert!(!pattern.covers(&name("user.ann"), None));
        assert!(!pattern.covers(&name("user.ann"), Some("Ann")), "case counts");
    }

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for bad in ["", "a..b", "a.>.b", ">.a", "a*", "{x}", "a b"] {
            let error = Pattern::parse(bad).expect_err(bad);
            assert!(error.contains("is not a pattern of topics"), "{error}");
        }
    }
}
