//! `rsocket_rust` 0.7: its own transports and defaults, no option touched; and once more with
//! `TCP_NODELAY`, which it never sets, on its TCP sockets.
//!
//! One thing had to be ours: its server transports bind an address and never tell the port, so
//! the listener is bound here and the accepted sockets are handed over as they would do it.

use std::{
    io,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

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
    contender::{Arrivals, Peer, Requester},
    load::{self, Asked},
};

/// The incumbent.
pub(crate) struct RsocketRust<S>(PhantomData<S>);

/// The options set on its sockets.
pub(crate) trait Sockets {
    const TRANSPORTS: &'static [Transport];

    fn prepare(socket: &TcpStream) -> io::Result<()>;
}

/// Nothing.
pub(crate) struct AsShipped;

impl Sockets for AsShipped {
    const TRANSPORTS: &'static [Transport] = &Transport::ALL;

    fn prepare(_: &TcpStream) -> io::Result<()> {
        Ok(())
    }
}

/// `TCP_NODELAY`: what it sends is not held back until the peer has acknowledged what was before.
pub(crate) struct NoDelay;

impl Sockets for NoDelay {
    const TRANSPORTS: &'static [Transport] = &[Transport::Tcp];

    fn prepare(socket: &TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)
    }
}

impl<S: Sockets> Peer for RsocketRust<S> {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = S::TRANSPORTS;

    async fn serve(transport: Transport, host: IpAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        match transport {
            Transport::Tcp => spawn_server(listener, |socket| {
                S::prepare(&socket)?;
                Ok(TcpClientTransport::from(socket))
            }),
            Transport::WebSocket => {
                spawn_server(listener, |socket| Ok(WebsocketClientTransport::from(socket)));
            }
        }
        Ok(address)
    }

    async fn connect(transport: Transport, address: SocketAddr) -> Result<Connection> {
        let client = match transport {
            Transport::Tcp => {
                let socket = TcpStream::connect(address).await?;
                S::prepare(&socket)?;
                let transport = TcpClientTransport::from(socket);
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

    fn request_channel(
        &self,
        items: impl Stream<Item = Bytes> + Send + 'static,
    ) -> impl Stream<Item = Result<usize>> + Send {
        self.0
            .request_channel(Box::pin(items.map(|data| Ok(Payload::new(Some(data), None)))))
            .map(|item| Ok(item?.split().0.map_or(0, |data| data.len())))
    }

    async fn fire_and_forget(&self, data: Bytes) -> Result<()> {
        Ok(self.0.fire_and_forget(Payload::new(Some(data), None)).await?)
    }
}

fn spawn_server<T>(listener: TcpListener, wrap: fn(TcpStream) -> io::Result<T>)
where
    T: ConnectTransport + Send + Sync + 'static,
    T::Conn: Send + Sync,
{
    tokio::spawn(async move {
        let served = RSocketFactory::receive()
            .transport(Bound { listener, wrap })
            .acceptor(Box::new(|_setup, _requester| Ok(Box::new(Responder::default()))))
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
    wrap: fn(TcpStream) -> io::Result<T>,
}

#[async_trait]
impl<T: ConnectTransport + Send + Sync> ServerTransport for Bound<T> {
    type Item = T;

    async fn start(&mut self) -> rsocket_rust::Result<()> {
        Ok(())
    }

    async fn next(&mut self) -> Option<rsocket_rust::Result<T>> {
        let accepted = self.listener.accept().await;
        let wrapped = accepted.and_then(|(socket, _)| (self.wrap)(socket));
        Some(wrapped.map_err(|error| RSocketError::IO(error).into()))
    }
}

#[derive(Default)]
struct Responder {
    arrivals: Arc<Arrivals>,
}

#[async_trait]
impl RSocket for Responder {
    async fn metadata_push(&self, _request: Payload) -> rsocket_rust::Result<()> {
        Ok(())
    }

    async fn fire_and_forget(&self, _request: Payload) -> rsocket_rust::Result<()> {
        self.arrivals.add();
        Ok(())
    }

    async fn request_response(&self, request: Payload) -> rsocket_rust::Result<Option<Payload>> {
        let answer = request.split().0.map(load::answer);
        Ok(Some(Payload::new(answer, None)))
    }

    fn request_stream(&self, request: Payload) -> Flux<rsocket_rust::Result<Payload>> {
        let data = request.split().0.unwrap_or_default();
        match Asked::decode(&data) {
            Some(Asked::Items(wanted)) => {
                let item = wanted.item();
                let items = stream::iter(0..wanted.items);
                Box::pin(items.map(move |_| Ok(Payload::new(Some(item.clone()), None))))
            }
            Some(Asked::Arrival(count)) => {
                let arrivals = Arc::clone(&self.arrivals);
                Box::pin(stream::once(async move {
                    arrivals.reach(count).await;
                    Ok(Payload::new(Some(Bytes::new()), None))
                }))
            }
            None => Box::pin(stream::empty()),
        }
    }

    fn request_channel(
        &self,
        requests: Flux<rsocket_rust::Result<Payload>>,
    ) -> Flux<rsocket_rust::Result<Payload>> {
        requests
    }
}
