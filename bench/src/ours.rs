//! `rsock`, through the interface its users have.

use std::{
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use rsock::{
    Client, Error, Json, Payload, PayloadExt, Payloads, Request, Responder, Resume, ResumeLimits,
    Router, Server,
};

use crate::{
    Result,
    case::{Interaction, Transport},
    contender::{Arrivals, Peer, Requester},
    load::{self, Asked},
};

/// More sessions than are asked for at a time.
const SESSIONS: usize = 100;

/// The library of this workspace, as bare as it is, or with what a row adds to it.
pub(crate) struct Rsock<A = Bare>(PhantomData<A>);

/// The addition to a bare connection that a row measures.
pub(crate) trait Addition {
    const TRANSPORTS: &'static [Transport] = &[Transport::Tcp];

    /// Whether the connection is a session that can be resumed.
    const RESUMES: bool = false;

    /// Whether a router serves, and before how many other patterns its own was added.
    const ROUTER: Option<usize> = None;

    /// The route that requests name.
    const ROUTE: Option<&'static str> = None;
}

/// Nothing: no metadata, and a responder of one's own.
pub(crate) struct Bare;

impl Addition for Bare {
    const TRANSPORTS: &'static [Transport] = &Transport::ALL;
}

/// A session on both sides, kept for when the connection is lost.
pub(crate) struct Resumable;

impl Addition for Resumable {
    const RESUMES: bool = true;
}

/// A router, for requests that name no route.
pub(crate) struct NoRoute;

impl Addition for NoRoute {
    const ROUTER: Option<usize> = Some(0);
}

/// A router, and requests that name a route.
pub(crate) struct Route;

impl Addition for Route {
    const ROUTER: Option<usize> = Some(0);
    const ROUTE: Option<&'static str> = Some("echo");
}

/// A router, and requests for what a pattern matches.
pub(crate) struct Pattern;

impl Addition for Pattern {
    const ROUTER: Option<usize> = Some(0);
    const ROUTE: Option<&'static str> = Some("service.7.echo");
}

/// The same, behind a hundred other patterns.
pub(crate) struct PatternBehind;

impl Addition for PatternBehind {
    const ROUTER: Option<usize> = Some(100);
    const ROUTE: Option<&'static str> = Some("service.7.echo");
}

/// A route whose handler reads JSON and answers it.
pub(crate) struct JsonRoute;

impl Addition for JsonRoute {
    const ROUTER: Option<usize> = Some(0);
    const ROUTE: Option<&'static str> = Some("json");
}

impl<A: Addition> Peer for Rsock<A> {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = A::TRANSPORTS;

    /// A router's routes answer requests alone.
    fn offers(interaction: Interaction) -> bool {
        A::ROUTER.is_none()
            || matches!(
                interaction,
                Interaction::RequestResponse { .. } | Interaction::Spread { .. }
            )
    }

    async fn serve(transport: Transport, host: IpAddr) -> Result<SocketAddr> {
        let uri = uri(transport, SocketAddr::from((host, 0)));
        let mut builder = Server::builder();
        if A::RESUMES {
            builder = builder.resume(ResumeLimits::default(), SESSIONS);
        }
        let server = builder.bind(&[&uri]).await?;
        let address = server.addresses().remove(0);
        let authority = address.trim_start_matches("tcp://").trim_start_matches("ws://");
        let address = authority.split('/').next().unwrap_or_default().parse()?;
        match A::ROUTER {
            Some(others) => {
                tokio::spawn(server.serve(router(others)).into_future());
            }
            None => {
                let service = async |_: rsock::Peer| Ok(Echo::default());
                tokio::spawn(server.serve(service).into_future());
            }
        }
        Ok(address)
    }

    async fn connect(transport: Transport, address: SocketAddr) -> Result<Connection> {
        let mut builder = Client::builder();
        if A::RESUMES {
            builder = builder.resume(Resume::new());
        }
        let client = builder.connect(&uri(transport, address)).await?;
        Ok(Connection { client, route: A::ROUTE })
    }
}

/// Echoes: by default, at a route, one that reads JSON, and a pattern behind so many others.
fn router(others: usize) -> Router<()> {
    let echo = || rsock::request_response(async |(), data: Bytes| load::answer(data));
    let json = rsock::request_response(async |(), text: Json<String>| text);
    let router = Router::new(()).default_route("echo").route("echo", echo()).route("json", json);
    let others = (0..others).map(|other| format!("other{other}.{{id}}.echo"));
    let router = others.fold(router, |router, pattern| router.route(&pattern, echo()));
    router.route("service.{id}.echo", echo())
}

fn uri(transport: Transport, address: SocketAddr) -> String {
    match transport {
        Transport::Tcp => format!("tcp://{address}"),
        Transport::WebSocket => format!("ws://{address}/"),
    }
}

/// One connection of ours.
#[derive(Clone)]
pub(crate) struct Connection {
    client: Client,
    route: Option<&'static str>,
}

impl Requester for Connection {
    async fn request_response(&self, data: Bytes) -> Result<usize> {
        let mut payload = Payload::new(data);
        if let Some(route) = self.route {
            payload = payload.route(route)?;
        }
        Ok(self.client.request_response(payload).await?.data.len())
    }

    fn request_stream(&self, data: Bytes) -> impl Stream<Item = Result<usize>> + Send {
        self.client.request_stream(data).map(|item| Ok(item?.data.len()))
    }

    fn request_channel(
        &self,
        items: impl Stream<Item = Bytes> + Send + 'static,
    ) -> impl Stream<Item = Result<usize>> + Send {
        self.client.request_channel(items.map(Payload::new)).map(|item| Ok(item?.data.len()))
    }

    async fn fire_and_forget(&self, data: Bytes) -> Result<()> {
        Ok(self.client.fire_and_forget(data).await?)
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
