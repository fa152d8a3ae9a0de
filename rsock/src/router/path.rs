//! The tree of routes: which one a name leads to.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::pattern::{Pattern, Token};

/// Bytes of the longest route that a request can name (ROUTE-04).
const MAX_ROUTE_BYTES: usize = 255;

/// Routes by name. `{name}` in a pattern stands for one dot-separated token, `{*name}` for the rest.
#[derive(Clone, Debug)]
pub(super) struct Paths<T> {
    /// Looked at first, for a number. By the bytes: those of a route that is found need no look at whether
    /// they are UTF-8.
    numbers: FxHashMap<Box<[u8]>, u32>,
    /// The names that stand for themselves, by their numbers.
    exact: Vec<(Box<str>, T)>,
    patterns: Node<T>,
}

/// The place in a route between two tokens, and what may follow there. A peer's route leads past each
/// at most once, whatever it is.
#[derive(Clone, Debug)]
struct Node<T> {
    /// The tokens that stand for themselves, which go before others.
    literals: FxHashMap<Box<[u8]>, Self>,
    one: Option<Box<Self>>,
    rest: Option<Leaf<T>>,
    /// The pattern that ends here.
    end: Option<Leaf<T>>,
}

#[derive(Clone, Debug)]
struct Leaf<T> {
    pattern: Arc<Pattern>,
    entry: T,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { numbers: FxHashMap::default(), exact: Vec::new(), patterns: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: FxHashMap::default(), one: None, rest: None, end: None }
    }
}

impl<T: Default> Paths<T> {
    /// The entry of a name or pattern, made if there is none.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence about it.
    pub(super) fn entry(&mut self, path: &str) -> Result<&mut T, String> {
        let pattern = Arc::new(Pattern::parse(path)?);
        if !path.contains('{') {
            if path.len() > MAX_ROUTE_BYTES {
                return Err(format!(
                    "has {} bytes, and a request names at most {MAX_ROUTE_BYTES}",
                    path.len()
                ));
            }
            // There are no more routes than are in memory.
            let next = self.exact.len() as u32;
            let number = *self.numbers.entry(path.as_bytes().into()).or_insert(next);
            if number == next {
                self.exact.push((path.into(), T::default()));
            }
            return Ok(&mut self.exact[number as usize].1);
        }
        let mut node = &mut self.patterns;
        let mut leaf = None;
        for token in pattern.tokens() {
            node = match token {
                Token::Literal(text) => node.literals.entry(text.as_bytes().into()).or_default(),
                Token::One(_) => node.one.get_or_insert_default(),
                Token::Rest(_) => {
                    leaf = Some(&mut node.rest);
                    break;
                }
            };
        }
        let leaf = leaf.unwrap_or(&mut node.end);
        let leaf =
            leaf.get_or_insert_with(|| Leaf { pattern: Arc::clone(&pattern), entry: T::default() });
        if leaf.pattern != pattern {
            let other = leaf.pattern.as_str();
            return Err(format!("matches what {other:?} matches: they differ in names alone"));
        }
        Ok(&mut leaf.entry)
    }
}

impl<T> Paths<T> {
    /// The entry that a name leads to, and the pattern by which it does. Exact names come first, then
    /// token by token what stands for itself, `{name}`, and `{*name}`.
    pub(super) fn find(&self, name: &[u8]) -> Option<(&T, Option<&Arc<Pattern>>)> {
        if let Some(entry) = self.number(name).and_then(|number| self.at(number)) {
            return Some((entry, None));
        }
        let leaf = self.patterns.find(name)?;
        Some((&leaf.entry, Some(&leaf.pattern)))
    }

    /// The number of a name that stands for itself.
    #[inline]
    pub(super) fn number(&self, name: &[u8]) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The entry of the name of this number.
    #[inline]
    pub(super) fn at(&self, number: u32) -> Option<&T> {
        self.exact.get(number as usize).map(|(_, entry)| entry)
    }

    /// The names that stand for themselves alone.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(|(name, _)| &**name)
    }

    /// All routes by name, in alphabetical order.
    pub(super) fn list(&self) -> Vec<(&str, &T)> {
        let mut all: Vec<_> = self.exact.iter().map(|(name, entry)| (&**name, entry)).collect();
        self.patterns.list(&mut all);
        all.sort_by_key(|(name, _)| *name);
        all
    }
}

impl<T> Node<T> {
    /// The leaf that a name leads to from here. It comes back only to where a token stands for itself and
    /// for `{name}` as well.
    fn find(&self, name: &[u8]) -> Option<&Leaf<T>> {
        let (mut node, mut left, mut rest) = (self, name, None);
        loop {
            let (first, after) = match left.iter().position(|byte| *byte == b'.') {
                Some(at) => (&left[..at], Some(&left[at + 1..])),
                None => (left, None),
            };
            if first.is_empty() {
                return rest;
            }
            rest = node.rest.as_ref().or(rest);
            let literal = if node.literals.is_empty() { None } else { node.literals.get(first) };
            let next = match (literal, node.one.as_deref()) {
                (None, None) => return rest,
                (Some(next), None) | (None, Some(next)) => next,
                (Some(literal), Some(one)) => {
                    let found = after.map_or(literal.end.as_ref(), |after| literal.find(after));
                    if found.is_some() {
                        return found;
                    }
                    one
                }
            };
            let Some(after) = after else { return next.end.as_ref().or(rest) };
            (node, left) = (next, after);
        }
    }

    fn list<'a>(&'a self, all: &mut Vec<(&'a str, &'a T)>) {
        let leaves = self.end.iter().chain(&self.rest);
        all.extend(leaves.map(|leaf| (leaf.pattern.as_str(), &leaf.entry)));
        for node in self.literals.values().chain(self.one.as_deref()) {
            node.list(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(patterns: &[&str]) -> Paths<String> {
        let mut paths = Paths::default();
        for pattern in patterns {
            *paths.entry(pattern).expect(pattern) = (*pattern).to_owned();
        }
        paths
    }

    fn found(paths: &Paths<String>, name: &str) -> Option<(String, Vec<(String, String)>)> {
        let (entry, pattern) = paths.find(name.as_bytes())?;
        let values = pattern.iter().flat_map(|pattern| pattern.values(name));
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some((entry.clone(), values.collect()))
    }

    #[test]
    fn names_lead_to_their_route() {
        let paths = paths(&["echo", "quotes.{symbol}", "topic.{*name}", "a.{x}.c"]);
        for (name, expected) in [
            ("echo", Some(("echo", None))),
            ("quotes.AAPL", Some(("quotes.{symbol}", Some(("symbol", "AAPL"))))),
            ("topic.a.b.c", Some(("topic.{*name}", Some(("name", "a.b.c"))))),
            ("a.b.c", Some(("a.{x}.c", Some(("x", "b"))))),
            ("quotes", None),
            ("quotes.", None),
            ("quotes.A.B", None),
            ("topic", None),
            ("topic.", None),
            ("a.b.d", None),
            ("a..c", None),
            ("", None),
        ] {
            let expected = expected.map(|(pattern, value)| {
                let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                (pattern.to_owned(), value.into_iter().map(own).collect())
            });
            assert_eq!(found(&paths, name), expected, "{name}");
        }
    }

    #[test]
    fn what_says_more_goes_first_however_they_were_added() {
        let mut patterns = ["{*all}", "{a}.{b}", "{a}.x", "x.{b}", "x.y", "x.{*rest}", "x.{b}.z"];
        for _ in 0..patterns.len() {
            let paths = paths(&patterns);
            for (name, expected) in [
                ("x.y", "x.y"),
                ("x.q", "x.{b}"),
                ("x.x", "x.{b}"),
                ("q.x", "{a}.x"),
                ("q.q", "{a}.{b}"),
                ("x.y.z", "x.{b}.z"),
                ("x.y.q", "x.{*rest}"),
                ("q", "{*all}"),
                ("q.y.z", "{*all}"),
                ("x", "{*all}"),
            ] {
                let (found, _) = paths.find(name.as_bytes()).expect(name);
                assert_eq!(found, expected, "{name} among {patterns:?}");
            }
            patterns.rotate_left(1);
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let mut paths = paths(&["a.{x}", "a.{*rest}", "{x}.{y}.b"]);
        assert!(paths.entry("a.{x}").is_ok());
        for path in ["a.{y}", "a.{*x}", "{y}.{x}.b"] {
            let refused = paths.entry(path).expect_err(path);
            assert!(refused.contains("they differ in names alone"), "{refused}");
        }
        let long = "x".repeat(256);
        assert!(paths.entry(&long[1..]).is_ok());
        assert!(paths.entry(&long).expect_err("too long").contains("has 256 bytes"));
    }

    #[test]
    fn the_list_is_in_order() {
        let paths = paths(&["echo", "topic.{*name}", "quotes.{symbol}", "a.{x}.c", "a.{x}"]);
        let names: Vec<_> = paths.list().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.{x}", "a.{x}.c", "echo", "quotes.{symbol}", "topic.{*name}"]);
    }

    /// A route of 128 tokens, among patterns that match nearly all of it in every way.
    #[test]
    fn a_route_leads_past_no_place_twice() {
        let mut paths = Paths::default();
        let mut pattern = String::new();
        for depth in 0..100_u8 {
            for last in ["a", "{x}"] {
                *paths.entry(&format!("{pattern}{last}.b.{{y}}")).expect("they differ") = depth;
            }
            pattern.push_str("a.");
        }
        // Each step of these goes back to all before it where places are not shared.
        let name = "a.".repeat(127);
        assert_eq!(paths.find(name.as_bytes()), None);
    }
}
