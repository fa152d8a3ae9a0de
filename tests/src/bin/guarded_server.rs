//! A server that asks for credentials, for clients of others: `ann` with the password `s3cr3t`, or
//! the bearer of `a-token`, in SETUP for the connection or in a request for itself.
//!
//! Arguments are the URIs to listen on. The route `whoami` tells who asks; wrong credentials in
//! SETUP refuse the connection, and so does its data `reject`. The route `range` is for everyone
//! and gives one item that is larger than those of rsockd's `range` may be. It ends when its
//! standard input does.

use std::future::ready;

use bytes::BytesMut;
use futures_util::{Stream, stream};
use rsock::{
    Acceptor, CheckCredentials, Error, Payload, Peer, Router, Server, Text,
    metadata::Authentication, request_response, request_stream,
};
use tokio::io::AsyncReadExt;

/// The size of the item of `range`: more than the longest frame, so it can only go in fragments.
const ITEM_BYTES: usize = 20 << 20;

/// The owner of the connection.
type Known = Option<&'static str>;

fn identify(credentials: &Authentication) -> Result<&'static str, Error> {
    if credentials.is_simple("ann", "s3cr3t") {
        Ok("ann")
    } else if credentials.is_bearer("a-token") {
        Ok("the bearer")
    } else {
        Err(Error::rejected("these credentials are wrong"))
    }
}

fn routes(known: Known) -> Router<Known> {
    Router::new(known)
        .authorize(|known, request| match request.authentication()? {
            _ if request.route() == Some("range") => Ok(()),
            Some(credentials) => identify(&credentials).map(drop),
            None if known.is_some() => Ok(()),
            None => Err(Error::rejected("credentials are needed")),
        })
        .route("whoami", request_response(who_am_i))
        .route("range", request_stream(range))
}

async fn who_am_i(known: Known, request: rsock::Request) -> Result<Text, Error> {
    let own = request.authentication()?.as_ref().map(identify).transpose()?;
    Ok(Text(own.or(known).unwrap_or("no one").to_owned()))
}

/// The answer of rsockd to `{"from":0,"to":1,"size":N}`: a number and spaces.
fn range(_: Known, _: Payload) -> impl Stream<Item = Payload> + use<> {
    let mut item = BytesMut::from(&b"0"[..]);
    item.resize(ITEM_BYTES, b' ');
    stream::once(ready(Payload::from(item.freeze())))
}

async fn accept(peer: Peer) -> Result<Router<Known>, Error> {
    if *peer.setup().payload.data == *b"reject" {
        return Err(Error::rejected("no entry"));
    }
    let known = peer.setup().authentication()?.as_ref().map(identify).transpose()?;
    routes(known).accept(peer).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let uris: Vec<_> = std::env::args().skip(1).collect();
    let server = Server::builder().bind(&uris).await?;
    for uri in server.addresses() {
        println!("listening on {uri}");
    }
    tokio::spawn(server.serve(accept).into_future());
    // Whoever started us has gone, or never gave us an input.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    Ok(())
}
