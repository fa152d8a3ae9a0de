//! Links of documents lead to something: a file of the repository, and a heading of it.

use std::path::{Component, Path, PathBuf};

use crate::{anchor, documents, root};

/// The targets of a document's links that lead into the repository.
fn targets(text: &str) -> Vec<&str> {
    // Every other part is a program.
    let prose = text.split("```").step_by(2);
    let behind = prose.flat_map(|part| part.split("](").skip(1));
    let targets = behind.filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
        plain
    })
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    let has_heading = |file: &Path, wanted: &str| {
        let (_, text) = documents.iter().find(|(path, _)| Path::new(path) == file)?;
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
        Some(anchors.any(|anchor| anchor == wanted))
    };
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in &documents {
        for target in targets(text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(path).parent().expect("a folder");
            let file = if file.is_empty() { path.into() } else { plain(&folder.join(file)) };
            let leads = root().join(&file).exists()
                && (heading.is_empty() || has_heading(&file, heading) == Some(true));
            if !leads {
                wrong.push(format!("{path}: {target}"));
            }
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
    assert!(seen > 40, "{seen} links were found");
}

#[test]
fn links_are_found() {
    let text = "[a](b.md#c) [x](https://y/z)\n```rust\na[0](x)\n```\n[two\nlines](../d)";
    assert_eq!(targets(text), ["b.md#c", "../d"]);
    assert_eq!(plain(Path::new("docs/../a/b")), Path::new("a/b"));
    assert_eq!(anchor("Why not `rsocket_rust`?"), "why-not-rsocket_rust");
}
