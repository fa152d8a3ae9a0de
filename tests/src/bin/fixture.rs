//! The fixture as a server of its own, for tests that measure a process. It ends when its standard
//! input does. Arguments are settings: `max_streams=100`, `setup_timeout_ms=500`.

use std::{sync::Arc, time::Duration};

use rsock::{Config, Error, Server};
use rsock_tests::fixture::Fixture;
use tokio::io::AsyncReadExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"];
    let mut config = Config::default();
    for argument in std::env::args().skip(1) {
        let setting = argument.split_once('=').and_then(|(name, n)| Some((name, n.parse().ok()?)));
        match setting {
            Some(("max_streams", n)) => config.max_streams = n,
            Some(("setup_timeout_ms", n)) => config.setup_timeout = Duration::from_millis(n as u64),
            _ => panic!("no such setting: {argument:?}"),
        }
    }
    let fixture = Fixture::default();
    let builder = Server::builder().config(config).meter(Arc::clone(&fixture.meter));
    let server = builder.bind(&uris).await?;
    for uri in server.addresses() {
        println!("{uri}");
    }
    let serving = server.serve(fixture).into_future();
    tokio::spawn(serving);
    // Whoever started us has gone, or never gave us an input.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    Ok(())
}
