//! Layers between a connection and its responder: who may ask, how long it took, what was asked.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rsock_proto::{Interaction, Payload};

use crate::{
    acceptor::Acceptor,
    boxed::{BoxFuture, BoxStream},
    error::Error,
    peer::{Identity, Peer},
    request::Request,
    responder::Responder,
    streams::Payloads,
};

/// From one responder to another, which does something before or after it.
///
/// [`AcceptorExt::wrap`] makes one of a function; what needs more implements
/// [`Responder`] itself, and this.
pub trait Layer<R>: Send + Sync + 'static {
    /// The responder it makes.
    type Responder: Responder;

    /// Stands before a responder. Called once a connection.
    fn layer(&self, inner: R) -> Self::Responder;
}

/// An acceptor whose responders stand behind a layer.
#[derive(Clone, Debug)]
pub struct Layered<A, L> {
    acceptor: A,
    layer: Arc<L>,
}

impl<A: Acceptor, L: Layer<A::Responder>> Layered<A, L> {
    /// Puts a layer before whatever this acceptor accepts with.
    pub fn new(acceptor: A, layer: L) -> Self {
        Self { acceptor, layer: Arc::new(layer) }
    }
}

impl<A: Acceptor, L: Layer<A::Responder>> Acceptor for Layered<A, L> {
    type Responder = L::Responder;

    fn accept(
        &self,
        peer: Peer,
    ) -> impl Future<Output = Result<Self::Responder, Error>> + Send + 'static {
        let (accepting, layer) = (self.acceptor.accept(peer), Arc::clone(&self.layer));
        async move { Ok(layer.layer(accepting.await?)) }
    }
}

/// Layers before whatever an acceptor accepts with: before all routes of a
/// [`Router`](crate::Router), for example. What is put last is asked first.
pub trait AcceptorExt: Acceptor + Sized {
    /// Puts a layer before all of this.
    fn layer<L: Layer<Self::Responder>>(self, layer: L) -> Layered<Self, L> {
        Layered::new(self, layer)
    }

    /// Puts a function before all of this: it gets each request and what answers it, may refuse or
    /// change the one, wait, leave something for the handlers, and look at or change what comes of it.
    /// Metadata that are pushed come to it as well.
    ///
    /// ```
    /// # use std::{sync::atomic::{AtomicU64, Ordering::Relaxed}, time::Instant};
    /// # use rsock::*;
    /// static ITEMS: AtomicU64 = AtomicU64::new(0);
    ///
    /// # let app = Router::new(()).route("hello", request_response(async |_, ()| "hello"));
    /// let app = app
    ///     // Counts what is answered.
    ///     .wrap(async |request, next| {
    ///         let reply = next.run(request).await?;
    ///         Ok(reply.inspect(|item| { ITEMS.fetch_add(item.is_ok().into(), Relaxed); }))
    ///     })
    ///     // Lets one in alone.
    ///     .wrap(async |request, next| match request.identity() {
    ///         Some(who) if who.name() == "alice" => next.run(request).await,
    ///         _ => Err(Error::rejected("you are not alice")),
    ///     })
    ///     // Says how long each took, and how it ended: of all four interactions.
    ///     .wrap(async |request, next| {
    ///         let (route, began) = (request.route().map(str::to_owned), Instant::now());
    ///         let log = move |end| println!("{route:?} took {:?}: {end:?}", began.elapsed());
    ///         match next.run(request).await {
    ///             Ok(reply) => Ok(reply.on_end(log)),
    ///             Err(error) => {
    ///                 log(End::Failed(error.clone()));
    ///                 Err(error)
    ///             }
    ///         }
    ///     });
    /// # fn is_acceptor(_: impl Acceptor) {}
    /// # is_acceptor(app);
    /// ```
    fn wrap<F, Fut>(self, wrapper: F) -> Layered<Self, Wrap<F>>
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Error>> + Send + 'static,
    {
        Layered::new(self, Wrap::new(wrapper))
    }

    /// Asks of each request, and of metadata that are pushed, who sends it. It is refused with REJECTED
    /// where that is an error, always in the same words, which tell nobody what was wrong; else the
    /// identity is [`Request::identity`] for whoever sees the request behind this.
    ///
    /// ```
    /// # use rsock::*;
    /// # async fn look_up(token: &[u8]) -> Result<String, Error> { Ok("alice".into()) }
    /// use rsock::metadata::Authentication;
    ///
    /// let app = Router::new(())
    ///     .route("me", request_response(async |_, who: Identity| who.name().to_owned()))
    ///     .authorize_requests(async |request: Request| match request.authentication()? {
    ///         Some(Authentication::Bearer { token }) => Ok(Identity::new(look_up(&token).await?)),
    ///         _ => Err(Error::rejected("there is no token")),
    ///     });
    /// # fn is_acceptor(_: impl Acceptor) {}
    /// # is_acceptor(app);
    /// ```
    fn authorize_requests<F, Fut>(self, who: F) -> impl Acceptor
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Identity, Error>> + Send + 'static,
    {
        self.wrap(move |mut request, next| {
            let who = who(request.clone());
            async move {
                let found = who.await;
                request.identify(
                    found.map_err(|error| refuse(&error, request.peer(), request.route()))?,
                );
                next.run(request).await
            }
        })
    }

    /// Asks the same, once, of each connection, of which SETUP is the request: its metadata have the
    /// credentials. The identity is [`Peer::identity`] from there on, and so that of each of its
    /// requests.
    fn authorize_connections<F, Fut>(self, who: F) -> impl Acceptor
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Identity, Error>> + Send + 'static,
    {
        Authorized { acceptor: Arc::new(self), who }
    }
}

impl<A: Acceptor> AcceptorExt for A {}

/// An acceptor before which each connection is asked who it is.
struct Authorized<A, F> {
    acceptor: Arc<A>,
    who: F,
}

impl<A, F, Fut> Acceptor for Authorized<A, F>
where
    A: Acceptor,
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Identity, Error>> + Send + 'static,
{
    type Responder = A::Responder;

    fn accept(
        &self,
        peer: Peer,
    ) -> impl Future<Output = Result<Self::Responder, Error>> + Send + 'static {
        let who = (self.who)(Request::new(peer.setup().payload.clone(), peer.clone()));
        let acceptor = Arc::clone(&self.acceptor);
        async move {
            // Where somebody has said it before, that stays.
            let _ = peer.identify(who.await.map_err(|error| refuse(&error, &peer, None))?);
            acceptor.accept(peer).await
        }
    }
}

/// The refusal of those who may not ask: the same for all.
fn refuse(error: &Error, peer: &Peer, route: Option<&str>) -> Error {
    log_refusal(error, peer, route);
    Error::rejected("not authorized")
}

#[cfg(feature = "tracing")]
fn log_refusal(error: &Error, of: &Peer, route: Option<&str>) {
    let (conn, peer) = (of.connection_id(), of.address());
    tracing::debug!(conn, peer, route, "not authorized: {error}");
}

#[cfg(not(feature = "tracing"))]
fn log_refusal(_: &Error, _: &Peer, _: Option<&str>) {}

/// A function as a [`Layer`]: it gets each request, and what answers it.
pub struct Wrap<F>(Arc<F>);

impl<F> Wrap<F> {
    /// The layer that calls this for each request.
    pub fn new<Fut>(wrapper: F) -> Self
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Error>> + Send + 'static,
    {
        Self(Arc::new(wrapper))
    }
}

impl<F> fmt::Debug for Wrap<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrap").finish_non_exhaustive()
    }
}

impl<R, F, Fut> Layer<R> for Wrap<F>
where
    R: Responder,
    F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Error>> + Send + 'static,
{
    type Responder = Wrapped<R, F>;

    fn layer(&self, inner: R) -> Wrapped<R, F> {
        Wrapped { inner: Arc::new(inner), wrapper: Arc::clone(&self.0) }
    }
}

/// A responder behind a function.
pub struct Wrapped<R, F> {
    inner: Arc<R>,
    wrapper: Arc<F>,
}

impl<R, F> fmt::Debug for Wrapped<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped").finish_non_exhaustive()
    }
}

impl<R, F, Fut> Wrapped<R, F>
where
    R: Responder,
    F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Error>> + Send + 'static,
{
    fn call(
        &self,
        request: Request,
        interaction: Option<Interaction>,
        rest: Option<Payloads>,
    ) -> Fut {
        let inner: Arc<dyn Inner> = Arc::<R>::clone(&self.inner);
        (self.wrapper)(request, Next { inner, interaction, rest })
    }
}

impl<R, F, Fut> Responder for Wrapped<R, F>
where
    R: Responder,
    F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Error>> + Send + 'static,
{
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        // Nobody is told (FNF-01).
        let _ = self.call(request, Some(Interaction::FireAndForget), None).await;
    }

    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        self.request_response_optional(request).await.map(Option::unwrap_or_default)
    }

    async fn request_response_optional(
        self: Arc<Self>,
        request: Request,
    ) -> Result<Option<Payload>, Error> {
        let mut items = match self.call(request, Some(Interaction::RequestResponse), None).await?.0
        {
            Answer::Nothing => return Ok(None),
            Answer::One(payload) => return Ok(payload),
            Answer::Items(items) => items,
        };
        std::future::poll_fn(|cx| items.as_mut().poll_next(cx)).await.transpose()
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        Opening::Waiting(Box::pin(self.call(request, Some(Interaction::RequestStream), None)))
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        Opening::Waiting(Box::pin(self.call(first, Some(Interaction::RequestChannel), Some(rest))))
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        // Nor is anybody told of this.
        let _ = self.call(push, None, None).await;
    }
}

/// The rest of the way of a request behind a layer: what answers it.
pub struct Next {
    inner: Arc<dyn Inner>,
    interaction: Option<Interaction>,
    /// Of a channel, what follows the first payload.
    rest: Option<Payloads>,
}

impl Next {
    /// How it was asked; `None` for metadata that are pushed.
    pub fn interaction(&self) -> Option<Interaction> {
        self.interaction
    }

    /// Has it answered. A fire-and-forget or a push resolves when its handler has ended, a request-response with
    /// the answer, a stream or channel at once: its items follow as they are asked for.
    ///
    /// # Errors
    /// What the handler says; a stream or channel says it among its items.
    pub async fn run(self, request: Request) -> Result<Reply, Error> {
        self.inner.answer(self.interaction, request, self.rest).await.map(Reply)
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("interaction", &self.interaction).finish_non_exhaustive()
    }
}

/// A responder of any type.
trait Inner: Send + Sync {
    fn answer(
        self: Arc<Self>,
        interaction: Option<Interaction>,
        request: Request,
        rest: Option<Payloads>,
    ) -> BoxFuture<Result<Answer, Error>>;
}

impl<R: Responder> Inner for R {
    fn answer(
        self: Arc<Self>,
        interaction: Option<Interaction>,
        request: Request,
        rest: Option<Payloads>,
    ) -> BoxFuture<Result<Answer, Error>> {
        Box::pin(async move {
            Ok(match (interaction, rest) {
                (None, _) => {
                    self.metadata_push(request).await;
                    Answer::Nothing
                }
                (Some(Interaction::FireAndForget), _) => {
                    self.fire_and_forget(request).await;
                    Answer::Nothing
                }
                (Some(Interaction::RequestResponse), _) => {
                    Answer::One(self.request_response_optional(request).await?)
                }
                (Some(Interaction::RequestChannel), Some(rest)) => {
                    Answer::Items(Box::pin(self.request_channel(request, rest)))
                }
                // A channel always has the rest.
                _ => Answer::Items(Box::pin(self.request_stream(request))),
            })
        })
    }
}

/// The outcome of a request: nothing, an answer, or items that follow.
pub struct Reply(Answer);

enum Answer {
    Nothing,
    One(Option<Payload>),
    Items(BoxStream<Result<Payload, Error>>),
}

impl Reply {
    /// One payload; to a stream or channel, its only item.
    pub fn one(payload: impl Into<Payload>) -> Self {
        Self(Answer::One(Some(payload.into())))
    }

    /// Items; to a request-response, the first of them is the answer.
    pub fn items(items: impl Stream<Item = Result<Payload, Error>> + Send + 'static) -> Self {
        Self(Answer::Items(Box::pin(items)))
    }

    /// Changes each payload.
    #[must_use]
    pub fn map(self, mut change: impl FnMut(Payload) -> Payload + Send + Unpin + 'static) -> Self {
        Self(match self.0 {
            Answer::Nothing => Answer::Nothing,
            Answer::One(payload) => Answer::One(payload.map(change)),
            Answer::Items(items) => {
                let step = move |item: Option<Result<Payload, Error>>| {
                    item.map(|item| item.map(&mut change))
                };
                Answer::Items(Box::pin(Watched { items, step }))
            }
        })
    }

    /// Shows each payload, and the error of a stream that fails.
    #[must_use]
    pub fn inspect(
        self,
        mut look: impl FnMut(Result<&Payload, &Error>) + Send + Unpin + 'static,
    ) -> Self {
        match self.0 {
            Answer::Items(items) => {
                let step = move |item: Option<Result<Payload, Error>>| {
                    if let Some(item) = &item {
                        look(item.as_ref());
                    }
                    item
                };
                Self(Answer::Items(Box::pin(Watched { items, step })))
            }
            answer => {
                if let Answer::One(Some(payload)) = &answer {
                    look(Ok(payload));
                }
                Self(answer)
            }
        }
    }

    /// Tells how it ends, once: a stream or channel when it does, what is there already at once.
    #[must_use]
    pub fn on_end(self, told: impl FnOnce(End) + Send + Unpin + 'static) -> Self {
        let Answer::Items(items) = self.0 else {
            told(End::Complete);
            return self;
        };
        let mut told = Told(Some(told));
        let step = move |item: Option<Result<Payload, Error>>| {
            match &item {
                Some(Ok(_)) => {}
                Some(Err(error)) => told.tell(End::Failed(error.clone())),
                None => told.tell(End::Complete),
            }
            item
        };
        Self(Answer::Items(Box::pin(Watched { items, step })))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Answer::Nothing => "Reply::Nothing",
            Answer::One(_) => "Reply::One",
            Answer::Items(_) => "Reply::Items",
        })
    }
}

/// How an answer has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With all of it.
    Complete,
    /// With an error of its handler.
    Failed(Error),
    /// Before its end: it was cancelled, or its connection is over.
    Dropped,
}

/// The function that is told how it ends: at the latest when it is dropped.
struct Told<F: FnOnce(End)>(Option<F>);

impl<F: FnOnce(End)> Told<F> {
    fn tell(&mut self, end: End) {
        if let Some(told) = self.0.take() {
            told(end);
        }
    }
}

impl<F: FnOnce(End)> Drop for Told<F> {
    fn drop(&mut self) {
        self.tell(End::Dropped);
    }
}

/// Items, each of which, and the end, goes through a function.
struct Watched<F> {
    items: BoxStream<Result<Payload, Error>>,
    step: F,
}

impl<F> Stream for Watched<F>
where
    F: FnMut(Option<Result<Payload, Error>>) -> Option<Result<Payload, Error>> + Unpin,
{
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.items.as_mut().poll_next(cx));
        Poll::Ready((self.step)(item))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

/// The items of an answer that is still to come.
enum Opening {
    Waiting(BoxFuture<Result<Reply, Error>>),
    Items(BoxStream<Result<Payload, Error>>),
    Over,
}

impl Stream for Opening {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Self::Waiting(reply) = &mut *self {
            let reply = ready!(reply.as_mut().poll(cx));
            *self = Self::Over;
            match reply.map(|reply| reply.0) {
                Ok(Answer::Items(items)) => *self = Self::Items(items),
                Ok(Answer::One(payload)) => return Poll::Ready(payload.map(Ok)),
                Ok(Answer::Nothing) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        match &mut *self {
            Self::Items(items) => items.as_mut().poll_next(cx),
            Self::Waiting(_) | Self::Over => Poll::Ready(None),
        }
    }
}
