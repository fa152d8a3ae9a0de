//! The streams that users poll: what answers a request, and what a requester sends on a channel.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rsock_proto::{Interaction, Payload, Side, Window};

use crate::{
    boxed::{BoxFuture, BoxStream},
    connection::{
        AwaitedPermit, Command, Feeder, Inlet, Mailbox, Outgoing, Permit,
        inflow::{Inflow, Limit},
        refusal, refused,
    },
    demand::Demand,
    error::Error,
    newest::Newest,
    observe::{Counted, Counter, Outcome},
};

/// The items of a request-stream or channel.
///
/// Polling it is the credit: the first poll asks for as many items as the window holds, and more is
/// asked for when half of them are consumed. How large items are shows when they come: where that is
/// some 100 KiB or more, [`credit`](Self::credit) should ask for few at a time. Dropping it sends CANCEL.
#[must_use = "a request is sent when its stream is polled"]
pub struct RequestStream {
    mailbox: Arc<Mailbox>,
    permit: AwaitedPermit,
    window: Window,
    limit: Option<Box<Limit>>,
    /// The end of the connection, where something else is waited for before anything is sent.
    end: Option<BoxFuture<()>>,
    /// Of an observed one that is open.
    observed: Option<Counted>,
    state: StreamState,
}

enum StreamState {
    /// A channel without its first item.
    Channel(Box<Outgoing>),
    Idle {
        payload: Payload,
        outgoing: Option<Box<Outgoing>>,
    },
    Open(Inflow),
    Done,
}

impl RequestStream {
    /// The answers to a request whose first payload is there; `outgoing` is what a channel sends after it.
    pub(crate) fn of_request(
        mailbox: Arc<Mailbox>,
        window: Window,
        payload: Payload,
        outgoing: Option<Box<Outgoing>>,
    ) -> Self {
        Self::new(mailbox, window, StreamState::Idle { payload, outgoing })
    }

    /// The answers to a channel that `outgoing` has to open.
    pub(crate) fn of_channel(
        mailbox: Arc<Mailbox>,
        window: Window,
        outgoing: Box<Outgoing>,
    ) -> Self {
        Self::new(mailbox, window, StreamState::Channel(outgoing))
    }

    fn new(mailbox: Arc<Mailbox>, window: Window, state: StreamState) -> Self {
        let permit = AwaitedPermit::default();
        Self { mailbox, permit, window, limit: None, end: None, observed: None, state }
    }

    /// Keeps at most `n` items outstanding, refilled when half of them are consumed. Takes effect
    /// before the first poll, as do the other settings.
    pub fn credit(self, n: u32) -> Self {
        self.window(Window::new(n))
    }

    /// Asks for items by this policy.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Asks for no more than this demand, in portions that the window has room for. Nothing is sent
    /// before it is above 0. So whoever asks for a handler's items is whom those of another stream are
    /// asked for: what he does not want is never made, and none waits between the two.
    ///
    /// ```
    /// # use rsock::*;
    /// # fn app(behind: Requester) -> Router<Requester> {
    /// Router::new(behind).route("quotes", request_stream(
    ///     |behind: Requester, (payload, demand): (Payload, Demand)| {
    ///         behind.request_stream(payload).demand(demand)
    ///     },
    /// ))
    /// # }
    /// ```
    pub fn demand(mut self, demand: Demand) -> Self {
        self.limit = Some(Limit::new(demand));
        self
    }

    /// Gives the newest of the items that have arrived, and passes over those before it: who takes 50 ms for
    /// each of a hundred a second sees what is new, and not what was new seconds ago. What is passed over
    /// has been consumed: as many are asked for in its place.
    pub fn newest(self) -> Newest<Self> {
        Newest::of(self)
    }

    /// Asks for `n` more items now, beside what the window asks for. A window made
    /// [`manual`](Window::manual) asks for nothing by itself. Before the first poll it has no effect.
    pub fn request_n(&mut self, n: u32) {
        if let StreamState::Open(inflow) = &self.state {
            inflow.request_n(n.min(rsock_proto::frame::MAX_U31));
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Payload, Error>>> {
        loop {
            match &mut self.state {
                StreamState::Channel(outgoing) => {
                    if self.end.is_none() && self.mailbox.refusing().is_some() {
                        self.finish();
                        return Poll::Ready(Some(Err(refused(&self.mailbox))));
                    }
                    let Poll::Ready(first) = outgoing.items.as_mut().poll_next(cx) else {
                        return self.poll_refused(cx);
                    };
                    let StreamState::Channel(outgoing) = self.finish() else {
                        return Poll::Ready(None);
                    };
                    match first {
                        Some(Ok(payload)) => {
                            let outgoing = Some(outgoing);
                            self.state = StreamState::Idle { payload, outgoing };
                        }
                        Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                        None => return Poll::Ready(None),
                    }
                }
                StreamState::Idle { .. } => {
                    match self.limit.as_mut().map(|limit| limit.poll_first(cx)) {
                        Some(Poll::Pending) => return self.poll_refused(cx),
                        Some(Poll::Ready(false)) => {
                            self.finish();
                            return Poll::Ready(None);
                        }
                        _ => {}
                    }
                    let permit = ready!(self.permit.poll(&self.mailbox, cx));
                    let StreamState::Idle { payload, outgoing } = self.finish() else {
                        return Poll::Ready(None);
                    };
                    let outgoing = self.observe(&payload, outgoing);
                    let opened = permit.and_then(|permit| self.open(payload, outgoing, permit));
                    match opened {
                        Ok(inflow) => self.state = StreamState::Open(inflow),
                        Err(error) => {
                            let end = Some(Err(error));
                            self.tell(&end);
                            return Poll::Ready(end);
                        }
                    }
                }
                StreamState::Open(inflow) => {
                    let item = ready!(inflow.poll_next(cx));
                    if self.observed.is_some() {
                        self.tell(&item);
                    }
                    if !matches!(item, Some(Ok(_))) {
                        self.finish();
                    }
                    return Poll::Ready(item);
                }
                StreamState::Done => return Poll::Ready(None),
            }
        }
    }

    /// It begins, for an observer if there is one.
    fn observe(
        &mut self,
        payload: &Payload,
        outgoing: Option<Box<Outgoing>>,
    ) -> Option<Box<Outgoing>> {
        let Some(observer) = self.mailbox.observer() else { return outgoing };
        let interaction = interaction_with(outgoing.as_deref());
        let watch = observer.begin(Side::Local, Some(interaction), payload, None);
        let Some(watch) = watch else { return outgoing };
        let counted = self.observed.insert(Counted::new(watch, Side::Local, payload));
        let mut outgoing = outgoing?;
        outgoing.items = Box::pin(Counting { items: outgoing.items, counter: counted.counter() });
        Some(outgoing)
    }

    /// Tells the observer of an item, or the end.
    #[cold]
    fn tell(&mut self, item: &Option<Result<Payload, Error>>) {
        if let (Some(Ok(payload)), Some(counted)) = (item, &mut self.observed) {
            counted.item(payload);
        } else if let Some(counted) = self.observed.take() {
            match item {
                Some(item) => counted.end_of(item),
                None => counted.end(Outcome::Completed),
            }
        }
    }

    /// Nothing is sent yet: the end of the connection, for who waits for something else.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Payload, Error>>> {
        let watch = || -> BoxFuture<()> { Box::pin(refusal(Arc::clone(&self.mailbox))) };
        ready!(self.end.get_or_insert_with(watch).as_mut().poll(cx));
        self.finish();
        Poll::Ready(Some(Err(refused(&self.mailbox))))
    }

    fn open(
        &mut self,
        payload: Payload,
        outgoing: Option<Box<Outgoing>>,
        permit: Permit,
    ) -> Result<Inflow, Error> {
        let interaction = interaction_with(outgoing.as_deref());
        let mut limit = self.limit.take();
        let n = self.window.initial();
        let n = limit.as_mut().map_or(n, |limit| limit.make_room(n));
        let inlet = Arc::new(Inlet::default());
        let inflow = Inflow::new(Arc::clone(&inlet), Arc::clone(&self.mailbox), self.window);
        let inflow = inflow.within(limit);
        let inlet = Some(Feeder::new(inlet));
        let command = Command::Request { interaction, payload, n, inlet, outgoing, permit };
        self.mailbox.send(command).map_err(Error::never_sent)?;
        Ok(inflow)
    }

    fn finish(&mut self) -> StreamState {
        self.end = None;
        mem::replace(&mut self.state, StreamState::Done)
    }
}

impl Stream for RequestStream {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        if let Some(observed) = self.observed.take() {
            observed.end(Outcome::Cancelled);
        }
    }
}

/// The interaction of a request that these items follow, or none.
fn interaction_with(outgoing: Option<&Outgoing>) -> Interaction {
    match outgoing {
        Some(_) => Interaction::RequestChannel,
        None => Interaction::RequestStream,
    }
}

/// The items of an observed channel of ours.
struct Counting {
    items: BoxStream<Result<Payload, Error>>,
    counter: Arc<Counter>,
}

impl Stream for Counting {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.items.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(payload))) = &item {
            self.counter.add(payload);
        }
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl fmt::Debug for RequestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestStream").finish_non_exhaustive()
    }
}

/// The payloads a requester sends on a channel after its first. Polling them is what grants credit.
///
/// Dropping it before it ends tells the requester to stop (RC-18).
pub struct Payloads {
    source: Source,
    /// The first grant waits for the first poll.
    started: bool,
    /// Counts them, where the channel is observed.
    counter: Option<Arc<Counter>>,
}

/// The place that payloads come from.
enum Source {
    Connection(Inflow),
    /// This process: polling is all the credit there is.
    Stream(BoxStream<Result<Payload, Error>>),
}

impl Payloads {
    pub(crate) fn new(inflow: Inflow) -> Self {
        Self::counted(inflow, None)
    }

    pub(crate) fn counted(inflow: Inflow, counter: Option<Arc<Counter>>) -> Self {
        Self { source: Source::Connection(inflow), started: false, counter }
    }

    /// Payloads of this process, for calling a responder without a connection: see
    /// [`Caller::request_channel`](crate::Caller::request_channel). The stream is polled as its items are
    /// asked for, so that neither a [window](Self::credit) nor a [demand](Self::demand) changes anything.
    pub fn from_stream(
        payloads: impl Stream<Item = Result<Payload, Error>> + Send + 'static,
    ) -> Self {
        Self { source: Source::Stream(Box::pin(payloads)), started: false, counter: None }
    }

    /// The same, counted.
    pub(crate) fn counted_by(self, counter: Option<Arc<Counter>>) -> Self {
        Self { counter, ..self }
    }

    /// Sets how many items may be outstanding, however large the first was. By default it is the
    /// connection's credit window, and fewer where items as large as the first would make more than
    /// [`Window::DEFAULT_BYTES`]. Takes effect before the first poll.
    #[must_use]
    pub fn credit(mut self, n: u32) -> Self {
        if let (false, Source::Connection(inflow)) = (self.started, &mut self.source) {
            inflow.set_window(Window::new(n));
        }
        self
    }

    /// Asks for no more than this demand, in portions that the window has room for: see
    /// [`RequestStream::demand`](crate::RequestStream::demand). Takes effect before the first poll.
    #[must_use]
    pub fn demand(mut self, demand: Demand) -> Self {
        if let (false, Source::Connection(inflow)) = (self.started, &mut self.source) {
            inflow.set_limit(Limit::new(demand));
        }
        self
    }

    #[cold]
    fn poll_counted(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Payload, Error>>> {
        let item = self.source.poll_next(cx);
        if let (Some(counter), Poll::Ready(Some(Ok(payload)))) = (&self.counter, &item) {
            counter.add(payload);
        }
        item
    }
}

impl Source {
    #[inline]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Payload, Error>>> {
        match self {
            Self::Connection(inflow) => inflow.poll_next(cx),
            Self::Stream(payloads) => payloads.as_mut().poll_next(cx),
        }
    }
}

impl Stream for Payloads {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.started {
            self.started = true;
            if let Source::Connection(inflow) = &mut self.source {
                inflow.request_first();
            }
        }
        if self.counter.is_some() {
            return self.poll_counted(cx);
        }
        self.source.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.source {
            Source::Connection(inflow) => inflow.size_hint(),
            Source::Stream(payloads) => payloads.size_hint(),
        }
    }
}

impl fmt::Debug for Payloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payloads").finish_non_exhaustive()
    }
}
