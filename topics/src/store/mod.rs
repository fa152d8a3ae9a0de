//! Topics in files: what was acknowledged is there after a crash, once, in order, with the same numbers.
//!
//! ```text
//! DIR/lock              held while a process has the directory
//! DIR/store.json        where the journal begins
//! DIR/failed            how the disk has failed, until the next start
//! DIR/journal/0000 …    one journal for all topics: 64 MiB each, used in turn
//! DIR/catalogue/NUMBER  which topics there are
//! DIR/packs/NUMBER …    messages of topics that have little of them, many topics in each
//! DIR/topics/ID/OFFSET.segment …  messages of a topic that has much of them
//! ```
//!
//! A message is written to the journal, and counts when that is synced: one write and one sync for all that
//! was gathered, of however many topics. Behind that, records go to segments of their topics, or, where that
//! would be a file for little, to packs that topics share, without a sync of their own; a full file of the
//! journal is used again when one barrier has made all of them safe, and `store.json` has named the packs. So
//! no topic costs a file, and what is written for a message does not depend on how many there are. Packs are
//! put together when there are many, or when most of one is held by nobody any more.
//!
//! [`Engine`] is a function of state, input and a [`Disk`]: no threads, no clock, no randomness. What takes
//! long is a job that needs nothing of it:
//!
//! 1. [`create`](Engine::create), [`append`](Engine::append), [`trim`](Engine::trim) … stage;
//! 2. [`commit`](Engine::commit) gives the job that writes and syncs, [`finish_commit`](Engine::finish_commit)
//!    the [`Outcome`]: which topics' messages can now be seen, up to where;
//! 3. [`step`](Engine::step) does the work behind, a piece at a time, and [`barrier`](Engine::barrier) gives
//!    the job that frees the journal;
//! 4. [`read`](Engine::read) gives records from any offset on.
//!
//! [`Store`] drives it with a thread: [`Store::create`] and [`Store::attach`] give a [`Durable`], whose
//! [`append`](Durable::append) takes a message, or says that too much waits, and never waits itself; a
//! [`Listener`] is told when it counts.
//!
//! After an error of the disk nothing more is written: what the system's memory says about a file whose sync
//! has failed is not what the disk says. The next start reads the journal, which is written anew then.
//!
//! Opening a directory tells what a crash has torn, which was never acknowledged, from what has been lost
//! later: there a topic opens read-only, and [`TopicState::damage`] says where.

mod behind;
mod catalogue;
mod committer;
mod disk;
mod engine;
#[cfg(any(test, feature = "faulty-disk"))]
pub mod faulty;
mod files;
mod format;
mod found;
mod intake;
mod journal;
#[cfg(target_os = "linux")]
mod linux;
mod merge;
mod pack;
mod pieces;
mod record;
mod recover;
mod segment;
mod topic;

#[cfg(test)]
mod tests;

use std::{fmt, io};

pub use behind::{Barrier, Passed};
pub use committer::{Store, StoreFigures};
pub use disk::Disk;
pub use engine::{Behind, Engine, NewTopic, Outcome, Retention, Source, Unstaged};
pub use intake::{Durable, Listener, Terms, Waiting};
pub use journal::{Commit, Committed, Sync, Synced};
#[cfg(target_os = "linux")]
pub use linux::Directory;
pub use record::{Block, Record, TopicId};
pub use segment::Read;
pub use topic::TopicState;

/// The sizes of files, and the bounds of what is held and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a file of the journal.
    pub journal_bytes: u64,
    /// Files of the journal that may wait until their records are safe in segments; then commits wait.
    pub max_waiting_files: usize,
    /// Bytes of a segment; a message that is longer has one of its own.
    pub segment_bytes: u64,
    /// Segments and packs that are open at a time.
    pub max_open_segments: usize,
    /// Bytes of all files.
    pub max_bytes: u64,
    /// Bytes of a batch; a message that is longer has one of its own.
    pub batch_bytes: usize,
    /// Bytes of a topic that go to a segment of its own at once; less goes to a pack.
    pub flush_bytes: usize,
    /// Bytes that wait in memory for their segments, packs and the catalogue; then commits wait.
    pub pending_bytes: u64,
    /// Bytes of a pack, two files of the journal at most.
    pub pack_bytes: u64,
    /// Packs, made one after another, that are put together.
    pub max_runs: usize,
    /// Bytes of a catalogue that has not to be written anew.
    pub catalogue_bytes: u64,
    /// Topics that are found damaged when the directory is opened go on without what is lost.
    pub accepts_damage: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            journal_bytes: 64 << 20,
            max_waiting_files: 8,
            segment_bytes: 8 << 20,
            max_open_segments: 256,
            max_bytes: 10 << 30,
            batch_bytes: 4 << 20,
            flush_bytes: 64 << 10,
            pending_bytes: 128 << 20,
            pack_bytes: 64 << 20,
            max_runs: 8,
            catalogue_bytes: 1 << 20,
            accepts_damage: false,
        }
    }
}

impl Settings {
    /// Checks them.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.journal_bytes < 4 << 10 || self.journal_bytes > 1 << 30 {
            return Err(format!(
                "journal_bytes = {} is not a valid size: 4096 bytes at least, 1 GiB at most",
                self.journal_bytes
            ));
        }
        if self.max_waiting_files == 0 {
            return Err(
                "max_waiting_files = 0 would let no file of the journal be filled".to_owned()
            );
        }
        if self.pack_bytes == 0 || self.pack_bytes > 1 << 30 || self.max_runs < 2 {
            return Err(format!(
                "pack_bytes = {} and max_runs = {} are not valid: packs have 1 GiB at most, and two at \
                 least are put together",
                self.pack_bytes, self.max_runs
            ));
        }
        // One that is written, those that are ready, as much as a reserve, and something to be kept.
        let least = (2 * journal::RESERVE as u64 + 2) * self.journal_bytes;
        if self.max_bytes < least {
            return Err(format!(
                "max_bytes = {} is not enough: the journal and its reserve take most of {least}, the least that \
                 is valid",
                self.max_bytes
            ));
        }
        Ok(())
    }
}

/// A reason why a directory cannot be used, or not any more.
#[derive(Debug)]
pub enum StoreError {
    /// The disk has refused something.
    Io {
        /// The verb.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// The disk's reason.
        error: io::Error,
    },
    /// The directory is not one of ours, or is in use: a sentence.
    Unusable(String),
}

impl StoreError {
    pub(crate) fn new(action: &'static str, path: &str, error: io::Error) -> Self {
        let path = if path.is_empty() { "the data directory" } else { path };
        Self::Io { action, path: path.to_owned(), error }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, error } => write!(f, "cannot {action} {path}: {error}"),
            Self::Unusable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Unusable(_) => None,
        }
    }
}
