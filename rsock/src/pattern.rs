//! Patterns of routes: dot-separated tokens, some of which stand for others.

/// A pattern, which at least one token stands for others in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Box<str>,
    tokens: Vec<Token>,
}

/// A token of a pattern.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Itself.
    Literal(Box<str>),
    /// Any one token that is not empty.
    One(Box<str>),
    /// All tokens from there on.
    Rest(Box<str>),
}

impl Token {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const BRACES: [char; 2] = ['{', '}'];
        let name = match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            None if text.contains(BRACES) => {
                return Err(
                    "has a brace inside a token: a parameter is a token of its own, {name} \
                            or {*name}",
                );
            }
            None => return Ok(Self::Literal(text.into())),
            Some(name) => name,
        };
        let (token, name): (fn(_) -> _, _) = match name.strip_prefix('*') {
            Some(name) => (Self::Rest, name),
            None => (Self::One, name),
        };
        match name {
            "" => Err("has a parameter without a name"),
            _ if name.contains(BRACES) => Err("has a parameter with a brace in its name"),
            name => Ok(token(name.into())),
        }
    }

    fn parameter(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence about it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let tokens = text.split('.').map(Token::parse).collect::<Result<Vec<_>, _>>()?;
        for (at, token) in tokens.iter().enumerate() {
            let Some(name) = token.parameter() else { continue };
            if tokens[..at].iter().any(|before| before.parameter() == Some(name)) {
                return Err("has two parameters of the same name");
            }
            if matches!(token, Token::Rest(_)) && at + 1 < tokens.len() {
                return Err("goes on behind {*name}, which stands for all that follows");
            }
        }
        Ok(Self { text: text.into(), tokens })
    }

    /// Itself as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The parameters by name, with their values in a route that it matches.
    pub(crate) fn values<'a>(&'a self, route: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut left = route;
        self.tokens.iter().filter_map(move |token| {
            let (first, after) = left.split_once('.').unwrap_or((left, ""));
            let value = if matches!(token, Token::Rest(_)) { left } else { first };
            left = after;
            Some((token.parameter()?, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_the_values_that_stand_in_their_place() {
        let pattern = Pattern::parse("a.{one}.b.{*rest}").expect("it is well-formed");
        let values: Vec<_> = pattern.values("a.1.b.2.3").collect();
        assert_eq!(values, [("one", "1"), ("rest", "2.3")]);
        assert_eq!(pattern.as_str(), "a.{one}.b.{*rest}");
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (text, problem) in [
            ("a{b}", "inside a token"),
            ("a.{b}c.d", "inside a token"),
            ("a.{b", "inside a token"),
            ("a}.b", "inside a token"),
            ("a.{}", "without a name"),
            ("a.{*}", "without a name"),
            ("a.{{b}}", "brace in its name"),
            ("{*rest}.a", "goes on behind"),
            ("{a}.b.{a}", "same name"),
            ("{a}.{*a}", "same name"),
        ] {
            let refused = Pattern::parse(text).expect_err(text);
            assert!(refused.contains(problem), "{text}: {refused}");
        }
    }
}
