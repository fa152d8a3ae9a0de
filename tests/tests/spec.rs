//! `docs/spec.md` says which test holds which requirement, and `docs/hostile.md` which holds against which
//! input; `docs/waits.md` which shows that a wait ends, and `docs/reported.md` which keeps away what users of
//! other services have reported. Here is seen that they do: that the tests exist, that no row is there twice
//! and no input is missing, and that the counts are right.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Is there such a test, by its name in the table: `CRATE MODULE::MODULE::FUNCTION`?
fn exists(test: &str) -> bool {
    let Some((krate, path)) = test.split_once(' ') else {
        return false;
    };
    let Some((modules, function)) = path.rsplit_once("::") else {
        return false;
    };
    let signature = format!("fn {function}(");
    let is_test = |text: &str, at: usize| {
        let before = text[..at].trim_end().trim_end_matches("async").trim_end();
        let attribute = before.rsplit("#[").next().unwrap_or("");
        attribute.ends_with(']') && attribute.trim_start_matches("tokio::").starts_with("test")
    };
    files(krate, modules).iter().any(|file| {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        text.match_indices(&signature).any(|(at, _)| is_test(&text, at))
    })
}

/// The places a module may be in, in the sources of a crate or in its tests.
fn files(krate: &str, modules: &str) -> Vec<String> {
    let mut paths = vec![modules.replace("::", "/")];
    // Tests at the end of the file that they are for.
    paths.extend(modules.strip_suffix("::tests").map(|outer| outer.replace("::", "/")));
    let files = |path: &String| {
        ["src", "tests"].map(|folder| {
            [".rs", "/mod.rs", "/main.rs"].map(|end| format!("{krate}/{folder}/{path}{end}"))
        })
    };
    paths.iter().flat_map(files).flatten().collect()
}

/// The mistakes in a table, a line each.
fn problems(spec: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut ids, mut held, mut open) = (BTreeSet::new(), 0, 0);
    for line in spec.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let &[id, what, by] = &cells[..] else {
            wrong.push(format!("not three cells: {line}"));
            continue;
        };
        if id == "ID" || id.starts_with("---") {
            continue;
        }
        if !ids.insert(id) {
            wrong.push(format!("{id}: is there twice"));
        }
        if what.is_empty() {
            wrong.push(format!("{id}: does not say what it asks"));
        }
        if let Some(reason) = by.strip_prefix("open:") {
            open += 1;
            if reason.trim().is_empty() {
                wrong.push(format!("{id}: is open without a reason"));
            }
            continue;
        }
        held += 1;
        for test in by.split(", ") {
            match test.strip_prefix('`').and_then(|test| test.strip_suffix('`')) {
                None => wrong.push(format!("{id}: neither a test nor `open: reason`: {test:?}")),
                Some(test) if !exists(test) => wrong.push(format!("{id}: no test {test}")),
                Some(_) => {}
            }
        }
    }
    let counts = format!("- Rows: {}. Held: {held}. Open: {open}.", ids.len());
    if !spec.lines().any(|line| line == counts) {
        wrong.push(format!("the counts at the top should be {counts:?}"));
    }
    wrong
}

#[test]
fn the_table_is_right() {
    let spec = fs::read_to_string(root().join("docs/spec.md")).expect("the table");
    let wrong = problems(&spec, exists);
    assert!(wrong.is_empty(), "docs/spec.md:\n{}", wrong.join("\n"));
}

/// The mistakes in the table of inputs, which are numbered from H001 without a gap.
fn problems_of_inputs(table: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = problems(table, exists);
    let rows = table.lines().filter_map(|line| line.strip_prefix("| H")?.split(' ').next());
    let there: BTreeSet<_> = rows.map(|number| format!("H{number}")).collect();
    let numbers: BTreeSet<_> = (1..=there.len()).map(|number| format!("H{number:03}")).collect();
    wrong.extend(numbers.difference(&there).map(|number| format!("{number}: is missing")));
    wrong.extend(there.difference(&numbers).map(|number| format!("{number}: is not an input")));
    wrong
}

#[test]
fn the_table_of_hostile_inputs_is_right() {
    let table = fs::read_to_string(root().join("docs/hostile.md")).expect("the table");
    let wrong = problems_of_inputs(&table, exists);
    assert!(wrong.is_empty(), "docs/hostile.md:\n{}", wrong.join("\n"));
    // A row that has gone, and one that nobody knows.
    let changed = table.replace("| H077 |", "| H999 |");
    let wrong = problems_of_inputs(&changed, exists);
    assert_eq!(wrong, ["H077: is missing", "H999: is not an input"]);
}

#[test]
fn the_table_of_waits_is_right() {
    let table = fs::read_to_string(root().join("docs/waits.md")).expect("the table");
    let wrong = problems(&table, exists);
    assert!(wrong.is_empty(), "docs/waits.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_of_what_others_reported_is_right() {
    let table = fs::read_to_string(root().join("docs/reported.md")).expect("the table");
    let wrong = problems(&table, exists);
    assert!(wrong.is_empty(), "docs/reported.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_checker_checks() {
    let spec = "- Rows: 4. Held: 2. Open: 2.\n| ID | What | Held by |\n|---|---|---|\n\
                | A-01 | a | `x y::good`, `x y::bad` |\n| A-02 | b | open: |\n\
                | A-02 | b | open: later |\n| A-03 | c | |\n| A-04 |  | `x y::good` |\n| A-05 | d |";
    let wrong = [
        "A-01: no test x y::bad",
        "A-02: is open without a reason",
        "A-02: is there twice",
        "A-03: neither a test nor `open: reason`: \"\"",
        "A-04: does not say what it asks",
        "not three cells: | A-05 | d |",
        "the counts at the top should be \"- Rows: 4. Held: 3. Open: 2.\"",
    ];
    assert_eq!(problems(spec, |test| test == "x y::good"), wrong);
    assert!(exists("tests spec::the_checker_checks"));
    assert!(exists("proto frame::tests::golden_vectors_decode"));
    assert!(exists("proto connection::streams::tests::ids_are_used_up_and_not_reused"));
    assert!(exists("tests driver::setup_has_a_time_limit"));
    for none in ["spec", "spec::problems", "tests spec::problems", "tests spec::the_checker_rests"]
    {
        assert!(!exists(none), "{none}");
    }
}
