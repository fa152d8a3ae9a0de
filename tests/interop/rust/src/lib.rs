//! Shared by the client and the server: routes in composite metadata, and how to connect.

use std::net::{SocketAddr, ToSocketAddrs};

use bytes::{Bytes, BytesMut};
use rsocket_rust::{
    Client, ClientBuilder, Result,
    extension::{CompositeMetadata, MimeType, RoutingMetadata},
    prelude::*,
    transport::{Connection, Transport},
    utils::Writeable,
};
use rsocket_rust_transport_tcp::{TcpClientTransport, TlsClientTransport};
use rsocket_rust_transport_websocket::WebsocketClientTransport;

/// The data of a payload, which may be none.
pub fn text(data: Option<&Bytes>) -> String {
    String::from_utf8_lossy(data.map_or(&[], |data| data)).into_owned()
}

/// A payload for a route, with more entries of metadata behind it.
pub fn routed(route: &str, data: impl Into<Bytes>, more: &[(MimeType, &str)]) -> Payload {
    let tags = RoutingMetadata::builder().push_str(route).build().bytes();
    let mut metadata =
        CompositeMetadata::builder().push(MimeType::MESSAGE_X_RSOCKET_ROUTING_V0, tags);
    for (mime, content) in more {
        metadata = metadata.push(mime.clone(), content);
    }
    Payload::new(Some(data.into()), Some(metadata.build().into()))
}

/// The route a payload is for.
pub fn route_of(payload: &Payload) -> Option<String> {
    let mut metadata = BytesMut::from(&payload.metadata()?[..]);
    let composite = CompositeMetadata::decode(&mut metadata).ok()?;
    let is_route = |mime: &MimeType| *mime == MimeType::MESSAGE_X_RSOCKET_ROUTING_V0;
    let entry = composite.iter().find(|entry| is_route(entry.get_mime_type()))?;
    let tags = RoutingMetadata::decode(&mut BytesMut::from(&entry.get_metadata()[..])).ok()?;
    tags.get_tags().first().cloned()
}

/// A payload of SETUP that says who it is, if the runner asks for it.
pub fn introduction() -> Option<Payload> {
    const SIMPLE: u8 = 0x80;
    const BEARER: u8 = 0x81;
    let wanted = std::env::var("INTEROP_AUTH").ok()?;
    let parts: Vec<_> = wanted.split(':').collect();
    let content = match parts[..] {
        ["simple", name, password] => {
            let length = (name.len() as u16).to_be_bytes();
            [&[SIMPLE], &length[..], name.as_bytes(), password.as_bytes()].concat()
        }
        ["bearer", token] => [&[BEARER], token.as_bytes()].concat(),
        _ => return None,
    };
    let metadata = CompositeMetadata::builder()
        .push(MimeType::MESSAGE_X_RSOCKET_AUTHENTICATION_V0, content)
        .build();
    Some(Payload::new(None, Some(metadata.into())))
}

/// The scheme, the address and the path of `tcp://…`, `ws://…`, `tls://…` or `wss://…`.
pub fn split(uri: &str) -> Option<(&str, SocketAddr, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let known = matches!(scheme, "tcp" | "ws" | "tls" | "wss");
    let mut addresses = authority.to_socket_addrs().ok()?.filter(|_| known);
    addresses.find(SocketAddr::is_ipv4).map(|address| (scheme, address, path))
}

/// Settings the same for all transports.
pub trait Settings {
    fn apply<T, C>(self, builder: ClientBuilder<T, C>) -> ClientBuilder<T, C>
    where
        T: Send + Sync + Transport<Conn = C>,
        C: Send + Sync + Connection;
}

/// Connects by the scheme.
pub async fn connect(
    scheme: &str,
    address: SocketAddr,
    path: &str,
    settings: impl Settings,
) -> Result<Client> {
    const COMPOSITE: &str = "message/x.rsocket.composite-metadata.v0";
    const OCTETS: &str = "application/octet-stream";
    match scheme {
        "ws" | "wss" => {
            // It trusts what OpenSSL does, which the variable SSL_CERT_FILE sets.
            let uri = format!("{scheme}://localhost:{}{path}", address.port());
            let transport = WebsocketClientTransport::from(&*uri);
            let builder = RSocketFactory::connect().transport(transport);
            settings.apply(builder.mime_type(COMPOSITE, OCTETS)).start().await
        }
        "tls" => {
            let connector = native_tls::TlsConnector::new()?;
            let transport = TlsClientTransport::new("localhost".into(), address, connector.into());
            let builder = RSocketFactory::connect().transport(transport);
            settings.apply(builder.mime_type(COMPOSITE, OCTETS)).start().await
        }
        _ => {
            let transport = TcpClientTransport::from(address);
            let builder = RSocketFactory::connect().transport(transport);
            settings.apply(builder.mime_type(COMPOSITE, OCTETS)).start().await
        }
    }
}
