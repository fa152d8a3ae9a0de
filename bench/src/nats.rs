//! NATS: a request goes through a broker to who answers it, and so does the answer.
//!
//! By `async-nats` with its defaults. What the [broker] uses counts as the server's.

use std::net::{IpAddr, SocketAddr};

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::{
    Result, broker,
    case::{Interaction, Transport},
    contender::{Peer, Requester},
};

/// The subject that requests go to.
const SUBJECT: &str = "echo";

/// The messaging system.
pub(crate) struct Nats;

impl Peer for Nats {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = &[Transport::Tcp];

    fn offers(interaction: Interaction) -> bool {
        matches!(interaction, Interaction::RequestResponse { .. })
    }

    async fn serve(_: Transport, host: IpAddr) -> Result<SocketAddr> {
        let address = broker::start(host)?.address;
        let client = async_nats::connect(address.to_string()).await?;
        let requests = client.subscribe(SUBJECT).await?;
        client.flush().await?;
        tokio::spawn(answer(client, requests));
        Ok(address)
    }

    async fn connect(_: Transport, address: SocketAddr) -> Result<Connection> {
        Ok(Connection(async_nats::connect(address.to_string()).await?))
    }
}

async fn answer(client: Client, mut requests: Subscriber) {
    while let Some(request) = requests.next().await {
        let Some(reply) = request.reply else { continue };
        if let Err(error) = client.publish(reply, request.payload).await {
            eprintln!("rsock-bench: nats could not be answered: {error}");
        }
    }
}

/// One connection to the broker.
#[derive(Clone)]
pub(crate) struct Connection(Client);

impl Requester for Connection {
    async fn request_response(&self, data: Bytes) -> Result<usize> {
        Ok(self.0.request(SUBJECT, data).await?.payload.len())
    }

    fn request_stream(&self, _: Bytes) -> impl Stream<Item = Result<usize>> + Send {
        stream::once(async { Err("it has no streams".into()) })
    }
}
