//! Locks and flags that threads share: std's. The models of what may happen between threads build
//! the same sources with others, which try every order of events.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
