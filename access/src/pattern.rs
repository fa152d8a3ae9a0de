//! Patterns of dotted names.

/// Bytes of the longest pattern: a route has no more.
pub const MAX_PATTERN_BYTES: usize = 255;

/// A kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Names of topics.
    Topic,
    /// Names of routes.
    Route,
}

impl Kind {
    /// The word for one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Route => "route",
        }
    }
}

/// A pattern of dotted names: tokens, `*` for any one, a last `>` for one or more, and `{name}` for the name
/// of who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    tokens: Box<[Token]>,
    /// It ends with `>`.
    has_rest: bool,
}

/// A token of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Itself.
    Literal(Box<str>),
    /// Any one.
    Any,
    /// The name of who asks.
    Own,
}

impl Pattern {
    /// Reads a pattern. `{user}` is the same as `{name}`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, String> {
        let (of, alphabet, is_legal): (_, _, fn(&str) -> bool) = match kind {
            Kind::Topic => ("topics", "a token of A-Z a-z 0-9 _ -", is_token),
            Kind::Route => ("routes", "a token without spaces, * > { and }", is_route_token),
        };
        let shown: String = text.chars().take(MAX_PATTERN_BYTES).collect();
        if text.len() > MAX_PATTERN_BYTES {
            return Err(format!(
                "{shown:?} is not a pattern of {of}: it has more than {MAX_PATTERN_BYTES} bytes"
            ));
        }
        let mut tokens: Vec<_> = text.split('.').collect();
        let has_rest = tokens.last() == Some(&">");
        if has_rest {
            tokens.pop();
        }
        let token = |token: &str| match token {
            "*" => Ok(Token::Any),
            "{name}" | "{user}" => Ok(Token::Own),
            token if is_legal(token) => Ok(Token::Literal(token.into())),
            token => Err(format!(
                "{shown:?} is not a pattern of {of}: {token:?} is neither {alphabet} nor *, {{name}}, or > \
                 at the end"
            )),
        };
        let tokens = tokens.into_iter().map(token).collect::<Result<_, _>>()?;
        Ok(Self { text: text.into(), tokens, has_rest })
    }

    /// Itself as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(crate) fn has_rest(&self) -> bool {
        self.has_rest
    }

    /// Whether it covers this name, asked for by whoever has the name `own`. What is not a token is nobody's
    /// `{name}`; what has empty tokens is covered by nothing.
    pub fn covers(&self, name: &str, own: Option<&str>) -> bool {
        let own = own.filter(|own| is_token(own));
        let mut tokens = name.split('.');
        let begins = self.tokens.iter().all(|token| {
            tokens.next().is_some_and(|name| match token {
                Token::Literal(literal) => **literal == *name,
                Token::Any => !name.is_empty(),
                Token::Own => own == Some(name),
            })
        });
        begins
            && match (tokens.next(), self.has_rest) {
                (None, false) => true,
                (Some(first), true) => !first.is_empty() && tokens.all(|token| !token.is_empty()),
                _ => false,
            }
    }
}

/// Whether this is a token of a topic's name: `A-Z a-z 0-9 _ -`.
pub fn is_token(token: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !token.is_empty() && token.bytes().all(is_allowed)
}

fn is_route_token(token: &str) -> bool {
    let is_forbidden = |character: char| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '*' | '>' | '{' | '}')
    };
    !token.is_empty() && !token.contains(is_forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for bad in ["", "a..b", "a.>.b", ">.a", "a*", "{x}", "a b", "a.", ".", "room/1"] {
            let error = Pattern::parse(bad, Kind::Topic).expect_err(bad);
            assert!(error.contains("is not a pattern of topics"), "{error}");
        }
        assert!(Pattern::parse("room/1", Kind::Route).is_ok());
        for bad in ["", "a..b", "a.>.b", "a*", "{*rest}", "a b", &"x".repeat(256)] {
            let error = Pattern::parse(bad, Kind::Route).expect_err(bad);
            assert!(error.contains("is not a pattern of routes"), "{error}");
        }
    }

    #[test]
    fn what_has_empty_tokens_is_covered_by_nothing() {
        for pattern in [">", "a.>", "a.*", "*.*", "a.*.>"] {
            let pattern = Pattern::parse(pattern, Kind::Route).expect("valid");
            for name in ["", ".", "a.", ".a", "a..b", "a.b.", "a.b..c"] {
                assert!(!pattern.covers(name, None), "{pattern:?} {name}");
            }
        }
    }
}
