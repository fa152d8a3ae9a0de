//! A client at work, which knows what it is to be told.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use rsock::{Client, Meter, Payload, PayloadExt, Resume, SessionEvent};
use tokio::time::timeout;

use super::{Totals, disturber::Disturber, rng::Rng};

/// How long anything may take: many times the longest disturbance.
const PATIENCE: Duration = Duration::from_secs(40);
/// Bytes a client retains: so few that they are full when a transport goes.
const RETAINED: usize = 16 << 10;

/// The events that a client was told of its session.
#[derive(Debug, Default)]
struct Seen {
    resumed: AtomicU64,
    renewed: AtomicU64,
    /// The latest, for who has to find out what happened.
    latest: Mutex<VecDeque<String>>,
    meter: Arc<Meter>,
}

/// Events of a session that are told when something is broken.
const LATEST: usize = 8;

impl Seen {
    fn note(&self, event: &SessionEvent) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == LATEST {
            latest.pop_front();
        }
        latest.push_back(format!("{event:?}"));
    }
}

/// A client that came to its end, or was told something wrong.
type Work<T = ()> = Result<T, String>;

/// Works until all disturbances have been.
pub(super) async fn until_spent(disturber: &Disturber, number: usize, mut rng: Rng) -> Totals {
    let mut totals = Totals::default();
    let seen = Arc::new(Seen::default());
    if let Err(broken) = work(disturber, &mut totals, &seen, &mut rng).await {
        let latest = seen.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (latest, history) = (latest.iter().cloned().collect::<Vec<_>>(), disturber.history());
        let stats = seen.meter.read().stats;
        totals.broken.push(format!(
            "client {number}: {broken}; its session: {latest:?}; its transports: {history:?}; it \
             counts {stats:?}"
        ));
    }
    totals.resumed = seen.resumed.load(Relaxed);
    let renewed = seen.renewed.load(Relaxed);
    if renewed > 0 {
        totals.broken.push(format!("client {number}: its session was lost {renewed} times"));
    }
    totals
}

async fn work(disturber: &Disturber, totals: &mut Totals, seen: &Arc<Seen>, rng: &mut Rng) -> Work {
    let client = connect(disturber, seen).await?;
    disturber.begin();
    while !disturber.is_spent() {
        let bytes = rng.up_to(60_000);
        totals.received += match rng.below(4) {
            0 => numbers(&client, rng).await?,
            1 => echoes(&client, rng.up_to(400), bytes / 20).await?,
            2 => answers(&client, 1 + rng.up_to(16), bytes).await?,
            _ => {
                totals.heard += forgotten(&client, 1 + rng.up_to(16), bytes / 20).await?;
                0
            }
        };
    }
    // It is not dead.
    totals.received += answers(&client, 1, 10).await?;
    within("the end", client.close()).await?;
    Ok(())
}

async fn connect(disturber: &Disturber, seen: &Arc<Seen>) -> Work<Client> {
    let told = Arc::clone(seen);
    let resume = Resume::new()
        .pauses(Duration::from_millis(1), Duration::from_millis(20))
        .max_bytes(RETAINED)
        .observe(move |event| {
            told.note(event);
            let count = match event {
                SessionEvent::Resumed => &told.resumed,
                SessionEvent::Renewed(_) => &told.renewed,
                _ => return,
            };
            count.fetch_add(1, Relaxed);
        });
    let client = Client::builder()
        .meter(Arc::clone(&seen.meter))
        .resume(resume)
        .keepalive(Duration::from_millis(100), Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(2))
        .connect(&disturber.uri);
    let client = ok("to connect", client.await)?;
    ok("a ping", within("a ping", client.ping()).await?)?;
    Ok(client)
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Work<T> {
    timeout(PATIENCE, work).await.map_err(|_| format!("{what} hung for {PATIENCE:?}"))
}

fn ok<T>(what: &str, result: Result<T, impl fmt::Display>) -> Work<T> {
    result.map_err(|error| format!("{what} failed: {error}"))
}

fn equal(what: &str, got: &[u8], wanted: &[u8]) -> Work {
    let start = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    if got == wanted {
        return Ok(());
    }
    Err(format!("{what}: {:?} came and not {:?}", start(got), start(wanted)))
}

fn text(number: usize, bytes: usize) -> Vec<u8> {
    let mut text = format!("{number} ").into_bytes();
    text.resize(text.len().max(bytes), b'.');
    text
}

/// A stream of numbers: each once, in order.
async fn numbers(client: &Client, rng: &mut Rng) -> Work<u64> {
    let (to, size) = (rng.up_to(2_000), rng.up_to(3_000));
    let request = Payload::new(format!(r#"{{"to":{to},"size":{size}}}"#));
    let request = request.route("range").map_err(|error| error.to_string())?;
    let mut items = client.request_stream(request).credit(1 + rng.up_to(200) as u32);
    for n in 0..to {
        let item = within("an item of a stream", items.next()).await?;
        let item = item.ok_or_else(|| format!("a stream ended at {n} of {to}"))?;
        let item = ok("a stream", item)?;
        equal("a stream", item.data.trim_ascii_end(), n.to_string().as_bytes())?;
    }
    match within("the end of a stream", items.next()).await? {
        None => Ok(to as u64),
        Some(item) => Err(format!("a stream of {to} did not end: {item:?}")),
    }
}

/// A channel that echoes: each item once, in order.
async fn echoes(client: &Client, count: usize, bytes: usize) -> Work<u64> {
    let items = stream::iter((0..=count).map(move |n| text(n, bytes)));
    let mut echoes = client.request_channel(items).credit(16);
    for n in 0..=count {
        let echo = within("an echo", echoes.next()).await?;
        let echo = echo.ok_or_else(|| format!("a channel ended at {n} of {count}"))?;
        equal("a channel", &ok("a channel", echo)?.data, &text(n, bytes))?;
    }
    match within("the end of a channel", echoes.next()).await? {
        None => Ok(count as u64 + 1),
        Some(item) => Err(format!("a channel did not end: {item:?}")),
    }
}

/// Requests at a time, each with its own answer.
async fn answers(client: &Client, count: usize, bytes: usize) -> Work<u64> {
    let asked = (0..count).map(|n| async move {
        let wanted = text(n, bytes);
        let answer = client.request_response(wanted.clone());
        let answer = ok("a request", within("an answer", answer.into_future()).await?)?;
        equal("a request", &answer.data, &wanted)
    });
    join_all(asked).await.into_iter().collect::<Work<Vec<()>>>()?;
    Ok(count as u64)
}

/// Fire-and-forgets: they count at the server.
async fn forgotten(client: &Client, count: usize, bytes: usize) -> Work<u64> {
    for n in 0..count {
        let sent = within("a fire-and-forget", client.fire_and_forget(text(n, bytes))).await?;
        ok("a fire-and-forget", sent)?;
    }
    Ok(count as u64)
}

/// The fire-and-forgets that the server has heard, as soon as they are so many or nothing changes.
pub(super) async fn heard_at_the_server(uri: &str, wanted: u64) -> u64 {
    let mut heard = 0;
    for _ in 0..100 {
        heard = asked_heard(uri).await.unwrap_or(heard);
        if heard == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    heard
}

async fn asked_heard(uri: &str) -> Option<u64> {
    let client = Client::connect(uri).await.ok()?;
    let status = Payload::default().route("status").ok()?;
    let status = client.request_response(status).await.ok()?.data;
    let status = String::from_utf8_lossy(&status).into_owned();
    let (_, rest) = status.split_once(r#""taken":"#)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
