//! gRPC over HTTP/2, by `tonic` 0.14 with its defaults.
//!
//! The service is written by hand as its generator would, but for two things in its favour: a
//! message is the bytes themselves, with no protobuf around them, and no future is boxed to answer
//! a unary call. It has no fire-and-forget.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Service, http, http::uri::PathAndQuery},
    server::{self, NamedService, ServerStreamingService, StreamingService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{
    Result,
    case::{Interaction, Transport},
    contender::{Peer, Requester},
    load::StreamRequest,
};

const UNARY: &str = "/rsock.Bench/Unary";
const ITEMS: &str = "/rsock.Bench/Items";
const ECHO: &str = "/rsock.Bench/Echo";

/// The other kind of RPC.
pub(crate) struct Tonic;

impl Peer for Tonic {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = &[Transport::Tcp];

    fn offers(interaction: Interaction) -> bool {
        interaction != Interaction::FireAndForget
    }

    async fn serve(_: Transport, host: IpAddr) -> Result<SocketAddr> {
        let incoming = TcpIncoming::bind(SocketAddr::new(host, 0))?;
        let address = incoming.local_addr()?;
        // As `Server::serve` would.
        let incoming = incoming.with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_service(Bench).serve_with_incoming(incoming));
        Ok(address)
    }

    async fn connect(_: Transport, address: SocketAddr) -> Result<Connection> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        Ok(Connection(Grpc::new(endpoint.connect().await?)))
    }
}

/// One connection of theirs. A generated client is cloned for each call that is not to wait for
/// the one before.
#[derive(Clone)]
pub(crate) struct Connection(Grpc<Channel>);

impl Requester for Connection {
    async fn request_response(&self, data: Bytes) -> Result<usize> {
        let mut client = self.0.clone();
        client.ready().await?;
        let path = PathAndQuery::from_static(UNARY);
        Ok(client.unary(Request::new(data), path, AsIs).await?.into_inner().len())
    }

    fn request_stream(&self, data: Bytes) -> impl Stream<Item = Result<usize>> + Send {
        let mut client = self.0.clone();
        lengths(async move {
            client.ready().await?;
            let path = PathAndQuery::from_static(ITEMS);
            Ok(client.server_streaming(Request::new(data), path, AsIs).await?)
        })
    }

    fn request_channel(
        &self,
        items: impl Stream<Item = Bytes> + Send + 'static,
    ) -> impl Stream<Item = Result<usize>> + Send {
        let mut client = self.0.clone();
        lengths(async move {
            client.ready().await?;
            let path = PathAndQuery::from_static(ECHO);
            Ok(client.streaming(Request::new(items), path, AsIs).await?)
        })
    }
}

fn lengths(
    opened: impl Future<Output = Result<Response<Streaming<Bytes>>>> + Send,
) -> impl Stream<Item = Result<usize>> + Send {
    stream::once(opened)
        .map_ok(|response| response.into_inner().map(|item| Ok(item?.len())))
        .try_flatten()
}

/// The service, and the handlers of its methods.
#[derive(Clone)]
struct Bench;

impl NamedService for Bench {
    const NAME: &'static str = "rsock.Bench";
}

impl Service<http::Request<Body>> for Bench {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = server::Grpc::new(AsIs);
            Ok(match request.uri().path() {
                UNARY => grpc.unary(Self, request).await,
                ITEMS => grpc.server_streaming(Self, request).await,
                ECHO => grpc.streaming(Self, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// The answer, given at once.
type Answer<T> = Ready<std::result::Result<Response<T>, Status>>;

impl UnaryService<Bytes> for Bench {
    type Response = Bytes;
    type Future = Answer<Bytes>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl ServerStreamingService<Bytes> for Bench {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, std::result::Result<Bytes, Status>>;
    type Future = Answer<Self::ResponseStream>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        ready(match StreamRequest::decode(request.get_ref()) {
            Some(wanted) => {
                let item = wanted.item();
                let items = stream::iter(0..wanted.items).map(move |_| Ok(item.clone()));
                Ok(Response::new(items.boxed()))
            }
            None => Err(Status::invalid_argument("a stream request is \"ITEMS BYTES\"")),
        })
    }
}

impl StreamingService<Bytes> for Bench {
    type Response = Bytes;
    type ResponseStream = Streaming<Bytes>;
    type Future = Answer<Self::ResponseStream>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

/// A message is its bytes.
#[derive(Clone, Copy, Default)]
struct AsIs;

impl Codec for AsIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> std::result::Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
