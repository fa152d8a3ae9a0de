//! The shortest way to a service. Usage: quickstart URI

use interop_rust::{Settings, connect, routed, split, text};
use rsocket_rust::{
    ClientBuilder, Result,
    prelude::*,
    transport::{Connection, Transport},
};

struct Defaults;

impl Settings for Defaults {
    fn apply<T, C>(self, builder: ClientBuilder<T, C>) -> ClientBuilder<T, C>
    where
        T: Send + Sync + Transport<Conn = C>,
        C: Send + Sync + Connection,
    {
        builder
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:7878".into());
    let (scheme, address, path) = split(&uri).expect("tcp://HOST:PORT or ws://HOST:PORT/PATH");
    let client = connect(scheme, address, path, Defaults).await?;

    let answer = client.request_response(routed("echo", "hello", &[])).await?;
    println!("echo: {}", text(answer.as_ref().and_then(Payload::data)));

    let mut range = client.request_stream(routed("range", r#"{"from":0,"to":10}"#, &[]));
    let mut line = "range:".to_owned();
    while let Some(item) = range.next().await {
        line = format!("{line} {}", text(item?.data()));
    }
    println!("{line}");
    Ok(())
}
