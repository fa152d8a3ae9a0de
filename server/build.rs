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
        let packed = out.join("web").join(format!("{path}.gz"));
        fs::create_dir_all(packed.parent().ok_or(io::ErrorKind::NotFound)?)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&fs::read(web.join(path))?)?;
        fs::write(packed, encoder.finish()?)?;
    }
    let list: String = paths.iter().map(|path| format!("    {path:?}\n")).collect();
    fs::write(out.join("web.rs"), format!("embedded! {{\n{list}}}\n"))
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
