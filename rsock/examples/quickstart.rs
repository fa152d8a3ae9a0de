//! A server and a client in one program: `cargo run -p rsock --example quickstart`.

use futures_util::{TryStreamExt, stream};
use rsock::{
    Client, Error, Payload, PayloadExt, Router, Server, Text, request_response, request_stream,
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Serve: a handler takes and returns what it likes, and is polled only when the peer has asked
    // for an item and the socket can take it.
    let app = Router::new(())
        .route("upper", request_response(async |(), Text(text): Text| text.to_uppercase()))
        .route("squares", request_stream(|(), ()| stream::iter((0..).map(square))));
    let server = Server::bind("tcp://127.0.0.1:0").await?;
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(app).into_future());

    // Ask: consuming a stream is what asks for more, and dropping it cancels.
    let client = Client::connect(&uri).await?;
    let reply = client.request_response(Payload::new("hello").route("upper")?).await?;
    println!("{}", String::from_utf8_lossy(&reply.data));

    let mut squares = client.request_stream(Payload::default().route("squares")?).credit(4);
    while let Some(item) = squares.try_next().await? {
        println!("{}", String::from_utf8_lossy(&item.data));
        if item.data == "81" {
            break;
        }
    }
    Ok(())
}

fn square(n: u64) -> String {
    (n * n).to_string()
}
