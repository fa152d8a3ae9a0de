//! TLS over real sockets, with certificates that are made here.

mod authority;
mod client_certificates;
mod crowds;
mod handshakes;
mod interruptions;
mod proxied;
mod reload;
mod service;
mod web;

use std::{sync::Arc, time::Duration};

use rsock::{
    Client, ClientBuilder, Config, ConnectError, Meter, Request, Router, Server, ServerBuilder,
    request_response,
    tls::{ClientTls, Roots, ServerTls, TlsErrorKind, rustls},
};
use rsock_tests::wire::{Frame, prefix_len};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use authority::{Authority, Issued};

/// A server at work, until it is dropped.
struct Running {
    uris: Vec<String>,
    meter: Arc<Meter>,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(builder: ServerBuilder, uris: &[&str]) -> Self {
        let meter = Arc::new(Meter::default());
        let server = builder.meter(Arc::clone(&meter)).bind(uris).await.expect("it can be bound");
        let uris = server.addresses();
        Self { uris, meter, serving: tokio::spawn(async move { server.serve(routes()).await }) }
    }

    /// A server of `tls://localhost`, with one certificate.
    async fn of(tls: ServerTls) -> Self {
        Self::start(Server::builder().tls(tls), &["tls://127.0.0.1:0"]).await
    }

    fn port(&self) -> u16 {
        let (_, port) = self.uris[0].rsplit_once(':').expect("a port");
        port.split('/').next().and_then(|port| port.parse().ok()).expect("a number")
    }

    /// By name, and not by address.
    fn uri(&self) -> String {
        self.uris[0].replacen("127.0.0.1", "localhost", 1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `who` tells how one came, and `echo` answers with what it was asked.
fn routes() -> Router<()> {
    let who = request_response(async |_, request: Request| {
        let peer = request.peer();
        let Some(tls) = peer.tls() else { return format!("{} in clear", peer.scheme()) };
        let certificate = tls.certificate().map_or_else(
            || "nobody".to_owned(),
            |certificate| {
                let uris: Vec<_> = certificate.uris().collect();
                let names: Vec<_> = certificate.dns_names().collect();
                let name = certificate.common_name().unwrap_or_default();
                format!("{name} {uris:?} {names:?}")
            },
        );
        let (name, alpn) = (tls.server_name().unwrap_or("-"), tls.alpn().unwrap_or("-"));
        format!("{} {} {name} {alpn} {certificate}", peer.scheme(), tls.version())
    });
    let echo = request_response(async |_, data: bytes::Bytes| data);
    Router::new(()).route("who", who).route("echo", echo).default_route("echo")
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls::new().roots(Roots::Pem(authority.pem()))
}

fn client(tls: ClientTls) -> ClientBuilder {
    Client::builder().tls(tls).wait_until_accepted(true)
}

async fn who(client: &Client) -> String {
    use rsock::PayloadExt;

    let asked = rsock::Payload::default().route("who").expect("a short name");
    let answer = client.request_response(asked).await.expect("an answer");
    String::from_utf8(answer.data.to_vec()).expect("text")
}

async fn refusal(tls: ClientTls, uri: &str) -> (TlsErrorKind, String) {
    match client(tls).connect(uri).await.map(drop).expect_err("it is refused") {
        error @ ConnectError::Tls { .. } => {
            let text = error.to_string();
            let ConnectError::Tls { kind, .. } = error else { unreachable!("it was looked at") };
            (kind, text)
        }
        other => panic!("{other:?}"),
    }
}

fn hurried(limit: Duration) -> Config {
    let mut config = Config::default();
    config.setup_timeout = limit;
    config
}

/// A connection with TLS, over which frames go by the letter.
async fn raw(authority: &Authority, shown: Option<&Issued>, uri: &str) -> Raw {
    let address = uri.split('/').nth(2).expect("an address");
    let socket = TcpStream::connect(address).await.expect("a connection");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    connector(authority, shown).connect(name, socket).await.expect("hands are shaken")
}

/// TLS that is not ours, or at least without what is ours of it.
fn connector(authority: &Authority, shown: Option<&Issued>) -> tokio_rustls::TlsConnector {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    let certificate = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(&authority.text())).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(Issued { chain, key }) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            config.with_client_auth_cert(vec![certificate(chain)], key).expect("a pair")
        }
    };
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

type Raw = tokio_rustls::client::TlsStream<TcpStream>;

async fn send(raw: &mut Raw, frame: &Frame) {
    raw.write_all(&frame.prefixed()).await.expect("it is taken");
}

async fn next(raw: &mut Raw) -> Frame {
    let mut prefix = [0; 3];
    raw.read_exact(&mut prefix).await.expect("a frame");
    let mut frame = vec![0; prefix_len(prefix)];
    raw.read_exact(&mut frame).await.expect("a frame");
    Frame::decode(&frame).expect("a frame")
}
