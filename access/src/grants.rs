//! Grants of somebody, compiled: a tree of tokens for each kind of name.

use std::fmt;

use crate::{
    action::{Action, Actions},
    pattern::{Kind, Pattern, Token, is_token},
};

/// The actions that somebody may do. Nothing, unless it is granted; and what is denied is not, whatever grants it.
#[derive(Clone, Default)]
pub struct Grants {
    topics: Tree,
    routes: Tree,
    service: Verdict,
}

/// Actions that are granted, and those that are denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    granted: Actions,
    denied: Actions,
}

impl Verdict {
    #[inline]
    fn and(self, other: Self) -> Self {
        Self { granted: self.granted.and(other.granted), denied: self.denied.and(other.denied) }
    }

    fn add(&mut self, actions: Actions, is_denied: bool) {
        let side = if is_denied { &mut self.denied } else { &mut self.granted };
        *side = side.and(actions);
    }
}

/// Patterns, of which those that begin alike share a beginning.
#[derive(Clone, Default)]
struct Tree {
    /// The root is the first; each is behind the one that leads to it.
    nodes: Vec<Node>,
}

#[derive(Clone, Default)]
struct Node {
    /// By the token, in order.
    literals: Vec<(Box<str>, u32)>,
    any: Option<u32>,
    own: Option<u32>,
    /// For names that end here.
    here: Verdict,
    /// For names that go on.
    rest: Verdict,
}

impl Grants {
    /// Adds actions on the names of this kind that a pattern covers.
    pub(crate) fn add(&mut self, kind: Kind, pattern: &Pattern, actions: Actions, is_denied: bool) {
        let tree = match kind {
            Kind::Topic => &mut self.topics,
            Kind::Route => &mut self.routes,
        };
        tree.add(pattern, actions, is_denied);
    }

    /// Adds actions on no name.
    pub(crate) fn add_service(&mut self, actions: Actions, is_denied: bool) {
        self.service.add(actions, is_denied);
    }

    /// The actions that whoever has the name `own` may do to something of this name.
    #[inline]
    pub fn on(&self, kind: Kind, name: &str, own: Option<&str>) -> Actions {
        let verdict = self.verdict(kind, name, own);
        verdict.granted.without(verdict.denied)
    }

    /// The same by all of these together: what one of them denies is denied.
    pub fn on_all<'a>(
        all: impl IntoIterator<Item = &'a Self>,
        kind: Kind,
        name: &str,
        own: Option<&str>,
    ) -> Actions {
        let verdict = all.into_iter().fold(Verdict::default(), |verdict, grants| {
            verdict.and(grants.verdict(kind, name, own))
        });
        verdict.granted.without(verdict.denied)
    }

    fn verdict(&self, kind: Kind, name: &str, own: Option<&str>) -> Verdict {
        let tree = match kind {
            Kind::Topic => &self.topics,
            Kind::Route => &self.routes,
        };
        let mut verdict = Verdict::default();
        if let Some(root) = tree.nodes.first() {
            tree.walk(root, Some(name), own, &mut verdict);
        }
        verdict
    }

    /// Whether whoever has the name `own` may do this to something of this name.
    #[inline]
    pub fn permit(&self, kind: Kind, name: &str, own: Option<&str>, action: Action) -> bool {
        self.on(kind, name, own).has(action)
    }

    /// The actions on the service as a whole.
    pub fn service(&self) -> Actions {
        self.service.granted.without(self.service.denied)
    }
}

/// Says no more than that it is one.
impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Tree {
    fn add(&mut self, pattern: &Pattern, actions: Actions, is_denied: bool) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for token in pattern.tokens() {
            // There are no more nodes than bytes in all patterns, which are in memory.
            let new = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let next = match token {
                Token::Any => *node.any.get_or_insert(new),
                Token::Own => *node.own.get_or_insert(new),
                Token::Literal(literal) => {
                    let place = node.literals.binary_search_by(|(known, _)| known.cmp(literal));
                    match place {
                        Ok(place) => node.literals[place].1,
                        Err(place) => {
                            node.literals.insert(place, (literal.clone(), new));
                            new
                        }
                    }
                }
            };
            if next == new {
                self.nodes.push(Node::default());
            }
            at = next as usize;
        }
        let node = &mut self.nodes[at];
        let side = if pattern.has_rest() { &mut node.rest } else { &mut node.here };
        side.add(actions, is_denied);
    }

    /// Gathers what is said of a name from this node on. Each node is at one depth, so it is looked at once
    /// a name at most, and nothing goes deeper than the longest pattern.
    fn walk(&self, node: &Node, left: Option<&str>, own: Option<&str>, verdict: &mut Verdict) {
        let Some(left) = left else {
            *verdict = verdict.and(node.here);
            return;
        };
        // Tokens are short: a search that is made for long texts costs more than it finds.
        let end = left.bytes().position(|byte| byte == b'.');
        let (token, behind) = match end {
            Some(end) => (&left[..end], Some(&left[end + 1..])),
            None => (left, None),
        };
        // A name with an empty token is no name.
        if token.is_empty() {
            return;
        }
        if node.rest != Verdict::default() && has_no_empty_token(behind) {
            *verdict = verdict.and(node.rest);
        }
        if let Some(next) = node.literal(token) {
            self.walk(&self.nodes[next as usize], behind, own, verdict);
        }
        if let Some(any) = node.any {
            self.walk(&self.nodes[any as usize], behind, own, verdict);
        }
        if let Some(next) = node.own
            && own == Some(token)
            && is_token(token)
        {
            self.walk(&self.nodes[next as usize], behind, own, verdict);
        }
    }
}

impl Node {
    /// The node that a token leads to by itself.
    #[inline]
    fn literal(&self, token: &str) -> Option<u32> {
        /// Literals that are compared one by one: most differ in their length or their first byte.
        const FEW: usize = 8;
        if self.literals.len() <= FEW {
            let is_it = |known: &str| {
                known.len() == token.len()
                    && known.as_bytes().first() == token.as_bytes().first()
                    && known == token
            };
            let found = self.literals.iter().find(|(known, _)| is_it(known));
            return found.map(|(_, next)| *next);
        }
        let place = self.literals.binary_search_by(|(known, _)| (**known).cmp(token)).ok()?;
        Some(self.literals[place].1)
    }
}

fn has_no_empty_token(names: Option<&str>) -> bool {
    names.is_none_or(|names| names.split('.').all(|token| !token.is_empty()))
}
