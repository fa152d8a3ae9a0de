//! A disk that can be held, and broken, while topics are written to it.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use rsock_topics::store::{Directory, Disk};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Works,
    Held,
    Breaks,
}

/// The hand that holds a disk.
#[derive(Clone)]
pub(crate) struct Hand(Arc<(Mutex<State>, Condvar)>);

impl Hand {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.0.1.notify_all();
    }

    /// Nothing is synced until it is released.
    pub(crate) fn hold(&self) {
        self.set(State::Held);
    }

    pub(crate) fn release(&self) {
        self.set(State::Works);
    }

    /// The next sync fails. That is told once, as a system does; what it was about may be lost.
    pub(crate) fn break_it(&self) {
        self.set(State::Breaks);
    }

    fn wait(&self) -> io::Result<()> {
        let held = |state: &mut State| *state == State::Held;
        let state = self.0.1.wait_while(self.state(), held);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Breaks => {
                *state = State::Works;
                Err(io::Error::other("it is broken"))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hand")
    }
}

/// A directory, and who holds its disk.
#[derive(Debug)]
pub(crate) struct HeldDisk {
    directory: Directory,
    hand: Hand,
}

impl HeldDisk {
    pub(crate) fn open(path: &Path) -> Option<(Self, Hand)> {
        let hand = Hand(Arc::new((Mutex::new(State::Works), Condvar::new())));
        let directory = Directory::open(path).ok()?;
        Some((Self { directory, hand: hand.clone() }, hand))
    }
}

impl Disk for HeldDisk {
    type File = <Directory as Disk>::File;

    fn open(&self, path: &str) -> io::Result<Self::File> {
        Disk::open(&self.directory, path)
    }

    fn create(&self, path: &str) -> io::Result<Self::File> {
        self.directory.create(path)
    }

    fn len(&self, file: &Self::File) -> io::Result<u64> {
        self.directory.len(file)
    }

    fn read_at(&self, file: &Self::File, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.directory.read_at(file, into, at)
    }

    fn write_at(&self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.directory.write_at(file, bytes, at)
    }

    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()> {
        self.directory.set_len(file, len)
    }

    fn preallocate(&self, file: &Self::File, len: u64) -> io::Result<()> {
        self.directory.preallocate(file, len)
    }

    fn sync(&self, file: &Self::File) -> io::Result<()> {
        self.hand.wait()?;
        self.directory.sync(file)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.directory.sync_directory(path)
    }

    fn barrier(&self) -> io::Result<()> {
        self.directory.barrier()
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.directory.create_directory(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.directory.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.directory.remove(path)
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.directory.remove_directory(path)
    }

    fn free(&self) -> io::Result<u64> {
        self.directory.free()
    }

    fn boot(&self) -> String {
        self.directory.boot()
    }
}
