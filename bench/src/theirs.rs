//! `rsocket_rust` 0.7 as shipped: its own transports and defaults, no option touched.
//!
//! One thing had to be ours: its server transports bind an address and never tell the port, so
//! the listener is bound here and the accepted sockets are handed over as they would do it.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use rsocket_rust::{
    Client, async_trait,
    error::RSocketError,
    prelude::{Flux, Payload, RSocket, RSocketFactory},
    transport::{ServerTransport, Transport as ConnectTransport},
};
use rsocket_rust_transport_tcp::TcpClientTransport;
use rsocket_rust_transport_websocket::WebsocketClientTransport;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    Result,
    case::Transport,
    contender::{Peer, Requester},
    load::StreamRequest,
};

/// The incumbent.
pub(crate) struct RsocketRust;

impl Peer for RsocketRust {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = &Transport::ALL;

    async fn serve(transport: Transport) -> Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        match transport {
            Transport::Tcp => spawn_server(listener, TcpClientTransport::from),
            Transport::WebSocket => spawn_server(listener, WebsocketClientTransport::from),
        }
        Ok(address)
    }

    async fn connect(transport: Transport, address: SocketAddr) -> Result<Connection> {
        let client = match transport {
            Transport::Tcp => {
                let transport = TcpClientTransport::from(address);
                RSocketFactory::connect().transport(transport).start().await?
            }
            Transport::WebSocket => {
                let transport = WebsocketClientTransport::from(address);
                RSocketFactory::connect().transport(transport).start().await?
            }
        };
        Ok(Connection(client))
    }
}

/// One connection of theirs.
#[derive(Clone)]
pub(crate) struct Connection(Client);

impl Requester for Connection {
    async fn request_response(&self, data: Bytes) -> Result<usize> {
        let response = self.0.request_response(Payload::new(Some(data), None)).await?;
        Ok(response.and_then(|payload| payload.split().0).map_or(0, |data| data.len()))
    }

    fn request_stream(&self, data: Bytes) -> impl Stream<Item = Result<usize>> + Send {
        self.0
            .request_stream(Payload::new(Some(data), None))
            .map(|item| Ok(item?.split().0.map_or(0, |data| data.len())))
    }
}

fn spawn_server<T>(listener: TcpListener, wrap: fn(TcpStream) -> T)
where
    T: ConnectTransport + Send + Sync + 'static,
    T::Conn: Send + Sync,
{
    tokio::spawn(async move {
        let served = RSocketFactory::receive()
            .transport(Bound { listener, wrap })
            .acceptor(Box::new(|_setup, _requester| Ok(Box::new(Responder))))
            .serve()
            .await;
        if let Err(error) = served {
            eprintln!("rsock-bench: rsocket_rust stopped serving: {error}");
        }
    });
}

/// Their `TcpServerTransport` and `WebsocketServerTransport`, with the listener bound beforehand.
struct Bound<T> {
    listener: TcpListener,
    wrap: fn(TcpStream) -> T,
}

#[async_trait]
impl<T: ConnectTransport + Send + Sync> ServerTransport for Bound<T> {
    type Item = T;

    async fn start(&mut self) -> rsocket_rust::Result<()> {
        Ok(())
    }

    async fn next(&mut self) -> Option<rsocket_rust::Result<T>> {
        match self.listener.accept().await {
            Ok((socket, _)) => Some(Ok((self.wrap)(socket))),
            Err(error) => Some(Err(RSocketError::IO(error).into())),
        }
    }
}

struct Responder;

#[async_trait]
impl RSocket for Responder {
    async fn metadata_push(&self, _request: Payload) -> rsocket_rust::Result<()> {
        Ok(())
    }

    async fn fire_and_forget(&self, _request: Payload) -> rsocket_rust::Result<()> {
        Ok(())
    }

    async fn request_response(&self, request: Payload) -> rsocket_rust::Result<Option<Payload>> {
        Ok(Some(request))
    }

    fn request_stream(&self, request: Payload) -> Flux<rsocket_rust::Result<Payload>> {
        let data = request.split().0.unwrap_or_default();
        let wanted = StreamRequest::decode(&data).unwrap_or(StreamRequest { items: 0, size: 0 });
        let item = wanted.item();
        Box::pin(
            stream::iter(0..wanted.items).map(move |_| Ok(Payload::new(Some(item.clone()), None))),
        )
    }

    fn request_channel(
        &self,
        requests: Flux<rsocket_rust::Result<Payload>>,
    ) -> Flux<rsocket_rust::Result<Payload>> {
        requests
    }
}
