//! `/ws`: all four interactions in JSON, many at a time, with `n`. The protocol is in docs/websocket.md.

mod engine;
mod message;
mod streams;

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{StreamExt, future::ready, stream::FuturesUnordered};
use rsock::{
    BoxFuture, Error, HttpRequest, HttpResponse, Payload, PayloadExt, Peer, WebSocket,
    WebSocketMessage, WebSocketOptions,
    metadata::{Authentication, WellKnownMime},
};
use tokio::time::{Instant, Sleep, sleep_until};

use self::{
    engine::{Engine, Entry, MAX_OPEN, Output},
    message::{Credentials, Data, Kind},
    streams::{Item, Source, Streams},
};
use super::{
    Plain, close,
    input::{Input, Taken},
};
use crate::{
    gateway::{Problem, Query, beside},
    visitors::{Refused, Visitor, Visitors},
};

/// The subprotocol, for clients that name one.
const SUBPROTOCOL: &str = "rsock.json.v1";
/// Steps after which others may run.
const PORTION: usize = 64;

impl Plain {
    pub(super) async fn json(self, request: &HttpRequest) -> HttpResponse {
        let options = WebSocketOptions::default().subprotocols([SUBPROTOCOL]).heeds_drain(true);
        let peer = request.to_peer();
        let came = self.came(request, &peer).await;
        HttpResponse::websocket(request, options, move |mut socket| async move {
            let (entry, visitor) = match came {
                Ok(came) => came,
                Err(problem) => return close(&mut socket, &problem),
            };
            let (engine, visitors) = (Engine::new(entry), self.visitors);
            let mut talk = Talk {
                socket,
                engine,
                visitors,
                peer,
                visitor,
                entering: None,
                streams: Streams::default(),
                forgotten: FuturesUnordered::new(),
                is_short: false,
                has_drained: false,
                timer: None,
            };
            poll_fn(|cx| talk.poll(cx)).await;
            // Requests are cancelled with their client; what needs no answer is done.
            talk.streams = Streams::default();
            while talk.forgotten.next().await.is_some() {}
        })
    }

    /// Finds what the handshake says of the one who comes.
    async fn came(
        &self,
        request: &HttpRequest,
        peer: &Peer,
    ) -> Result<(Entry, Option<Visitor>), Problem> {
        let mut query = Query::parse(request.query())?;
        let has_ticket = query.has("ticket");
        let entry = match self.visitors.access() {
            // Nobody has to say it, and whoever does has it not looked at.
            None => Entry::Anybody,
            Some(access) if has_ticket || access.says_who(peer) => Entry::Known,
            Some(access) if access.lets_in_anybody() => Entry::Anybody,
            Some(_) => {
                query.finish(&["ticket"])?;
                let until = std::time::Instant::now() + self.entry_limit;
                return Ok((Entry::Unknown { until }, None));
            }
        };
        let visitor = self.let_in(request, &mut query).await?;
        query.finish(&["ticket"])?;
        Ok((entry, Some(visitor)))
    }
}

/// A conversation at work: the engine says what is to be done, and this does it.
struct Talk {
    socket: WebSocket,
    engine: Engine,
    visitors: Visitors,
    peer: Peer,
    /// None before the client has said who it is.
    visitor: Option<Visitor>,
    /// It says so.
    entering: Option<BoxFuture<Result<Visitor, Refused>>>,
    streams: Streams,
    /// Requests without an answer that run: as many as may be open, or nothing is read.
    forgotten: FuturesUnordered<BoxFuture<()>>,
    is_short: bool,
    has_drained: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Talk {
    /// Ready when the WebSocket is to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..PORTION {
            // What cannot leave holds back everything: the client, and whoever answers it.
            match self.socket.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            if let Some(output) = self.engine.poll_output() {
                if self.act(output).is_break() {
                    return Poll::Ready(());
                }
                continue;
            }
            self.is_short = !self.socket.holds(self.engine.held());
            let has_asked = match self.poll_input(cx) {
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(())) => true,
                Poll::Pending => false,
            };
            let has_answered = self.poll_item(cx);
            if !has_asked && !has_answered && !self.poll_time(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what the engine says; breaks at the end.
    fn act(&mut self, output: Output) -> std::ops::ControlFlow<()> {
        match output {
            // It ends, which is seen when it is next asked.
            Output::Send(text) => drop(self.socket.start_send(text)),
            Output::Open { id, kind, route, data } => self.open(id, kind, &route, data),
            Output::Forget { route, data } => {
                if let (Some(visitor), Ok(payload)) = (&self.visitor, payload(Some(&route), data)) {
                    self.forgotten.push(Box::pin(visitor.caller.fire_and_forget(payload)));
                }
            }
            Output::Feed { id, data } => {
                if let (Some(input), Ok(payload)) = (self.streams.input(id), payload(None, data)) {
                    input.give(payload);
                }
            }
            Output::FeedEnd { id } => {
                if let Some(input) = self.streams.input(id) {
                    input.end();
                }
            }
            Output::Cancel { id } => self.streams.remove(id),
            Output::Credit { id } => self.streams.stir(id),
            Output::Authenticate(own) => {
                let own = match own {
                    Credentials::Bearer(token) => Authentication::bearer(&token),
                    Credentials::Password { user, password } => {
                        Authentication::simple(&user, &password)
                    }
                };
                let (visitors, peer) = (self.visitors.clone(), self.peer.clone());
                // Whoever has come in as nobody in particular does so no more.
                self.visitor = None;
                self.entering =
                    Some(Box::pin(async move { visitors.with_credentials(peer, &own).await }));
            }
            Output::Close { code, reason } => {
                self.socket.close(code, &reason);
                return std::ops::ControlFlow::Break(());
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn open(&mut self, id: u64, kind: Kind, route: &str, data: Data) {
        let Some(visitor) = &self.visitor else { return };
        let (payload, caller) = match payload(Some(route), data) {
            Ok(payload) => (payload, &visitor.caller),
            Err(error) => return self.fail(id, error),
        };
        let (source, input): (Source, Option<Input>) = match kind {
            Kind::Response => {
                let answer = futures_util::stream::once(caller.request_response(payload));
                (Box::pin(answer.filter_map(|answer| ready(answer.transpose()))), None)
            }
            Kind::Stream => (caller.request_stream(payload), None),
            Kind::Channel => {
                let (input, taken): (_, Taken) = Input::new();
                (caller.request_channel(payload, taken), Some(input))
            }
        };
        self.streams.insert(id, source, input);
    }

    /// Takes a message of the client, or what has become of its credentials. None at the end of the WebSocket.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if let Some(entering) = &mut self.entering {
            let Poll::Ready(entered) = entering.as_mut().poll(cx) else { return Poll::Pending };
            self.entering = None;
            match entered {
                Ok(visitor) => {
                    self.visitor = Some(visitor);
                    self.engine.authenticated(Ok(()));
                }
                Err(refused) => {
                    let problem = Problem::of_door(refused);
                    self.engine.authenticated(Err(&problem.to_string()));
                }
            }
            return Poll::Ready(Some(()));
        }
        while let Poll::Ready(Some(())) = self.forgotten.poll_next_unpin(cx) {}
        if !self.engine.wants_input() || self.forgotten.len() >= MAX_OPEN {
            return Poll::Pending;
        }
        match self.socket.poll_receive(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(_))
                if self.visitor.as_ref().is_some_and(|visitor| !self.visitors.counts(visitor)) =>
            {
                self.engine.ended("what you came in with counts no more: authenticate again");
            }
            Poll::Ready(Some(WebSocketMessage::Text(text))) => {
                self.engine.message(&text, self.is_short);
            }
            Poll::Ready(Some(WebSocketMessage::Binary(_))) => self.engine.binary(),
        }
        Poll::Ready(Some(()))
    }

    /// Asks those who answer for an item, in turn: whether there was one.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> bool {
        let engine = &mut self.engine;
        let item = self.streams.poll_item(cx, |id| engine.has_credit(id));
        let (id, item) = match item {
            Poll::Pending => return false,
            Poll::Ready(item) => item,
        };
        match item {
            Item::Next(payload) => {
                let meta = beside(&payload);
                self.engine.item(id, &Data { bytes: payload.data, meta });
            }
            Item::Complete => self.engine.complete(id),
            Item::Failed(error) => self.fail(id, error),
            Item::Taken(report) => {
                if report.is_asked {
                    self.engine.taken(id, report.taken, report.bytes);
                }
                if report.is_dropped {
                    self.engine.wants_no_more(id);
                }
            }
        }
        true
    }

    fn fail(&mut self, id: u64, error: Error) {
        let problem = Problem::from(error);
        self.engine.fail(id, &problem.code(), &problem.to_string());
    }

    /// Does what it is time for: whether there was something.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.has_drained
            && let Poll::Ready(left) = self.socket.poll_draining(cx)
        {
            self.has_drained = true;
            self.engine.drain(std::time::Instant::now(), left);
            return true;
        }
        let Some(deadline) = self.engine.deadline().map(Instant::from_std) else { return false };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        let is_due = timer.as_mut().poll(cx).is_ready();
        if is_due {
            self.timer = None;
            self.engine.tick(Instant::now().into_std());
        }
        is_due
    }
}

/// The payload of a request or of a channel's item.
fn payload(route: Option<&str>, data: Data) -> Result<Payload, Error> {
    let mut payload = Payload::new(data.bytes);
    if let Some(route) = route {
        payload = payload.route(route)?;
    }
    match data.meta {
        Some(meta) => payload.entry(WellKnownMime::Json, meta),
        None => Ok(payload),
    }
}
