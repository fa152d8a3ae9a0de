//! Durable topics of a process that is killed again and again: what it has acknowledged is there, once, in order.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rsock::{
    Client, Error,
    topic::{Epoch, Event, NewMessage, Position, Published, Start, Topic},
};
use rsock_tests::process::Process;
use tokio::time::{sleep, timeout};

use crate::{cuts::rng::Rng, server};

/// Topics that are published to.
const TOPICS: usize = 5;
/// Publishes of a client at a time.
const IN_FLIGHT: usize = 16;
/// Clients that publish.
const PUBLISHERS: usize = 3;
/// Rounds after which a new directory is taken: each round reads all that is there.
const ROUNDS_A_DIRECTORY: usize = 25;
/// Messages of a topic within which a repeated id is known: what a topic promises, less what is published
/// while one looks.
const REMEMBERED: u64 = 16_000;
/// Nothing takes longer that goes on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Figures of all rounds.
#[derive(Debug, Default)]
pub struct Totals {
    /// Kills.
    pub rounds: usize,
    /// Messages whose acknowledgement came.
    pub acknowledged: usize,
    /// Messages that were sent, and whose acknowledgement did not come.
    pub unknown: usize,
    /// Those of them that were there after the kill.
    pub found: usize,
    /// Everything that was broken, a line each.
    pub broken: Vec<String>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, acknowledged, unknown, found, broken } = self;
        writeln!(
            f,
            "{rounds} kills, {acknowledged} messages acknowledged, {unknown} of unknown outcome, of which \
             {found} are there: {}",
            if broken.is_empty() { "fine" } else { "BROKEN" }
        )?;
        broken.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// A message that was sent, and the place that it got, if that was told.
#[derive(Clone, Debug)]
struct Sent {
    topic: usize,
    text: String,
    published: Option<Published>,
    /// The place that it was found at, if its acknowledgement did not come: somebody may have read it there.
    found: Option<u64>,
}

impl Sent {
    /// The place that it has to keep.
    fn place(&self) -> Option<u64> {
        self.published.as_ref().map(|published| published.offset).or(self.found)
    }
}

/// A directory, and all that was sent to what is kept there.
struct World {
    directory: PathBuf,
    sent: BTreeMap<String, Sent>,
    epochs: BTreeMap<usize, Epoch>,
    /// How far a reader of each topic came, who goes on from there after each kill.
    read: BTreeMap<usize, Position>,
    /// Rounds in which nothing was acknowledged.
    idle: usize,
}

/// Kills a service so many times.
pub async fn run(rounds: usize, seed: u64) -> Totals {
    let mut rng = Rng::new(seed);
    let mut totals = Totals::default();
    let base = std::env::temp_dir().join(format!("rsock-crashes-{}", std::process::id()));
    let mut world = None;
    for round in 0..rounds {
        if round % ROUNDS_A_DIRECTORY == 0 {
            let _ = std::fs::remove_dir_all(&base);
            let directory = base.join(round.to_string());
            world = Some(World {
                directory,
                sent: BTreeMap::new(),
                epochs: BTreeMap::new(),
                read: BTreeMap::new(),
                idle: 0,
            });
        }
        // One was just made.
        let world = world.as_mut().expect("a world");
        let broken = match timeout(PATIENCE, world.round(round, &mut rng, &mut totals)).await {
            Ok(Ok(())) => continue,
            Ok(Err(broken)) => broken,
            Err(_) => "it does not end".to_owned(),
        };
        totals.broken.push(format!("round {round} of seed {seed}: {broken}"));
        break;
    }
    if totals.broken.is_empty() {
        let _ = std::fs::remove_dir_all(&base);
    }
    totals
}

fn flags(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    // Nothing that was acknowledged goes for its number.
    let rule = "c.>=durable,messages=1000000,bytes=1GiB";
    ["--data", &directory, "--topic", rule, "--workers", "2"].map(str::to_owned).into()
}

async fn start(directory: &Path) -> Process {
    server::start(&[], &flags(directory)).await
}

fn name(topic: usize) -> String {
    format!("c.{topic}")
}

impl World {
    /// Publishes, kills, starts again, and looks.
    async fn round(
        &mut self,
        round: usize,
        rng: &mut Rng,
        totals: &mut Totals,
    ) -> Result<(), String> {
        let process = start(&self.directory).await;
        let uris = process.uris.clone();
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (uri, mut rng) = (uris[publisher % uris.len()].clone(), rng.fork());
            let prefix = format!("{round}-{publisher}");
            tokio::spawn(async move { publish(&uri, &prefix, &mut rng).await })
        });
        let publishers: Vec<_> = publishers.collect();
        sleep(Duration::from_millis(5 + rng.below(150) as u64)).await;
        process.killed().await;
        let before = totals.acknowledged;
        for publisher in publishers {
            let sent = publisher.await.map_err(|error| error.to_string())??;
            totals.acknowledged += sent.iter().filter(|sent| sent.published.is_some()).count();
            totals.unknown += sent.iter().filter(|sent| sent.published.is_none()).count();
            self.sent.extend(sent.into_iter().map(|sent| (sent.text.clone(), sent)));
        }
        // What acknowledges nothing keeps all that it has acknowledged.
        let is_idle = totals.acknowledged == before;
        self.idle = if is_idle { self.idle + 1 } else { 0 };
        if self.idle > 5 {
            return Err("nothing was acknowledged in six rounds".to_owned());
        }
        totals.rounds += 1;
        if rng.below(3) == 0 {
            // It is killed once more, while it opens what it has.
            let mut command = server::command(&[], &flags(&self.directory));
            let opening = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut opening = opening.map_err(|error| error.to_string())?;
            sleep(Duration::from_millis(rng.below(30) as u64)).await;
            opening.kill().await.map_err(|error| error.to_string())?;
        }
        let process = start(&self.directory).await;
        self.look(&process.uris[0], round, rng, totals).await?;
        process.killed().await;
        Ok(())
    }

    /// Looks at all topics, and publishes some of what had no answer once more.
    async fn look(
        &mut self,
        uri: &str,
        round: usize,
        rng: &mut Rng,
        totals: &mut Totals,
    ) -> Result<(), String> {
        let client = Client::connect(uri).await.map_err(|error| error.to_string())?;
        for topic in 0..TOPICS {
            let unknown: Vec<_> = self
                .sent
                .values()
                .filter(|sent| sent.topic == topic && sent.published.is_none())
                .map(|sent| sent.text.clone())
                .collect();
            let there = self.read(&client, topic).await?;
            for text in &unknown {
                if let (Some(offset), Some(sent)) = (there.get(text), self.sent.get_mut(text)) {
                    sent.found.get_or_insert(*offset);
                }
            }
            let is_found = |text: &&String| {
                there.contains_key(*text) && text.starts_with(&format!("{round}-"))
            };
            totals.found += unknown.iter().filter(is_found).count();
            let head = there.values().copied().max().unwrap_or_default();
            for text in unknown {
                let before = there.get(&text).copied();
                if before.is_some_and(|offset| rng.below(4) > 0 || head - offset > REMEMBERED) {
                    continue;
                }
                let again = once(&client, topic, &text).await.map_err(|error| error.to_string())?;
                if before.is_some_and(|offset| offset != again.offset || !again.duplicate) {
                    return Err(format!("{text} was at {before:?}, and again at {again:?}"));
                }
                self.sent.entry(text).and_modify(|sent| sent.published = Some(again));
            }
            self.read(&client, topic).await?;
        }
        Ok(())
    }

    /// The messages of a topic, each with its offset. All that was acknowledged is where it was said to be.
    async fn read(
        &mut self,
        client: &Client,
        topic: usize,
    ) -> Result<BTreeMap<String, u64>, String> {
        let handle = Topic::new(client, name(topic));
        let mut events = handle.history().stream();
        let (mut there, mut last) = (BTreeMap::new(), None);
        while let Some(event) = events.next().await {
            let message = match event.map_err(|error| format!("reading: {error}"))? {
                Event::Message(message) => message,
                other => return Err(format!("topic {topic} tells {other:?}")),
            };
            if last.is_some_and(|last| message.offset != last + 1) {
                return Err(format!("topic {topic}: {} behind {last:?}", message.offset));
            }
            last = Some(message.offset);
            if *self.epochs.entry(topic).or_insert(message.epoch) != message.epoch {
                return Err(format!("topic {topic} has another epoch"));
            }
            let text = String::from_utf8_lossy(&message.data).into_owned();
            match self.sent.get(&text) {
                Some(sent) if sent.topic == topic => {}
                _ => return Err(format!("topic {topic} has {text:?}, which nobody sent there")),
            }
            if there.insert(text.clone(), message.offset).is_some() {
                return Err(format!("{text} is there twice"));
            }
        }
        for sent in self.sent.values().filter(|sent| sent.topic == topic) {
            let (place, there) = (sent.place(), there.get(&sent.text).copied());
            if place.is_some() && there != place {
                return Err(format!("{} was at {place:?}, and is at {there:?}", sent.text));
            }
        }
        self.go_on(client, topic, &there).await?;
        Ok(there)
    }

    /// A reader goes on behind the last message it had: it misses none, and gets none twice.
    async fn go_on(
        &mut self,
        client: &Client,
        topic: usize,
        there: &BTreeMap<String, u64>,
    ) -> Result<(), String> {
        let Some(&epoch) = self.epochs.get(&topic) else { return Ok(()) };
        let head = there.values().copied().max().unwrap_or_default();
        let position = self.read.entry(topic).or_insert(Position { epoch, offset: 0 });
        let mut items =
            Topic::new(client, name(topic)).subscribe().from(Start::After(*position)).start();
        while position.offset < head {
            match items.next().await {
                Some(Ok(Event::Message(message))) if message.offset == position.offset + 1 => {
                    position.offset = message.offset;
                }
                other => return Err(format!("topic {topic}: {other:?} behind {position:?}")),
            }
        }
        Ok(())
    }
}

async fn once(client: &Client, topic: usize, text: &str) -> Result<Published, Error> {
    // What stands before the padding is unique.
    let id = text.trim_end_matches('x');
    let message = NewMessage::new(text.to_owned()).id(id);
    Topic::new(client, name(topic)).publish(message).await
}

/// Publishes until the service is gone.
async fn publish(uri: &str, prefix: &str, rng: &mut Rng) -> Result<Vec<Sent>, String> {
    // It may have been killed by then.
    let Ok(client) = Client::connect(uri).await else { return Ok(Vec::new()) };
    let mut sent = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut is_over = false;
    loop {
        while running.len() < IN_FLIGHT && !is_over {
            let (topic, number) = (rng.below(TOPICS), sent.len());
            let text = format!("{prefix}-{number}-{}", "x".repeat(rng.up_to(3_000)));
            sent.push(Sent { topic, text: text.clone(), published: None, found: None });
            let client = &client;
            running.push(async move { (number, once(client, topic, &text).await) });
        }
        match running.next().await {
            Some((number, Ok(published))) => sent[number].published = Some(published),
            Some((
                _,
                Err(error @ (Error::Rejected(_) | Error::Invalid(_) | Error::Application(_))),
            )) => {
                return Err(format!("a publish is refused: {error}"));
            }
            Some((_, Err(_))) => is_over = true,
            None => return Ok(sent),
        }
    }
}
