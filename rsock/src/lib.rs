//! RSocket for Rust: requester, responder and router, with real backpressure.
//!
//! A connection has two ends, and both may ask. The end that asks is the *requester*, the one that
//! answers the *responder*; who dialled is the *client*, who was dialled the *server*.
//!
//! ```
//! use std::sync::Arc;
//! use futures_util::{Stream, TryStreamExt, stream};
//! use rsock::{Client, Error, Payload, Peer, Request, Responder, Server};
//!
//! struct Greeter;
//!
//! impl Responder for Greeter {
//!     async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
//!         Ok(Payload::new(format!("hello {}", String::from_utf8_lossy(request.data()))))
//!     }
//!
//!     fn request_stream(
//!         self: Arc<Self>,
//!         _: Request,
//!     ) -> impl Stream<Item = Result<Payload, Error>> + Send {
//!         stream::iter((0..10_000).map(|n| Ok(Payload::new(n.to_string()))))
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let server = Server::bind("tcp://127.0.0.1:0").await?;
//! let uri = server.addresses().remove(0);
//! tokio::spawn(server.serve(async |_: Peer| Ok(Greeter)).into_future());
//!
//! let client = Client::connect(&uri).await?;
//! let reply = client.request_response("world").await?;
//! assert_eq!(reply.data, "hello world");
//!
//! // Consuming is what asks for more: never more than 16 items are on their way.
//! let mut numbers = client.request_stream("").credit(16);
//! while let Some(number) = numbers.try_next().await? {
//!     if number.data == "99" {
//!         break; // Dropping the stream sends CANCEL.
//!     }
//! }
//! # Ok::<(), Error>(())
//! # }).unwrap();
//! ```
//!
//! Nothing hangs: when a connection ends, everything pending on it ends with the reason. Nothing
//! grows without a bound: see [`Config`] and the builders for every limit.
//!
//! IDs such as `RS-02` name requirements of the protocol, which are listed in
//! [docs/spec.md](https://github.com/rsock/rsock/blob/main/docs/spec.md).

mod acceptor;
mod body;
mod boxed;
mod caller;
mod client;
mod connection;
mod credentials;
mod demand;
mod error;
mod forward;
mod heed;
#[cfg(feature = "websocket")]
pub mod http;
mod latest;
mod layer;
mod lease;
mod limited;
mod live_config;
mod memory;
mod meter;
mod nearest;
mod network;
mod newest;
mod observe;
mod observed;
mod pattern;
mod payload;
mod peer;
mod rate_limit;
mod reconnect;
mod request;
mod requester;
mod responder;
mod resume;
mod route_cache;
mod router;
#[cfg(feature = "rsocket-rust")]
pub mod rsocket_rust;
mod runtimes;
mod server;
mod settings;
mod setup;
mod spawn;
mod state;
mod streams;
mod sync;
mod tap;
#[cfg(feature = "topic")]
pub mod topic;
mod transport;
#[cfg(feature = "tracing")]
mod warnings;

pub use rsock_proto::{
    self as proto, CloseReason, Config, ControlError, ErrorCode, Figure, FigureKind, Fragmented,
    IoError, Payload, Printable, RequestError, ResumeLimits, SendError, SharedPayload, Side, Stats,
    Violation, Window, frame, metadata,
};

pub use acceptor::Acceptor;
#[cfg(feature = "json")]
pub use body::Json;
pub use body::Text;
pub use boxed::{BoxFuture, BoxStream};
pub use caller::Caller;
pub use client::{Client, ClientBuilder};
pub use connection::{
    WakeGroup,
    feed::{Feed, ItemSource, Outlet},
};
#[cfg(feature = "auth")]
pub use credentials::CheckCredentials;
pub use demand::{Demand, Grants};
pub use error::{ConnectError, Error, Sent, TlsError, TlsErrorKind};
#[cfg(feature = "websocket")]
#[doc(inline)]
pub use http::{
    HttpBody, HttpBodyError, HttpHandler, HttpLimits, HttpRequest, HttpResponse, UpgradeRequired,
    WebSocket, WebSocketEnd, WebSocketMessage, WebSocketOptions,
};
pub use latest::{Latest, latest};
pub use layer::{AcceptorExt, End, Layer, Layered, Next, Reply, Wrap, Wrapped};
pub use lease::{Grant, LeasePolicy, Load, SharedLease};
pub use live_config::LiveConfig;
pub use memory::MemoryBudget;
pub use meter::{Meter, MeterReading};
pub use newest::Newest;
pub use observe::{Beginning, Ended, Observe, ObserveRequest, Outcome, Tally};
pub use payload::{IntoPayload, PayloadExt};
pub use peer::{Identity, Peer, Setup};
pub use rate_limit::RateLimit;
pub use reconnect::{Reconnect, ReconnectEvent};
pub use request::{Params, Request};
pub use requester::{Requester, Response};
pub use responder::{Failed, Rejecting, Responder};
pub use resume::{Resume, SessionEvent};
pub use router::{
    Admission, DataMimes, FromRequest, ItemGuard, MethodRoute, RouteName, Router, channel_feed,
    fire_and_forget, request_channel, request_response, request_stream, stream_feed,
};
pub use runtimes::Runtimes;
pub use server::{
    ConnectionDetails, ConnectionInfo, ConnectionPage, Connections, Endpoint, Serve, Server,
    ServerBuilder, StreamInfo,
};
pub use settings::{DEFAULT_CREDIT, DEFAULT_MAX_REQUESTS};
pub use spawn::{Spawned, spawned};
pub use state::ConnectionState;
pub use streams::{Payloads, RequestStream};
pub use tap::{Direction, FrameTap};
#[cfg(feature = "tls")]
pub use transport::tls;
#[cfg(unix)]
pub use transport::unix::UnixUser;
#[cfg(feature = "websocket")]
pub use transport::websocket::HttpHead;
pub use transport::{
    listen::OpenListener,
    proxy::{ProxyProtocol, ProxyVersions},
};
pub use transport::{memory, prepare_tcp};
