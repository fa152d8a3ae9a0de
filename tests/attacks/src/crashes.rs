//! Durable topics of a process that is killed again and again: what it has acknowledged is there, once, in order.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rsock::{
    Client, Error,
    topic::{Epoch, Event, NewMessage, Published, Topic},
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
}

/// A directory, and all that was sent to what is kept there.
struct World {
    directory: PathBuf,
    sent: BTreeMap<String, Sent>,
    epochs: BTreeMap<usize, Epoch>,
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
            world = Some(World { directory, sent: BTreeMap::new(), epochs: BTreeMap::new() });
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

async fn start(directory: &Path) -> Process {
    let directory = directory.display().to_string();
    // Nothing that was acknowledged goes for its number.
    let rule = "c.>=durable,messages=1000000,bytes=1GiB";
    let flags = ["--data", &directory, "--topic", rule, "--workers", "2"];
    server::start(&[], &flags.map(str::to_owned)).await
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
        for publisher in publishers {
            let sent = publisher.await.map_err(|error| error.to_string())?;
            totals.acknowledged += sent.iter().filter(|sent| sent.published.is_some()).count();
            totals.unknown += sent.iter().filter(|sent| sent.published.is_none()).count();
            self.sent.extend(sent.into_iter().map(|sent| (sent.text.clone(), sent)));
        }
        totals.rounds += 1;
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
            let is_found = |text: &&String| {
                there.contains_key(*text) && text.starts_with(&format!("{round}-"))
            };
            totals.found += unknown.iter().filter(is_found).count();
            for text in unknown {
                if rng.below(4) > 0 && there.contains_key(&text) {
                    continue;
                }
                let before = there.get(&text).copied();
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
            if let Some(published) = &sent.published
                && there.get(&sent.text) != Some(&published.offset)
            {
                let there = there.get(&sent.text);
                return Err(format!(
                    "{} was acknowledged as {published:?}, and is at {there:?}",
                    sent.text
                ));
            }
        }
        Ok(there)
    }
}

async fn once(client: &Client, topic: usize, text: &str) -> Result<Published, Error> {
    // What stands before the padding is unique.
    let id = text.trim_end_matches('x');
    let message = NewMessage::new(text.to_owned()).id(id);
    Topic::new(client, name(topic)).publish(message).await
}

/// Publishes until the service is gone.
async fn publish(uri: &str, prefix: &str, rng: &mut Rng) -> Vec<Sent> {
    let Ok(client) = Client::connect(uri).await else { return Vec::new() };
    let mut sent = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut is_over = false;
    loop {
        while running.len() < IN_FLIGHT && !is_over {
            let (topic, number) = (rng.below(TOPICS), sent.len());
            let text = format!("{prefix}-{number}-{}", "x".repeat(rng.up_to(3_000)));
            sent.push(Sent { topic, text: text.clone(), published: None });
            let client = &client;
            running.push(async move { (number, once(client, topic, &text).await) });
        }
        match running.next().await {
            Some((number, Ok(published))) => sent[number].published = Some(published),
            Some((_, Err(_))) => is_over = true,
            None => return sent,
        }
    }
}
