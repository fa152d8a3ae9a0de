//! Handlers chosen by the data of a request: what the numbered requirements assume of a peer, and more.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{
    Stream, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use rsock::{
    Acceptor, Error, ErrorCode, Meter, Payload, Payloads, Peer, Request, Requester, Responder,
};
use tokio::sync::Semaphore;

use crate::record::{Guard, Recorder};

type Items = BoxStream<'static, Result<Payload, Error>>;

/// Serves a connection; also the acceptor that makes one for each.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The record of what the handlers saw.
    pub recorder: Arc<Recorder>,
    /// Requesters towards the clients, as they came.
    requesters: Arc<Mutex<Vec<Requester>>>,
    /// Opens the acceptor for SETUPs with the data `wait`.
    pub gate: Arc<Semaphore>,
    /// The meter of its server.
    pub meter: Arc<Meter>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            recorder: Arc::default(),
            requesters: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            meter: Arc::default(),
        }
    }
}

impl Fixture {
    fn guard(&self, name: &str) -> Guard {
        Guard::new(&self.recorder, name)
    }

    /// The requester towards the latest client taken.
    pub fn requester(&self) -> Option<Requester> {
        let requesters = self.requesters.lock();
        requesters.unwrap_or_else(PoisonError::into_inner).last().cloned()
    }
}

/// `err-after:3` is `("err-after", 3)`.
fn command(payload: &Payload) -> (String, usize) {
    let text = String::from_utf8_lossy(&payload.data);
    let (name, number) = text.split_once(':').unwrap_or((&text, ""));
    (name.to_owned(), number.parse().unwrap_or(0))
}

/// `0`, `1`, `2`, …: the size hint is that of a plain generator, which says nothing.
fn numbers() -> impl Stream<Item = Result<Payload, Error>> + Send {
    stream::unfold(0_u64, |n| async move { Some((Ok(n.to_string().into()), n + 1)) })
}

/// Panics when dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        // A second panic during unwinding aborts the process, which is not what is tested.
        if !std::thread::panicking() {
            panic!("a handler's destructor panics");
        }
    }
}

impl Responder for Fixture {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        let payload = request.into_payload();
        let (name, _) = command(&payload);
        self.recorder.note(format!("fnf {}", String::from_utf8_lossy(&payload.data)));
        match name.as_str() {
            "panic" => panic!("a fire-and-forget handler panics"),
            "never" => future::pending().await,
            _ => {}
        }
    }

    fn request_response_optional(
        self: Arc<Self>,
        request: Request,
    ) -> impl Future<Output = Result<Option<Payload>, Error>> + Send {
        let is_empty = command(request.payload()).0 == "empty";
        let answer = self.request_response(request);
        async move { if is_empty { Ok(None) } else { answer.await.map(Some) } }
    }

    fn request_response(
        self: Arc<Self>,
        request: Request,
    ) -> impl Future<Output = Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        let (name, number) = command(&payload);
        assert_ne!(name, "panic-now", "a handler panics when it is made");
        let guard = (name == "never").then(|| self.guard("never"));
        async move {
            match name.as_str() {
                "never" => {
                    let _guard = guard;
                    self.recorder.note("never runs");
                    future::pending().await
                }
                "err" => Err(Error::application("no luck")),
                "err-rejected" => Err(Error::rejected("not now")),
                "err-canceled" => Err(Error::Canceled("gave up".into())),
                "err-invalid" => Err(Error::invalid("makes no sense")),
                "err-code" => Err(Error::Other {
                    code: ErrorCode(number as u32),
                    message: "of our own".into(),
                }),
                "size" => Ok(vec![b'x'; number].into()),
                "err-text" => Err(Error::application("é".repeat(number))),
                "meter" => Ok(format!("{:?}", self.meter.read()).into()),
                "heard" => Ok(self.recorder.lines().join("\n").into()),
                "panic" => panic!("a handler panics"),
                "panic-drop" => {
                    let _grenade = Grenade;
                    self.recorder.note("panic-drop runs");
                    future::pending().await
                }
                "panic-drop-done" => {
                    let _grenade = Grenade;
                    Ok(payload)
                }
                _ => Ok(payload),
            }
        }
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        let (name, number) = command(&payload);
        let guard = self.guard(&name);
        let items: Items = match name.as_str() {
            "count" => numbers().take(number).boxed(),
            "sized" => stream::iter((0..number).map(|n| Ok(n.to_string().into()))).boxed(),
            "inf" => numbers().boxed(),
            "bulk" => stream::repeat_with(|| Ok(vec![b'x'; 16 << 10].into())).boxed(),
            "empty" => stream::empty().boxed(),
            "never" => stream::pending().boxed(),
            "err-after" => {
                let failure = stream::once(async { Err(Error::application("no luck")) });
                numbers().take(number).chain(failure).boxed()
            }
            "panic" => stream::poll_fn(|_| panic!("a stream handler panics")).boxed(),
            "panic-now" => panic!("a stream handler panics when it is made"),
            "panic-after" => {
                let panics = stream::poll_fn(|_| panic!("a stream handler panics later"));
                numbers().take(number).chain(panics).boxed()
            }
            "panic-drop" => {
                let grenade = Grenade;
                let holding = move |item| {
                    let _held = &grenade;
                    item
                };
                numbers().map(holding).boxed()
            }
            _ => stream::once(async { Ok(payload) }).boxed(),
        };
        guarded(items, guard)
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let first = first.into_payload();
        let (name, number) = command(&first);
        let guard = self.guard(&name);
        let echo = |first, rest: Payloads| stream::once(async { Ok(first) }).chain(rest).boxed();
        let items: Items = match name.as_str() {
            "sink" => sink(rest.credit(number as u32)),
            "src" => {
                let items =
                    if number == 0 { numbers().boxed() } else { numbers().take(number).boxed() };
                guarded(items, rest).boxed()
            }
            "cancel-in" => {
                drop(rest);
                numbers().take(3).boxed()
            }
            "done" => {
                let recorder = Arc::clone(&self.recorder);
                tokio::spawn(listen(rest, recorder));
                stream::empty().boxed()
            }
            "listen" => {
                let recorder = Arc::clone(&self.recorder);
                stream::once(listen(rest, recorder))
                    .filter_map(|count| async move { Some(Ok(count.to_string().into())) })
                    .boxed()
            }
            "err" => stream::once(async { Err(Error::application("no luck")) }).boxed(),
            "one-by-one" => echo(first, rest.credit(1)),
            "panic" => stream::poll_fn(|_| panic!("a channel handler panics")).boxed(),
            "panic-now" => panic!("a channel handler panics when it is made"),
            "panic-drop" => {
                let grenade = Grenade;
                let holding = move |item| {
                    let _held = &grenade;
                    item
                };
                echo(first, rest).map(holding).boxed()
            }
            _ => echo(first, rest),
        };
        guarded(items, guard)
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        let metadata = push.metadata().map(|metadata| String::from_utf8_lossy(metadata));
        let metadata = metadata.unwrap_or_default();
        self.recorder.note(format!("push {metadata}"));
        assert_ne!(metadata, "panic", "a push handler panics");
        if metadata == "never" {
            future::pending().await
        }
    }
}

/// Consumes what a channel's requester sends; how many items there were.
async fn listen(mut rest: Payloads, recorder: Arc<Recorder>) -> usize {
    let mut count = 0;
    while let Some(item) = rest.next().await {
        match item {
            Ok(item) => {
                count += 1;
                recorder.note(format!("in {}", String::from_utf8_lossy(&item.data)));
            }
            Err(error) => {
                recorder.note(format!("in failed: {error}"));
                return count;
            }
        }
    }
    recorder.note("in complete");
    count
}

/// Grants the window once and consumes nothing of it.
fn sink(mut rest: Payloads) -> Items {
    let mut asked = false;
    stream::poll_fn(move |cx| {
        if !asked {
            asked = true;
            let _ = rest.poll_next_unpin(cx);
        }
        std::task::Poll::Pending
    })
    .boxed()
}

/// A stream that holds something.
fn guarded<T: Send + 'static>(mut items: Items, held: T) -> Items {
    stream::poll_fn(move |cx| {
        let _held = &held;
        items.poll_next_unpin(cx)
    })
    .boxed()
}

impl Acceptor for Fixture {
    type Responder = Self;

    fn accept(&self, peer: Peer) -> impl Future<Output = Result<Self, Error>> + Send + 'static {
        let this = self.clone();
        let wish = String::from_utf8_lossy(&peer.setup().payload.data).into_owned();
        if let Some(metadata) = &peer.setup().payload.metadata {
            let metadata = String::from_utf8_lossy(metadata);
            this.recorder.note(format!("setup {metadata} {wish}"));
        }
        let accepting: BoxFuture<'_, _> = Box::pin(async move {
            match wish.as_str() {
                "reject" => return Err(Error::rejected("no entry")),
                "unsupported" => {
                    return Err(Error::Other {
                        code: ErrorCode::UNSUPPORTED_SETUP,
                        message: "not here".into(),
                    });
                }
                "panic" => panic!("an acceptor panics"),
                "wait" => {
                    this.recorder.note("acceptor waits");
                    let opened = this.gate.acquire().await.map_err(Error::application)?;
                    opened.forget();
                }
                "ask" => {
                    // Asked inside, answered after: it goes out when SETUP is accepted.
                    let (asker, recorder) = (peer.requester().clone(), Arc::clone(&this.recorder));
                    tokio::spawn(async move {
                        let reply = asker.request_response("asked inside").await;
                        let reply = reply.map(|reply| reply.data);
                        recorder.note(format!("answer {reply:?}"));
                    });
                }
                _ => {}
            }
            let mut requesters = this.requesters.lock().unwrap_or_else(PoisonError::into_inner);
            requesters.push(peer.requester().clone());
            drop(requesters);
            this.recorder.note("accepted");
            Ok(this)
        });
        accepting
    }
}
