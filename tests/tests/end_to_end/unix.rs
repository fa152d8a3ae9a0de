//! Unix sockets, where they differ from other transports; what they have in common with these is tested
//! with them.

use std::{os::unix::fs::MetadataExt, sync::Arc};

use rsock::{Client, Error, Payload, Peer, Request, Responder, Server};
use rsock_tests::{fixture::Fixture, link::free_path};
use tokio::net::{UnixListener, UnixStream};

use crate::resume::within;

async fn echoed(client: &Client) -> Vec<u8> {
    within(client.request_response("hi")).await.expect("an answer").data.to_vec()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_without_a_file_is_served() {
    let uri = format!("unix:@rsock-tests-{}", std::process::id());
    let server = Server::bind(&uri).await.expect("a free name");
    assert_eq!(server.addresses(), [uri.as_str()]);
    let serving = tokio::spawn(server.serve(Fixture::default()).into_future());
    let client = Client::connect(&uri).await.expect("a connection");
    assert_eq!(echoed(&client).await, b"hi");
    serving.abort();
}

#[tokio::test]
async fn the_file_is_removed_with_its_server_however_that_ends() {
    let path = free_path();
    let uri = format!("unix:{}", path.display());
    let server = Server::bind(&uri).await.expect("a free name");
    assert!(path.exists());
    drop(server);
    assert!(!path.exists());
    let server = Server::bind(&uri).await.expect("a free name");
    let serving = tokio::spawn(server.serve(Fixture::default()).into_future());
    let client = Client::connect(&uri).await.expect("a connection");
    assert_eq!(echoed(&client).await, b"hi");
    serving.abort();
    assert!(serving.await.is_err_and(|error| error.is_cancelled()));
    assert!(!path.exists());
}

/// Byte streams of the caller's own may be Unix sockets, too.
#[tokio::test]
async fn a_connection_over_a_unix_socket_of_the_callers_own() {
    let path = free_path();
    let listener = UnixListener::bind(&path).expect("a free name");
    let serving = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        Server::builder().serve_over(stream, Fixture::default()).await;
    };
    let asking = async {
        let target = path.clone();
        let client =
            Client::builder().connect_with(move || UnixStream::connect(target.clone())).await;
        let client = client.expect("a connection");
        assert_eq!(echoed(&client).await, b"hi");
        client.close().await;
    };
    within(async { tokio::join!(serving, asking) }).await;
    std::fs::remove_file(&path).expect("it is ours");
}

/// Answers with what is known of the ends of its connection.
struct Ends;

impl Responder for Ends {
    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        let peer = request.peer();
        let local = peer.local_address().map(|address| address.port());
        let user = peer.unix_user().map(|user| (user.uid, user.pid));
        Ok(format!("{} {local:?} {user:?} {}", peer.scheme(), peer.address()).into())
    }
}

#[tokio::test]
async fn a_handler_knows_the_ends_of_its_connection() {
    let path = free_path();
    let unix = format!("unix:{}", path.display());
    let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket", &unix];
    let server = Server::builder().bind(&uris).await.expect("free names");
    let addresses = server.addresses();
    let us = std::fs::metadata(&path).expect("its file").uid();
    let process = i32::try_from(std::process::id()).expect("a process number");
    let serving = tokio::spawn(server.serve(async |_: Peer| Ok(Ends)).into_future());
    for (uri, scheme) in addresses.iter().zip(["tcp", "ws", "unix"]) {
        let client = Client::connect(uri).await.expect("a connection");
        let said = within(client.request_response("")).await.expect("an answer").data;
        let said = String::from_utf8(said.to_vec()).expect("text");
        let expected = if scheme == "unix" {
            format!("unix None Some(({us}, {:?})) unix:uid={us}", Some(process))
        } else {
            let port = uri.rsplit(':').next().and_then(|rest| rest.split('/').next());
            format!("{scheme} Some({}) None 127.0.0.1:", port.expect("a port"))
        };
        assert!(said.starts_with(&expected), "{said}, not {expected}");
    }
    serving.abort();
}

/// Whoever brings the byte streams may say whose they are.
#[tokio::test]
async fn a_peer_has_the_name_that_it_is_served_by() {
    let endpoint = Server::builder().without_listeners(async |_: Peer| Ok(Ends));
    for (name, expected) in [
        (Some("pipe 7"), "own None None pipe 7"),
        (None, "own None None a transport of the caller's own"),
    ] {
        let ((near, far), endpoint) = (rsock::memory(1_024), endpoint.clone());
        tokio::spawn(async move {
            match name {
                Some(name) => endpoint.serve_over_named(name, far).await,
                None => endpoint.serve_over(far).await,
            }
        });
        let client = Client::builder().connect_over(near).await.expect("a connection");
        let said = within(client.request_response("")).await.expect("an answer").data;
        assert_eq!(said, expected);
    }
}
