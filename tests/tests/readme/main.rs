//! Documents show how it is: parts of programs, what happens on a console, and numbers.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

mod consoles;
mod excerpts;
mod figures;
mod links;
mod numbers;
mod ways;

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let heading = heading.to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Every document of the repository, by its path in it, with its text.
fn documents() -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let is_built = name.starts_with("target") || name == "node_modules";
            if path.is_dir() && !is_built && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                let shown = path.strip_prefix(root()).expect("a path in the workspace");
                let text = fs::read_to_string(&path).expect("text");
                found.push((shown.display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}
