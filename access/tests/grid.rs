//! Grants against a matcher of another kind: roles × actions × patterns × names, exhaustively for small ones
//! and at random for others.

use rsock_access::{Action, Actions, Kind, Pattern, Rule, Rules};

/// Whether a pattern covers a name, by trying all ways. It shares nothing with what it is compared with.
fn covers(pattern: &[&str], name: &[&str], own: Option<&str>) -> bool {
    let plain = |own: &str| {
        !own.is_empty() && own.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    match (pattern, name) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        ([first, pattern @ ..], [token, name @ ..]) => {
            let fits = match *first {
                "*" => true,
                "{name}" | "{user}" => own.is_some_and(|own| plain(own) && own == *token),
                literal => literal == *token,
            };
            fits && covers(pattern, name, own)
        }
        _ => false,
    }
}

/// Whether rules permit an action, by the words of the design: what is denied is not, and nothing is that is
/// not granted.
fn permits(
    rules: &[Rule],
    roles: &[&str],
    (kind, name, own): (Kind, &str, Option<&str>),
    action: Action,
) -> bool {
    let tokens: Vec<_> = name.split('.').collect();
    if tokens.contains(&"") {
        return false;
    }
    let meets = |rule: &&Rule| {
        rule.kind == kind
            && rule.actions.has(action)
            && rule.roles.iter().any(|role| role == "*" || roles.contains(&role.as_str()))
            && rule.patterns.iter().any(|pattern| {
                covers(&pattern.as_str().split('.').collect::<Vec<_>>(), &tokens, own)
            })
    };
    let is_denied = rules.iter().any(|rule| rule.is_denied && meets(&rule));
    !is_denied && rules.iter().any(|rule| !rule.is_denied && meets(&rule))
}

/// A small generator of numbers: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const TOKENS: [&str; 5] = ["a", "b", "ann", "A", "name"];
const PARTS: [&str; 8] = ["a", "b", "ann", "A", "*", "{name}", "{user}", "name"];
const ROLES: [&str; 3] = ["chat", "staff", "guest"];
const OWN: [Option<&str>; 9] = [
    None,
    Some("ann"),
    Some("a"),
    Some("Ann"),
    Some("a.b"),
    Some("*"),
    Some(">"),
    Some(""),
    Some("%61nn"),
];

fn some_pattern(random: &mut Random, kind: Kind) -> Pattern {
    let len = random.below(4);
    let mut tokens: Vec<_> = (0..len).map(|_| random.pick(&PARTS)).collect();
    if tokens.is_empty() || random.below(3) == 0 {
        tokens.push(">");
    }
    Pattern::parse(&tokens.join("."), kind).expect("it is well-formed")
}

fn some_rules(random: &mut Random) -> Vec<Rule> {
    (0..1 + random.below(6))
        .map(|_| {
            let kind = random.pick(&[Kind::Topic, Kind::Route]);
            let actions: Vec<_> =
                (0..1 + random.below(4)).map(|_| random.pick(&Action::ALL)).collect();
            let roles = [&ROLES[..], &["*"]].concat();
            Rule {
                roles: (0..1 + random.below(2)).map(|_| random.pick(&roles).to_owned()).collect(),
                kind,
                patterns: (0..1 + random.below(4)).map(|_| some_pattern(random, kind)).collect(),
                actions: Actions::of(&actions),
                is_denied: random.below(4) == 0,
            }
        })
        .collect()
}

fn all_names() -> Vec<String> {
    let mut names: Vec<String> =
        ["", ".", "a.", ".a", "a..b", "a.b.", "*", ">", "{name}", "a.*", "a.>", "a.b.ann.A.name.x"]
            .map(str::to_owned)
            .into();
    let mut last = vec![String::new()];
    for _ in 0..3 {
        let next = last.iter().flat_map(|before| {
            TOKENS.map(|token| match before.as_str() {
                "" => token.to_owned(),
                before => format!("{before}.{token}"),
            })
        });
        last = next.collect();
        names.extend(last.iter().cloned());
    }
    names
}

#[test]
fn grants_are_what_the_rules_say() {
    let names = all_names();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut granted, mut refused) = (0_u64, 0_u64);
    for _ in 0..60 {
        let rules = some_rules(&mut random);
        let compiled = Rules::new(rules.clone());
        for mask in 0..8 {
            let roles: Vec<_> =
                (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| ROLES[bit]).collect();
            let grants = compiled.of_roles(roles.iter().rev());
            for kind in [Kind::Topic, Kind::Route] {
                for name in &names {
                    let own = random.pick(&OWN);
                    let actions = grants.on(kind, name, own);
                    for action in Action::ALL {
                        let expected = permits(&rules, &roles, (kind, name, own), action);
                        let context = (&rules, &roles, kind, name, own, action);
                        assert_eq!(actions.has(action), expected, "{context:?}");
                        assert_eq!(grants.permit(kind, name, own, action), expected);
                        *(if expected { &mut granted } else { &mut refused }) += 1;
                    }
                }
            }
        }
    }
    // It would be easy to agree where nothing is granted.
    assert!(granted > 50_000 && refused > 1_000_000, "{granted} {refused}");
}

#[test]
fn one_pattern_covers_what_it_covers_as_part_of_a_tree() {
    let names = all_names();
    let mut random = Random(7);
    for _ in 0..200 {
        let pattern = some_pattern(&mut random, Kind::Route);
        let tokens: Vec<_> = pattern.as_str().split('.').collect();
        for name in &names {
            let own = random.pick(&OWN);
            let split: Vec<_> = name.split('.').collect();
            let expected = !split.contains(&"") && covers(&tokens, &split, own);
            assert_eq!(pattern.covers(name, own), expected, "{pattern:?} {name:?} {own:?}");
        }
    }
}

#[test]
fn roles_of_no_rule_make_no_difference_and_no_room() {
    let rule = Rule {
        roles: vec!["chat".to_owned()],
        kind: Kind::Route,
        patterns: vec![Pattern::parse("echo", Kind::Route).expect("valid")],
        actions: Actions::of(&[Action::Request]),
        is_denied: false,
    };
    let rules = Rules::new(vec![rule]);
    let first = rules.of_roles(["chat"]);
    for number in 0..5_000 {
        let again = rules.of_roles(["chat".to_owned(), format!("unheard-of-{number}")]);
        assert!(std::sync::Arc::ptr_eq(&first, &again), "it is compiled once");
    }
    assert!(!rules.of_roles::<&str>([]).permit(Kind::Route, "echo", None, Action::Request));
}
