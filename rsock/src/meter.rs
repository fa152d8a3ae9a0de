//! Figures over all connections of a server or client.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rsock_proto::Stats;

#[cfg(feature = "tracing")]
use crate::warnings::{Kind, Warnings};

macro_rules! figures {
    (
        $(with $frames:ident: $($counted:ident),*;)*
        often: $($often:ident),*;
        rarely: $($rare:ident),* $(,)?
    ) => {
        /// Counts what happens on the connections it is given to. Connections add to it when they
        /// come to rest, not with every frame.
        #[derive(Debug, Default)]
        pub struct Meter {
            connections: AtomicU64,
            open_connections: AtomicU64,
            open_streams: AtomicU64,
            suspended_sessions: AtomicU64,
            leased_connections: AtomicU64,
            leased_requests: AtomicU64,
            dropped_pushes: AtomicU64,
            lost_fire_and_forget: AtomicU64,
            handshake_timeouts: AtomicU64,
            full: AtomicU64,
            failed_accepts: AtomicU64,
            warnings_left_out: AtomicU64,
            paused_for_memory: AtomicU64,
            paused_for_consumers: AtomicU64,
            given_up_streams: AtomicU64,
            ended_for_memory: AtomicU64,
            refused_connections: AtomicU64,
            evicted_newcomers: AtomicU64,
            refused_sessions: AtomicU64,
            evicted_sessions: AtomicU64,
            $($frames: AtomicU64, $($counted: AtomicU64,)*)*
            $($often: AtomicU64,)*
            /// Made when one of them is counted: each client has a meter, if it is given no other.
            rare: OnceLock<Box<RareFigures>>,
            /// Made when somebody warns.
            #[cfg(feature = "tracing")]
            warnings: OnceLock<Box<Warnings>>,
        }

        #[derive(Debug, Default)]
        struct RareFigures {
            $($rare: AtomicU64,)*
        }

        impl Meter {
            /// The figures now.
            pub fn read(&self) -> MeterReading {
                let mut stats = Stats::default();
                $(
                    stats.$frames = self.$frames.load(Relaxed);
                    $(stats.$counted = self.$counted.load(Relaxed);)*
                )*
                $(stats.$often = self.$often.load(Relaxed);)*
                if let Some(rare) = self.rare.get() {
                    $(stats.$rare = rare.$rare.load(Relaxed);)*
                }
                MeterReading {
                    connections: self.connections.load(Relaxed),
                    open_connections: self.open_connections.load(Relaxed),
                    open_streams: self.open_streams.load(Relaxed),
                    suspended_sessions: self.suspended_sessions.load(Relaxed),
                    leased_connections: self.leased_connections.load(Relaxed),
                    leased_requests: self.leased_requests.load(Relaxed),
                    dropped_pushes: self.dropped_pushes.load(Relaxed),
                    lost_fire_and_forget: self.lost_fire_and_forget.load(Relaxed),
                    handshake_timeouts: self.handshake_timeouts.load(Relaxed),
                    full: self.full.load(Relaxed),
                    failed_accepts: self.failed_accepts.load(Relaxed),
                    warnings_left_out: self.warnings_left_out.load(Relaxed),
                    paused_for_memory: self.paused_for_memory.load(Relaxed),
                    paused_for_consumers: self.paused_for_consumers.load(Relaxed),
                    given_up_streams: self.given_up_streams.load(Relaxed),
                    ended_for_memory: self.ended_for_memory.load(Relaxed),
                    refused_connections: self.refused_connections.load(Relaxed),
                    evicted_newcomers: self.evicted_newcomers.load(Relaxed),
                    refused_sessions: self.refused_sessions.load(Relaxed),
                    evicted_sessions: self.evicted_sessions.load(Relaxed),
                    stats,
                }
            }

            /// Adds what has changed; what was added before is brought up to date.
            #[inline]
            fn add(&self, now: &Stats, added: &mut Published) {
                $(
                    if add(now.$frames, &mut added.$frames, &self.$frames) {
                        $(add(now.$counted, &mut added.$counted, &self.$counted);)*
                    }
                )*
                $(add(now.$often, &mut added.$often, &self.$often);)*
                let rare_now = sum_of_rare(now);
                if rare_now != added.sum_of_rare {
                    added.sum_of_rare = rare_now;
                    self.add_rare(now, added.rare.get_or_insert_default());
                }
            }

            #[cold]
            fn add_rare(&self, now: &Stats, added: &mut Stats) {
                let rare = self.rare.get_or_init(Box::default);
                $(add(now.$rare, &mut added.$rare, &rare.$rare);)*
            }
        }

        /// What a connection has added to the meter.
        #[derive(Debug, Default)]
        struct Published {
            $($frames: u64, $($counted: u64,)*)*
            $($often: u64,)*
            sum_of_rare: u64,
            /// The figures that rarely change, once one has.
            rare: Option<Box<Stats>>,
        }

        /// The sum of the figures that rarely change. They never fall, so it tells whether one has.
        #[inline]
        fn sum_of_rare(stats: &Stats) -> u64 {
            0 $(+ stats.$rare)*
        }
    };
}

/// Adds what has changed since it was added before; whether it has.
#[inline]
fn add(now: u64, added: &mut u64, figure: &AtomicU64) -> bool {
    if now == *added {
        return false;
    }
    figure.fetch_add(now - *added, Relaxed);
    *added = now;
    true
}

// What is counted with frames changes with their number alone.
figures! {
    with frames_in: bytes_in, requests_in, items_in;
    with frames_out: bytes_out, items_out, fire_and_forget_out;
    often: requests_out;
    rarely: credit_stalls, ignored_unknown_stream, ignored_out_of_place, ignored_on_request,
    refused_streams, refused_request_bytes, refused_memory, stalled_parts, refused_leases, refused_assemblies, resumes, replayed_frames, retention_overflows, dropped_fire_and_forget, dropped_keepalive_replies, credit_violations,
    paused_reads, cut_error_texts, violations, broken_transports, setup_timeouts, keepalive_timeouts,
}

/// What a [`Meter`] has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeterReading {
    /// Connections there have been.
    pub connections: u64,
    /// Connections there are.
    pub open_connections: u64,
    /// Streams open on them, of both sides.
    pub open_streams: u64,
    /// Sessions that have lost their transport and wait for another; counted as connections too.
    pub suspended_sessions: u64,
    /// Connections whose peers are bound by our leases, and which have a transport.
    pub leased_connections: u64,
    /// Requests of such peers that are being served, those of suspended sessions included.
    pub leased_requests: u64,
    /// METADATA_PUSH frames dropped because their handler did not keep up (MDP-08).
    pub dropped_pushes: u64,
    /// Fire-and-forgets of ours that were on their way, and of which the connection's end shows that
    /// they did not leave, or not that they arrived: unwritten then, refused with SETUP, or without
    /// the peer's acknowledgement in a session that is over.
    pub lost_fire_and_forget: u64,
    /// WebSocket handshakes that were not over in time.
    pub handshake_timeouts: u64,
    /// Times a connection came while a server had as many as it may, and waited until one ended.
    pub full: u64,
    /// Times the system did not give a connection that had come, as when files have run out.
    pub failed_accepts: u64,
    /// Warnings about peers that were not logged one by one, because there were too many.
    pub warnings_left_out: u64,
    /// Times a long frame waited to be read because there was no memory for it.
    pub paused_for_memory: u64,
    /// Times a connection was not read because as much waited for its consumers as may.
    pub paused_for_consumers: u64,
    /// Streams that failed because of that: most waited for them, and was not taken.
    pub given_up_streams: u64,
    /// Connections that ended because memory was short and what they held was not taken.
    pub ended_for_memory: u64,
    /// Those of them that were refused: too many waited, or none ended in time.
    pub refused_connections: u64,
    /// Sockets closed before anyone had accepted them, for others to be heard.
    pub evicted_newcomers: u64,
    /// Sessions refused because there were as many as there may be, in all or of one address.
    pub refused_sessions: u64,
    /// Sessions without a transport that ended for another.
    pub evicted_sessions: u64,
    /// The sums over all connections.
    pub stats: Stats,
}

impl Meter {
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

    /// The system did not give a connection that had come.
    pub(crate) fn failed_accept(&self) {
        self.failed_accepts.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn handshake_timeout(&self) {
        self.handshake_timeouts.fetch_add(1, Relaxed);
    }

    pub(crate) fn waits_for_place(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_when_full(&self) {
        self.refused_connections.fetch_add(1, Relaxed);
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
    /// What was added to the meter's leased connections and requests.
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

    pub(crate) fn paused_for_consumers(&self) {
        self.meter.paused_for_consumers.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended_for_memory(&self) {
        self.meter.ended_for_memory.fetch_add(1, Relaxed);
    }

    pub(crate) fn given_up_stream(&self) {
        self.meter.given_up_streams.fetch_add(1, Relaxed);
    }

    pub(crate) fn dropped_push(&self) {
        self.meter.dropped_pushes.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_session(&self) {
        self.meter.refused_sessions.fetch_add(1, Relaxed);
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
