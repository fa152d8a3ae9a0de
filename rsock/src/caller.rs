//! Calling a responder in this process, as a connection would.

use std::{fmt, future::Future, sync::Arc};

use futures_core::Stream;
use rsock_proto::{Interaction, Payload};

use crate::{
    acceptor::Acceptor,
    boxed::BoxStream,
    error::Error,
    observed,
    peer::Peer,
    rate_limit::RateLimit,
    request::Request,
    responder::{Failed, Responder},
    streams::Payloads,
};

/// The responder of a peer that has no RSocket connection: an HTTP client, or this process itself.
///
/// It is taken by an [`Acceptor`], as a connection is: who may not connect is refused, and what was said of
/// the peer there, who it is and how often it may ask, holds for what it asks here. Requests are observed where
/// the peer's are. There is no credit but polling: an item is made when the stream is polled for it.
///
/// ```
/// # use rsock::*;
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let app = Router::new(()).route("hello", request_response(async |_, ()| "hello"));
/// let caller = Caller::accept(&app, Peer::local()).await?;
/// let answer = caller.request_response(Payload::default().route("hello")?).await?;
/// assert_eq!(answer.expect("it answers").data, "hello");
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
pub struct Caller<R> {
    responder: Arc<R>,
    peer: Peer,
    limit: Option<Arc<RateLimit>>,
}

impl<R: Responder> Caller<R> {
    /// Has an acceptor take the peer.
    ///
    /// # Errors
    /// The refusal of the acceptor.
    pub async fn accept<A: Acceptor<Responder = R>>(
        acceptor: &A,
        peer: Peer,
    ) -> Result<Self, Error> {
        let responder = Arc::new(acceptor.accept(peer.clone()).await?);
        let limit = peer.request_limit();
        Ok(Self { responder, peer: peer.for_service(), limit })
    }

    /// The peer that asks.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Counts something that is done for the peer as one of its requests.
    ///
    /// # Errors
    /// It asks more often than [it may](Peer::limit_requests).
    pub fn count_request(&self) -> Result<(), Error> {
        self.limit.as_ref().map_or(Ok(()), |limit| limit.check())
    }

    fn request(&self, payload: Payload) -> (Arc<R>, Request) {
        (Arc::clone(&self.responder), Request::new(payload, self.peer.clone()))
    }

    /// Has a request without an answer taken. Nobody is told what comes of it.
    pub fn fire_and_forget(&self, payload: Payload) -> impl Future<Output = ()> + Send + use<R> {
        let (checked, (responder, request)) = (self.count_request(), self.request(payload));
        async move {
            if checked.is_err() {
                return;
            }
            let took = observed::once(request, Some(Interaction::FireAndForget), async |request| {
                responder.fire_and_forget(request).await;
                Ok(None)
            });
            // There is none.
            let _ = took.await;
        }
    }

    /// The answer to a request; `None` where it completes without one.
    ///
    /// # Errors
    /// As the future: the error that it is answered with.
    pub fn request_response(
        &self,
        payload: Payload,
    ) -> impl Future<Output = Result<Option<Payload>, Error>> + Send + use<R> {
        let (checked, (responder, request)) = (self.count_request(), self.request(payload));
        async move {
            checked?;
            observed::once(request, Some(Interaction::RequestResponse), |request| {
                responder.request_response_optional(request)
            })
            .await
        }
    }

    /// The items that answer a request, each made when it is polled for. Dropping it cancels.
    pub fn request_stream(&self, payload: Payload) -> BoxStream<Result<Payload, Error>> {
        if let Err(error) = self.count_request() {
            return Box::pin(Failed::new(error));
        }
        let (responder, request) = self.request(payload);
        observed::stream_items(responder, request).into_stream()
    }

    /// The items that answer a channel whose first payload is `first`. `rest` is polled as the responder asks
    /// for more, and dropped when it wants none.
    pub fn request_channel(
        &self,
        first: Payload,
        rest: impl Stream<Item = Result<Payload, Error>> + Send + 'static,
    ) -> BoxStream<Result<Payload, Error>> {
        if let Err(error) = self.count_request() {
            return Box::pin(Failed::new(error));
        }
        let (responder, first) = self.request(first);
        observed::channel_items(responder, first, Payloads::from_stream(rest)).into_stream()
    }
}

impl<R> Clone for Caller<R> {
    fn clone(&self) -> Self {
        let Self { responder, peer, limit } = self;
        Self { responder: Arc::clone(responder), peer: peer.clone(), limit: limit.clone() }
    }
}

impl<R> fmt::Debug for Caller<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use futures_util::{StreamExt, TryStreamExt, stream};

    use super::*;
    use crate::{
        Identity, PayloadExt, Router, fire_and_forget, request_channel, request_response,
        request_stream,
    };

    fn router() -> Router<()> {
        Router::new(())
            .route(
                "who",
                request_response(async |_, request: Request| {
                    request.identity().map_or("nobody", Identity::name).to_owned()
                }),
            )
            .route("numbers", request_stream(|_, ()| stream::iter(0..).map(|n| n.to_string())))
            .route("echo", request_channel(|_, (), rest: Payloads| rest))
            .route("forget", fire_and_forget(async |_, ()| {}))
    }

    fn to(route: &str) -> Payload {
        Payload::default().route(route).expect("a short route")
    }

    fn text(payload: Payload) -> String {
        String::from_utf8(payload.data.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn the_acceptor_says_who_asks_and_how_often() {
        let accept = |peer: Peer| async move {
            peer.identify(Identity::new("ann")).expect("nobody was before");
            let limit = RateLimit::per_second(NonZeroU32::new(2).expect("not 0"));
            peer.limit_requests(Arc::new(limit)).expect("there was none");
            Ok::<_, Error>(router())
        };
        let caller = Caller::accept(&accept, Peer::local()).await.expect("it takes all");
        let answer = caller.request_response(to("who")).await.expect("an answer");
        assert_eq!(text(answer.expect("a payload")), "ann");
        let items = caller.request_stream(to("numbers")).take(2).try_collect::<Vec<_>>().await;
        assert_eq!(items.expect("items").into_iter().map(text).collect::<Vec<_>>(), ["0", "1"]);
        let refused = caller.request_response(to("who")).await.expect_err("two a second");
        assert!(matches!(refused, Error::Rejected(_)), "{refused}");
    }

    #[tokio::test]
    async fn who_is_refused_has_no_caller() {
        let refuse = async |_: Peer| Err::<Router<()>, _>(Error::rejected("not today"));
        let error = Caller::accept(&refuse, Peer::local()).await.expect_err("it refuses");
        assert_eq!(error.to_string(), Error::rejected("not today").to_string());
    }

    #[tokio::test]
    async fn a_channel_takes_what_is_asked_for() {
        let caller = Caller::accept(&router(), Peer::local()).await.expect("it takes all");
        let rest = stream::iter(1..4).map(|n| Ok(Payload::new(n.to_string())));
        let items = caller.request_channel(to("echo"), rest).try_collect::<Vec<_>>().await;
        let items: Vec<_> = items.expect("items").into_iter().map(text).collect();
        assert_eq!(items.last().map(String::as_str), Some("3"), "{items:?}");
        caller.fire_and_forget(to("forget")).await;
    }
}
