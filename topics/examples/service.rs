//! A service of topics in a program of one's own, beside a route of its own:
//! `cargo run -p rsock-topics --features serve --example service`, then
//! `rsock topic join tcp://127.0.0.1:7878 room.lobby --name ann`.

use rsock::{Router, Server, Text, request_response};
use rsock_topics::{Kind, Limits, Service, Settings, TopicSettings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let board = TopicSettings { kind: Kind::Latest, ..TopicSettings::default() };
    let topics = Service::new(Settings::new(Limits::default(), [("board.>", board)])?);

    let app = Router::new(()).route(
        "greet",
        request_response(async |(), Text(name): Text| Text(format!("Hello, {name}."))),
    );

    let server = Server::bind("tcp://127.0.0.1:7878").await?;
    println!("listening on {}", server.addresses()[0]);
    server.serve(topics.add_to(app)).await;
    Ok(())
}
