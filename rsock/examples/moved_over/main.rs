//! A program written for the crate rsocket_rust, moved over. `program.rs` is as it was; what changed
//! are the lines that set up the server and the client, below each of which stand the old ones.
//!
//! `cargo run -p rsock --features rsocket-rust --example moved_over`

mod program;

use rsock::{
    Client, Server,
    rsocket_rust::{RSocketAcceptor, RSocketRequester, RSocketResponder},
};

#[tokio::main]
async fn main() -> rsocket_rust::Result<()> {
    let server = Server::bind("tcp://127.0.0.1:0").await?;
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(RSocketAcceptor::new(program::acceptor())).into_future());
    // let server = RSocketFactory::receive()
    //     .transport(TcpServerTransport::from("127.0.0.1:7878"))
    //     .acceptor(program::acceptor());
    // tokio::spawn(server.serve());

    let client = Client::builder()
        .responder(RSocketResponder::made_by(program::client_acceptor()))
        .connect(&uri)
        .await?;
    let client = RSocketRequester::from(client);
    // let client = RSocketFactory::connect()
    //     .transport(TcpClientTransport::from("127.0.0.1:7878"))
    //     .acceptor(program::client_acceptor())
    //     .start()
    //     .await?;

    for line in program::ask(&client).await? {
        println!("{line}");
    }
    Ok(())
}
