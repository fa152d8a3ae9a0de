//! The memory that all connections share.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::sync::{AtomicBool, AtomicUsize};

/// Bytes that a connection may hold whatever others do, as long as there is memory at all. An eighth
/// of the budget is for those who hold no more.
const LEAST_ALLOWED: usize = 64 << 10;

/// By how much the budget may be overdrawn to read frames that are no longer than a read, so that they
/// can be answered, in bytes.
const OVERDRAFT: usize = 1 << 20;

/// By how much what a connection holds changes before it is told, in bytes. Short requests and their
/// answers never are.
const STEP: usize = 4 << 10;

/// How long a connection may go on with a long frame beyond its share before it is another's turn.
const LEAD_LIMIT: Duration = Duration::from_secs(1);

/// The memory that is assumed where the system does not say how much there is.
const UNKNOWN_MEMORY: usize = 1 << 30;

/// The bytes that all connections of a server, or of a process, may hold for their peers together:
/// what they have read and not finished with, requests that run, items that wait for who consumes
/// them, what waits to be written, and what is retained for a resume.
///
/// A connection may hold as much as is left free for all others: one alone half of it all, nine
/// busy ones a tenth each. So the greediest are refused first, and there is room for a newcomer: an
/// eighth is for those who hold less than 64 KiB. Beyond its share a connection's requests get
/// ERROR\[REJECTED\], fragmented payloads are given up, sessions retain no more than is acknowledged,
/// and long frames wait to be read. When nearly nothing is left, a connection ends whose peer has
/// taken nothing of what it holds for five seconds, and so does a session that is without one.
///
/// What handlers hold of their own is not counted, nor what the allocator keeps of what was freed:
/// see [`on_pressure`](Self::on_pressure).
pub struct MemoryBudget {
    max: usize,
    used: AtomicUsize,
    /// Half of it was used, and not less than three eighths since.
    is_under_pressure: AtomicBool,
    on_pressure: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// A connection goes on with a long frame beyond its share.
    is_led: AtomicBool,
}

impl MemoryBudget {
    /// At most `max` bytes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: AtomicUsize::new(0),
            is_under_pressure: AtomicBool::new(false),
            on_pressure: OnceLock::new(),
            is_led: AtomicBool::new(false),
        })
    }

    /// The budget of this process, which connections have that are given no other: half of the memory
    /// of the machine, or of its control group if that is less.
    pub fn of_process() -> Arc<Self> {
        static BUDGET: OnceLock<Arc<MemoryBudget>> = OnceLock::new();
        Arc::clone(BUDGET.get_or_init(|| Self::new(available_memory() / 2)))
    }

    /// The most bytes there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The bytes that are held now, give or take a few KiB a connection.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether at least half of it is used, or was and at least three eighths are: what allocators keep
    /// for later had better go back to the system.
    pub fn is_under_pressure(&self) -> bool {
        self.is_under_pressure.load(Relaxed)
    }

    /// Calls this each time that [`is_under_pressure`](Self::is_under_pressure) changes, on a thread
    /// that serves connections: it should only wake another. The first that is set stays.
    pub fn on_pressure(&self, changed: impl Fn() + Send + Sync + 'static) {
        // Another was there before.
        let _ = self.on_pressure.set(Box::new(changed));
    }

    /// How much one connection may hold now.
    pub(crate) fn allowance(&self) -> usize {
        let used = self.used();
        if used >= self.max {
            return 0;
        }
        (self.max - self.max / 8).saturating_sub(used).max(LEAST_ALLOWED)
    }

    /// Whether nothing is left.
    #[inline]
    pub(crate) fn is_exhausted(&self) -> bool {
        self.used() >= self.max
    }

    /// Whether so little is left that what makes no progress is to go.
    pub(crate) fn is_short(&self) -> bool {
        self.used() >= self.max - self.max / 16
    }

    /// Whether more would be used with so many bytes than there are and [`OVERDRAFT`].
    pub(crate) fn is_overdrawn_with(&self, bytes: usize) -> bool {
        self.used() + bytes > self.max + OVERDRAFT
    }

    /// Whether there are so many bytes for a long frame beyond the share of its connection.
    fn has_for_leader(&self, bytes: usize) -> bool {
        self.used() + bytes <= self.max - self.max / 16
    }

    fn draw(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Relaxed) + bytes;
        if used >= self.max / 2 && !self.is_under_pressure() {
            self.press(true);
        }
    }

    fn give_back(&self, bytes: usize) {
        let used = self.used.fetch_sub(bytes, Relaxed) - bytes;
        if used < self.max / 8 * 3 && self.is_under_pressure() {
            self.press(false);
        }
    }

    #[cold]
    fn press(&self, is_under_pressure: bool) {
        if self.is_under_pressure.swap(is_under_pressure, Relaxed) != is_under_pressure
            && let Some(changed) = self.on_pressure.get()
        {
            changed();
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("max", &self.max).field("used", &self.used()).finish()
    }
}

/// The memory that one connection has drawn from a budget, which is given back when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<MemoryBudget>,
    drawn: usize,
    /// It is the one that may go on beyond its share, until then.
    leads: Option<Instant>,
}

impl Account {
    pub(crate) fn new(budget: Arc<MemoryBudget>) -> Self {
        Self { budget, drawn: 0, leads: None }
    }

    pub(crate) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Whether so much is worth counting, or something was counted before.
    #[inline]
    pub(crate) fn counts(&self, bytes: usize) -> bool {
        bytes.max(self.drawn) >= STEP
    }

    /// The connection holds so much now: whether that is worth counting. Little more or less than
    /// before makes no difference.
    #[inline]
    pub(crate) fn holds(&mut self, bytes: usize) -> bool {
        if !self.counts(bytes) {
            return false;
        }
        if bytes.abs_diff(self.drawn) >= STEP || bytes < STEP {
            self.settle(bytes);
        }
        true
    }

    /// Whether it has drawn anything.
    #[inline]
    pub(crate) fn is_drawn(&self) -> bool {
        self.drawn > 0
    }

    /// Whether so many bytes more may be had for a long frame beyond the connection's share, because it
    /// is the only one that goes on so, for a while. Where all others wait for the rest of a frame, and
    /// for each other's memory, one at a time gets to its end.
    pub(crate) fn leads_with(&mut self, bytes: usize, now: Instant) -> bool {
        self.follows_from(now);
        if !self.budget.has_for_leader(bytes) {
            return false;
        }
        if self.leads.is_none() && !self.budget.is_led.swap(true, Relaxed) {
            self.leads = Some(now + LEAD_LIMIT);
        }
        self.leads.is_some()
    }

    /// Until when it goes on beyond its share.
    #[inline]
    pub(crate) fn leads_until(&self) -> Option<Instant> {
        self.leads
    }

    /// Another may go on, if it is time.
    pub(crate) fn follows_from(&mut self, now: Instant) {
        if self.leads.is_some_and(|until| until <= now) {
            self.follows();
        }
    }

    /// Another may go on.
    pub(crate) fn follows(&mut self) {
        if self.leads.take().is_some() {
            self.budget.is_led.store(false, Relaxed);
        }
    }

    #[cold]
    fn settle(&mut self, bytes: usize) {
        let bytes = if bytes < STEP { 0 } else { bytes };
        self.budget.draw(bytes);
        self.budget.give_back(self.drawn);
        self.drawn = bytes;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.follows();
        self.budget.give_back(self.drawn);
    }
}

/// The charge for a block of memory that was read into, and is not free yet because slices of it are
/// held. Shared by all who hold one: the last of them gives it back.
#[derive(Debug)]
pub(crate) struct BlockCharge {
    bytes: usize,
    budget: Arc<MemoryBudget>,
}

impl BlockCharge {
    pub(crate) fn new(bytes: usize, budget: &Arc<MemoryBudget>) -> Arc<Self> {
        budget.draw(bytes);
        Arc::new(Self { bytes, budget: Arc::clone(budget) })
    }
}

impl Drop for BlockCharge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// The memory of the machine in bytes, or of the control group this process is in if that is less.
fn available_memory() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_of(&text));
    machine.into_iter().chain(group).min().unwrap_or(UNKNOWN_MEMORY)
}

/// MemTotal of /proc/meminfo.
fn total_of(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The smallest limit of a control group and those it is in, of either version.
fn group_of(cgroup: &str) -> Option<usize> {
    let limits = cgroup.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or("/"));
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            some if some.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let groups = std::path::Path::new(path).ancestors();
        let limit = |group: &std::path::Path| {
            let group = group.strip_prefix("/").unwrap_or(group);
            let file = std::path::Path::new(root).join(group).join(file);
            // "max" where there is none.
            std::fs::read_to_string(file).ok()?.trim().parse().ok()
        };
        groups.filter_map(limit).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greediest_are_refused_first_and_nobody_is_left_without() {
        let budget = MemoryBudget::new(12 << 20);
        let mut greedy: Vec<_> = (0..5).map(|_| (Account::new(Arc::clone(&budget)), 0)).collect();
        // Whoever may hold more does.
        for _ in 0..2_000 {
            for (account, held) in &mut greedy {
                if *held + STEP <= budget.allowance() {
                    *held += STEP;
                    account.holds(*held);
                }
            }
        }
        let share = budget.max() / 8 * 7 / (greedy.len() + 1);
        for (_, held) in &greedy {
            assert!(held.abs_diff(share) <= 2 * STEP, "{held} of {share}");
        }
        assert!(budget.allowance().abs_diff(share) <= 10 * STEP, "a newcomer has as much");
        drop(greedy);
        assert_eq!((budget.used(), budget.allowance()), (0, budget.max() / 8 * 7));
    }

    #[test]
    fn what_little_is_held_is_allowed_until_nothing_is_left() {
        let budget = MemoryBudget::new(1 << 20);
        let charge = BlockCharge::new((1 << 20) - 1, &budget);
        assert_eq!(budget.allowance(), LEAST_ALLOWED);
        assert!(budget.is_short() && !budget.is_exhausted());
        let other = BlockCharge::new(1, &budget);
        assert_eq!(budget.allowance(), 0);
        assert!(budget.is_exhausted());
        drop((charge, other));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_at_a_time_goes_on_beyond_its_share() {
        let budget = MemoryBudget::new(1_600);
        let mut accounts = [(); 3].map(|()| Account::new(Arc::clone(&budget)));
        let now = Instant::now();
        let charge = BlockCharge::new(1_000, &budget);
        assert!(accounts[0].leads_with(500, now));
        assert!(!accounts[1].leads_with(1, now), "another does");
        assert!(accounts[0].leads_with(500, now), "it still does");
        assert!(!accounts[0].leads_with(501, now), "a sixteenth is left for others");
        accounts[0].follows();
        assert!(accounts[1].leads_with(1, now));
        assert_eq!(accounts[1].leads_until(), Some(now + LEAD_LIMIT));
        // It has had its time.
        accounts[1].follows_from(now + LEAD_LIMIT);
        assert!(accounts[2].leads_with(1, now));
        let [first, .., last] = &mut accounts;
        assert!(!first.leads_with(1, now));
        *last = Account::new(Arc::clone(&budget));
        assert!(first.leads_with(1, now), "who is gone leads no more");
        drop(charge);
    }

    #[test]
    fn pressure_is_told_when_it_begins_and_when_it_ends() {
        let budget = MemoryBudget::new(800);
        let told = Arc::new(AtomicUsize::new(0));
        let telling = Arc::clone(&told);
        budget.on_pressure(move || {
            telling.fetch_add(1, Relaxed);
        });
        let draw = |bytes| BlockCharge::new(bytes, &budget);
        let state = || (budget.is_under_pressure(), told.load(Relaxed));
        let held = draw(300);
        let more = draw(99);
        assert_eq!(state(), (false, 0));
        let most = draw(1);
        let beyond = draw(400);
        assert_eq!(state(), (true, 1));
        drop((beyond, most, more));
        assert_eq!(state(), (true, 1), "not at each step up and down");
        drop(held);
        assert_eq!(state(), (false, 2));
    }

    #[test]
    fn small_changes_are_not_told() {
        let budget = MemoryBudget::new(1 << 20);
        let mut account = Account::new(Arc::clone(&budget));
        assert!(!account.holds(STEP - 1));
        assert_eq!(budget.used(), 0);
        for (held, used) in [(STEP, STEP), (2 * STEP - 1, STEP), (2 * STEP, 2 * STEP), (1, 0)] {
            assert!(account.holds(held));
            assert_eq!(budget.used(), used, "{held}");
        }
    }

    #[test]
    fn the_system_says_how_much_there_is() {
        assert_eq!(
            total_of("MemTotal:       24689732 kB\nMemFree: 1 kB\n"),
            Some(24_689_732 << 10)
        );
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!(group_of("0::/there/is/none/such\n"), group_of("0::/\n"));
        assert_eq!(group_of("3:cpu,cpuacct:/x\n"), None);
        assert!(MemoryBudget::of_process().max() > 1 << 20);
    }
}
