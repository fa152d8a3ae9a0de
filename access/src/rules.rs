//! Rules: which roles may do what, and may not.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    action::Actions,
    grants::Grants,
    pattern::{Kind, Pattern},
};

/// Sets of roles whose grants are kept compiled.
const MAX_KEPT: usize = 1_024;

/// Actions that some roles may do to what some patterns cover; or may not, whatever else grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The roles; `*` is everybody.
    pub roles: Vec<String>,
    /// The kind of names that the patterns are of.
    pub kind: Kind,
    /// The names; without any, it is about the service as a whole.
    pub patterns: Vec<Pattern>,
    /// The actions.
    pub actions: Actions,
    /// That it may not be done.
    pub is_denied: bool,
}

/// All rules there are. What is granted to a set of roles is compiled once.
#[derive(Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// The roles that some rule names: others make no difference.
    roles: BTreeSet<String>,
    kept: Mutex<HashMap<Vec<String>, Arc<Grants>>>,
}

impl Rules {
    /// These rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        let roles = rules.iter().flat_map(|rule| rule.roles.iter().cloned()).collect();
        Self { rules, roles, kept: Mutex::default() }
    }

    /// The grants of whoever has these roles.
    pub fn of_roles<R: AsRef<str>>(&self, roles: impl IntoIterator<Item = R>) -> Arc<Grants> {
        let mut known: Vec<String> = roles
            .into_iter()
            .filter(|role| self.roles.contains(role.as_ref()))
            .map(|role| role.as_ref().to_owned())
            .collect();
        known.sort_unstable();
        known.dedup();
        // What panics here leaves the map as it was.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grants) = kept.get(&known) {
            return Arc::clone(grants);
        }
        let grants = Arc::new(self.compile(&known));
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(known, Arc::clone(&grants));
        grants
    }

    fn compile(&self, roles: &[String]) -> Grants {
        let mut grants = Grants::default();
        for rule in &self.rules {
            if !rule.roles.iter().any(|role| role == "*" || roles.contains(role)) {
                continue;
            }
            if rule.patterns.is_empty() {
                grants.add_service(rule.actions, rule.is_denied);
            }
            for pattern in &rule.patterns {
                grants.add(rule.kind, pattern, rule.actions, rule.is_denied);
            }
        }
        grants
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}
