//! The settings that clients and servers share, and their defaults.

use std::{num::NonZeroU32, sync::Arc};

use rsock_proto::{Config, Window};

use crate::{
    connection::{DriverOptions, Leases, Mailbox, Pace, Sessions},
    lease::LeasePolicy,
    memory::MemoryBudget,
    meter::Meter,
    observe::{Observe, Observer},
    state::ConnectionState,
    tap::FrameTap,
};

/// How many requests may be open at a time on a connection.
pub const DEFAULT_MAX_REQUESTS: usize = 4_096;
/// How many items a stream keeps outstanding at first unless it says otherwise.
pub const DEFAULT_CREDIT: u32 = 256;
/// How many it keeps outstanding at most, where items are small and it is the credit that holds their
/// sender up.
const MAX_DEFAULT_CREDIT: u32 = 4_096;
/// The bytes of items up to which it asks for more than [`DEFAULT_CREDIT`].
const MAX_GROWN_BYTES: usize = 256 << 10;

/// Bytes that may wait for all consumers of a connection unless it is set otherwise.
const DEFAULT_MAX_WAITING_BYTES: usize = 64 << 20;

/// The policy of a stream that has none of its own.
pub(crate) fn default_window() -> Window {
    Window::new(DEFAULT_CREDIT).grows_to(MAX_DEFAULT_CREDIT, MAX_GROWN_BYTES)
}

/// The settings that both builders have: [`shared_settings`] gives them their methods.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: Arc<Config>,
    pub(crate) window: Window,
    pub(crate) max_requests: usize,
    /// That of the process, unless it was set.
    pub(crate) memory: Option<Arc<MemoryBudget>>,
    pub(crate) max_waiting_bytes: usize,
    /// How fast the peer is read; a server's alone.
    pub(crate) bytes_in_per_s: Option<NonZeroU32>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) tap: Option<FrameTap>,
    pub(crate) observe: Option<Arc<dyn Observe>>,
    /// The routes of open streams are remembered; a server's alone.
    pub(crate) remembers_routes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: Arc::default(),
            window: default_window(),
            max_requests: DEFAULT_MAX_REQUESTS,
            memory: None,
            max_waiting_bytes: DEFAULT_MAX_WAITING_BYTES,
            bytes_in_per_s: None,
            meter: Arc::default(),
            tap: None,
            observe: None,
            remembers_routes: false,
        }
    }
}

impl Settings {
    pub(crate) fn budget(&self) -> Arc<MemoryBudget> {
        self.memory.clone().unwrap_or_else(MemoryBudget::of_process)
    }

    /// Of one connection, whose requests are observed from its beginning on.
    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        let mailbox = Mailbox::new(self.max_requests, ConnectionState::Connecting);
        if let Some(observe) = &self.observe {
            mailbox.observe(Observer::new(Arc::clone(observe)));
        }
        mailbox
    }

    /// Of the driver of one connection.
    pub(crate) fn driver_options(
        &self,
        config: Arc<Config>,
        peer: Arc<str>,
        lease: Option<Box<dyn LeasePolicy>>,
        sessions: Option<Arc<Sessions>>,
    ) -> DriverOptions {
        DriverOptions {
            config,
            window: self.window,
            meter: Arc::clone(&self.meter),
            tap: self.tap.clone(),
            peer,
            lease: lease.map(|policy| Box::new(Leases::new(policy))),
            sessions,
            memory: self.budget(),
            max_waiting_bytes: self.max_waiting_bytes,
            pace: self.bytes_in_per_s.map(|bytes_per_s| Box::new(Pace::new(bytes_per_s))),
            opened: self.remembers_routes.then(Box::default),
        }
    }
}

/// The methods of a builder that has [`Settings`] in its field `settings`.
macro_rules! shared_settings {
    ($builder:ty) => {
        /// The settings that clients and servers share.
        impl $builder {
            /// Sets the bounds of what a peer can make us hold.
            pub fn config(mut self, config: ::rsock_proto::Config) -> Self {
                self.settings.config = ::std::sync::Arc::new(config);
                self
            }

            /// How many items a stream, and what a channel brings, keeps outstanding unless it says
            /// otherwise. By default 256, and up to 4,096 where items are small and it is the credit
            /// that holds the peer up.
            pub fn credit(mut self, n: u32) -> Self {
                self.settings.window = ::rsock_proto::Window::new(n);
                self
            }

            /// How many requests of ours may be open on a connection at a time; more wait for their
            /// turn. Default 4,096.
            pub fn max_requests(mut self, max: usize) -> Self {
                self.settings.max_requests = max.max(1);
                self
            }

            /// The memory that connections share; by default
            /// [`MemoryBudget::of_process`](crate::MemoryBudget::of_process).
            pub fn memory(
                mut self,
                budget: ::std::sync::Arc<$crate::memory::MemoryBudget>,
            ) -> Self {
                self.settings.memory = Some(budget);
                self
            }

            /// Bytes of items and answers that may wait on a connection for those who consume them;
            /// beyond, nothing more is read from it until some are consumed. Where nobody consumes any
            /// for 10 s, the stream for which most waits fails with
            /// [`Error::Canceled`](crate::Error::Canceled), unless it is a client's only one. Default
            /// 64 MiB, and less where memory is short.
            pub fn max_waiting_bytes(mut self, max: usize) -> Self {
                self.settings.max_waiting_bytes = max;
                self
            }

            /// Counts what happens.
            pub fn meter(mut self, meter: ::std::sync::Arc<$crate::meter::Meter>) -> Self {
                self.settings.meter = meter;
                self
            }

            /// Sees how each request begins and ends, of those that the peer asks and of those that
            /// it is asked.
            pub fn observe(
                mut self,
                observer: ::std::sync::Arc<dyn $crate::observe::Observe>,
            ) -> Self {
                self.settings.observe = Some(observer);
                self
            }

            /// Shows every frame.
            pub fn tap(mut self, tap: $crate::tap::FrameTap) -> Self {
                self.settings.tap = Some(tap);
                self
            }
        }
    };
}

pub(crate) use shared_settings;
