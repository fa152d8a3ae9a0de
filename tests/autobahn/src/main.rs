//! Echoes over the library's WebSocket framing, for the Autobahn test suite: as the server of its
//! fuzzing client, or as the client of its fuzzing server.
//!
//! RSocket frames are binary messages and the framing refuses text, but most of the suite's cases
//! on fragments and closing send text. So text is passed off as binary on its way in, and goes back
//! as text; the framing itself is the one that is shipped.

mod text;
mod transport;

use std::{env, error::Error, future::ready, pin::pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::Empty;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rsock_proto::frame::InputLimits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use text::Disguise;
use transport::{
    Received,
    websocket::{
        MaskKeys, Opcode, Role, WebSocketFraming, apply_mask, connect, encode_header,
        open_websocket,
    },
};

/// The suite's longest message has 16 MiB, which is a byte more than an RSocket frame.
const MAX_MESSAGE: usize = 16 << 20;

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: rsock-autobahn server HOST:PORT | client HOST:PORT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", address] => serve(address).await,
        ["client", address] => play_all(address).await,
        _ => Err(USAGE.into()),
    }
}

async fn serve(address: &str) -> Outcome<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Some((socket, leftover)) = accept(socket).await {
                // What ends badly is told by the suite.
                let _ = echo(socket, Role::Server, &leftover).await;
            }
        });
    }
}

/// Shakes hands: hyper speaks the HTTP, and the library answers.
async fn accept(socket: TcpStream) -> Option<(TcpStream, Bytes)> {
    let service = service_fn(|request| {
        let (method, version) = (request.method(), request.version());
        let answer =
            open_websocket(method, version, request.headers(), &[]).map_err(|(_, text)| text);
        ready(answer.map(|answer| answer.map(|()| Empty::<Bytes>::new())))
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    (&mut connection).await.ok()?;
    let parts = connection.into_parts();
    Some((parts.io.into_inner(), parts.read_buf))
}

/// Plays all cases of a fuzzing server, and has it write its report.
async fn play_all(address: &str) -> Outcome<()> {
    let count = ask(address, "/getCaseCount").await?;
    let count: u32 = String::from_utf8(count)?.parse()?;
    for case in 1..=count {
        let (socket, leftover) =
            dial(address, &format!("/runCase?case={case}&agent=rsock")).await?;
        // What ends badly is told by the suite.
        let _ = echo(socket, Role::Client, &leftover).await;
    }
    ask(address, "/updateReports?agent=rsock").await?;
    println!("played {count} cases");
    Ok(())
}

async fn dial(address: &str, target: &str) -> Outcome<(TcpStream, Vec<u8>)> {
    let socket = TcpStream::connect(address).await?;
    let (socket, leftover) = connect(socket, address, target, &[], None).await?;
    Ok((socket, leftover.to_vec()))
}

/// The first message of a fuzzing server that is asked for something else than a case.
async fn ask(address: &str, target: &str) -> Outcome<Vec<u8>> {
    let (socket, leftover) = dial(address, target).await?;
    let mut messages = Vec::new();
    run(socket, Role::Client, &leftover, |message, _, _| messages.push(message.to_vec())).await?;
    Ok(messages.into_iter().next().unwrap_or_default())
}

/// Sends every message back as it came.
async fn echo(socket: TcpStream, role: Role, leftover: &[u8]) -> std::io::Result<()> {
    let mut keys = (role == Role::Client).then(MaskKeys::new);
    run(socket, role, leftover, |message, opcode, out| {
        let mask = keys.as_mut().map(MaskKeys::next);
        encode_header(opcode, message.len(), mask, out);
        let start = out.len();
        out.extend_from_slice(message);
        apply_mask(mask.unwrap_or_default(), 0, &mut out[start..]);
    })
    .await
}

/// A connection to its end; what is put out is sent.
async fn run(
    mut socket: TcpStream,
    role: Role,
    leftover: &[u8],
    mut take: impl FnMut(&[u8], Opcode, &mut BytesMut),
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut framing = WebSocketFraming::new(role, MAX_MESSAGE);
    let limits = InputLimits::sharing(MAX_MESSAGE);
    let mut disguise = Disguise::default();
    let mut input = BytesMut::from(leftover);
    disguise.pass(&mut input);
    let mut control = framing.send_buf();
    let mut out = BytesMut::new();
    let is_over = 'read: loop {
        loop {
            let received = framing.decode(&mut input, limits, &mut control);
            let is_over = match received {
                Ok(None) => break,
                Ok(Some(Received::Frame(message))) => {
                    take(&message, disguise.next_opcode(), &mut out);
                    false
                }
                Ok(Some(Received::Control)) => false,
                Ok(Some(Received::End(_))) => true,
                Err(_) => {
                    framing.close(&mut control);
                    true
                }
            };
            while control.has_remaining() {
                let chunk = control.chunk();
                out.extend_from_slice(chunk);
                let len = chunk.len();
                control.advance(len);
            }
            if is_over {
                break 'read true;
            }
        }
        socket.write_all_buf(&mut out).await?;
        let before = input.len();
        input.reserve(64 << 10);
        if socket.read_buf(&mut input).await? == 0 {
            break false;
        }
        disguise.pass(&mut input[before..]);
    };
    socket.write_all_buf(&mut out).await?;
    if is_over {
        socket.shutdown().await?;
        // Until the other side has closed as well, which it may forget to.
        let mut rest = pin!(async {
            while !matches!(socket.read_buf(&mut input).await, Ok(0) | Err(_)) {
                input.clear()
            }
        });
        let _ = timeout(Duration::from_secs(1), rest.as_mut()).await;
    }
    Ok(())
}
