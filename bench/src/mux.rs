//! The bare multiplexer: about the least that a request API can cost.
//!
//! A u24 length, a u32 stream id, a u8 type and a body: no metadata, no leases, no fragments, no
//! keepalive, no cancellation, no dynamic dispatch. But a request is a future, and any task may
//! make one: whoever calls encodes into a shared buffer under a short lock and waits in a map for
//! its answer. Each side has one task for the connection, which writes once a wake and wakes the
//! callers after the whole burst of a read has been handed out. The server answers in that task.
//! Neither side ever stops reading because its own output is full: both would, and for ever.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    hash::{BuildHasherDefault, Hasher},
    mem,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

use crate::{
    Result,
    case::{Interaction, Transport},
    contender::{Peer, Requester},
    frames::{self, BURST, Input, Output, PREFIX},
    load::{Asked, StreamRequest},
};

/// The stream id and the type, after the length.
const HEAD: usize = 5;

/// Below this much room the read buffer is renewed.
const LEAST_ROOM: usize = BURST / 4;

/// Items a server may have under way in a stream.
const WINDOW: u32 = 1024;

/// With this much waiting for the socket, who sends without an answer to wait for is held back.
const HELD_BACK: usize = 4 * BURST;

/// The kinds of frames. The body of a request and of what answers it is theirs; that of `CREDIT` is
/// a u32, the number of items more.
mod kind {
    pub(super) const REQUEST: u8 = 0;
    pub(super) const ANSWER: u8 = 1;
    pub(super) const STREAM: u8 = 2;
    pub(super) const ITEM: u8 = 3;
    pub(super) const END: u8 = 4;
    pub(super) const CREDIT: u8 = 5;
    pub(super) const FORGET: u8 = 6;
}

/// The yardstick.
pub(crate) struct Mux;

impl Peer for Mux {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = &[Transport::Tcp];

    fn offers(interaction: Interaction) -> bool {
        interaction != Interaction::RequestChannel
    }

    async fn serve(_: Transport, host: IpAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // The client ends a measurement by hanging up, so an error here means nothing.
                tokio::spawn(async move { Answering::new(socket)?.run().await });
            }
        });
        Ok(address)
    }

    async fn connect(_: Transport, address: SocketAddr) -> Result<Connection> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let shared = Arc::new(Shared::default());
        let mut asking = Asking::new(socket, Arc::clone(&shared));
        tokio::spawn(async move {
            // How it ended is of no use to the callers, that it has is all they are told.
            let _: Result<()> = poll_fn(|cx| asking.poll(cx)).await;
            asking.shared.close();
        });
        Ok(Connection(shared))
    }
}

/// One connection, as a caller holds it.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Shared>);

impl Requester for Connection {
    async fn request_response(&self, data: Bytes) -> Result<usize> {
        let answer = Answer { shared: &self.0, data, id: None };
        Ok(answer.await?.len())
    }

    fn request_stream(&self, data: Bytes) -> impl Stream<Item = Result<usize>> + Send {
        Items { shared: &self.0, data, id: None, taken: VecDeque::new() }
    }

    async fn fire_and_forget(&self, data: Bytes) -> Result<()> {
        poll_fn(|cx| {
            let mut state = self.0.lock()?;
            if state.gathered.len() >= HELD_BACK {
                state.held_back.push(cx.waker().clone());
                return Poll::Pending;
            }
            let id = state.next_id();
            state.send(id, kind::FORGET, &data);
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// The state that the callers and the connection's task share.
#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    /// Frames that have not been taken to be written.
    gathered: Vec<u8>,
    waiting: HashMap<u32, Waiting, BuildHasherDefault<OfId>>,
    last_id: u32,
    /// The connection's task, if it waits for something to write.
    idle: Option<Waker>,
    held_back: Vec<Waker>,
    is_closed: bool,
}

/// The caller that waits under a stream id, or what has come for it.
enum Waiting {
    ForAnswer(Waker),
    Answered(Bytes),
    ForItems { come: VecDeque<Bytes>, has_ended: bool, waker: Option<Waker> },
}

impl Shared {
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_closed { Err("the connection has ended".into()) } else { Ok(state) }
    }

    fn close(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_closed = true;
        let held_back = mem::take(&mut state.held_back);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        let waiting = waiting.into_values().filter_map(|waiting| match waiting {
            Waiting::ForAnswer(waker) => Some(waker),
            Waiting::ForItems { waker, .. } => waker,
            Waiting::Answered(_) => None,
        });
        waiting.chain(held_back).for_each(Waker::wake);
    }
}

impl State {
    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Only who finds nothing gathered has to wake the connection's task: it takes all there is.
    fn send(&mut self, id: u32, kind: u8, body: &[u8]) {
        put(&mut self.gathered, id, kind, body);
        if let Some(connection) = self.idle.take() {
            connection.wake();
        }
    }
}

/// A request and its answer.
struct Answer<'a> {
    shared: &'a Shared,
    data: Bytes,
    /// Once it has been asked for.
    id: Option<u32>,
}

impl Future for Answer<'_> {
    type Output = Result<Bytes>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Bytes>> {
        let shared = self.shared;
        let mut state = shared.lock()?;
        let Some(id) = self.id else {
            let id = state.next_id();
            state.waiting.insert(id, Waiting::ForAnswer(cx.waker().clone()));
            state.send(id, kind::REQUEST, &self.data);
            drop(state);
            self.id = Some(id);
            return Poll::Pending;
        };
        match state.waiting.remove(&id) {
            Some(Waiting::Answered(body)) => {
                drop(state);
                self.id = None;
                Poll::Ready(Ok(body))
            }
            _ => {
                state.waiting.insert(id, Waiting::ForAnswer(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let (Some(id), Ok(mut state)) = (self.id, self.shared.lock()) {
            state.waiting.remove(&id);
        }
    }
}

/// The items of a stream, by their length.
struct Items<'a> {
    shared: &'a Shared,
    data: Bytes,
    /// Once it has been asked for.
    id: Option<u32>,
    /// The items that had come when last looked: one lock, and one grant of credit, for all of it.
    taken: VecDeque<Bytes>,
}

impl Stream for Items<'_> {
    type Item = Result<usize>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<usize>>> {
        if let Some(item) = self.taken.pop_front() {
            return Poll::Ready(Some(Ok(item.len())));
        }
        let this = &mut *self;
        let mut state = this.shared.lock()?;
        let state = &mut *state;
        let Some(id) = this.id else {
            let id = state.next_id();
            let waker = Some(cx.waker().clone());
            let waiting = Waiting::ForItems { come: VecDeque::new(), has_ended: false, waker };
            state.waiting.insert(id, waiting);
            state.send(id, kind::STREAM, &this.data);
            this.id = Some(id);
            return Poll::Pending;
        };
        let Some(Waiting::ForItems { come, has_ended, waker }) = state.waiting.get_mut(&id) else {
            return Poll::Ready(None);
        };
        mem::swap(&mut this.taken, come);
        let more = this.taken.len() as u32;
        if *has_ended {
            state.waiting.remove(&id);
        } else if more > 0 {
            state.send(id, kind::CREDIT, &more.to_be_bytes());
        } else {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(this.taken.pop_front().map(|item| Ok(item.len())))
    }
}

impl Drop for Items<'_> {
    fn drop(&mut self) {
        if let (Some(id), Ok(mut state)) = (self.id, self.shared.lock()) {
            state.waiting.remove(&id);
        }
    }
}

/// The client's task for the connection.
struct Asking {
    socket: TcpStream,
    shared: Arc<Shared>,
    input: BytesMut,
    output: Output,
    /// The wakers to be woken once the burst has been handed out.
    woken: Vec<Waker>,
    /// Whether the callers have been let run since it was woken to write.
    has_yielded: bool,
}

impl Asking {
    fn new(socket: TcpStream, shared: Arc<Shared>) -> Self {
        let (input, output) = (BytesMut::new(), Output::default());
        Self { socket, shared, input, output, woken: Vec::new(), has_yielded: false }
    }

    /// Goes on while either direction moves; ends only with an error.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.poll_yield(cx)?.is_pending() {
                return Poll::Pending;
            }
            let has_written = match self.output.poll_write(&mut self.socket, cx) {
                Poll::Ready(written) => written?,
                Poll::Pending => false,
            };
            let has_read = self.poll_read(cx)?.is_ready();
            if has_read {
                self.hand_out()?;
            }
            if !has_written && !has_read {
                return Poll::Pending;
            }
        }
    }

    /// Takes what is to be written next. Where the caller that woke this task is not alone, the
    /// others get a turn first: what they send goes into the same write.
    fn poll_yield(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
        if !self.output.is_done() {
            return Ok(Poll::Ready(()));
        }
        let mut state = self.shared.lock()?;
        if state.gathered.is_empty() {
            state.idle = Some(cx.waker().clone());
            self.has_yielded = false;
            return Ok(Poll::Ready(()));
        }
        if state.waiting.len() > 1 && !mem::replace(&mut self.has_yielded, true) {
            cx.waker().wake_by_ref();
            return Ok(Poll::Pending);
        }
        self.output.refill(&mut state.gathered);
        self.woken.append(&mut state.held_back);
        drop(state);
        self.woken.drain(..).for_each(Waker::wake);
        Ok(Poll::Ready(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
        // A frame longer than the room left gets it at once, not read by read.
        let expected = frames::frame_len(&self.input).map_or(0, |len| PREFIX + len);
        let lacking = expected.saturating_sub(self.input.len());
        if self.input.capacity() - self.input.len() < lacking.max(LEAST_ROOM) {
            self.input.reserve(lacking.max(BURST));
        }
        let Poll::Ready(read) = pin!(self.socket.read_buf(&mut self.input)).poll(cx) else {
            return Ok(Poll::Pending);
        };
        if read? == 0 {
            return Err("the server hung up".into());
        }
        Ok(Poll::Ready(()))
    }

    fn hand_out(&mut self) -> Result<()> {
        let mut state = self.shared.lock()?;
        while let Some(len) = frames::frame_len(&self.input) {
            if self.input.len() < PREFIX + len {
                break;
            }
            let &[id @ .., kind] = self.input[PREFIX..].first_chunk::<HEAD>().ok_or("no head")?;
            self.input.advance(PREFIX + HEAD);
            let body = self.input.split_to(len - HEAD).freeze();
            let Some(waiting) = state.waiting.get_mut(&u32::from_be_bytes(id)) else { continue };
            match (waiting, kind) {
                (waiting @ Waiting::ForAnswer(_), kind::ANSWER) => {
                    if let Waiting::ForAnswer(waker) =
                        mem::replace(waiting, Waiting::Answered(body))
                    {
                        self.woken.push(waker);
                    }
                }
                (Waiting::ForItems { come, waker, .. }, kind::ITEM) => {
                    come.push_back(body);
                    self.woken.extend(waker.take());
                }
                (Waiting::ForItems { has_ended, waker, .. }, kind::END) => {
                    *has_ended = true;
                    self.woken.extend(waker.take());
                }
                _ => return Err("an answer of another kind than was asked for".into()),
            }
        }
        drop(state);
        self.woken.drain(..).for_each(Waker::wake);
        Ok(())
    }
}

/// The server's task for the connection.
struct Answering {
    socket: TcpStream,
    input: Input,
    output: Output,
    gathered: Vec<u8>,
    streams: Vec<Giving>,
    /// Fire-and-forget requests that have come.
    forgotten: u64,
    /// The call that wants to know when so many have come.
    awaited: Option<(u32, u64)>,
}

/// A stream being answered.
struct Giving {
    id: u32,
    item: Bytes,
    left: usize,
    credit: u32,
}

impl Answering {
    fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            input: Input::new(),
            output: Output::default(),
            gathered: Vec::new(),
            streams: Vec::new(),
            forgotten: 0,
            awaited: None,
        })
    }

    async fn run(mut self) -> Result<()> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            self.give();
            self.output.refill(&mut self.gathered);
            let has_written = match self.output.poll_write(&mut self.socket, cx) {
                Poll::Ready(written) => written?,
                Poll::Pending => false,
            };
            let has_read = match self.input.poll_read(&mut self.socket, cx) {
                Poll::Ready(read) => read.map(|()| true)?,
                Poll::Pending => false,
            };
            if has_read {
                self.answer()?;
            }
            if !has_written && !has_read {
                return Poll::Pending;
            }
        }
    }

    fn answer(&mut self) -> Result<()> {
        while let Some(frame) = self.input.next() {
            let (&[id @ .., kind], body) = frame.split_first_chunk::<HEAD>().ok_or("no head")?;
            let id = u32::from_be_bytes(id);
            match kind {
                kind::REQUEST => put(&mut self.gathered, id, kind::ANSWER, body),
                kind::FORGET => self.forgotten += 1,
                kind::STREAM => match Asked::decode(body).ok_or("not a stream request")? {
                    Asked::Items(StreamRequest { items, size }) => {
                        let item = StreamRequest { items, size }.item();
                        self.streams.push(Giving { id, item, left: items, credit: WINDOW });
                    }
                    Asked::Arrival(count) => self.awaited = Some((id, count)),
                },
                kind::CREDIT => {
                    let &more = body.first_chunk().ok_or("no number")?;
                    if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
                        stream.credit += u32::from_be_bytes(more);
                    }
                }
                _ => return Err("a kind of frame that asks for nothing".into()),
            }
        }
        if let Some((id, _)) = self.awaited.take_if(|(_, count)| self.forgotten >= *count) {
            put(&mut self.gathered, id, kind::ITEM, &[]);
            put(&mut self.gathered, id, kind::END, &[]);
        }
        Ok(())
    }

    /// Items of every stream, as far as credit and a burst allow.
    fn give(&mut self) {
        for Giving { id, item, left, credit } in &mut self.streams {
            while *left > 0 && *credit > 0 && self.gathered.len() < BURST {
                put(&mut self.gathered, *id, kind::ITEM, item);
                *left -= 1;
                *credit -= 1;
            }
            if *left == 0 {
                put(&mut self.gathered, *id, kind::END, &[]);
            }
        }
        self.streams.retain(|stream| stream.left > 0);
    }
}

fn put(output: &mut Vec<u8>, id: u32, kind: u8, body: &[u8]) {
    frames::put_len(output, HEAD + body.len());
    output.extend_from_slice(&id.to_be_bytes());
    output.push(kind);
    output.extend_from_slice(body);
}

/// A stream id is a number that counts up: spreading it is all the hashing it needs.
#[derive(Default)]
struct OfId(u64);

impl Hasher for OfId {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a stream id is hashed as a u32");
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
