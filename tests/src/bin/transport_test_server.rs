//! Answers as rsocket-test's `TransportTest` expects of the server of its pairs: one fixed payload,
//! a stream of 10,000 of them, channels that give back what they are sent, and the rest counted.
//!
//! Arguments are URIs to listen on, and settings: `mtu=64`, `credit=2`, `resume`. A client whose
//! SETUP has the data `observer` sees what the others do: a stream of `INTERACTIONS DATA METADATA`,
//! how many were seen and the bytes in them, as they change; and as a response how many go on, and
//! how often a session was resumed. It ends when its standard input does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream},
};
use rsock::{Error, Meter, Payload, Payloads, Peer, Request, Responder, ResumeLimits, Server};
use tokio::{io::AsyncReadExt, sync::watch};

type Items = BoxStream<'static, Result<Payload, Error>>;

const STREAM_ITEMS: usize = 10_000;

/// Larger than what any of the tests has in flight.
const RETAINED_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, Default)]
struct Observed {
    interactions: u64,
    data_bytes: usize,
    metadata_bytes: usize,
}

/// The events so far, of all connections.
#[derive(Default)]
struct Record {
    observed: watch::Sender<Observed>,
    active: AtomicUsize,
    meter: Arc<Meter>,
}

/// An interaction that goes on while this lives.
struct Active(Arc<Record>);

impl Active {
    fn begin(record: &Arc<Record>, data: &[u8], metadata: &[u8]) -> Self {
        record.active.fetch_add(1, Ordering::SeqCst);
        record.observed.send_modify(|observed| {
            observed.interactions += 1;
            observed.data_bytes += data.len();
            observed.metadata_bytes += metadata.len();
        });
        Self(Arc::clone(record))
    }

    fn of(record: &Arc<Record>, payload: &Payload) -> Self {
        Self::begin(record, &payload.data, payload.metadata.as_deref().unwrap_or_default())
    }

    /// Holds it as long as a stream lives.
    fn hold(self, items: impl Stream<Item = Result<Payload, Error>> + Send + 'static) -> Items {
        let mut items = Box::pin(items);
        stream::poll_fn(move |cx| {
            let _held = &self;
            items.poll_next_unpin(cx)
        })
        .boxed()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Role {
    /// Items that may be outstanding on its channels.
    Tested {
        credit: u32,
    },
    Observer,
}

struct Connection {
    role: Role,
    record: Arc<Record>,
}

fn answer() -> Payload {
    Payload::new("hello world").with_metadata("metadata")
}

impl Responder for Connection {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        let payload = request.into_payload();
        Active::of(&self.record, &payload);
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        Active::of(&self.record, push.payload());
    }

    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        let payload = request.into_payload();
        match self.role {
            Role::Tested { .. } => {
                Active::of(&self.record, &payload);
                Ok(answer())
            }
            Role::Observer => {
                let active = self.record.active.load(Ordering::SeqCst);
                let resumes = self.record.meter.read().stats.resumes;
                Ok(format!("{active} {resumes}").into())
            }
        }
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        if let Role::Observer = self.role {
            return observations(self.record.observed.subscribe());
        }
        let items = stream::iter((0..STREAM_ITEMS).map(|_| Ok(answer())));
        Active::of(&self.record, &payload).hold(items)
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let first = first.into_payload();
        let active = Active::of(&self.record, &first);
        let rest = match self.role {
            Role::Tested { credit } => rest.credit(credit),
            Role::Observer => rest,
        };
        active.hold(stream::once(async { Ok(first) }).chain(rest))
    }
}

/// The state now and after every change; changes may be told together.
fn observations(mut observed: watch::Receiver<Observed>) -> Items {
    observed.mark_changed();
    stream::unfold(observed, |mut observed| async move {
        observed.changed().await.ok()?;
        let Observed { interactions, data_bytes, metadata_bytes } = *observed.borrow_and_update();
        let line = format!("{interactions} {data_bytes} {metadata_bytes}");
        Some((Ok(line.into()), observed))
    })
    .boxed()
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut builder = Server::builder();
    let mut config = rsock::Config::default();
    let (mut credit, mut resume, mut uris) = (rsock::DEFAULT_CREDIT, false, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("mtu", n)) => config.fragment_bytes = Some(number(n)),
            Some(("credit", n)) => credit = number(n) as u32,
            None if argument == "resume" => resume = true,
            None if argument.contains("://") => uris.push(argument),
            _ => panic!("{argument:?} is not a setting: mtu=BYTES, credit=N, resume or a URI"),
        }
    }
    builder = builder.config(config);
    if resume {
        let mut limits = ResumeLimits::default();
        limits.max_bytes = RETAINED_BYTES;
        limits.window = Duration::from_secs(60);
        builder = builder.resume(limits, 1_000);
    }
    let record = Arc::<Record>::default();
    let server = builder.meter(Arc::clone(&record.meter)).bind(&uris).await?;
    for uri in server.addresses() {
        println!("listening on {uri}");
    }
    let accept = move |peer: Peer| {
        let role = match &peer.setup().payload.data[..] {
            b"observer" => Role::Observer,
            _ => Role::Tested { credit },
        };
        let record = Arc::clone(&record);
        async move { Ok(Connection { role, record }) }
    };
    tokio::spawn(server.serve(accept).into_future());
    // Whoever started us has gone, or never gave us an input.
    let _ = tokio::io::stdin().read(&mut [0]).map(drop).await;
    Ok(())
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a valid number"))
}
