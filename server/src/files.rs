//! Open files: as many as the system allows, and connections within them.

use std::io;

use crate::settings::{Options, RuntimeKind};

/// Open files of a process that serves nobody, and some to spare: the standard streams, the log's
/// and the resolver's, and what is opened for a moment.
const AT_REST: u64 = 24;

/// Open files of each thread's runtime.
const PER_THREAD: u64 = 4;

/// Open files of a data directory beside its segments and packs: the journal's, the lock, and what is opened for a
/// moment, by readers as well.
const OF_DATA: u64 = 48;

/// A listening socket.
const PER_LISTENER: u64 = 1;

/// The outcome of raising the limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    limit: u64,
    /// Connections asked for, and those that the limit is enough for.
    asked: u32,
    served: u32,
    /// The same of HTTP.
    http_asked: u32,
    http_served: u32,
}

impl OpenFiles {
    /// Logs it: as a warning, if the limit is too low for what somebody asked for.
    pub fn log(self) {
        let Self { limit, asked, served, http_asked, http_served } = self;
        let has_asked = http_asked != Options::default().max_http_connections;
        if http_served < http_asked && has_asked {
            tracing::warn!(
                "this process may open {limit} files, which is too few for --max-http-connections \
                 {http_asked}: {http_served} at a time are served, more are refused; raise the limit \
                 (ulimit -Hn), or lower --max-connections, which has the others"
            );
        }
        if served == asked {
            tracing::debug!("this process may open {limit} files");
        } else if asked == Options::default().max_connections {
            tracing::info!("this process may open {limit} files: at most {served} connections");
        } else {
            tracing::warn!(
                "this process may open {limit} files, which is too few for --max-connections \
                 {asked}: {served} at a time are served, more wait; raise the limit (ulimit -Hn), \
                 or lower --max-connections"
            );
        }
    }
}

/// The segments and packs of the data directory that may be open, of so many files: a directory that has none
/// left cannot be written to any more.
fn segments_within(limit: u64) -> usize {
    let part = usize::try_from(limit / 8).unwrap_or(usize::MAX).max(1);
    rsock_topics::store::Settings::default().max_open_segments.min(part)
}

/// The segments and packs of the data directory that this process may have open.
///
/// # Errors
/// If the limit of open files cannot be read.
pub(crate) fn open_segments() -> io::Result<usize> {
    rlimit::increase_nofile_limit(u64::MAX).map(segments_within)
}

impl Options {
    /// Raises the process's limit of open files as far as the system allows, and lowers
    /// `max_connections`, `max_newcomers` and `max_http_connections` to what that is enough for. Those beyond wait as others
    /// do, where the system would refuse whatever needs a file.
    ///
    /// # Errors
    /// If the limit cannot be read.
    pub fn fit_to_open_files(&mut self) -> io::Result<OpenFiles> {
        let limit = rlimit::increase_nofile_limit(u64::MAX)?;
        let (asked, http_asked) = (self.max_connections, self.max_http_connections);
        (self.max_connections, self.max_newcomers, self.max_http_connections) =
            self.sockets_within(limit);
        let (served, http_served) = (self.max_connections, self.max_http_connections);
        Ok(OpenFiles { limit, asked, served, http_asked, http_served })
    }

    /// Open files of the data directory at most, if there is one.
    fn of_data(&self, limit: u64) -> u64 {
        if self.data.is_none() {
            return 0;
        }
        // Those that are put together are read at once.
        let packs =
            (self.data_max as u64 / rsock_topics::store::Settings::default().pack_bytes) + 1;
        segments_within(limit) as u64 + packs.min(limit / 8) + OF_DATA.min(limit / 8)
    }

    /// The connections, the newcomers and the HTTP connections that so many files are enough for, at least
    /// one each and at most those asked for.
    fn sockets_within(&self, limit: u64) -> (u32, u32, u32) {
        let threads = self.threads().get() as u64;
        let sockets = match self.runtime {
            RuntimeKind::Shared => 1,
            RuntimeKind::PerCore => threads,
        };
        let listeners = self.listen.len() as u64 * sockets;
        let others =
            AT_REST + PER_THREAD * threads + PER_LISTENER * listeners + self.of_data(limit);
        let room = limit.saturating_sub(others);
        let at_most = |n: u64, max: u32| u32::try_from(n.max(1)).unwrap_or(u32::MAX).min(max);
        // Half as many as newcomers may be let in beyond the connections, when they come back.
        let newcomers = at_most(room / 6, self.max_newcomers);
        // HTTP has a part, and whatever the others leave.
        let taken =
            u64::from(newcomers) + u64::from(newcomers / 2) + u64::from(self.max_connections);
        let left = room.saturating_sub(taken);
        let http = at_most(left.max(room / 6), self.max_http_connections);
        let others = u64::from(newcomers) + u64::from(newcomers / 2) + u64::from(http);
        (at_most(room.saturating_sub(others), self.max_connections), newcomers, http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        let options = Options {
            listen: vec![String::new(); 2],
            max_connections: 1_000,
            max_newcomers: 100,
            max_http_connections: 50,
            workers: Some(4),
            ..Options::default()
        };
        let others = AT_REST + 4 * PER_THREAD + 2 * PER_LISTENER;
        for (limit, expected) in [
            (u64::MAX, (1_000, 100, 50)),
            (1_200 + others, (1_000, 100, 50)),
            (1_199 + others, (999, 100, 50)),
            (60 + others, (35, 10, 10)),
            (500 + others, (326, 83, 50)),
            (3 + others, (1, 1, 1)),
            (0, (1, 1, 1)),
        ] {
            assert_eq!(options.sockets_within(limit), expected, "{limit}");
        }
        let of_http = Options { max_connections: 10, max_http_connections: 900, ..options.clone() };
        assert_eq!(of_http.sockets_within(1_060 + others), (10, 100, 900));
        assert_eq!(of_http.sockets_within(660 + others), (10, 100, 500));
        let limit = 4_000 + others;
        let durable = Options { data: Some("d".into()), data_max: 10 << 30, ..options.clone() };
        assert_eq!(segments_within(limit), 256);
        assert_eq!(durable.sockets_within(limit), (1_000, 100, 50));
        // The connections and the files of the directory are within the limit, however low it is.
        for limit in [100, 300, 1_024, 1_600] {
            let (connections, newcomers, http) = durable.sockets_within(limit);
            let sockets = u64::from(connections + newcomers + newcomers / 2 + http);
            let of_data = durable.of_data(limit);
            assert!(sockets + others + of_data <= limit, "{sockets} {of_data} of {limit}");
            assert!(of_data > segments_within(limit) as u64);
        }
        let per_core = Options { runtime: RuntimeKind::PerCore, ..options };
        let more = 3 * 2 * PER_LISTENER;
        assert_eq!(per_core.sockets_within(1_199 + others + more), (999, 100, 50));
    }
}
