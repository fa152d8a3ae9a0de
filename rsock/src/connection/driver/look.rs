//! How a connection is, for whoever looks at it.

use std::{collections::HashMap, sync::Arc};

use rsock_proto::StreamKey;

use super::Driver;
use crate::connection::{SeenStream, Snapshot};

impl Driver {
    /// How the connection is, with so many of its streams at most: the first that there are.
    #[cold]
    pub(super) fn snapshot(&self, max_streams: usize) -> Box<Snapshot> {
        let stats = self.connection.stats();
        let (wire, peer) = (&self.wire, &self.options.peer);
        let ends =
            (!wire.socket.is_none()).then(|| wire.socket.ends(&wire.framing, Arc::clone(peer)));
        let streams = if max_streams == 0 { Vec::new() } else { self.oldest_streams(max_streams) };
        Box::new(Snapshot {
            address: Arc::clone(peer),
            ends,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            credit_stalls: stats.credit_stalls,
            is_resumable: self.session.claim().is_some(),
            open_streams: self.connection.open_streams(),
            streams,
        })
    }

    /// The streams that have been open for the longest time, with what is remembered of them.
    fn oldest_streams(&self, max: usize) -> Vec<SeenStream> {
        let opened = self.options.opened.iter().flat_map(|opened| opened.each());
        let opened: HashMap<_, _> = opened.collect();
        let known = |key: StreamKey| opened.get(&key).copied().unzip();
        let all = self.connection.each_stream();
        let mut all: Vec<_> = all.map(|summary| (known(summary.key), summary)).collect();
        // Numbers grow with time where it is not known.
        all.sort_unstable_by_key(|((at, _), summary)| (at.is_none(), *at, summary.key.id()));
        all.truncate(max);
        all.into_iter()
            .map(|((opened, route), summary)| SeenStream {
                summary,
                opened,
                route: route.flatten().map(Box::from),
            })
            .collect()
    }
}
