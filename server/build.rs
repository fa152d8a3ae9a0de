//! Lists the files of `web/`, which the service has in itself, and compresses them: whoever adds one has nothing
//! else to write.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=web");
    println!("cargo::rerun-if-changed=build.rs");
    let of_cargo = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let (web, out) = (of_cargo("CARGO_MANIFEST_DIR")?.join("web"), of_cargo("OUT_DIR")?);
    let mut paths = Vec::new();
    list(&web, "", &mut paths)?;
    paths.sort_unstable();
    for path in &paths {
        let (source, served) = (fs::read(web.join(path))?, out.join("web").join(path));
        fs::create_dir_all(served.parent().ok_or(io::ErrorKind::NotFound)?)?;
        let bytes = match path.strip_prefix("console/") {
            Some(name) if name.ends_with(".js") || name.ends_with(".css") => bare(source)?,
            _ => source,
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes)?;
        fs::write(out.join("web").join(format!("{path}.gz")), encoder.finish()?)?;
        fs::write(served, bytes)?;
    }
    let list: String = paths.iter().map(|path| format!("    {path:?}\n")).collect();
    fs::write(out.join("web.rs"), format!("embedded! {{\n{list}}}\n"))
}

/// A script or style without what is for those who read its source: indentation, and comments on lines of their
/// own. Lines stay lines, so that an error names the right one. No text of it goes over several lines, and a test of
/// the console looks for that.
fn bare(source: Vec<u8>) -> io::Result<Vec<u8>> {
    let source = String::from_utf8(source).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut is_comment = false;
    let lines = source.lines().map(|line| {
        let line = line.trim();
        let begins = line.starts_with("/*");
        let is_bare = is_comment || begins && (line.ends_with("*/") || !line.contains("*/"));
        is_comment = (is_comment || begins) && !line.contains("*/");
        if is_bare || line.starts_with("//") { "" } else { line }
    });
    Ok(lines.collect::<Vec<_>>().join("\n").into_bytes())
}

/// Adds the files of a directory and of those in it, by their paths from the first one. What an editor or a
/// system has left there has a dot before it or a tilde behind.
fn list(directory: &Path, prefix: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{path}/"), paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}
