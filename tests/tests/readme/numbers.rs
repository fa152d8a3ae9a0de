//! Numbers and names that documents say are those of the place they come from: how many requirements
//! there are, and which; the compiler; the versions of what examples are made with.

use std::{collections::BTreeMap, fs};

use crate::{anchor, documents, root};

/// Documents that tell of other times, or are made of IDs.
const OWN_NUMBERS: [&str; 1] = ["CHANGELOG.md"];
const OWN_IDS: [&str; 2] = ["docs/spec.md", "docs/hostile.md"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// Each requirement's ID, with the heading of its section in `docs/spec.md` as links name it.
fn requirements() -> BTreeMap<String, String> {
    let (mut found, mut section) = (BTreeMap::new(), String::new());
    for line in read("docs/spec.md").lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = anchor(heading);
        } else if let Some(id) = line.strip_prefix("| ").and_then(|row| row.split(' ').next())
            && id.contains('-')
            && !id.starts_with("--")
        {
            found.insert(id.to_owned(), section.clone());
        }
    }
    found
}

/// The places in a text where an ID of these kinds begins, with the ID.
fn ids<'a>(text: &'a str, kinds: &[&str]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for kind in kinds {
        for (at, _) in text.match_indices(&format!("{kind}-")) {
            let digits = text[at + kind.len() + 1..].bytes().take_while(u8::is_ascii_digit).count();
            let starts = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
            if starts && digits > 1 {
                found.push((at, &text[at..at + kind.len() + 1 + digits]));
            }
        }
    }
    found
}

fn kinds(requirements: &BTreeMap<String, String>) -> Vec<&str> {
    let mut kinds: Vec<_> =
        requirements.keys().filter_map(|id| id.split_once('-')).map(|(kind, _)| kind).collect();
    kinds.dedup();
    kinds
}

/// The numbers that stand before these words.
fn counts<'a>(text: &'a str, words: &str) -> Vec<&'a str> {
    let places = text.match_indices(words);
    let before = places.filter_map(|(at, _)| text[..at].split_whitespace().last());
    let numbers = before.map(|word| word.trim_start_matches(|c: char| !c.is_alphanumeric()));
    numbers.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).collect()
}

/// The one place that says how many there are is the table itself, whose count `tests spec` holds.
#[test]
fn documents_count_the_rows_alike() {
    for (table, words) in
        [("docs/spec.md", " requirements"), ("docs/hostile.md", " hostile inputs")]
    {
        let text = read(table);
        let rows = text.lines().find_map(|line| line.strip_prefix("- Rows: ")?.split('.').next());
        let rows = rows.expect("a count");
        for (path, text) in documents() {
            if !OWN_NUMBERS.contains(&&*path) {
                for count in counts(&text, words) {
                    assert_eq!(count, rows, "{path} counts other{words} than {table}");
                }
            }
        }
        let readme = read("README.md");
        assert!(!counts(&readme, words).is_empty(), "README.md does not count{words}");
    }
}

#[test]
fn ids_in_documents_lead_to_their_sections() {
    let requirements = requirements();
    let kinds = kinds(&requirements);
    for (path, text) in documents() {
        if OWN_IDS.contains(&&*path) {
            continue;
        }
        let up = "../".repeat(path.matches('/').count());
        let file = if path.starts_with("docs/") { "spec.md" } else { "docs/spec.md" };
        let up = if path.starts_with("docs/") { "" } else { &up };
        for (at, id) in ids(&text, &kinds) {
            let section = requirements.get(id);
            let section = section.unwrap_or_else(|| panic!("{path} has {id}, which is not a row"));
            let link = format!("[{id}]({up}{file}#{section})");
            let is_linked = at > 0 && text[at - 1..].starts_with(&link);
            assert!(is_linked, "{path} has {id} without a link: write {link}");
        }
    }
}

#[test]
fn ids_in_comments_are_rows() {
    let requirements = requirements();
    let kinds = kinds(&requirements);
    let mut folders: Vec<_> =
        ["proto", "rsock", "server", "client"].map(|name| root().join(name).join("src")).into();
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            for (_, id) in ids(&text, &kinds) {
                assert!(requirements.contains_key(id), "{}: no row is {id}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "{seen} IDs were found");
    // Whoever reads them is told what they are.
    for library in ["rsock/src/lib.rs", "proto/src/lib.rs"] {
        assert!(read(library).contains("docs/spec.md)"), "{library} does not say what IDs are");
    }
}

#[test]
fn the_compiler_is_the_one_that_is_promised() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.expect("a version").trim_matches('"');
    assert!(read("README.md").contains(&format!("Rust {version} or later")), "{version}");
}

/// Names and versions stand in two documents and in the manifests.
#[test]
fn examples_are_made_with_what_is_said() {
    let pinned = |manifest: &str, before: &str| {
        let text = read(manifest);
        let (_, behind) = text.split_once(before).expect(before);
        let end = behind.find(['"', '<', '\n', ' ']).unwrap_or(behind.len());
        behind[..end].to_owned()
    };
    let (readme, examples) = (read("README.md"), read("examples/README.md"));
    for (name, manifest, before) in [
        ("rsocket-go", "examples/go/go.mod", "rsocket-go v"),
        ("rsocket-js", "examples/javascript/package.json", "\"rsocket-core\": \""),
        ("rsocket", "examples/python/requirements.txt", "rsocket=="),
    ] {
        let said = format!("{name} {}", pinned(manifest, before));
        assert!(readme.contains(&said), "README.md does not say {said}");
        assert!(examples.contains(&said), "examples/README.md does not say {said}");
    }
}

#[test]
fn what_is_counted_is_found() {
    assert_eq!(counts("all 409 requirements, [168\nrequirements", " requirements"), ["409"]);
    assert_eq!(counts("its requirements; 396 requirements", " requirements"), ["396"]);
    assert_eq!(ids("RS-04, X-RS-05 RS-6 (RS-07)", &["RS"]), [(0, "RS-04"), (21, "RS-07")]);
    let requirements = requirements();
    assert_eq!(requirements.get("RS-04").map(String::as_str), Some("requeststream"));
}
