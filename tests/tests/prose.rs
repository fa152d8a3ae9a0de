//! The English of comments, as far as it can be counted: doc comments begin with the thing or the verb,
//! and a section that is referred to belongs to a document that is named.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The words that make a sentence without a head of it.
const HEADLESS_WORDS: &[&str] =
    &["What", "Whatever", "Where", "Wherever", "Who", "Whoever", "Whom", "Whose"];

/// Names of documents that have sections, in the words around a reference to one.
const DOCUMENTS: &[&str] = &["RFC", "W3C", "Autobahn"];

/// Lines around a reference, or at the beginning of its file, in which its document is named.
const AROUND: usize = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every file below `folder` with one of these endings, with its text.
fn files(folder: &Path, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let is_built = name.starts_with("target") || name == "node_modules";
            if path.is_dir() && !is_built && !name.starts_with('.') {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let shown = path.strip_prefix(root()).expect("a path in the workspace");
                let text = fs::read_to_string(&path).expect("text");
                found.push((shown.display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}

/// The text of a line of a doc comment.
fn doc(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))
}

/// The lines, counted from 1, at which a headless doc comment begins. Those of tests say in a sentence
/// what holds, and a sentence may begin as it likes.
fn headless(text: &str) -> Vec<usize> {
    let lines: Vec<_> = text.lines().collect();
    let is_headless = |&at: &usize| {
        let begins = doc(lines[at]).filter(|_| at == 0 || doc(lines[at - 1]).is_none());
        let word = begins.and_then(|text| text.split_whitespace().next()).unwrap_or("");
        let word = word.trim_end_matches(|c: char| !c.is_alphabetic());
        let behind = lines[at..].iter().skip_while(|line| doc(line).is_some());
        let mut attributes = behind.take_while(|line| line.trim_start().starts_with('#'));
        let is_test = attributes.any(|line| line.contains("test]") || line.contains("test("));
        HEADLESS_WORDS.contains(&word) && !is_test
    };
    (0..lines.len()).filter(is_headless).map(|at| at + 1).collect()
}

/// The lines, counted from 1, that refer to a section of a document that nobody names.
fn unknown_sections(text: &str) -> Vec<usize> {
    let lines: Vec<_> = text.lines().collect();
    let is_unknown = |&at: &usize| {
        let near = lines[at.saturating_sub(AROUND)..].iter().take(2 * AROUND);
        let mut places = lines.iter().take(AROUND).chain(near);
        let is_named = places.any(|line| DOCUMENTS.iter().any(|name| line.contains(name)));
        refers(lines[at]) && !is_named
    };
    (0..lines.len()).filter(is_unknown).map(|at| at + 1).collect()
}

/// Whether a line speaks of a section by its number: `section 2.19`, `(3.15)`, or `4.1: bytes` at the
/// beginning of a doc comment.
fn refers(line: &str) -> bool {
    let lower = line.to_lowercase();
    let by_name = ["section ", "sections "].iter().any(|word| {
        lower
            .match_indices(word)
            .any(|(at, _)| lower[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()))
    });
    let comment = line.find("//").map_or("", |at| &line[at..]);
    let in_brackets = comment.match_indices('(').any(|(at, _)| {
        comment[at + 1..].split_once(')').is_some_and(|(inside, _)| is_section(inside))
    });
    let begins = doc(line).and_then(|text| text.trim_start().split_once(": "));
    by_name || in_brackets || begins.is_some_and(|(first, _)| is_section(first))
}

/// Whether this is the number of a section and nothing else: `2.19`.
fn is_section(text: &str) -> bool {
    let is_number = |text: &str| {
        (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.split_once('.').is_some_and(|(chapter, section)| is_number(chapter) && is_number(section))
}

#[test]
fn doc_comments_begin_with_a_thing_or_a_verb() {
    let mut wrong = Vec::new();
    for (path, text) in files(&root(), &[".rs"]) {
        wrong.extend(headless(&text).into_iter().map(|at| format!("{path}:{at}")));
    }
    assert!(
        wrong.is_empty(),
        "doc comments begin with \"What\", \"Who\" or \"Where\": name the thing, or say what it does \
         (\"The bytes that\", \"Returns\")\n{}",
        wrong.join("\n")
    );
}

#[test]
fn sections_belong_to_documents_that_are_named() {
    let mut wrong = Vec::new();
    for (path, text) in files(&root(), &[".rs", ".md"]) {
        // This file shows what it looks for, and changes are told in their versions.
        if !path.ends_with("prose.rs") && !path.ends_with("CHANGELOG.md") {
            wrong.extend(unknown_sections(&text).into_iter().map(|at| format!("{path}:{at}")));
        }
    }
    assert!(wrong.is_empty(), "sections of documents without a name:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_comments_reads() {
    let text = "//! What is here.\n\n/// Who: a\n/// What b\nfn a() {}\n/// Returns what.\
                \n/// What holds.\nfn b() {}\n    /// What holds.\n    #[cfg(x)]\n#[tokio::test(x)]\nfn c() {}";
    assert_eq!(headless(text), [1, 3]);
    for line in ["/// as section 2.19 says", "// (3.15)", "//! 4.1: bytes", "Sections 1 to 3"] {
        assert_eq!(unknown_sections(line), [1], "{line}");
    }
    for line in ["/// RFC 6455, section 4.4", "let a = f(3.15); // (x)", "2.5"] {
        assert!(unknown_sections(line).is_empty(), "{line}");
    }
}
