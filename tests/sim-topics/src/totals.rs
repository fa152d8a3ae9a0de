//! Figures of runs.

use std::ops::AddAssign;

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Operations, those in the middle of others among them.
    pub operations: u64,
    /// Messages and events that were published.
    pub published: u64,
    /// Publishes that were refused, and those that were answered again.
    pub refused: u64,
    /// See `refused`.
    pub duplicates: u64,
    /// Items that readers were sent, and the gaps and resets among them.
    pub items: u64,
    /// See `items`.
    pub gaps: u64,
    /// Streams that ended, and those that failed.
    pub ended: u64,
    /// See `ended`.
    pub failed: u64,
    /// Members that joined, payloads of theirs that were taken, and those that had to wait for a rate.
    pub joins: u64,
    /// See `joins`.
    pub payloads: u64,
    /// See `joins`.
    pub held_back: u64,
    /// Sessions of a room's members, its watchers, and what these were told.
    pub sessions: u64,
    /// See `sessions`.
    pub watches: u64,
    /// See `sessions`.
    pub told: u64,
    /// Wakes of connections.
    pub wakes: u64,
    /// Handfuls after which a pump let others have their turn.
    pub handfuls: u64,
    /// Topics that were put away or deleted and opened again.
    pub reopened: u64,
    /// Messages that were let go.
    pub let_go: u64,
    /// Keys that topics deleted themselves, and tombstones that went.
    pub deletions: u64,
    /// See `deletions`.
    pub forgotten: u64,
    /// Batches that a disk took, of each topic, and its failures.
    pub commits: u64,
    /// See `commits`.
    pub disk_failures: u64,
    /// Portions that were read from a disk, and topics that were found there.
    pub loads: u64,
    /// See `loads`.
    pub found: u64,
    /// A digest of all that was answered and sent.
    pub digest: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.published += other.published;
        self.refused += other.refused;
        self.duplicates += other.duplicates;
        self.items += other.items;
        self.gaps += other.gaps;
        self.ended += other.ended;
        self.failed += other.failed;
        self.joins += other.joins;
        self.payloads += other.payloads;
        self.held_back += other.held_back;
        self.sessions += other.sessions;
        self.watches += other.watches;
        self.told += other.told;
        self.wakes += other.wakes;
        self.handfuls += other.handfuls;
        self.reopened += other.reopened;
        self.let_go += other.let_go;
        self.deletions += other.deletions;
        self.forgotten += other.forgotten;
        self.commits += other.commits;
        self.disk_failures += other.disk_failures;
        self.loads += other.loads;
        self.found += other.found;
        self.digest ^= other.digest;
    }
}
