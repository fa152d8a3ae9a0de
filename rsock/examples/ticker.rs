//! A ticker, and three readers that take 50 ms for each value: how old is what they see?
//!
//! ```text
//! cargo run -p rsock --example ticker
//! ```

use std::{
    error::Error,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use rsock::{Client, Payload, PayloadExt, Router, Server, SharedPayload, latest, stream_feed};
use tokio::{sync::watch, time::sleep};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Reads for a while, slowly, and says how old the last value was when it was looked at.
async fn read(
    how: &str,
    began: Instant,
    mut ticks: impl Stream<Item = Result<Payload, rsock::Error>> + Unpin,
) -> Outcome<()> {
    let (mut count, mut age) = (0, Duration::ZERO);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let Some(tick) = ticks.next().await else { break };
        let said: u64 = std::str::from_utf8(&tick?.data)?.parse()?;
        age = began.elapsed().saturating_sub(Duration::from_millis(said));
        count += 1;
        sleep(Duration::from_millis(50)).await;
    }
    println!("{how:24} {count:3} values, the last one {:4} ms old", age.as_millis());
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    // The time in milliseconds, a hundred times a second. It is encoded once, however many read it.
    let began = Instant::now();
    let now = move || SharedPayload::new(None, began.elapsed().as_millis().to_string().as_bytes());
    let (clock, ticks) = watch::channel(now());
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(10)).await;
            clock.send_replace(now());
        }
    });

    let app = Router::new(ticks)
        .route("ticks", stream_feed(|ticks: watch::Receiver<SharedPayload>, ()| Ok(latest(ticks))));
    let server = Server::bind("tcp://127.0.0.1:0").await?;
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(app).into_future());

    let client = Client::connect(&uri).await?;
    let ticks = || Ok::<_, rsock::Error>(client.request_stream(Payload::default().route("ticks")?));
    read("256 asked for:", began, ticks()?).await?;
    read("one asked for at a time:", began, ticks()?.credit(1)).await?;
    read("the newest that is here:", began, ticks()?.newest()).await?;
    Ok(())
}
