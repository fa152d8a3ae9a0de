//! Futures and streams of handlers, boxed.

use std::pin::Pin;

use futures_core::Stream;

/// A future of a handler, boxed once a request.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A stream of a handler, boxed once a request.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;
