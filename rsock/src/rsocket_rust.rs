//! For programs written for the crate [`rsocket_rust`]: what implements its `RSocket`
//! trait serves on this engine, and a requester of ours serves where that trait is expected.
//!
//! Such a program moves by its set-up lines alone:
//!
//! | there | here |
//! |---|---|
//! | `.acceptor(Box::new(\|setup, socket\| …))` of a server | `.serve(RSocketAcceptor::new(Box::new(\|setup, socket\| …)))` |
//! | `.acceptor(Box::new(\|\| …))` of a client | `.responder(RSocketResponder::made_by(Box::new(\|\| …)))` |
//! | `RSocketFactory::connect()….start().await?` | `RSocketRequester::from(Client::connect(uri).await?)` |
//!
//! What changes with it: a stream is polled only under the peer's credit, one item beyond it at
//! most, and dropped when the peer cancels or is gone; handlers are polled by the connection's task,
//! as [`Responder`] says; an error keeps its code, and ends its stream; requests are sent when their
//! future or stream is first polled, and dropping it sends CANCEL.
//!
//! Both sides of a channel have to move: a requester on the other engine sends its items without
//! credit, which fails the channel here. So have both sides of a server that asks its clients back:
//! on the other engine it does so on stream 0.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::rsocket_rust::{
    async_trait,
    error::{
        ERR_APPLICATION, ERR_CANCELED, ERR_CONN_CLOSED, ERR_CONN_FAILED, ERR_INVALID,
        ERR_INVALID_SETUP, ERR_REJECT_RESUME, ERR_REJECT_SETUP, ERR_REJECTED,
        ERR_UNSUPPORTED_SETUP, RSocketError,
    },
    prelude::{
        ClientResponder, Flux, Payload as OldPayload, RSocket, ServerResponder, SetupPayload,
    },
};
use futures_core::Stream;
use rsock_proto::{CloseReason, ErrorCode, Payload};

use crate::{
    acceptor::Acceptor,
    client::Client,
    error::Error,
    peer::{Peer, Setup},
    request::Request,
    requester::Requester,
    responder::Responder,
    streams::Payloads,
};

type OldResult<T> = ::rsocket_rust::Result<T>;

/// An `RSocket` as a [`Responder`].
///
/// Its errors travel with the code their `RSocketError` stands for, anything else as
/// APPLICATION_ERROR with its text. What fire-and-forget and metadata push fail with is logged.
pub struct RSocketResponder(Box<dyn RSocket>);

impl RSocketResponder {
    /// Serves with this.
    pub fn new(responder: impl RSocket + 'static) -> Self {
        Self(Box::new(responder))
    }

    /// Serves with what a client's acceptor makes.
    pub fn made_by(acceptor: ClientResponder) -> Self {
        Self(acceptor())
    }
}

impl From<Box<dyn RSocket>> for RSocketResponder {
    fn from(responder: Box<dyn RSocket>) -> Self {
        Self(responder)
    }
}

impl Responder for RSocketResponder {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        log_failure(
            "fire-and-forget",
            self.0.fire_and_forget(to_old(request.into_payload())).await,
        );
    }

    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        self.request_response_optional(request).await.map(Option::unwrap_or_default)
    }

    async fn request_response_optional(
        self: Arc<Self>,
        request: Request,
    ) -> Result<Option<Payload>, Error> {
        let answer = from_old_result(self.0.request_response(to_old(request.into_payload())).await);
        answer.map(|payload| payload.map(from_old))
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        FromOld(self.0.request_stream(to_old(request.into_payload())))
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        FromOld(self.0.request_channel(Box::pin(ToOld { first: Some(first.into_payload()), rest })))
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        let payload = OldPayload::new(None, push.into_payload().metadata);
        log_failure("metadata push", self.0.metadata_push(payload).await);
    }
}

impl fmt::Debug for RSocketResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RSocketResponder").finish_non_exhaustive()
    }
}

#[cfg(feature = "tracing")]
fn log_failure(interaction: &str, result: OldResult<()>) {
    if let Err(error) = result {
        tracing::debug!(interaction, %error, "a handler failed, and its request has no answer");
    }
}

#[cfg(not(feature = "tracing"))]
fn log_failure(_: &str, _: OldResult<()>) {}

/// An acceptor written for a server of `rsocket_rust`, as an [`Acceptor`].
///
/// What it fails with refuses the connection: with INVALID_SETUP or UNSUPPORTED_SETUP if its
/// `RSocketError` is that, otherwise with REJECTED_SETUP.
pub struct RSocketAcceptor(Arc<ServerResponder>);

impl RSocketAcceptor {
    /// Takes connections with this.
    pub fn new(acceptor: ServerResponder) -> Self {
        Self(Arc::new(acceptor))
    }
}

impl Acceptor for RSocketAcceptor {
    type Responder = RSocketResponder;

    fn accept(
        &self,
        peer: Peer,
    ) -> impl Future<Output = Result<RSocketResponder, Error>> + Send + 'static {
        let acceptor = Arc::clone(&self.0);
        async move {
            let socket = Box::new(RSocketRequester::from(peer.requester().clone()));
            let made = from_old_result(acceptor(setup_payload(peer.setup()), socket));
            made.map(RSocketResponder)
        }
    }
}

impl fmt::Debug for RSocketAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RSocketAcceptor").finish_non_exhaustive()
    }
}

fn setup_payload(setup: &Setup) -> SetupPayload {
    let interval = Duration::from_millis(setup.keepalive_interval_ms.into());
    let lifetime = Duration::from_millis(setup.max_lifetime_ms.into());
    let mut builder = SetupPayload::builder()
        .set_keepalive(interval, lifetime, 1)
        .set_metadata_mime_type(String::from_utf8_lossy(&setup.metadata_mime))
        .set_data_mime_type(String::from_utf8_lossy(&setup.data_mime));
    if let Some(metadata) = &setup.payload.metadata {
        builder = builder.set_metadata(metadata.clone());
    }
    if !setup.payload.data.is_empty() {
        builder = builder.set_data(setup.payload.data.clone());
    }
    builder.build()
}

/// A requester where an `RSocket` is expected. Cheap to clone.
///
/// Streams ask for what the connection's credit window holds, and for more as they are consumed:
/// see [`ClientBuilder::credit`](crate::ClientBuilder::credit). Made of a [`Client`] it keeps the
/// connection open as one of its clones does.
#[derive(Clone, Debug)]
pub struct RSocketRequester(Handle);

#[derive(Clone)]
enum Handle {
    Client(Client),
    Requester(Requester),
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(client) => client.fmt(f),
            Self::Requester(requester) => requester.fmt(f),
        }
    }
}

impl RSocketRequester {
    /// Waits for the end of the connection.
    pub async fn wait_for_close(self) {
        self.requester().closed().await;
    }

    fn requester(&self) -> &Requester {
        match &self.0 {
            Handle::Client(client) => client,
            Handle::Requester(requester) => requester,
        }
    }
}

impl From<Client> for RSocketRequester {
    fn from(client: Client) -> Self {
        Self(Handle::Client(client))
    }
}

impl From<Requester> for RSocketRequester {
    fn from(requester: Requester) -> Self {
        Self(Handle::Requester(requester))
    }
}

#[async_trait]
impl RSocket for RSocketRequester {
    async fn metadata_push(&self, req: OldPayload) -> OldResult<()> {
        let (_, metadata) = req.split();
        let pushed = self.requester().metadata_push(metadata.unwrap_or_default());
        Ok(pushed.await.map_err(RSocketError::from)?)
    }

    async fn fire_and_forget(&self, req: OldPayload) -> OldResult<()> {
        let sent = self.requester().fire_and_forget(from_old(req));
        Ok(sent.await.map_err(RSocketError::from)?)
    }

    async fn request_response(&self, req: OldPayload) -> OldResult<Option<OldPayload>> {
        let answer = self.requester().request_response(from_old(req)).optional();
        Ok(answer.await.map_err(RSocketError::from)?.map(to_old))
    }

    fn request_stream(&self, req: OldPayload) -> Flux<OldResult<OldPayload>> {
        let rest = self.requester().request_stream(from_old(req));
        Box::pin(ToOld { first: None, rest })
    }

    fn request_channel(&self, reqs: Flux<OldResult<OldPayload>>) -> Flux<OldResult<OldPayload>> {
        let rest = self.requester().request_channel(FromOld(reqs));
        Box::pin(ToOld { first: None, rest })
    }
}

/// Items of theirs as ours, polled when ours are.
struct FromOld(Flux<OldResult<OldPayload>>);

impl Stream for FromOld {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.0.as_mut().poll_next(cx);
        item.map(|item| item.map(|item| from_old_result(item).map(from_old)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// Items of ours as theirs, behind one that is here already.
struct ToOld<St> {
    first: Option<Payload>,
    rest: St,
}

impl<St: Stream<Item = Result<Payload, Error>> + Unpin> Stream for ToOld<St> {
    type Item = OldResult<OldPayload>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(to_old(first))));
        }
        let item = Pin::new(&mut self.rest).poll_next(cx);
        item.map(|item| item.map(|item| Ok(to_old(item.map_err(RSocketError::from)?))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let first = usize::from(self.first.is_some());
        let (lower, upper) = self.rest.size_hint();
        (lower.saturating_add(first), upper.and_then(|upper| upper.checked_add(first)))
    }
}

/// Empty data is none, as it is when it comes off a wire there.
fn to_old(payload: Payload) -> OldPayload {
    let data = Some(payload.data).filter(|data| !data.is_empty());
    OldPayload::new(data, payload.metadata)
}

fn from_old(payload: OldPayload) -> Payload {
    let (data, metadata) = payload.split();
    Payload { metadata, data: data.unwrap_or_default() }
}

fn from_old_result<T>(result: OldResult<T>) -> Result<T, Error> {
    result.map_err(|error| match error.downcast::<RSocketError>() {
        Ok(error) => Error::from(error),
        Err(error) => Error::application(error),
    })
}

impl From<RSocketError> for Error {
    fn from(error: RSocketError) -> Self {
        let with_code =
            |code, message| Self::Other { code: ErrorCode(code), message: String::into(message) };
        match error {
            RSocketError::ApplicationException(message) => Self::Application(message.into()),
            RSocketError::RequestRejected(message) => Self::Rejected(message.into()),
            RSocketError::RequestCancelled(message) => Self::Canceled(message.into()),
            RSocketError::RequestInvalid(message) => Self::Invalid(message.into()),
            RSocketError::InvalidSetup(message) => with_code(ERR_INVALID_SETUP, message),
            RSocketError::UnsupportedSetup(message) => with_code(ERR_UNSUPPORTED_SETUP, message),
            RSocketError::RejectedSetup(message) => with_code(ERR_REJECT_SETUP, message),
            RSocketError::RejectedResume(message) => with_code(ERR_REJECT_RESUME, message),
            RSocketError::ConnectionException(message) => with_code(ERR_CONN_FAILED, message),
            RSocketError::ConnectionClosed(message) => with_code(ERR_CONN_CLOSED, message),
            RSocketError::Reserved(code, message) => with_code(code, message),
            other => Self::application(other),
        }
    }
}

impl From<Error> for RSocketError {
    fn from(error: Error) -> Self {
        match error {
            Error::Application(message) => Self::ApplicationException(message.to_string()),
            Error::Rejected(message) => Self::RequestRejected(message.to_string()),
            Error::Canceled(message) => Self::RequestCancelled(message.to_string()),
            Error::Invalid(message) => Self::RequestInvalid(message.to_string()),
            Error::Other { code, message } => of_code(code, message.to_string()),
            Error::Closed { reason: CloseReason::Error { code, message, .. }, .. } => {
                of_code(code, message.to_string())
            }
            Error::Closed { reason: CloseReason::Violation(violation), .. } => {
                of_code(violation.code(), violation.to_string())
            }
            Error::Closed { reason, .. } => Self::ConnectionClosed(reason.to_string()),
            error @ Error::Unavailable { .. } => Self::ConnectionClosed(error.to_string()),
            Error::Connect(error) => Self::ConnectionException(error.to_string()),
            error @ (Error::Request(_) | Error::Send(_) | Error::Control(_)) => {
                Self::WithDescription(error.to_string())
            }
        }
    }
}

fn of_code(ErrorCode(code): ErrorCode, message: String) -> RSocketError {
    match code {
        ERR_INVALID_SETUP => RSocketError::InvalidSetup(message),
        ERR_UNSUPPORTED_SETUP => RSocketError::UnsupportedSetup(message),
        ERR_REJECT_SETUP => RSocketError::RejectedSetup(message),
        ERR_REJECT_RESUME => RSocketError::RejectedResume(message),
        ERR_CONN_FAILED => RSocketError::ConnectionException(message),
        ERR_CONN_CLOSED => RSocketError::ConnectionClosed(message),
        ERR_APPLICATION => RSocketError::ApplicationException(message),
        ERR_REJECTED => RSocketError::RequestRejected(message),
        ERR_CANCELED => RSocketError::RequestCancelled(message),
        ERR_INVALID => RSocketError::RequestInvalid(message),
        code => RSocketError::Reserved(code, message),
    }
}
