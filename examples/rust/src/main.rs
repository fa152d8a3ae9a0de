//! A client of rsockd with rsock: `cargo run -- [tcp://HOST:PORT | ws://HOST:PORT/PATH]`

use std::{env, process::ExitCode};

use futures_util::{TryStreamExt, stream};
use rsock::{Client, Error, Payload, PayloadExt, RequestStream, Window, metadata::Authentication};

const BATCH: u32 = 4;

#[tokio::main]
async fn main() -> ExitCode {
    let uri = env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:7878".to_owned());
    match ask(&uri).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(uri: &str) -> Result<(), Error> {
    let client = Client::builder()
        .data_mime("application/json")
        // rsockd lets everyone in; a server made with the library checks what SETUP says.
        .authentication(Authentication::simple("user", "pass"))
        .connect(uri)
        .await?;

    let answer = client.request_response(Payload::new("hello").route("echo")?).await?;
    println!("echo: {}", text(&answer));

    let range = Payload::new(r#"{"from":0,"to":10}"#).route("range")?;
    let numbers = in_batches(client.request_stream(range)).await?;
    println!("range: {}", numbers.join(" "));

    // The first line opens the channel; the others go out as the service asks for them.
    let lines = [Payload::new("one").route("echo")?, Payload::new("two"), Payload::new("three")];
    let echoed = in_batches(client.request_channel(stream::iter(lines))).await?;
    println!("channel: {}", echoed.join(" "));

    client.close().await;
    Ok(())
}

/// Collects a stream's items. Consuming it asks for the next batch when one is there.
async fn in_batches(stream: RequestStream) -> Result<Vec<String>, Error> {
    let batches = Window::new(BATCH).refill_at(100);
    stream.window(batches).map_ok(|item| text(&item)).try_collect().await
}

fn text(payload: &Payload) -> String {
    String::from_utf8_lossy(&payload.data).into_owned()
}
