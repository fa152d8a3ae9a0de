//! Connections that a proxy passes on, and says whose they are.

use rsock::{Client, Meter, ProxyProtocol, Request, Router, Server, request_response};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Authority, hurried};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x1f\x90\0\x50";
/// The proxy speaks for itself, to see whether we are well.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn passed_on(address: String, header: &'static [u8]) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(header).await?;
    Ok(socket)
}

#[tokio::test]
async fn a_proxy_that_is_trusted_says_whose_a_connection_is() {
    let authority = Authority::new();
    let meter = Arc::new(Meter::default());
    let address = request_response(async |_, request: Request| request.peer().address().to_owned());
    let app = Router::new(()).route("address", address).default_route("address");
    let serve = async |trusted: &str| {
        let builder = Server::builder()
            .proxy_protocol(ProxyProtocol::from([trusted]).expect("a network"))
            .tls(authority.server(&["localhost"]).server())
            .config(hurried(std::time::Duration::from_millis(500)))
            .meter(Arc::clone(&meter));
        let server = builder.bind(&["tcp://127.0.0.1:0", "tls://127.0.0.1:0"]).await;
        let server = server.expect("a free port");
        let uris = server.addresses();
        let app = app.clone();
        tokio::spawn(async move { server.serve(app).await });
        uris.into_iter().map(|uri| uri[6..].to_owned()).collect::<Vec<_>>()
    };
    let addresses = serve("127.0.0.0/8").await;
    for (header, expected) in
        [(V1, "192.0.2.7:8080"), (V2, "192.0.2.7:8080"), (LOCAL, "127.0.0.1:")]
    {
        let address = addresses[0].clone();
        let dial = move || passed_on(address.clone(), header);
        let asking = Client::builder().connect_with(dial).await.expect("a connection");
        let answer = asking.request_response("").await.expect("an answer");
        assert!(answer.data.starts_with(expected.as_bytes()), "{:?}", answer.data);
    }
    // TLS comes behind it.
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut socket = passed_on(addresses[1].clone(), V2).await.expect("a connection");
    let (mut read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        let (mut from, mut to) = socket.split();
        let _ = tokio::join!(
            tokio::io::copy(&mut from, &mut write),
            tokio::io::copy(&mut read, &mut to)
        );
    });
    let connector = crate::connector(&authority, None);
    let name = rsock::tls::rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let tls = connector.connect(name, near).await.expect("hands are shaken");
    let asking = Client::builder().connect_over(tls).await.expect("a connection");
    let answer = asking.request_response("").await.expect("an answer");
    assert_eq!(answer.data, "192.0.2.7:8080");
    assert_eq!(meter.read().refused_proxy_headers, 0);

    // Without a header, with half of one, and from somebody who is not trusted.
    let strangers = serve("192.0.2.0/24").await;
    for (address, said) in [
        (&addresses[0], &b"\0\0\x2c\0\0\0\0\x04"[..]),
        (&addresses[0], &V1[..20]),
        (&strangers[0], V1),
    ] {
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        socket.write_all(said).await.expect("it is taken");
        // A reset is an end too.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(meter.read().refused_proxy_headers, 3);
}
