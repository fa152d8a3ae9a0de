//! NATS: a request goes through a broker to who answers it, and so does the answer.
//!
//! By `async-nats` with its defaults, and a `nats-server` that is found in `PATH`, is started by
//! the server process, and ends with it. What the broker uses counts as the server's.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
};

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::{
    Result,
    case::{Interaction, Transport},
    contender::{Peer, Requester},
};

/// The subject that requests go to.
const SUBJECT: &str = "echo";

/// The broker, in a shell that ends it when this process does, however that ends: what the shell
/// waits to read is a pipe of this process.
const BROKER: &str = r#"command -v nats-server >/dev/null || exit
nats-server --addr "$1" --port -1 & echo $!
read -r _
kill $!"#;

/// The broker's words about where it listens.
const LISTENING: &str = "Listening for client connections on ";

/// The messaging system.
pub(crate) struct Nats;

/// The broker that this process has started.
static STARTED: OnceLock<(Child, u32)> = OnceLock::new();

/// The process of the broker, if this process has started one.
pub(crate) fn broker() -> Option<u32> {
    STARTED.get().map(|&(_, pid)| pid)
}

impl Peer for Nats {
    type Requester = Connection;

    const TRANSPORTS: &'static [Transport] = &[Transport::Tcp];

    fn offers(interaction: Interaction) -> bool {
        matches!(interaction, Interaction::RequestResponse { .. })
    }

    async fn serve(_: Transport, host: IpAddr) -> Result<SocketAddr> {
        let address = start_broker(host)?;
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

/// The address it listens on.
fn start_broker(host: IpAddr) -> Result<SocketAddr> {
    let mut shell = Command::new("sh")
        .args(["-c", BROKER, "sh", &host.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut pid = String::new();
    if let Some(stdout) = shell.stdout.take() {
        BufReader::new(stdout).read_line(&mut pid)?;
    }
    let log = shell.stderr.take().ok_or("the broker has no stderr")?;
    let pid = pid
        .trim()
        .parse()
        .map_err(|_| "nats-server is not in PATH; on Debian: apt-get install nats-server")?;
    // Kept, so that the pipe the shell reads stays open.
    STARTED.set((shell, pid)).map_err(|_| "the broker has been started before")?;
    let mut lines = BufReader::new(log).lines();
    while let Some(line) = lines.next().transpose()? {
        if let Some((_, address)) = line.split_once(LISTENING) {
            // It would end if it could not write its log.
            thread::spawn(move || lines.for_each(drop));
            return Ok(address.trim().parse()?);
        }
    }
    Err("nats-server ended before it listened".into())
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
