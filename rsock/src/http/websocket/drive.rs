//! The connection of a plain WebSocket, at work: frames both ways, and all that is waited for.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Conversation, WebSocket, WebSocketEnd, WebSocketMessage, WebSocketOptions,
    link::{COUNTED_BYTES, Link},
};
use crate::{
    boxed::BoxFuture,
    connection::guard,
    http::front::Timer,
    memory::Account,
    meter::Meter,
    transport::{
        socket::{LINGER, linger},
        websocket::{Decoder, Incoming, Opcode, Role, encode_control},
    },
};

/// Bytes that are read at a time.
const READ_BYTES: usize = 8 << 10;
/// Frames that are looked at before others may run.
const PORTION: usize = 64;
/// How long the peer's farewell is waited for, behind ours.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// How long a handler may go on when its WebSocket has ended.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How long a peer may take nothing of what is held for it while memory is short.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);
/// The longest reason of a close frame (RFC 6455, section 5.5: 125 bytes, of which two are the code).
const MAX_REASON_BYTES: usize = 123;

/// Codes of close frames, RFC 6455 section 7.4.1.
mod code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
    pub(super) const NONE_GIVEN: u16 = 1005;
    pub(super) const FAILED: u16 = 1011;
    pub(super) const TRY_LATER: u16 = 1013;
}

/// The bounds and signals of the server.
pub(in crate::http) struct Bounds {
    pub(in crate::http) stall_timeout: Duration,
    pub(in crate::http) meter: Arc<Meter>,
    pub(in crate::http) account: Account,
    /// The server ends: this one is told after that time, and all is broken off after the other.
    pub(in crate::http) drain: (Duration, Duration),
    pub(in crate::http) draining: watch::Receiver<bool>,
    pub(in crate::http) ending: watch::Receiver<bool>,
}

/// Serves a WebSocket until it has ended, and its handler with it. `leftover` is what came behind the request.
pub(in crate::http) async fn drive<IO>(
    io: IO,
    leftover: &[u8],
    options: WebSocketOptions,
    conversation: Conversation,
    bounds: Bounds,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let link = Link::new(bounds.account.budget());
    let socket = WebSocket { link: Arc::clone(&link) };
    let now = Instant::now();
    let decoder = Decoder::new(Role::Server, options.max_message_bytes).taking_text();
    let mut driver = Driver {
        io,
        input: BytesMut::from(leftover),
        decoder,
        link,
        handler: guard(|| conversation(socket)).ok(),
        options,
        account: bounds.account,
        meter: bounds.meter,
        stall_timeout: bounds.stall_timeout,
        phase: Phase::Open,
        clock: Clock {
            heard: now,
            message: now,
            pinged: None,
            blocked: None,
            is_deaf: false,
            drain: None,
        },
    };
    if driver.handler.is_none() {
        driver.farewell(code::FAILED, "");
    }
    let (mut draining, mut ending) = (bounds.draining, bounds.ending);
    let mut drained = pin!(draining.wait_for(|is_draining| *is_draining));
    let mut ended = pin!(ending.wait_for(|is_ending| *is_ending));
    let (delay, limit) = bounds.drain;
    let mut timer = Timer(None);
    let mut hears = true;
    poll_fn(|cx| {
        if hears && drained.as_mut().poll(cx).is_ready() {
            // It is polled no more.
            hears = false;
            let now = Instant::now();
            driver.clock.drain = Some((now + delay, now + limit));
        }
        if ended.as_mut().poll(cx).is_ready() {
            driver.farewell(code::GOING_AWAY, "the server shuts down");
            // Whatever the socket takes at once; nothing is waited for any more.
            let _ = driver.poll_write(cx);
            return Poll::Ready(());
        }
        driver.poll(cx, &mut timer)
    })
    .await;
    driver.finish().await;
}

struct Driver<IO> {
    io: IO,
    /// The bytes that were read and not decoded: a message, its header, and one read.
    input: BytesMut,
    decoder: Decoder,
    link: Arc<Link>,
    /// Until it has ended.
    handler: Option<BoxFuture<()>>,
    options: WebSocketOptions,
    account: Account,
    meter: Arc<Meter>,
    stall_timeout: Duration,
    phase: Phase,
    clock: Clock,
}

/// The times since which things are so.
struct Clock {
    /// Something came.
    heard: Instant,
    /// A message came.
    message: Instant,
    /// A ping of ours waits for its answer.
    pinged: Option<Instant>,
    /// The socket takes nothing.
    blocked: Option<Instant>,
    /// The handler has not taken a message, so that nothing is read.
    is_deaf: bool,
    /// When it is told that the server ends, and when that breaks it off.
    drain: Option<(Instant, Instant)>,
}

impl Clock {
    /// Whether the peer can have had a ping of ours, and be heard.
    fn expects_answers(&self) -> bool {
        !self.is_deaf && self.blocked.is_none()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// Our farewell is written, or about to be: the peer's is waited for until then, from when ours has left.
    Closing(Option<Instant>),
    /// When all is written that is to be, there is nothing to be waited for.
    Leaving,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>, timer: &mut Timer) -> Poll<()> {
        for _ in 0..PORTION {
            self.link.lock().looks();
            self.ask_handler(cx);
            if let Some((code, reason)) = self.asked_to_close() {
                self.farewell(code, &reason);
            }
            match self.poll_write(cx) {
                Poll::Ready(Err(_)) => return self.lost(),
                Poll::Ready(Ok(())) => match self.phase {
                    Phase::Leaving => return Poll::Ready(()),
                    Phase::Closing(None) => {
                        self.phase = Phase::Closing(Some(Instant::now() + FAREWELL_LIMIT));
                    }
                    Phase::Open | Phase::Closing(Some(_)) => {}
                },
                Poll::Pending => {}
            }
            match self.poll_message(cx) {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(_)) => return self.lost(),
                Poll::Pending => {}
            }
            self.count();
            if self.phase == Phase::Open && self.link.lock().end.is_none() && self.is_due() {
                continue;
            }
            if self.is_late() {
                return self.lost();
            }
            let deadline = self.deadline();
            if timer.poll_reached(deadline, cx).is_ready() {
                continue;
            }
            if self.link.lock().waits(cx) {
                return Poll::Pending;
            }
        }
        // It goes on when others have run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The connection is of no more use.
    fn lost(&mut self) -> Poll<()> {
        self.link.lock().ended(WebSocketEnd::Lost);
        Poll::Ready(())
    }

    fn ask_handler(&mut self, cx: &mut Context<'_>) {
        let Some(handler) = &mut self.handler else { return };
        match guard(|| handler.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(())) => {
                let mut state = self.link.lock();
                if state.end.is_none() {
                    state.closing.get_or_insert((code::NORMAL, String::new()));
                }
            }
            Err(_) => {
                let mut state = self.link.lock();
                if state.end.is_none() {
                    state.closing = Some((code::FAILED, "the server failed".to_owned()));
                }
            }
        }
        self.handler = None;
    }

    fn asked_to_close(&self) -> Option<(u16, String)> {
        self.link.lock().closing.take()
    }

    /// Says farewell behind all that waits to be written, once.
    fn farewell(&mut self, code: u16, reason: &str) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Closing(None);
        let code = if matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            code
        } else {
            code::FAILED
        };
        let reason = cut(reason);
        let mut state = self.link.lock();
        put_close(code, reason, &mut state.output);
        state.ended(WebSocketEnd::Here { code, reason: reason.to_owned() });
    }

    /// Writes what waits; ready when nothing does.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.link.lock();
        let mut has_moved = false;
        let outcome = loop {
            if state.output.is_empty() {
                if !state.is_unflushed {
                    break Poll::Ready(Ok(()));
                }
                let flushed = Pin::new(&mut self.io).poll_flush(cx);
                if flushed.is_ready() {
                    state.is_unflushed = false;
                    has_moved = true;
                    state.moved();
                }
                break flushed;
            }
            match Pin::new(&mut self.io).poll_write(cx, &state.output) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    has_moved = true;
                    state.output.advance(written);
                    state.is_unflushed = true;
                    if state.output.is_empty() {
                        // An idle connection holds nothing.
                        state.output = BytesMut::new();
                    }
                }
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if has_moved && self.clock.blocked.is_some() {
            // A ping of ours may lie behind what it takes slowly.
            let now = Instant::now();
            self.clock.pinged = self.clock.pinged.map(|_| now);
        }
        if outcome.is_ready() {
            self.clock.blocked = None;
        } else if has_moved || self.clock.blocked.is_none() {
            self.clock.blocked = Some(Instant::now());
        }
        outcome
    }

    /// Takes the next frame off the input, and reads where there is none; ready when there was one.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase == Phase::Leaving {
            return Poll::Pending;
        }
        let is_deaf = self.link.lock().incoming.is_some();
        if std::mem::replace(&mut self.clock.is_deaf, is_deaf) && !is_deaf {
            // What has come meanwhile was not looked at.
            let now = Instant::now();
            self.clock.pinged = self.clock.pinged.map(|_| now);
            self.clock.message = now;
        }
        if is_deaf {
            return Poll::Pending;
        }
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(incoming)) => {
                    self.take(incoming);
                    return Poll::Ready(Ok(()));
                }
                Ok(None) => {}
                Err(error) => {
                    self.breach(error.close_code(), &error.to_string());
                    return Poll::Ready(Ok(()));
                }
            }
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            let held = self.held();
            if held >= COUNTED_BYTES && held > self.account.budget().allowance() {
                self.breach(code::TRY_LATER, "there is no memory for this message now");
                return Poll::Ready(Ok(()));
            }
            let mut buffer = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.input.extend_from_slice(buffer.filled());
            self.clock.heard = Instant::now();
            self.clock.pinged = None;
        }
    }

    /// The peer has broken the rules, or goes beyond what is taken: nothing of it is looked at any more.
    fn breach(&mut self, code: u16, problem: &str) {
        self.farewell(code, problem);
        self.phase = Phase::Leaving;
    }

    fn take(&mut self, incoming: Incoming) {
        let is_open = self.phase == Phase::Open;
        let message = match incoming {
            // Nobody receives any more.
            Incoming::Message(_) | Incoming::Text(_) if !is_open => return,
            // Memory of its own: what was read into goes on.
            Incoming::Message(bytes) => {
                WebSocketMessage::Binary(bytes::Bytes::copy_from_slice(&bytes))
            }
            // The decoder has looked at it: nothing is replaced.
            Incoming::Text(bytes) => {
                WebSocketMessage::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            Incoming::Ping(data) => {
                let mut state = self.link.lock();
                // A peer that does not read gets no pongs: they must not queue (WS-07).
                if is_open && !state.is_full() {
                    encode_control(Opcode::Pong, &data, None, &mut state.output);
                }
                return;
            }
            Incoming::Pong => return,
            Incoming::Close(said) => {
                let mut state = self.link.lock();
                if is_open {
                    let code = said.as_ref().map_or(code::NONE_GIVEN, |said| said.code);
                    put_close(code, "", &mut state.output);
                    let (code, reason) = match said {
                        Some(said) => (Some(said.code), said.reason),
                        None => (None, String::new()),
                    };
                    state.ended(WebSocketEnd::Peer { code, reason });
                }
                drop(state);
                self.phase = Phase::Leaving;
                return;
            }
        };
        self.clock.message = Instant::now();
        self.link.lock().give(message);
    }

    /// Bytes that are held for the peer, but for a message that its handler has not taken.
    fn held(&self) -> usize {
        self.input.capacity() + self.decoder.partial().map_or(0, BytesMut::capacity)
    }

    fn count(&mut self) {
        let state = self.link.lock();
        let waiting = state.incoming.as_ref().map_or(0, |message| message.as_bytes().len());
        let held = self.held() + waiting + state.held + state.output.capacity();
        drop(state);
        self.account.holds(held);
    }

    /// Does what it is time for while the WebSocket is open: whether there was something.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        if let Some((_, until)) = self.clock.drain.take_if(|(at, _)| *at <= now) {
            if self.options.heeds_drain {
                self.link.lock().drains(until);
            } else {
                self.farewell(code::GOING_AWAY, "the server shuts down");
            }
            return true;
        }
        if let Some(limit) = self.options.idle_timeout
            && !self.clock.is_deaf
            && now >= self.clock.message + limit
        {
            let reason = format!("nothing was sent for {} s", limit.as_secs());
            self.farewell(code::NORMAL, &reason);
            return true;
        }
        if self.clock.pinged.is_none() && now >= self.clock.heard + self.options.ping_interval {
            self.clock.pinged = Some(now);
            let mut state = self.link.lock();
            if !state.is_full() {
                encode_control(Opcode::Ping, b"", None, &mut state.output);
            }
            return true;
        }
        false
    }

    /// Whether the peer has let us wait for too long.
    fn is_late(&self) -> bool {
        let now = Instant::now();
        let is_short = || self.account.is_drawn() && self.account.budget().is_short();
        if let Some(since) = self.clock.blocked {
            if now >= since + self.stall_timeout {
                self.meter.http_timeout();
                return true;
            }
            if now >= since + SHORT_PATIENCE && is_short() {
                self.meter.ended_for_memory();
                return true;
            }
        }
        match self.phase {
            Phase::Open => {
                let limit = self.options.pong_timeout;
                let is_silent = self.clock.pinged.is_some_and(|since| now >= since + limit);
                if is_silent && self.clock.expects_answers() {
                    self.meter.http_timeout();
                    return true;
                }
                false
            }
            // It says no farewell, and has had ours.
            Phase::Closing(until) => until.is_some_and(|until| now >= until),
            Phase::Leaving => false,
        }
    }

    /// When there is something to be done.
    fn deadline(&self) -> Option<Instant> {
        let clock = &self.clock;
        let stall = clock.blocked.map(|since| since + self.stall_timeout);
        // Whether memory is short is looked at each second from then on.
        let short = clock
            .blocked
            .filter(|_| self.account.is_drawn())
            .map(|since| (since + SHORT_PATIENCE).max(Instant::now() + Duration::from_secs(1)));
        let closing = match self.phase {
            Phase::Closing(until) => until,
            Phase::Open | Phase::Leaving => None,
        };
        let (mut ping, mut idle, mut drain) = (None, None, None);
        if self.phase == Phase::Open {
            drain = clock.drain.map(|(at, _)| at);
            ping = match clock.pinged {
                None => Some(clock.heard + self.options.ping_interval),
                Some(_) if !clock.expects_answers() => None,
                Some(since) => Some(since + self.options.pong_timeout),
            };
            if !clock.is_deaf {
                idle = self.options.idle_timeout.map(|limit| clock.message + limit);
            }
        }
        [stall, short, closing, ping, idle, drain].into_iter().flatten().min()
    }

    /// Closes the connection, while the handler may come to its own end.
    async fn finish(self) {
        let Self { mut io, handler, link, account, .. } = self;
        // Whatever the handler sends from now on is refused.
        link.lock().ended(WebSocketEnd::Lost);
        let closing = async move {
            // Whoever does not take it is gone.
            if timeout(LINGER.0, io.shutdown()).await.is_ok_and(|ended| ended.is_ok()) {
                linger(&mut io).await;
            }
        };
        let finishing = async move {
            let Some(mut handler) = handler else { return };
            let ended = poll_fn(|cx| match guard(|| handler.as_mut().poll(cx)) {
                Ok(poll) => poll,
                // It is logged, and there is nobody to tell.
                Err(_) => Poll::Ready(()),
            });
            // What goes on for longer is dropped.
            let _ = timeout(AFTERWARDS, ended).await;
        };
        let (mut closing, mut finishing) = (Some(Box::pin(closing)), Some(Box::pin(finishing)));
        poll_fn(|cx| {
            poll_out(&mut closing, cx);
            poll_out(&mut finishing, cx);
            if closing.is_none() && finishing.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(account);
    }
}

/// Polls a future until it has ended.
fn poll_out<F: Future<Output = ()> + Unpin>(future: &mut Option<F>, cx: &mut Context<'_>) {
    if let Some(running) = future
        && Pin::new(running).poll(cx).is_ready()
    {
        *future = None;
    }
}

/// The beginning of a reason that a close frame has room for.
fn cut(reason: &str) -> &str {
    let ends = (0..=reason.len().min(MAX_REASON_BYTES)).rev();
    let end = ends.into_iter().find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or_default()]
}

/// Appends a close frame; one without a code if none was given.
fn put_close(code: u16, reason: &str, output: &mut BytesMut) {
    let body = if code == code::NONE_GIVEN {
        Vec::new()
    } else {
        [&code.to_be_bytes()[..], reason.as_bytes()].concat()
    };
    encode_control(Opcode::Close, &body, None, output);
}
