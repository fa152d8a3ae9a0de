//! Warnings that peers can cause at will, limited in rate: a log is to be read.

use std::{
    collections::HashMap,
    fmt, mem,
    net::IpAddr,
    sync::{
        PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    network::network_of,
    sync::{Mutex, MutexGuard},
};

/// The time for which warnings are counted together.
const WINDOW: Duration = Duration::from_secs(10);

/// Addresses that are counted one by one within a window; what more of them cause is summed up.
const MAX_ADDRESSES: usize = 1_024;

/// How many times as many warnings all addresses together have as one.
const IN_ALL: u32 = 10;

/// Addresses named at the end of a window, the greediest first; the others are summed up.
const MAX_NAMED: usize = 10;

/// Warnings that peers can cause, each limited for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A violation has ended a connection.
    Violation,
    /// Something that was sent to a peer is lost with its connection.
    Lost,
    /// A request of a peer has failed, of which the peer is not told.
    Failed,
    /// A peer has ended its connection right behind fragments.
    Fragments,
}

impl Kind {
    /// So many of them, in words.
    fn counted(self, number: u64) -> String {
        let s = if number == 1 { "" } else { "s" };
        let what = match self {
            Self::Violation => format!("connection{s} ended by violations"),
            Self::Lost => format!("connection{s} lost fire-and-forgets"),
            Self::Failed => format!("fire-and-forget request{s} failed"),
            Self::Fragments => format!("connection{s} ended right behind fragments"),
        };
        format!("{number} more {what} within 10 s")
    }
}

/// Decides which warnings are logged, and counts those that are not.
#[derive(Debug)]
pub(crate) struct Warnings {
    /// Warnings of one kind about one address in a window.
    max: AtomicU32,
    window: Mutex<Window>,
    /// Some have been left out, of which is to be told when the window is over.
    some_left_out: Notify,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    /// Of each kind.
    logged: [u32; 4],
    /// At most `MAX_ADDRESSES`.
    addresses: HashMap<(Kind, Address), Counts>,
    /// Left out, of addresses beside these.
    others: u64,
}

#[derive(Debug, Default)]
struct Counts {
    logged: u32,
    left_out: u64,
}

/// From where a peer comes, without its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Address {
    Network(IpAddr),
    /// Of a byte stream of the caller's.
    Named(Box<str>),
}

impl Address {
    fn of(peer: &str) -> Self {
        match peer.parse() {
            Ok(address) => Self::Network(network_of(address)),
            Err(_) => Self::Named(peer.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(ip @ IpAddr::V6(_)) => write!(f, "{ip}/64"),
            Self::Network(ip) => ip.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// The warnings that a window has left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// By kind and address, most first.
    named: Vec<((Kind, Address), u64)>,
    /// Of others.
    others: u64,
}

impl LeftOut {
    /// Logs it, a line for each that is named and one for the rest.
    pub(crate) fn log(&self) {
        for ((kind, peer), left_out) in &self.named {
            let counted = kind.counted(*left_out);
            match kind {
                Kind::Failed => tracing::info!(%peer, "{counted}"),
                Kind::Violation | Kind::Lost | Kind::Fragments => {
                    tracing::warn!(%peer, "{counted}");
                }
            }
        }
        if self.others > 0 {
            let others = self.others;
            let s = if others == 1 { "" } else { "s" };
            tracing::warn!("{others} more warning{s} about other peers within 10 s");
        }
    }
}

impl Default for Warnings {
    fn default() -> Self {
        Self::new(5)
    }
}

impl Warnings {
    /// So many of a kind for each address, and ten times as many in all, within ten seconds.
    pub(crate) fn new(max: u32) -> Self {
        let max = AtomicU32::new(max);
        Self { max, window: Mutex::default(), some_left_out: Notify::new() }
    }

    /// Another limit from now on.
    pub(crate) fn set_max(&self, max: u32) {
        self.max.store(max, Relaxed);
    }

    /// Whether a warning about this peer is to be logged; and what the window before has left out,
    /// if this begins another.
    pub(crate) fn admit(&self, kind: Kind, peer: &str, now: Instant) -> (bool, LeftOut) {
        let max = self.max.load(Relaxed);
        let mut window = self.lock();
        let left_out = match window.since {
            Some(since) if now.saturating_duration_since(since) < WINDOW => LeftOut::default(),
            _ => window.end(),
        };
        window.since.get_or_insert(now);
        let address = (kind, Address::of(peer));
        let in_all = window.logged[kind as usize];
        let has_room = window.addresses.len() < MAX_ADDRESSES;
        let admitted = if has_room || window.addresses.contains_key(&address) {
            let counts = window.addresses.entry(address).or_default();
            let admitted = counts.logged < max && in_all < max.saturating_mul(IN_ALL);
            if admitted {
                counts.logged += 1;
            } else {
                counts.left_out += 1;
            }
            admitted
        } else {
            window.others += 1;
            false
        };
        if admitted {
            window.logged[kind as usize] += 1;
        } else {
            self.some_left_out.notify_one();
        }
        (admitted, left_out)
    }

    /// The warnings that a window has left out, as soon as it is over; for ever nothing if none
    /// does.
    pub(crate) async fn left_out(&self) -> LeftOut {
        loop {
            self.some_left_out.notified().await;
            let since = self.lock().since;
            if let Some(since) = since {
                tokio::time::sleep_until((since + WINDOW).into()).await;
                let mut window = self.lock();
                // Otherwise whoever began the next one has told.
                if window.since == Some(since) {
                    let left_out = window.end();
                    if left_out != LeftOut::default() {
                        return left_out;
                    }
                }
            }
        }
    }

    /// The warnings left out so far, of which is told now.
    pub(crate) fn end(&self) -> LeftOut {
        self.lock().end()
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn end(&mut self) -> LeftOut {
        let Self { addresses, mut others, .. } = mem::take(self);
        let mut named: Vec<_> = addresses
            .into_iter()
            .map(|(address, counts)| (address, counts.left_out))
            .filter(|&(_, left_out)| left_out > 0)
            .collect();
        named.sort_by_key(|&(_, left_out)| std::cmp::Reverse(left_out));
        others += named.iter().skip(MAX_NAMED).map(|(_, left_out)| left_out).sum::<u64>();
        named.truncate(MAX_NAMED);
        LeftOut { named, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Kind::{Lost, Violation};

    fn named(address: &str, left_out: u64) -> ((Kind, Address), u64) {
        ((Violation, Address::of(address)), left_out)
    }

    #[test]
    fn an_address_is_warned_of_a_few_times_and_then_counted() {
        let (warnings, now) = (Warnings::new(3), Instant::now());
        let admitted = |peer: &str, now| {
            let (admitted, left_out) = warnings.admit(Violation, peer, now);
            assert_eq!(left_out, LeftOut::default());
            admitted
        };
        let logged = (0..388).filter(|port| admitted(&format!("10.0.0.1:{port}"), now)).count();
        assert_eq!(logged, 3);
        // Others, and what is of another kind, are not hidden by it.
        assert!(warnings.admit(Lost, "10.0.0.1:1", now).0);
        assert!(admitted("10.0.0.2:1", now) && admitted("memory", now + WINDOW / 2));
        let (admitted, left_out) = warnings.admit(Violation, "10.0.0.1:9", now + WINDOW);
        assert!(admitted);
        assert_eq!(left_out, LeftOut { named: vec![named("10.0.0.1:1", 385)], others: 0 });
        let (_, nothing) = warnings.admit(Violation, "10.0.0.1:9", now + WINDOW * 2);
        assert_eq!(nothing, LeftOut::default());
    }

    #[test]
    fn one_is_singular() {
        let one = "1 more connection ended by violations within 10 s";
        assert_eq!(Violation.counted(1), one);
        assert_eq!(Lost.counted(2), "2 more connections lost fire-and-forgets within 10 s");
    }

    #[test]
    fn all_together_are_bounded_and_so_is_the_table() {
        let (warnings, now) = (Warnings::new(2), Instant::now());
        let many = 3 * MAX_ADDRESSES;
        let peers = (0..many).map(|n| format!("10.{}.{}.1:5", n / 256, n % 256));
        assert_eq!(peers.filter(|peer| warnings.admit(Violation, peer, now).0).count(), 20);
        assert_eq!(warnings.lock().addresses.len(), MAX_ADDRESSES);
        warnings.admit(Violation, "10.0.100.1:6", now);
        let (_, LeftOut { named: told, others }) = warnings.admit(Violation, "x", now + WINDOW);
        assert_eq!(told.len(), MAX_NAMED);
        assert_eq!(told[0], named("10.0.100.1:1", 2));
        let sum = told.iter().map(|(_, left_out)| left_out).sum::<u64>() + others;
        assert_eq!(sum, many as u64 - 20 + 1);
    }

    #[test]
    fn an_address_is_without_its_port_and_a_host_without_its_many() {
        for (peer, address) in [
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1"),
            ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
            ("memory", "memory"),
        ] {
            assert_eq!(Address::of(peer).to_string(), address);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_told_when_the_window_is_over() {
        let warnings = Warnings::new(1);
        let start = tokio::time::Instant::now();
        for _ in 0..5 {
            warnings.admit(Violation, "10.0.0.1:1", start.into_std());
        }
        let left_out = warnings.left_out().await;
        assert_eq!(left_out.named, [named("10.0.0.1:1", 4)]);
        assert_eq!(start.elapsed().as_secs(), WINDOW.as_secs());
        // And once only.
        let again = tokio::time::timeout(WINDOW * 3, warnings.left_out()).await;
        assert!(again.is_err());
    }
}
