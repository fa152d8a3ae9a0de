//! The names that the sources use beside each other.

/// In the place of std's: every access is a point at which another thread may go on.
pub(crate) mod sync {
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    };
}

/// The same for topics. `loom` takes SeqCst for less than it is: fences before loads and behind what is
/// stored make it what it promises.
pub(crate) mod topics {
    use loom::sync::atomic::fence;
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicBool, atomic::Ordering};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    macro_rules! atomic {
        ($name:ident, $number:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            #[allow(dead_code, reason = "of one kind some are used")]
            impl $name {
                pub(crate) fn new(number: $number) -> Self {
                    Self(loom::sync::atomic::$name::new(number))
                }

                pub(crate) fn load(&self, order: Ordering) -> $number {
                    match order {
                        Ordering::SeqCst => {
                            fence(order);
                            self.0.load(Ordering::Acquire)
                        }
                        _ => self.0.load(order),
                    }
                }

                pub(crate) fn store(&self, number: $number, order: Ordering) {
                    match order {
                        Ordering::SeqCst => {
                            self.0.store(number, Ordering::Release);
                            fence(order);
                        }
                        _ => self.0.store(number, order),
                    }
                }

                pub(crate) fn fetch_add(&self, number: $number, order: Ordering) -> $number {
                    let before = self.0.fetch_add(number, Ordering::AcqRel);
                    if order == Ordering::SeqCst {
                        fence(order);
                    }
                    before
                }

                pub(crate) fn fetch_sub(&self, number: $number, order: Ordering) -> $number {
                    self.0.fetch_sub(number, order)
                }

                pub(crate) fn swap(&self, number: $number, order: Ordering) -> $number {
                    self.0.swap(number, order)
                }
            }
        };
    }

    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);
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

pub(crate) mod snapshot {
    /// How a connection is; no model looks.
    pub(crate) struct Snapshot;
}

pub(crate) mod transport {
    pub(crate) mod socket {
        use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed};

        /// The identity of a transport, of which there is none here.
        pub(crate) type TransportIdentity = Option<Box<[u8; 32]>>;

        /// A transport that is counted when it is closed.
        pub(crate) struct Transport(pub(crate) Arc<AtomicUsize>);

        impl Drop for Transport {
            fn drop(&mut self) {
                self.0.fetch_add(1, Relaxed);
            }
        }
    }
}
