//! The fixture as a server of its own, for tests that measure a process. It ends when its standard
//! input does.

use rsock::{Error, Server};
use rsock_tests::fixture::Fixture;
use tokio::io::AsyncReadExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"];
    let server = Server::builder().bind(&uris).await?;
    for uri in server.addresses() {
        println!("{uri}");
    }
    let serving = server.serve(Fixture::default()).into_future();
    tokio::spawn(serving);
    // Whoever started us has gone, or never gave us an input.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    Ok(())
}
