//! rsocket_rust 0.7.5 as the peer that serves. Usage: server [--mtu BYTES] URI...
//!
//! Says `listening on URI` for each, `got fnf TEXT` and `got push TEXT` for what has no answer, and
//! ends when its stdin does.

use std::{io::Write, time::Duration};

use interop_rust::{route_of, split, text};
use rsocket_rust::{
    Result, async_trait, error::RSocketError, prelude::*, stream, transport::Transport,
};
use rsocket_rust_transport_tcp::TcpClientTransport;
use rsocket_rust_transport_websocket::WebsocketClientTransport;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

fn say(line: String) {
    let mut out = std::io::stdout().lock();
    // Whoever started this may have gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn described<T>(text: impl Into<String>) -> Result<T> {
    Err(RSocketError::WithDescription(text.into()).into())
}

fn payload(text: impl ToString) -> Payload {
    Payload::builder().set_data_utf8(&text.to_string()).build()
}

struct Service;

#[async_trait]
impl RSocket for Service {
    async fn metadata_push(&self, req: Payload) -> Result<()> {
        say(format!("got push {}", text(req.metadata())));
        Ok(())
    }

    async fn fire_and_forget(&self, req: Payload) -> Result<()> {
        say(format!("got fnf {}", text(req.data())));
        Ok(())
    }

    async fn request_response(&self, req: Payload) -> Result<Option<Payload>> {
        match route_of(&req).as_deref().unwrap_or("echo") {
            "echo" => Ok(Some(req)),
            "fail" => described(text(req.data())),
            route => described(format!("no route {route}")),
        }
    }

    fn request_stream(&self, req: Payload) -> Flux<Result<Payload>> {
        let data = text(req.data());
        let route = route_of(&req).unwrap_or_default();
        Box::pin(stream! {
            let (from, to, pause) = match route.as_str() {
                "fail" => {
                    yield Ok(payload("one"));
                    yield described(data);
                    return;
                }
                "range" => match serde_json::from_str::<serde_json::Value>(&data) {
                    Ok(wanted) => {
                        let number = |name| wanted.get(name).and_then(|value| value.as_u64());
                        (number("from").unwrap_or(0), number("to").unwrap_or(u64::MAX), None)
                    }
                    Err(error) => {
                        yield described(error.to_string());
                        return;
                    }
                },
                "clock" => (0, u64::MAX, Some(Duration::from_millis(20))),
                route => {
                    yield described(format!("no route {route}"));
                    return;
                }
            };
            for n in from..to {
                yield Ok(payload(n));
                // Its engine takes items as fast as they come: others would never run.
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => tokio::task::yield_now().await,
                }
            }
        })
    }

    fn request_channel(&self, mut reqs: Flux<Result<Payload>>) -> Flux<Result<Payload>> {
        Box::pin(stream! {
            while let Some(req) = reqs.next().await {
                yield req.map(|req| Payload::new(req.split().0, None));
            }
        })
    }
}

/// Both of its transports are made of an accepted socket.
struct Listening<T> {
    listener: TcpListener,
    wrap: fn(TcpStream) -> T,
}

#[async_trait]
impl<T: Transport + Send> ServerTransport for Listening<T> {
    type Item = T;

    async fn start(&mut self) -> Result<()> {
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<T>> {
        let (socket, _) = match self.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => return Some(Err(error.into())),
        };
        Some(socket.set_nodelay(true).map(|()| (self.wrap)(socket)).map_err(Into::into))
    }
}

fn acceptor() -> ServerResponder {
    Box::new(|setup, _| match setup.data() {
        Some(data) if data == "reject" => described("not you"),
        _ => Ok(Box::new(Service)),
    })
}

async fn listen(uri: &str, mtu: usize) -> Result<()> {
    let (scheme, address, path) = split(uri).expect("tcp://HOST:PORT or ws://HOST:PORT/PATH");
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    if scheme == "ws" {
        let transport = Listening { listener, wrap: WebsocketClientTransport::from };
        let server = RSocketFactory::receive().transport(transport).fragment(mtu);
        tokio::spawn(server.acceptor(acceptor()).serve());
    } else {
        let transport = Listening { listener, wrap: TcpClientTransport::from };
        let server = RSocketFactory::receive().transport(transport).fragment(mtu);
        tokio::spawn(server.acceptor(acceptor()).serve());
    }
    say(format!("listening on {scheme}://{address}{path}"));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut mtu = 0;
    while let Some(argument) = arguments.next() {
        if argument == "--mtu" {
            mtu = arguments.next().unwrap_or_default().parse()?;
        } else {
            listen(&argument, mtu).await?;
        }
    }
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    // Its tasks never end, and its runtime would wait for a read of stdin.
    std::process::exit(0)
}
