//! Acceptors, which decide whether a connection is taken, and what serves it.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use crate::{
    boxed::BoxFuture,
    connection::handle::{Accept, Arrival, Handle},
    error::Error,
    limited::Limited,
    observed::observed,
    peer::Peer,
    responder::Responder,
};

/// Takes connections: from the peer to a responder, or a refusal.
///
/// Every `Fn(Peer) -> impl Future<Output = Result<R, Error>>` is one, and so is
/// [`Router`](crate::Router). An error refuses the connection with REJECTED_SETUP and its text
/// (SETUP-16); INVALID_SETUP or UNSUPPORTED_SETUP if that is its code.
pub trait Acceptor: Send + Sync + 'static {
    /// The responder that serves a connection taken.
    type Responder: Responder;

    /// Decides about a connection. Requests the client sent behind SETUP wait meanwhile (SETUP-20).
    fn accept(
        &self,
        peer: Peer,
    ) -> impl Future<Output = Result<Self::Responder, Error>> + Send + 'static;
}

impl<F, Fut, R> Acceptor for F
where
    F: Fn(Peer) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Error>> + Send + 'static,
    R: Responder,
{
    type Responder = R;

    fn accept(&self, peer: Peer) -> impl Future<Output = Result<R, Error>> + Send + 'static {
        self(peer)
    }
}

impl<A: Acceptor> Accept for A {
    fn accept(&self, arrival: Arrival) -> BoxFuture<Result<Arc<dyn Handle>, Error>> {
        let peer = Peer::new(arrival);
        let accepted = Acceptor::accept(self, peer.clone());
        Box::pin(async move {
            let responder = Arc::new(accepted.await?);
            let limit = peer.request_limit();
            let handle = observed(responder, peer.for_service());
            Ok(match limit {
                Some(limit) => Arc::new(Limited { handle, limit }),
                None => handle,
            })
        })
    }
}

/// Takes every connection, with the same responder.
pub(crate) struct Always<R>(pub(crate) Arc<R>);

impl<R: Responder> Accept for Always<R> {
    fn accept(&self, arrival: Arrival) -> BoxFuture<Result<Arc<dyn Handle>, Error>> {
        let peer = Peer::new(arrival).for_service();
        Box::pin(ready(Ok(observed(Arc::clone(&self.0), peer))))
    }
}
