//! The disk, as the engine sees it.

use std::io;

/// A directory of files whose bytes are safe only after a sync. Paths are relative to it, with `/` between
/// their parts.
///
/// What the engine relies on: bytes of a file that were written and then synced are there after a power
/// cut; a name is there after its directory was synced; all of both after a barrier. Until then anything
/// may be lost, in any order, and in pieces of 512 bytes. A rename happens or does not.
pub trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: std::fmt::Debug + Send + Sync + 'static;

    /// Opens a file that exists, to read and to write.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Makes a file, or empties one.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// Bytes of a file.
    fn len(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads from a position on; less than asked for at the end alone.
    fn read_at(&self, file: &Self::File, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of it.
    fn write_at(&self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Cuts a file, or lengthens it with zeros.
    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Takes the room for so many bytes, which are zeros.
    fn preallocate(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Makes a file's bytes and its length safe.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Makes the names of a directory safe.
    fn sync_directory(&self, path: &str) -> io::Result<()>;
    /// Makes everything safe.
    fn barrier(&self) -> io::Result<()>;
    /// Makes a directory; one that is there already is no error.
    fn create_directory(&self, path: &str) -> io::Result<()>;
    /// Names in a directory, in order.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &str) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free(&self) -> io::Result<u64>;
    /// A name for the time since the machine was last started: what was written in this time and read again
    /// may never have been on a disk, what was written before has been.
    fn boot(&self) -> String;
}

/// Reads a whole file.
pub(super) fn read_all<D: Disk>(disk: &D, file: &D::File) -> io::Result<Vec<u8>> {
    let len = usize::try_from(disk.len(file)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    let read = disk.read_at(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads the file that has this name, if there is one.
pub(super) fn read_named<D: Disk>(disk: &D, path: &str) -> io::Result<Option<Vec<u8>>> {
    match disk.open(path) {
        Ok(file) => read_all(disk, &file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
