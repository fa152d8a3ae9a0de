//! Asking the peer: the four interactions and metadata push.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use rsock_proto::{
    CloseReason, ControlError, Interaction, MAX_FRAME_BYTES, Payload, RequestError, Side, Window,
    frame::{HEADER_LEN, Lease, StreamId, payload_frame_len},
    metadata::Notice,
};
use tokio::{
    sync::oneshot,
    time::{Duration, Instant},
};

use crate::{
    connection::{
        AwaitedPermit, Command, Feeder, Inlet, Mailbox, Outgoing, Permit, WakeGroup, inflow,
        keep_inlet, refused, take_inlet,
    },
    demand::{Demand, Grants},
    error::Error,
    observe::{Outcome, Tally, Watch},
    payload::{IntoPayload, payloads},
    state::ConnectionState,
    streams::RequestStream,
};

/// A handle for asking the other side of a connection. Cheap to clone; both sides may ask.
///
/// Nothing is sent before the returned future or stream is polled. Dropping it sends CANCEL. When
/// the connection ends, whatever is pending ends with [`Error::Closed`] and the reason. Once it is
/// about to end, because it is closed here or the peer has said CONNECTION_CLOSE, whatever is asked
/// fails at once with that reason, and what is open runs to its end. When more requests are open than
/// allowed, further ones wait for their turn.
#[derive(Clone)]
pub struct Requester {
    mailbox: Arc<Mailbox>,
    window: Window,
    /// Payloads are cut into fragments, so that they need not fit a frame.
    fragments: bool,
}

impl Requester {
    pub(crate) fn new(mailbox: Arc<Mailbox>, window: Window, fragments: bool) -> Self {
        Self { mailbox, window, fragments }
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// A group that feeds of this connection may [wait in](crate::Outlet::wait_in), to be woken together.
    pub fn wake_group(&self) -> Arc<WakeGroup> {
        WakeGroup::new(&self.mailbox)
    }

    /// Asks for one answer.
    pub fn request_response(&self, payload: impl Into<Payload>) -> Response {
        self.response(Interaction::RequestResponse, payload.into())
    }

    /// Asks for items, as many as the window has room for: see [`RequestStream::window`].
    pub fn request_stream(&self, payload: impl Into<Payload>) -> RequestStream {
        RequestStream::of_request(Arc::clone(&self.mailbox), self.window, payload.into(), None)
    }

    /// Opens a channel. `outgoing` is polled under the peer's credit: its first item opens the
    /// channel, and if there is none nothing is sent (RC-22). An error among its items fails the
    /// channel in both directions. While its first item has not come, the end of the connection ends
    /// the answers all the same.
    pub fn request_channel<S>(&self, outgoing: S) -> RequestStream
    where
        S: Stream<Item: IntoPayload> + Send + 'static,
    {
        let outgoing = Box::new(Outgoing { items: payloads(outgoing), grants: None });
        RequestStream::of_channel(Arc::clone(&self.mailbox), self.window, outgoing)
    }

    /// Opens a channel as [`request_channel`](Self::request_channel) does, of which the items know how
    /// many the responder has asked for: the first is not among these, since it comes with the request.
    pub fn request_channel_with<S>(&self, outgoing: impl FnOnce(Demand) -> S) -> RequestStream
    where
        S: Stream<Item: IntoPayload> + Send + 'static,
    {
        let grants = Grants::new();
        let items = payloads(outgoing(grants.demand()));
        let outgoing = Box::new(Outgoing { items, grants: Some(grants) });
        RequestStream::of_channel(Arc::clone(&self.mailbox), self.window, outgoing)
    }

    /// Opens a channel of which the first payload is there already.
    pub(crate) fn open_channel(&self, payload: Payload, rest: Box<Outgoing>) -> RequestStream {
        RequestStream::of_request(Arc::clone(&self.mailbox), self.window, payload, Some(rest))
    }

    /// The demand of the peer for one of its streams, of which it has asked for `granted` items until now.
    pub(crate) fn demand_of(&self, stream: StreamId, granted: u64) -> Demand {
        let grants = Grants::new();
        grants.grant(granted);
        let demand = grants.demand();
        // A connection that has ended asks for nothing more.
        let _ = self.mailbox.send(Command::Watch { stream, grants });
        demand
    }

    /// Sends a request that has no answer. Resolves when it is on its way: the connection's next turn
    /// writes it, in order with what was sent before (FNF-03). Where it has to wait, for a lease, for
    /// the server to accept the connection, or for a session's next transport, it resolves when that
    /// is over; dropped before, it is not sent.
    ///
    /// Whether the peer has it is not known: [`ping`](Self::ping) tells. What was on its way and was
    /// surely or possibly lost, with its connection or its session, is counted
    /// ([`MeterReading::lost_fire_and_forget`](crate::MeterReading::lost_fire_and_forget)), and a
    /// session says so ([`SessionEvent::Lost`](crate::SessionEvent::Lost)).
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection has ended or is about to, [`Error::Request`] if the payload
    /// fits no frame and is not to be cut, or the connection has no more stream ids.
    pub async fn fire_and_forget(&self, payload: impl Into<Payload>) -> Result<(), Error> {
        let payload = payload.into();
        let len = payload_frame_len(&payload);
        if !self.fragments && len > MAX_FRAME_BYTES {
            // Nobody would be told when it is to be written (FRAME-02).
            return Err(RequestError::PayloadTooLarge { len }.into());
        }
        let observed = Observed::begin(&self.mailbox, Some(Interaction::FireAndForget), &payload);
        let told = match self.permit().await {
            Ok(permit) => match self.mailbox.tell(payload, permit) {
                Ok(None) => Ok(()),
                // Boxed, so that the common way is not the larger for it.
                Ok(Some((payload, permit))) => Box::pin(self.tell_later(payload, permit)).await,
                Err(reason) => Err(Error::never_sent(reason)),
            },
            Err(error) => Err(error),
        };
        observed.end(&told);
        told
    }

    /// Sends a fire-and-forget that has to wait; the driver tells when that is over.
    async fn tell_later(&self, payload: Payload, permit: Permit) -> Result<(), Error> {
        let mut told = self.response(Interaction::FireAndForget, payload);
        let mut permit = Some(permit);
        std::future::poll_fn(|cx| match permit.take() {
            // Whoever asks for it observes it.
            Some(permit) => match told.send(permit, cx.waker()) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            None => told.poll_reply(cx).map_ok(drop),
        })
        .await
    }

    /// Pushes metadata to the peer (MDP-01). Resolves when it is in the send buffer.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection has ended or is about to, or ends before; [`Error::Control`]
    /// if the metadata do not fit one frame, or as many pushes wait to be written as may.
    pub async fn metadata_push(&self, metadata: impl Into<Bytes>) -> Result<(), Error> {
        let metadata = metadata.into();
        let len = HEADER_LEN + metadata.len();
        if len > MAX_FRAME_BYTES {
            return Err(ControlError::PayloadTooLarge { len }.into());
        }
        let payload = Payload { metadata: Some(metadata.clone()), ..Payload::default() };
        let observed = Observed::begin(&self.mailbox, None, &payload);
        let pushed = self.push(metadata).await;
        observed.end(&pushed);
        pushed
    }

    async fn push(&self, metadata: Bytes) -> Result<(), Error> {
        let permit = self.permit().await?;
        let (answer, answered) = oneshot::channel();
        let caller = Some((answer, permit));
        self.mailbox.send(Command::Push { metadata, caller }).map_err(Error::never_sent)?;
        self.answer(answered).await
    }

    /// Pushes news to a client that has [declared](crate::Peer::features) that it heeds them, and says whether
    /// it has: nobody else is pushed anything. Does not wait.
    pub fn notify(&self, notice: &Notice) -> bool {
        self.mailbox.notify(notice)
    }

    /// Sends a KEEPALIVE and waits for its return: how long the way there and back takes. What was
    /// sent before it has arrived by then, as long as the socket keeps up. A session without a
    /// transport has it wait for the next. A peer that sends other frames and does not answer is
    /// waited for as long as the connection lasts.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection has ended or is about to, or ends meanwhile;
    /// [`Error::Control`] if as many pings wait to be written as may.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let permit = self.permit().await?;
        let started = Instant::now();
        let (answer, answered) = oneshot::channel();
        self.mailbox.send(Command::Ping { answer, permit }).map_err(Error::never_sent)?;
        self.answer(answered).await?;
        Ok(started.elapsed())
    }

    /// The driver's answer to a command; one that it drops ends with the connection.
    async fn answer(&self, answered: oneshot::Receiver<Result<(), Error>>) -> Result<(), Error> {
        answered.await.unwrap_or_else(|_| Err(refused(&self.mailbox)))
    }

    /// How long the last KEEPALIVE of a client took there and back; `None` before the first, and on a
    /// server, which sends none by itself. [`ping`](Self::ping) measures now.
    pub fn round_trip(&self) -> Option<Duration> {
        self.mailbox.round_trip()
    }

    /// The newest lease the peer has given, where leases are agreed upon (LEASE-22).
    pub fn lease(&self) -> Option<Lease> {
        self.mailbox.lease().borrow().clone()
    }

    /// Waits for the peer's next lease; `None` if the connection ends before.
    pub async fn next_lease(&self) -> Option<Lease> {
        let mut leases = self.mailbox.lease();
        let mut closed = std::pin::pin!(self.closed());
        let mut changed = std::pin::pin!(leases.changed());
        let came = std::future::poll_fn(|cx| match changed.as_mut().poll(cx) {
            Poll::Ready(came) => Poll::Ready(came.is_ok()),
            Poll::Pending => closed.as_mut().poll(cx).map(|_| false),
        })
        .await;
        if came { self.lease() } else { None }
    }

    /// How the connection is now.
    pub fn state(&self) -> ConnectionState {
        self.mailbox.watch().borrow().clone()
    }

    /// Tells of each change of that.
    #[cfg(feature = "topic")]
    pub(crate) fn watch(&self) -> tokio::sync::watch::Receiver<ConnectionState> {
        self.mailbox.watch()
    }

    /// Waits until the connection is in another state than this one. Nothing comes after
    /// [`Closed`](ConnectionState::Closed).
    pub async fn state_after(&self, state: &ConnectionState) -> ConnectionState {
        let mut watch = self.mailbox.watch();
        match watch.wait_for(|now| now != state).await {
            Ok(now) => now.clone(),
            // It is kept by the mailbox, which we hold.
            Err(_) => self.state(),
        }
    }

    /// Has the connection end when the peer is silent for this long, where that is less than was agreed in
    /// SETUP: for as long as somebody relies on it that whoever is connected is alive. The interval at
    /// which a client sends KEEPALIVEs stays, and is the least that this can be. A session is suspended by
    /// such silence.
    pub fn shorten_lifetime(&self, most: Duration) {
        // One that has ended is silent for ever.
        let _ = self.mailbox.send(Command::Shorten(most));
    }

    /// Ends the connection now, and its session: the peer is told why, by an ERROR of CONNECTION_ERROR with
    /// this text.
    pub fn end(&self, why: impl fmt::Display) {
        // One that has ended needs no reason any more.
        let _ = self.mailbox.send(Command::End(why.to_string().into()));
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> CloseReason {
        let mut watch = self.mailbox.watch();
        let closed = |state: &ConnectionState| matches!(state, ConnectionState::Closed(_));
        match watch.wait_for(closed).await.as_deref() {
            Ok(ConnectionState::Closed(reason)) => reason.clone(),
            _ => CloseReason::Disconnected,
        }
    }

    fn response(&self, interaction: Interaction, payload: Payload) -> Response {
        Response {
            mailbox: Arc::clone(&self.mailbox),
            permit: AwaitedPermit::default(),
            interaction,
            state: ResponseState::Idle(payload),
        }
    }

    async fn permit(&self) -> Result<Permit, Error> {
        let mut permit = AwaitedPermit::default();
        std::future::poll_fn(|cx| permit.poll(&self.mailbox, cx)).await
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// A call of ours that has no items, observed if there is an observer.
struct Observed(Option<(Watch, Tally)>);

impl Observed {
    #[inline]
    fn begin(mailbox: &Mailbox, interaction: Option<Interaction>, payload: &Payload) -> Self {
        let Some(observer) = mailbox.observer() else { return Self(None) };
        let watch = observer.begin(Side::Local, interaction, payload, None);
        Self(watch.map(|watch| (watch, Tally::of(payload))))
    }

    #[inline]
    fn end<T>(mut self, answer: &Result<T, Error>) {
        if self.0.is_some() {
            self.tell(Outcome::of(answer), Tally::default());
        }
    }

    #[inline]
    fn tell_reply(&mut self, reply: &Result<Option<Payload>, Error>) {
        if self.0.is_some() {
            let received = reply.as_ref().ok().and_then(Option::as_ref).map(Tally::of);
            self.tell(Outcome::of(reply), received.unwrap_or_default());
        }
    }

    #[cold]
    fn tell(&mut self, outcome: Outcome<'_>, received: Tally) {
        if let Some((watch, sent)) = self.0.take() {
            watch.end(outcome, sent, received);
        }
    }
}

/// A call that was dropped before its end.
impl Drop for Observed {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.tell(Outcome::Cancelled, Tally::default());
        }
    }
}

/// The answer to a request-response, in the making.
///
/// Resolves to the payload; a response that completed without one is an empty payload, unless
/// asked for as [`optional`](Self::optional). Dropping it sends CANCEL.
#[must_use = "a request is sent when its future is polled"]
pub struct Response {
    mailbox: Arc<Mailbox>,
    permit: AwaitedPermit,
    /// A fire-and-forget is answered by the driver, once it is on its way.
    interaction: Interaction,
    state: ResponseState,
}

enum ResponseState {
    Idle(Payload),
    Sent(Arc<Inlet>, Observed),
    Done,
}

impl Response {
    /// Tells a response without a payload from one with an empty payload (RR-02).
    ///
    /// # Errors
    /// What the responder said, or why the connection ended.
    pub async fn optional(mut self) -> Result<Option<Payload>, Error> {
        std::future::poll_fn(|cx| self.poll_reply(cx)).await
    }

    /// Whether the driver has it: then those that are polled after it are sent behind it.
    #[cfg(feature = "topic")]
    pub(crate) fn is_sent(&self) -> bool {
        !matches!(self.state, ResponseState::Idle(_))
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Payload>, Error>> {
        match &self.state {
            ResponseState::Sent(inlet, _) => {
                let reply = ready!(inflow::poll_reply(inlet, &self.mailbox, cx));
                if let ResponseState::Sent(inlet, mut observed) =
                    mem::replace(&mut self.state, ResponseState::Done)
                {
                    observed.tell_reply(&reply);
                    keep_inlet(inlet);
                }
                Poll::Ready(reply)
            }
            ResponseState::Idle(_) => {
                let permit = ready!(self.permit.poll(&self.mailbox, cx));
                let sent = if self.mailbox.observer().is_some() {
                    self.send_observed(permit, cx.waker())
                } else {
                    permit.and_then(|permit| self.send(permit, cx.waker()))
                };
                if let Err(error) = sent {
                    self.state = ResponseState::Done;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending
            }
            ResponseState::Done => Poll::Pending,
        }
    }

    /// Hands the request to the driver; the waker is the inlet's before the driver can answer.
    #[inline(always)]
    fn send(&mut self, permit: Permit, consumer: &Waker) -> Result<(), Error> {
        let inlet = take_inlet(consumer);
        let sent = ResponseState::Sent(Arc::clone(&inlet), Observed(None));
        let ResponseState::Idle(payload) = mem::replace(&mut self.state, sent) else {
            // It is called for what is idle.
            return Ok(());
        };
        let command = Command::Request {
            interaction: self.interaction,
            payload,
            n: 0,
            inlet: Some(Feeder::new(inlet)),
            outgoing: None,
            permit,
        };
        self.mailbox.send(command).map_err(Error::never_sent)
    }

    /// As `send`, if there is a permit, and an observer is told.
    #[cold]
    fn send_observed(
        &mut self,
        permit: Result<Permit, Error>,
        consumer: &Waker,
    ) -> Result<(), Error> {
        let ResponseState::Idle(payload) = &self.state else { return Ok(()) };
        let observed = Observed::begin(&self.mailbox, Some(self.interaction), payload);
        let sent = permit.and_then(|permit| self.send(permit, consumer));
        match &mut self.state {
            ResponseState::Sent(_, place) if sent.is_ok() => *place = observed,
            _ => observed.end(&sent),
        }
        sent
    }
}

impl Future for Response {
    type Output = Result<Payload, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_reply(cx).map_ok(Option::unwrap_or_default)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if let ResponseState::Sent(inlet, _) = &self.state {
            inflow::cancel(inlet, &self.mailbox);
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}
