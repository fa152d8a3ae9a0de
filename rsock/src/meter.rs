//! Figures over all connections of a server or client.

use std::{
    array,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rsock_proto::{Figure, FigureKind, Stats};

#[cfg(feature = "tls")]
use crate::error::TlsErrorKind;
#[cfg(feature = "tracing")]
use crate::warnings::{Kind, Warnings};

macro_rules! figures {
    ($($kind:ident { $($name:ident: $help:literal;)* })*) => {
        /// Counts what happens on the connections it is given to. Connections add to it when they
        /// come to rest, not with every frame.
        #[derive(Debug, Default)]
        pub struct Meter {
            $($($name: AtomicU64,)*)*
            /// The counters that change with the traffic, in the order of [`Stats::often`].
            often: [AtomicU64; Stats::OFTEN],
            /// The rest. Made when something of it is counted: each client has a meter, if it is given
            /// no other.
            rare: OnceLock<Box<[AtomicU64; Stats::RARE]>>,
            /// Made when somebody warns.
            #[cfg(feature = "tracing")]
            warnings: OnceLock<Box<Warnings>>,
        }

        /// The counts of a [`Meter`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct MeterReading {
            $($(#[doc = concat!($help, ".")] pub $name: u64,)*)*
            /// The sums over all connections.
            pub stats: Stats,
        }

        impl MeterReading {
            /// Every figure, those of `stats` included.
            pub fn each(&self) -> impl Iterator<Item = Figure> + use<> {
                let own = [$($(Figure {
                    name: stringify!($name),
                    help: $help,
                    value: self.$name,
                    kind: FigureKind::$kind,
                },)*)*];
                own.into_iter().chain(self.stats.each())
            }
        }

        impl Meter {
            /// The figures now.
            pub fn read(&self) -> MeterReading {
                let rare = self.rare.get().map_or([0; Stats::RARE], |rare| values(rare));
                MeterReading {
                    $($($name: self.$name.load(Relaxed),)*)*
                    stats: Stats::from_values(values(&self.often), rare),
                }
            }
        }
    };
}

figures! {
    Counter {
        connections: "Connections there have been";
    }
    Gauge {
        open_connections: "Connections there are";
        open_streams: "Streams open on them, of both sides";
        suspended_sessions:
            "Sessions that have lost their transport and wait for another; counted as connections \
             too";
        leased_connections:
            "Connections whose peers are bound by our leases, and which have a transport";
        leased_requests:
            "Requests of such peers that are being served, those of suspended sessions included";
        open_http_connections:
            "HTTP connections that have asked for something else than a WebSocket; not among the \
             others";
        open_plain_websockets:
            "WebSockets that an HTTP handler serves, which do not speak RSocket; among the HTTP connections";
    }
    Counter {
        dropped_pushes:
            "METADATA_PUSH frames dropped because their handler did not keep up"; // MDP-08
        lost_fire_and_forget:
            "Fire-and-forgets of ours that were on their way, and of which the connection's end \
             shows that they did not leave, or not that they arrived: unwritten then, refused with \
             SETUP, or without the peer's acknowledgement in a session that is over";
        failed_fire_and_forget:
            "Fire-and-forget requests of peers that a router refused, or whose handler failed";
        reconnects:
            "Times a client without a connection, or whose session was gone, was connected anew";
        handshake_timeouts: "WebSocket handshakes that were not over in time";
        refused_proxy_headers:
            "Connections closed because the PROXY protocol is asked for, and they came from no proxy that \
             is trusted, or without its header, or it was wrong or late";
        rate_limited_requests:
            "Requests of peers refused because they came more often than they may";
        refused_addresses:
            "Connections refused because their address had as many as it may, or came too often";
        paused_for_rate:
            "Times a connection was not read for a while because more came of it than may";
        forbidden_http_requests:
            "HTTP requests, those for WebSockets among them, that the server's filter refused";
        tls_handshakes: "TLS handshakes that were completed, of clients that came";
        failed_tls_handshakes:
            "TLS handshakes of clients that failed, as when either side refuses the other's certificate";
        tls_failures_certificate:
            "TLS handshakes among these that failed because of a certificate, of either side";
        tls_failures_agreement:
            "TLS handshakes among these of clients that speak no version, cipher or application \
             protocol that is spoken here";
        tls_failures_not_tls: "Handshakes among these of clients that do not speak TLS";
        tls_failures_closed: "TLS handshakes among these that clients broke off";
        tls_handshake_timeouts: "TLS handshakes of clients that were not over in time";
        http_requests: "HTTP requests that did not open a WebSocket";
        refused_http_requests:
            "HTTP requests refused because too many connections were busy, or the request could be \
             read in two ways";
        http_timeouts:
            "HTTP connections closed, or requests answered, because the client sent or took nothing \
             for too long";
        plain_websockets: "WebSockets there have been that an HTTP handler serves";
        evicted_http_connections: "Idle HTTP connections closed for others";
        full:
            "Times a connection came while a server had as many as it may, and waited until one \
             ended";
        refused_connections:
            "Connections refused because too many waited so, or none ended in time";
        evicted_newcomers:
            "Sockets closed before anyone had accepted them, for others to be heard";
        drain_notices:
            "Times a client that heeds it was told that its connection is to go elsewhere";
        aged_connections: "Connections that have ended because they were as old as they may be";
        failed_accepts:
            "Times the system did not give a connection that had come, as when files have run out";
        warnings_left_out:
            "Warnings about peers that were not logged one by one, because there were too many";
        paused_for_memory:
            "Times a long frame waited to be read because there was no memory for it";
        paused_for_consumers:
            "Times a connection was not read because as much waited for its consumers as may";
        given_up_streams:
            "Streams that failed because most of what waited so was theirs, and was not taken";
        ended_for_memory:
            "Connections that ended because memory was short and what they held was not taken";
        refused_sessions:
            "Sessions refused because there were as many as there may be, in all or of one address";
        evicted_sessions: "Sessions without a transport that ended for another";
        refused_transports:
            "Transports for sessions that were refused because as many wait to be looked at as may";
    }
}

/// Figures as they are now.
fn values<const N: usize>(figures: &[AtomicU64; N]) -> [u64; N] {
    array::from_fn(|index| figures[index].load(Relaxed))
}

/// The counts that a connection has added to the meter.
#[derive(Debug, Default)]
struct Published {
    often: [u64; Stats::OFTEN],
    sum_of_rare: u64,
    /// The figures that rarely change, once one has.
    rare: Option<Box<[u64; Stats::RARE]>>,
}

/// Adds what has changed since it was added before.
#[inline]
fn add<const N: usize>(now: &[u64; N], added: &mut [u64; N], figures: &[AtomicU64; N]) {
    for index in 0..N {
        let (now, added) = (now[index], &mut added[index]);
        if now != *added {
            figures[index].fetch_add(now - *added, Relaxed);
            *added = now;
        }
    }
}

impl Meter {
    /// Adds what has changed; what was added before is brought up to date.
    #[inline]
    fn add(&self, now: &Stats, added: &mut Published) {
        add(&now.often(), &mut added.often, &self.often);
        let sum_of_rare = now.sum_of_rare();
        if sum_of_rare != added.sum_of_rare {
            added.sum_of_rare = sum_of_rare;
            self.add_rare(now, added.rare.get_or_insert_with(|| Box::new([0; Stats::RARE])));
        }
    }

    #[cold]
    fn add_rare(&self, now: &Stats, added: &mut [u64; Stats::RARE]) {
        let zeros = || Box::new([const { AtomicU64::new(0) }; Stats::RARE]);
        add(&now.rare(), added, self.rare.get_or_init(zeros));
    }

    /// With other limits on warnings that peers can cause, as about connections that their violations
    /// have ended: at most `max` of a kind are logged for one address within ten seconds, and ten
    /// times as many in all.
    /// More are counted, summed up in the log and, one by one, logged at the level of debugging.
    /// Default 5.
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn max_warnings(mut self, max: u32) -> Self {
        self.warnings = OnceLock::from(Box::new(Warnings::new(max)));
        self
    }

    /// Changes the [limit](Self::max_warnings) on warnings from now on.
    #[cfg(feature = "tracing")]
    pub fn set_max_warnings(&self, max: u32) {
        self.warnings().set_max(max);
    }

    #[cfg(feature = "tracing")]
    fn warnings(&self) -> &Warnings {
        self.warnings.get_or_init(Box::default)
    }

    /// Whether one more warning about this peer is to be logged.
    #[cfg(feature = "tracing")]
    pub(crate) fn admits_warning(&self, kind: Kind, peer: &str, now: std::time::Instant) -> bool {
        let (admitted, left_out) = self.warnings().admit(kind, peer, now);
        left_out.log();
        if !admitted {
            self.warnings_left_out.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Logs how many warnings were left out, each time some were; never ends.
    pub(crate) async fn sum_up_warnings(&self) {
        #[cfg(feature = "tracing")]
        loop {
            self.warnings().left_out().await.log();
        }
        #[cfg(not(feature = "tracing"))]
        std::future::pending().await
    }

    /// Logs how many warnings were left out of late: there will be none for some time.
    pub(crate) fn sum_up_last_warnings(&self) {
        #[cfg(feature = "tracing")]
        self.warnings().end().log();
    }

    pub(crate) fn ended_for_memory(&self) {
        self.ended_for_memory.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn plain_websocket_opened(&self) {
        self.plain_websockets.fetch_add(1, Relaxed);
        self.open_plain_websockets.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn plain_websocket_closed(&self) {
        self.open_plain_websockets.fetch_sub(1, Relaxed);
    }

    pub(crate) fn failed_fire_and_forget(&self) {
        self.failed_fire_and_forget.fetch_add(1, Relaxed);
    }

    /// The system did not give a connection that had come.
    pub(crate) fn failed_accept(&self) {
        self.failed_accepts.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn handshake_timeout(&self) {
        self.handshake_timeouts.fetch_add(1, Relaxed);
    }

    pub(crate) fn rate_limited_request(&self) {
        self.rate_limited_requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_address(&self) {
        self.refused_addresses.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn forbidden_http_request(&self) {
        self.forbidden_http_requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_proxy_header(&self) {
        self.refused_proxy_headers.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls_handshake(&self) {
        self.tls_handshakes.fetch_add(1, Relaxed);
    }

    /// A handshake has failed, because of this as far as it is known.
    #[cfg(feature = "tls")]
    pub(crate) fn failed_tls_handshake(&self, kind: Option<&TlsErrorKind>) {
        use TlsErrorKind::{Alpn, ClientCertificateRefused, Closed, NotTls, Version};
        self.failed_tls_handshakes.fetch_add(1, Relaxed);
        let of_kind = match kind {
            Some(NotTls) => &self.tls_failures_not_tls,
            Some(Closed) => &self.tls_failures_closed,
            Some(Alpn | Version) => &self.tls_failures_agreement,
            Some(TlsErrorKind::ClientCertificateRequired | ClientCertificateRefused) => {
                &self.tls_failures_certificate
            }
            Some(kind) if kind.is_certificate() => &self.tls_failures_certificate,
            _ => return,
        };
        of_kind.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls_handshake_timeout(&self) {
        self.tls_handshake_timeouts.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn http_request(&self) {
        self.http_requests.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn refused_http_request(&self) {
        self.refused_http_requests.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn http_timeout(&self) {
        self.http_timeouts.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn http_connection_opened(&self) {
        self.open_http_connections.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn http_connection_closed(&self) {
        self.open_http_connections.fetch_sub(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn evicted_http_connection(&self) {
        self.evicted_http_connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_full(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_when_full(&self) {
        self.refused_connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn drain_notice(&self) {
        self.drain_notices.fetch_add(1, Relaxed);
    }

    pub(crate) fn aged_connection(&self) {
        self.aged_connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn turned_away(&self) {
        self.evicted_newcomers.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection(self: &Arc<Self>) -> ConnectionMeter {
        self.connections.fetch_add(1, Relaxed);
        self.open_connections.fetch_add(1, Relaxed);
        ConnectionMeter {
            meter: Arc::clone(self),
            published: Published::default(),
            open_streams: 0,
            is_suspended: false,
            is_leased: false,
            leased: (0, 0),
        }
    }

    /// Requests that peers bound by leases have running, and how many such peers there are.
    pub(crate) fn leased(&self) -> (u64, u64) {
        (self.leased_requests.load(Relaxed), self.leased_connections.load(Relaxed))
    }
}

/// One connection's share of a meter.
#[derive(Debug)]
pub(crate) struct ConnectionMeter {
    meter: Arc<Meter>,
    published: Published,
    open_streams: u64,
    is_suspended: bool,
    /// The peer is bound by our leases.
    is_leased: bool,
    /// The counts added to the meter's leased connections and requests.
    leased: (u64, u64),
}

impl ConnectionMeter {
    pub(crate) fn publish(&mut self, stats: &Stats, open_streams: usize) {
        self.meter.add(stats, &mut self.published);
        let open = open_streams as u64;
        if open != self.open_streams {
            // Wraps around where the number falls, which comes to the same.
            self.meter.open_streams.fetch_add(open.wrapping_sub(self.open_streams), Relaxed);
            self.open_streams = open;
        }
    }

    /// The peer is bound by our leases, and has so many requests running.
    pub(crate) fn lease(&mut self, running: usize) {
        self.is_leased = true;
        self.publish_leased(running);
    }

    /// So many requests of the peer are running, if it is bound by our leases.
    #[inline]
    pub(crate) fn publish_leased(&mut self, running: usize) {
        if self.is_leased {
            // Without a transport it starts none, but what it has started may go on.
            self.change_leased((u64::from(!self.is_suspended), running as u64));
        }
    }

    #[cold]
    fn change_leased(&mut self, leased: (u64, u64)) {
        let before = std::mem::replace(&mut self.leased, leased);
        for (figure, now, before) in [
            (&self.meter.leased_connections, leased.0, before.0),
            (&self.meter.leased_requests, leased.1, before.1),
        ] {
            if now != before {
                // Wraps around where the number falls, which comes to the same.
                figure.fetch_add(now.wrapping_sub(before), Relaxed);
            }
        }
    }

    /// The connection is over: it has no streams, and no part in leases.
    pub(crate) fn finish(&mut self, stats: &Stats) {
        self.publish(stats, 0);
        self.is_leased = false;
        self.change_leased((0, 0));
    }

    /// The connection begins anew, with figures from 0 on.
    pub(crate) fn restart(&mut self, stats: &Stats) {
        self.finish(stats);
        self.published = Published::default();
    }

    pub(crate) fn suspended(&mut self, is_suspended: bool) {
        if is_suspended != std::mem::replace(&mut self.is_suspended, is_suspended) {
            self.publish_leased(self.leased.1 as usize);
            if is_suspended {
                self.meter.suspended_sessions.fetch_add(1, Relaxed);
            } else {
                self.meter.suspended_sessions.fetch_sub(1, Relaxed);
            }
        }
    }

    pub(crate) fn lost_fire_and_forget(&self, count: u64) {
        self.meter.lost_fire_and_forget.fetch_add(count, Relaxed);
    }

    pub(crate) fn paused_for_memory(&self) {
        self.meter.paused_for_memory.fetch_add(1, Relaxed);
    }

    pub(crate) fn paused_for_rate(&self) {
        self.meter.paused_for_rate.fetch_add(1, Relaxed);
    }

    pub(crate) fn paused_for_consumers(&self) {
        self.meter.paused_for_consumers.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended_for_memory(&self) {
        self.meter.ended_for_memory();
    }

    pub(crate) fn given_up_stream(&self) {
        self.meter.given_up_streams.fetch_add(1, Relaxed);
    }

    pub(crate) fn dropped_push(&self) {
        self.meter.dropped_pushes.fetch_add(1, Relaxed);
    }

    pub(crate) fn reconnected(&self) {
        self.meter.reconnects.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_session(&self) {
        self.meter.refused_sessions.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_transport(&self) {
        self.meter.refused_transports.fetch_add(1, Relaxed);
    }

    pub(crate) fn evicted_session(&self) {
        self.meter.evicted_sessions.fetch_add(1, Relaxed);
    }
}

impl Drop for ConnectionMeter {
    fn drop(&mut self) {
        self.suspended(false);
        self.change_leased((0, 0));
        self.meter.open_streams.fetch_sub(self.open_streams, Relaxed);
        self.meter.open_connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_figure_comes_once_and_those_of_now_are_gauges() {
        let meter = Arc::new(Meter::default());
        let mut connection = meter.connection();
        let mut stats = Stats::default();
        stats.frames_in = 3;
        stats.resumes = 1;
        connection.publish(&stats, 2);
        let figures: Vec<Figure> = meter.read().each().collect();
        let names: HashSet<_> = figures.iter().map(|figure| figure.name).collect();
        assert_eq!(names.len(), figures.len());
        let figure = |name| figures.iter().find(|figure| figure.name == name).unwrap();
        for (name, value, kind) in [
            ("connections", 1, FigureKind::Counter),
            ("open_streams", 2, FigureKind::Gauge),
            ("frames_in", 3, FigureKind::Counter),
            ("resumes", 1, FigureKind::Counter),
            ("violations", 0, FigureKind::Counter),
        ] {
            assert_eq!((figure(name).value, figure(name).kind), (value, kind), "{name}");
        }
    }
}
