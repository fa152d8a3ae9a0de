//! Signs of life on connections that are silent, for what stands between: proxies and translators of
//! addresses forget connections over which nothing goes.

use std::{
    ops::Range,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    connection::Mailbox,
    server::{Server, ServerBuilder, Service, drain::PORTION},
};

impl ServerBuilder {
    /// How often a WebSocket is looked at whether anything has gone over it, and pinged if not: one that is
    /// silent sees a ping after twice as long at the most. Browsers and libraries answer by themselves. Over
    /// TCP it is the system that asks (TCP keepalive, on Linux), after as long a silence; what passes on bytes and not
    /// connections does not see that, but KEEPALIVEs of the client, which are answered: a server that sends
    /// any by itself is taken amiss by some clients. `Duration::ZERO` turns both off. Default 25 s.
    ///
    /// For connections that come to listeners of the server's own.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }
}

impl Server {
    /// Has the system look after silent connections over TCP, which are as their listener is.
    pub(super) fn keep_alive(&self) {
        let interval = self.builder.heartbeat;
        if !interval.is_zero() {
            for socket in self.listeners.iter().flat_map(|listener| &listener.sockets) {
                // Where the system does not, connections are none the worse.
                let _ = socket.keep_alive(interval);
            }
        }
    }
}

impl Service {
    /// Has silent WebSockets pinged, those of a portion together and the portions after one another; never
    /// ends.
    pub(super) async fn beat(&self) {
        let interval = self.builder.heartbeat;
        if interval.is_zero() {
            std::future::pending::<()>().await;
        }
        loop {
            let portions = self.places().div_ceil(PORTION).max(1);
            let pause = interval / u32::try_from(portions).unwrap_or(u32::MAX);
            for portion in 0..portions {
                sleep(pause.max(Duration::from_millis(1))).await;
                for mailbox in self.pingable(portion * PORTION..(portion + 1) * PORTION) {
                    mailbox.beat();
                }
            }
        }
    }

    /// The connections in these places that can be pinged.
    fn pingable(&self, places: Range<usize>) -> Vec<Arc<Mailbox>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = places.filter_map(|place| live.get(place));
        connected.filter(|one| one.has_pings).map(|one| Arc::clone(&one.mailbox)).collect()
    }
}
