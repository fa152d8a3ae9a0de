//! An axum server whose port speaks REST, RSocket over WebSocket, and a streaming answer.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, Request, State},
    response::Response,
    routing::{any, get},
    serve::ListenerExt,
};
use bytes::Bytes;
use futures_util::stream;
use rsock::{Endpoint, request_response, request_stream};
use tokio::net::TcpListener;

#[derive(Clone)]
struct App {
    endpoint: Endpoint,
    /// Bytes of `/numbers` that were made.
    produced: Arc<AtomicU64>,
}

/// Serves until `shutdown` resolves.
pub async fn serve(
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let endpoint = rsock::Server::builder().without_listeners(routes());
    let app = App { endpoint: endpoint.clone(), produced: Arc::default() };
    let site = Router::new()
        .route("/hello/{name}", get(hello))
        .route("/numbers", get(numbers))
        .route("/produced", get(produced))
        .route("/rsocket", any(rsocket))
        .with_state(app);
    // So that a slow reader holds its producer back, and not the system's buffers: see below.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = rsock::prepare_tcp(socket) {
            eprintln!("a socket could not be set up: {error}");
        }
    });
    let drain = async move {
        shutdown.await;
        endpoint.drain().await;
    };
    axum::serve(listener, site.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(drain)
        .await
}

/// RSocket: what clients ask for over WebSocket.
fn routes() -> rsock::Router<()> {
    rsock::Router::new(())
        .route("hello", request_response(async |_, rsock::Text(name)| format!("hello {name}")))
        .route(
            "numbers",
            request_stream(|_, ()| stream::iter((0..u64::MAX).map(|n| n.to_string()))),
        )
        .route(
            "me",
            request_response(async |_, request: rsock::Request| {
                let peer = request.peer();
                let origin = peer.http().and_then(|head| head.origin()).unwrap_or("nowhere");
                format!("{} from {origin}", peer.address())
            }),
        )
}

/// RSocket: how it comes to this port.
async fn rsocket(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Result<Response, Response> {
    let (response, serving) = app.endpoint.upgrade(&mut request, from)?;
    tokio::spawn(serving);
    Ok(response)
}

/// REST.
async fn hello(Path(name): Path<String>) -> String {
    format!("hello {name}\n")
}

/// A streaming answer: it is polled only while its reader takes it.
async fn numbers(State(app): State<App>) -> Body {
    let lines = (0_u64..).map(move |n| {
        let line = Bytes::from(format!("{n:1023}\n"));
        app.produced.fetch_add(line.len() as u64, Relaxed);
        Ok::<_, Infallible>(line)
    });
    Body::from_stream(stream::iter(lines))
}

/// REST: how many bytes of numbers have been made.
async fn produced(State(app): State<App>) -> String {
    app.produced.load(Relaxed).to_string()
}
