//! Figures over all connections of a server or client.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rsock_proto::Stats;

macro_rules! figures {
    ($($field:ident),* $(,)?) => {
        /// Counts what happens on the connections it is given to. Connections add to it when they
        /// come to rest, not with every frame.
        #[derive(Debug, Default)]
        pub struct Meter {
            connections: AtomicU64,
            open_connections: AtomicU64,
            open_streams: AtomicU64,
            suspended_sessions: AtomicU64,
            dropped_pushes: AtomicU64,
            lost_fire_and_forget: AtomicU64,
            handshake_timeouts: AtomicU64,
            full: AtomicU64,
            $($field: AtomicU64,)*
        }

        impl Meter {
            /// The figures now.
            pub fn read(&self) -> MeterReading {
                let mut stats = Stats::default();
                $(stats.$field = self.$field.load(Relaxed);)*
                MeterReading {
                    connections: self.connections.load(Relaxed),
                    open_connections: self.open_connections.load(Relaxed),
                    open_streams: self.open_streams.load(Relaxed),
                    suspended_sessions: self.suspended_sessions.load(Relaxed),
                    dropped_pushes: self.dropped_pushes.load(Relaxed),
                    lost_fire_and_forget: self.lost_fire_and_forget.load(Relaxed),
                    handshake_timeouts: self.handshake_timeouts.load(Relaxed),
                    full: self.full.load(Relaxed),
                    stats,
                }
            }

            /// Adds what has changed; what was added before is brought up to date.
            fn add(&self, now: &Stats, added: &mut Stats) {
                $(
                    if now.$field != added.$field {
                        self.$field.fetch_add(now.$field - added.$field, Relaxed);
                        added.$field = now.$field;
                    }
                )*
            }
        }
    };
}

figures! {
    frames_in, frames_out, bytes_in, bytes_out, requests_in, requests_out, fire_and_forget_out, items_in, items_out,
    credit_stalls, ignored_unknown_stream, ignored_out_of_place, ignored_on_request,
    refused_streams, refused_request_bytes, refused_memory, stalled_parts, refused_leases, refused_assemblies, resumes, replayed_frames, retention_overflows, dropped_fire_and_forget, dropped_keepalive_replies, credit_violations,
    paused_reads, cut_error_texts, violations, setup_timeouts, keepalive_timeouts,
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
    /// The sums over all connections.
    pub stats: Stats,
}

impl Meter {
    #[cfg(feature = "websocket")]
    pub(crate) fn handshake_timeout(&self) {
        self.handshake_timeouts.fetch_add(1, Relaxed);
    }

    pub(crate) fn is_full(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection(self: &Arc<Self>) -> ConnectionMeter {
        self.connections.fetch_add(1, Relaxed);
        self.open_connections.fetch_add(1, Relaxed);
        ConnectionMeter {
            meter: Arc::clone(self),
            published: Stats::default(),
            open_streams: 0,
            is_suspended: false,
        }
    }

    /// Streams open, and connections there are.
    pub(crate) fn load(&self) -> (u64, u64) {
        (self.open_streams.load(Relaxed), self.open_connections.load(Relaxed))
    }
}

/// One connection's share of a meter.
#[derive(Debug)]
pub(crate) struct ConnectionMeter {
    meter: Arc<Meter>,
    published: Stats,
    open_streams: u64,
    is_suspended: bool,
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

    /// The connection begins anew, with figures from 0 on.
    pub(crate) fn restart(&mut self, stats: &Stats) {
        self.publish(stats, 0);
        self.published = Stats::default();
    }

    pub(crate) fn suspended(&mut self, is_suspended: bool) {
        if is_suspended != std::mem::replace(&mut self.is_suspended, is_suspended) {
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

    pub(crate) fn dropped_push(&self) {
        self.meter.dropped_pushes.fetch_add(1, Relaxed);
    }
}

impl Drop for ConnectionMeter {
    fn drop(&mut self) {
        self.suspended(false);
        self.meter.open_streams.fetch_sub(self.open_streams, Relaxed);
        self.meter.open_connections.fetch_sub(1, Relaxed);
    }
}
