//! Which route a name leads to.

use std::collections::HashMap;

use crate::request::Params;

/// Routes by name. `{name}` in a pattern stands for one dot-separated token, `{*name}` for the rest.
#[derive(Clone, Debug)]
pub(super) struct Paths<T> {
    exact: HashMap<String, T>,
    /// Looked at in the order in which they were added, when no name matches exactly.
    patterns: Vec<(Pattern, T)>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
enum Token {
    Literal(String),
    One(String),
    Rest(String),
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), patterns: Vec::new() }
    }
}

impl<T: Default> Paths<T> {
    /// The entry of a pattern, made if there is none.
    pub(super) fn entry(&mut self, pattern: &str) -> &mut T {
        if !pattern.contains('{') {
            return self.exact.entry(pattern.to_owned()).or_default();
        }
        let at = self.patterns.iter().position(|(known, _)| known.text == pattern);
        let at = at.unwrap_or_else(|| {
            self.patterns.push((Pattern::new(pattern), T::default()));
            self.patterns.len() - 1
        });
        &mut self.patterns[at].1
    }
}

impl<T> Paths<T> {
    pub(super) fn find(&self, name: &str) -> Option<(&T, Params)> {
        if let Some(found) = self.exact.get(name) {
            return Some((found, Params::default()));
        }
        self.patterns
            .iter()
            .find_map(|(pattern, found)| pattern.matches(name).map(|params| (found, params)))
    }

    /// All routes by name, in alphabetical order.
    pub(super) fn list(&self) -> Vec<(&str, &T)> {
        let exact = self.exact.iter().map(|(name, entry)| (name.as_str(), entry));
        let patterns = self.patterns.iter().map(|(pattern, entry)| (pattern.text.as_str(), entry));
        let mut all: Vec<_> = exact.chain(patterns).collect();
        all.sort_by_key(|(name, _)| *name);
        all
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        let token = |token: &str| match token.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            None => Token::Literal(token.to_owned()),
            Some(name) => match name.strip_prefix('*') {
                Some(name) => Token::Rest(name.to_owned()),
                None => Token::One(name.to_owned()),
            },
        };
        Self { text: text.to_owned(), tokens: text.split('.').map(token).collect() }
    }

    fn matches(&self, name: &str) -> Option<Params> {
        let mut params = Params::default();
        let mut rest = Some(name);
        for token in &self.tokens {
            let left = rest?;
            let (first, after) = match left.split_once('.') {
                Some((first, after)) => (first, Some(after)),
                None => (left, None),
            };
            match token {
                Token::Literal(literal) if literal == first => rest = after,
                Token::Literal(_) => return None,
                Token::One(_) | Token::Rest(_) if first.is_empty() => return None,
                Token::One(name) => {
                    params.0.push((name.clone(), first.to_owned()));
                    rest = after;
                }
                Token::Rest(name) => {
                    params.0.push((name.clone(), left.to_owned()));
                    rest = None;
                }
            }
        }
        rest.is_none().then_some(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths<u8> {
        let mut paths = Paths::default();
        for (pattern, value) in
            [("echo", 1), ("quotes.{symbol}", 2), ("topic.{*name}", 3), ("a.{x}.c", 4)]
        {
            *paths.entry(pattern) = value;
        }
        paths
    }

    #[test]
    fn names_lead_to_their_route() {
        for (name, expected) in [
            ("echo", Some((1, None))),
            ("quotes.AAPL", Some((2, Some(("symbol", "AAPL"))))),
            ("topic.a.b.c", Some((3, Some(("name", "a.b.c"))))),
            ("a.b.c", Some((4, Some(("x", "b"))))),
            ("quotes", None),
            ("quotes.", None),
            ("quotes.A.B", None),
            ("topic", None),
            ("a.b.d", None),
            ("", None),
        ] {
            let found =
                paths().find(name).map(|(value, params)| (*value, params.0.first().cloned()));
            let expected = expected.map(|(value, param)| {
                (value, param.map(|(name, value)| (name.to_owned(), value.to_owned())))
            });
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_list_is_in_order() {
        let paths = paths();
        let names: Vec<_> = paths.list().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.{x}.c", "echo", "quotes.{symbol}", "topic.{*name}"]);
    }
}
