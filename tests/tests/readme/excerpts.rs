//! The parts of programs that the README shows stand in those programs.

use std::fs;

use crate::root;

const PROGRAMS: [(&str, &str); 4] = [
    ("js", "examples/javascript/client.mjs"),
    ("python", "examples/python/client.py"),
    ("go", "examples/go/main.go"),
    ("rust", "rsock/examples/quickstart.rs"),
];

/// The first passage of the README's blocks in this language that the program does not have. What
/// lies between two passages, which an empty line parts, may be left out.
fn missing<'a>(readme: &'a str, language: &str, program: &str) -> Option<&'a str> {
    let program: Vec<_> = program.lines().collect();
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.flat_map(|block| block.split("\n\n")).find(|passage| !stands(passage, &program))
}

/// Whether these lines follow each other in the program, all of them indented by as much more.
fn stands(passage: &str, program: &[&str]) -> bool {
    let passage: Vec<_> = passage.lines().collect();
    let Some(first) = passage.first() else { return false };
    program.windows(passage.len()).any(|lines| {
        lines[0].strip_suffix(first).is_some_and(|indent| {
            indent.trim().is_empty()
                && lines.iter().zip(&passage).all(|(line, shown)| {
                    line.strip_prefix(indent).is_some_and(|line| line == *shown)
                })
        })
    })
}

#[test]
fn excerpts_stand_in_the_programs() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let readme = read("README.md");
    for (language, path) in PROGRAMS {
        assert!(readme.contains(&format!("```{language}\n")), "README.md shows no {language}");
        assert!(readme.contains(&format!("]({path})")), "README.md has no link to {path}");
        if let Some(passage) = missing(&readme, language, &read(path)) {
            panic!("README.md shows what is not in {path}:\n{passage}");
        }
    }
}

/// What `docs/topics.md` shows stands in the chat, in a program that serves topics, or in an example of the library's documentation.
#[test]
fn excerpts_about_topics_stand_in_examples() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let mut examples = read("rsock/examples/chat.rs") + &read("topics/examples/service.rs");
    for path in ["rsock/src/topic/publisher.rs", "rsock/src/topic/subscription.rs"] {
        let source = read(path);
        let docs = source.lines().filter_map(|line| line.trim_start().strip_prefix("///"));
        for line in docs {
            examples.push('\n');
            examples.push_str(line.strip_prefix(' ').unwrap_or(line));
        }
    }
    assert_eq!(missing(&read("docs/topics.md"), "rust", &examples), None);
}

/// What `docs/http.md` shows stands in an example of the library's documentation, which is run, and in
/// the one for axum.
#[test]
fn excerpts_about_http_stand_in_examples() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let source = read("rsock/src/http/mod.rs") + &read("rsock/src/http/response.rs");
    let docs = source.lines().filter_map(|line| line.trim_start().strip_prefix("///"));
    let docs: Vec<_> = docs.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let examples = format!("{}\n{}", docs.join("\n"), read("examples/axum/src/lib.rs"));
    assert_eq!(missing(&read("docs/http.md"), "rust", &examples), None);
}

#[test]
fn an_excerpt_that_differs_is_found() {
    let program = "if ready {\n    go(1);\n    stop();\n}\n";
    let shown = |text: &str| format!("words\n```rust\n{text}\n```\n");
    for same in ["go(1);\nstop();", "stop();\n\nif ready {", "if ready {\n    go(1);"] {
        assert_eq!(missing(&shown(same), "rust", program), None);
    }
    for other in ["go(2);", "go(1)", "if ready {\ngo(1);", "stop();\ngo(1);", "(1);"] {
        assert_eq!(missing(&shown(other), "rust", program), Some(other));
    }
}
