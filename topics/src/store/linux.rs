//! A directory of this machine.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, Flock, FlockArg, fallocate},
    sys::{
        statfs::{AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, fstatfs},
        statvfs::fstatvfs,
    },
    unistd::syncfs,
};

use super::{Disk, StoreError};

/// File systems of other machines, by the number that `statfs` tells, and their names. Another machine may
/// lose what it has confirmed, and locks there lock nothing.
const NETWORK: &[(i64, &str)] = &[
    (number(NFS_SUPER_MAGIC), "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (number(AFS_SUPER_MAGIC), "AFS"),
    (number(CODA_SUPER_MAGIC), "Coda"),
];

/// A directory on a disk of this machine, locked for one process.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Open all the time, so that a barrier tells every error since then.
    handle: File,
    /// Other processes wait for it, or give up.
    _lock: Flock<File>,
}

impl Directory {
    /// Makes the directory, if there is none, and locks it.
    ///
    /// # Errors
    /// What is wrong with it: another process has it, or it lies on another machine.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let fails = |action, error: io::Error| StoreError::new(action, &shown, error);
        fs::create_dir_all(path).map_err(|error| fails("make", error))?;
        let handle = File::open(path).map_err(|error| fails("open", error))?;
        let kind = fstatfs(&handle).map_err(|error| fails("look at", error.into()))?;
        if let Some(name) = network_file_system(kind.filesystem_type()) {
            return Err(StoreError::Unusable(format!(
                "not a valid data directory: {shown} is on {name}, a file system of other machines, \
                 which may lose what it has confirmed; take a directory on a disk of this machine"
            )));
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(|error| fails("open the lock of", error))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            if error == Errno::EWOULDBLOCK {
                return StoreError::Unusable(format!(
                    "the data directory is in use: another process has locked {shown}/lock; end it, \
                     or take another directory"
                ));
            }
            fails("lock", error.into())
        })?;
        // The directory's own name.
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let parent = File::open(parent).and_then(|parent| parent.sync_all());
            parent.map_err(|error| fails("sync what holds", error))?;
        }
        Ok(Self { path: path.to_owned(), handle, _lock: lock })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }
}

/// The number of a file system: 32 bits, to which some machines give a sign.
#[allow(clippy::unnecessary_cast, reason = "its type differs from machine to machine")]
const fn number(kind: FsType) -> i64 {
    (kind.0 as i64) & 0xffff_ffff
}

fn network_file_system(kind: FsType) -> Option<&'static str> {
    let number = number(kind);
    NETWORK.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

impl Disk for Directory {
    type File = File;

    fn open(&self, path: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.at(path))
    }

    fn create(&self, path: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).open(self.at(path))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&self, file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match file.read_at(&mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn preallocate(&self, file: &File, len: u64) -> io::Result<()> {
        let bytes = i64::try_from(len).map_err(io::Error::other)?;
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // A file system that cannot: zeros take the room.
            Err(Errno::EOPNOTSUPP) => {
                let zeros = vec![0; 1 << 20];
                let mut at = 0;
                while at < len {
                    let part = (len - at).min(zeros.len() as u64);
                    file.write_all_at(&zeros[..part as usize], at)?;
                    at += part;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()
    }

    fn barrier(&self) -> io::Result<()> {
        Ok(syncfs(&self.handle)?)
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        match fs::create_dir(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.at(path))?;
        // Names that are not text are not ours.
        let mut names = names
            .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.at(path))
    }

    fn free(&self) -> io::Result<u64> {
        let figures = fstatvfs(&self.handle)?;
        #[allow(clippy::unnecessary_cast, reason = "their types differ from machine to machine")]
        Ok((figures.blocks_available() as u64).saturating_mul(figures.fragment_size() as u64))
    }

    fn boot(&self) -> String {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        boot.map(|boot| boot.trim().to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_known() {
        assert_eq!(network_file_system(NFS_SUPER_MAGIC), Some("NFS"));
        assert_eq!(network_file_system(FsType(0xff53_4d42_u32 as _)), Some("CIFS"));
        for ours in [nix::sys::statfs::EXT4_SUPER_MAGIC, nix::sys::statfs::TMPFS_MAGIC] {
            assert_eq!(network_file_system(ours), None);
        }
    }
}
