//! `rsock`, through the interface its users have.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use rsock::{Client, Error, Payload, Payloads, Request, Responder, Server};

use crate::{
    Result,
    case::Transport,
    contender::{Arrivals, Peer, Requester},
    load::{self, Asked},
};

/// The library of this workspace.
pub(crate) struct Rsock;

impl Peer for Rsock {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = &Transport::ALL;

    async fn serve(transport: Transport, host: IpAddr) -> Result<SocketAddr> {
        let uri = uri(transport, SocketAddr::from((host, 0)));
        let server = Server::bind(&uri).await?;
        let address = server.addresses().remove(0);
        let authority = address.trim_start_matches("tcp://").trim_start_matches("ws://");
        let address = authority.split('/').next().unwrap_or_default().parse()?;
        tokio::spawn(server.serve(async |_: rsock::Peer| Ok(Echo::default())).into_future());
        Ok(address)
    }

    async fn connect(transport: Transport, address: SocketAddr) -> Result<Connection> {
        Ok(Connection(Client::connect(&uri(transport, address)).await?))
    }
}

fn uri(transport: Transport, address: SocketAddr) -> String {
    match transport {
        Transport::Tcp => format!("tcp://{address}"),
        Transport::WebSocket => format!("ws://{address}/"),
    }
}

/// One connection of ours.
#[derive(Clone)]
pub(crate) struct Connection(Client);

impl Requester for Connection {
    async fn request_response(&self, data: Bytes) -> Result<usize> {
        Ok(self.0.request_response(data).await?.data.len())
    }

    fn request_stream(&self, data: Bytes) -> impl Stream<Item = Result<usize>> + Send {
        self.0.request_stream(data).map(|item| Ok(item?.data.len()))
    }

    fn request_channel(
        &self,
        items: impl Stream<Item = Bytes> + Send + 'static,
    ) -> impl Stream<Item = Result<usize>> + Send {
        self.0.request_channel(items.map(Payload::new)).map(|item| Ok(item?.data.len()))
    }

    async fn fire_and_forget(&self, data: Bytes) -> Result<()> {
        Ok(self.0.fire_and_forget(data).await?)
    }
}

#[derive(Default)]
struct Echo {
    arrivals: Arrivals,
}

impl Responder for Echo {
    async fn request_response(
        self: Arc<Self>,
        request: Request,
    ) -> std::result::Result<Payload, Error> {
        let payload = request.into_payload();
        Ok(Payload::new(load::answer(payload.data)))
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = std::result::Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        match Asked::decode(&payload.data) {
            Some(Asked::Items(wanted)) => {
                let item = wanted.item();
                let items = stream::iter(0..wanted.items);
                items.map(move |_| Ok(Payload::new(item.clone()))).left_stream().left_stream()
            }
            Some(Asked::Arrival(count)) => {
                let reached = async move {
                    self.arrivals.reach(count).await;
                    Ok(Payload::new(Bytes::new()))
                };
                stream::once(reached).right_stream().left_stream()
            }
            None => {
                let error =
                    Error::invalid("a stream request is \"ITEMS BYTES\" or \"arrival COUNT\"");
                stream::once(std::future::ready(Err(error))).right_stream()
            }
        }
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = std::result::Result<Payload, Error>> + Send {
        let first = first.into_payload();
        stream::once(std::future::ready(Ok(first))).chain(rest)
    }

    async fn fire_and_forget(self: Arc<Self>, _: Request) {
        self.arrivals.add();
    }
}
