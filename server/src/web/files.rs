//! The files of `server/web/`, which are part of the program.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{BuildHasher, BuildHasherDefault},
};

/// A file, as it was when the program was built; those of the console without their comments.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    /// Its path below `web/`.
    pub(super) path: &'static str,
    pub(super) bytes: &'static [u8],
    /// The same, compressed by gzip.
    pub(super) packed: &'static [u8],
}

macro_rules! embedded {
    ($($path:literal)*) => {
        /// All of them, in the order of their paths.
        pub(super) static FILES: &[File] = &[$(File {
            path: $path,
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/web/", $path)),
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/web/", $path, ".gz")),
        }),*];
    };
}
// The list is made by the build script.
include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// The file at this path below `web/`.
pub(super) fn file(path: &str) -> Option<&'static File> {
    let at = FILES.binary_search_by(|file| file.path.cmp(path)).ok()?;
    FILES.get(at)
}

impl File {
    /// Its content type, by the end of its name.
    pub(super) fn kind(&self) -> Option<&'static str> {
        let (_, extension) = self.path.rsplit_once('.')?;
        Some(match extension {
            "css" => "text/css; charset=utf-8",
            "html" => "text/html; charset=utf-8",
            "js" | "mjs" => "text/javascript; charset=utf-8",
            "json" => "application/json",
            "png" => "image/png",
            "svg" => "image/svg+xml",
            "ts" => "text/plain; charset=utf-8",
            "webmanifest" => "application/manifest+json",
            _ => return None,
        })
    }

    /// The same in fewer bytes, if these are fewer: images are compressed already.
    pub(super) fn packed(&self) -> Option<&'static [u8]> {
        (self.packed.len() < self.bytes.len()).then_some(self.packed)
    }

    /// A name of its content: that of another is another, and so is that of the same compressed.
    pub(super) fn tag(&self, is_packed: bool) -> String {
        // Its keys are always the same. Another version of the standard library may have others: then it is
        // fetched once more.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let form = if is_packed { "-gzip" } else { "" };
        format!("\"{:016x}{form}\"", hasher.hash_one(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, path::Path};

    use flate2::read::GzDecoder;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        entries
            .flat_map(|entry| {
                let path = entry.expect("an entry").path();
                if path.is_dir() { names(&path) } else { vec![path.display().to_string()] }
            })
            .collect()
    }

    #[test]
    fn all_that_is_in_the_directory_is_embedded() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        let mut there: Vec<_> = names(Path::new(root))
            .into_iter()
            .filter_map(|name| name.strip_prefix(root)?.strip_prefix('/').map(str::to_owned))
            .filter(|name| !name.ends_with('~') && !name.contains("/.") && !name.starts_with('.'))
            .collect();
        there.sort_unstable();
        assert_eq!(there, FILES.iter().map(|file| file.path.to_owned()).collect::<Vec<_>>());
        for known in FILES {
            assert_eq!(file(known.path).map(|file| file.path), Some(known.path));
            assert!(known.kind().is_some(), "{}: of what type is it?", known.path);
        }
        assert!(file("console/nothing.js").is_none());
    }

    #[test]
    fn what_is_compressed_is_the_same() {
        for file in FILES {
            let mut read = Vec::new();
            GzDecoder::new(file.packed).read_to_end(&mut read).expect("whole");
            assert_eq!(read, file.bytes, "{}", file.path);
        }
    }

    /// As browsers are sent it.
    #[test]
    fn the_console_is_small() {
        let of_console = FILES.iter().filter(|file| file.path.starts_with("console/"));
        let sent = |file: &File| file.packed().unwrap_or(file.bytes).len();
        let of_module = FILES.iter().filter(|file| file.path.ends_with(".mjs"));
        let bytes = of_console.chain(of_module).map(sent).sum::<usize>();
        assert!(bytes < 90 * 1024, "{bytes}");
    }
}
