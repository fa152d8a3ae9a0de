//! The names that the sources use beside each other.

/// In the place of std's: every access is a point at which another thread may go on.
pub(crate) mod sync {
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    };
}

pub(crate) mod boxed {
    use std::{future::Future, pin::Pin};

    use futures_core::Stream;

    pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
    pub(crate) type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;
}

pub(crate) mod observe {
    /// An observer of requests; no model has one.
    pub(crate) struct Observer;
}

pub(crate) mod doors {
    /// The right to be a connection.
    pub(crate) struct Place;

    /// A driver that is told that its newcomer has to go.
    #[expect(dead_code, reason = "the doors call it, which no model has")]
    pub(crate) trait TurnAway {
        fn turn_away(&self);
    }
}

pub(crate) mod transport {
    pub(crate) mod socket {
        use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed};

        /// A transport that is counted when it is closed.
        pub(crate) struct Transport(pub(crate) Arc<AtomicUsize>);

        impl Drop for Transport {
            fn drop(&mut self) {
                self.0.fetch_add(1, Relaxed);
            }
        }
    }
}
