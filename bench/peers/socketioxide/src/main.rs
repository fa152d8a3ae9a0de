//! A room of Socket.IO, on one thread: what one says all hear.

use std::io::{Read, Write};

use socketioxide::{
    SocketIo, TransportType,
    extract::{AckSender, Data, SocketRef},
};

const ROOM: &str = "room.lobby";
/// Packets that wait for a client: with 128, as it comes, it drops some where 320 speak at once.
const BUFFERED: usize = 4_096;

fn main() -> std::io::Result<()> {
    std::thread::spawn(|| {
        // Whoever started this never writes: it returns when that has ended.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
}

async fn serve() -> std::io::Result<()> {
    let (layer, io) = SocketIo::builder()
        .transports([TransportType::Websocket])
        .max_buffer_size(BUFFERED)
        .build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on("join", async |socket: SocketRef, ack: AckSender| {
            socket.join(ROOM);
            // Whoever has hung up hears nothing.
            let _ = ack.send(&());
        });
        socket.on("say", async |io: SocketIo, Data(text): Data<String>| {
            // Who is behind by more than is buffered misses it, and the count tells.
            let _ = io.to(ROOM).emit("say", &text).await;
        });
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "{} {}", std::process::id(), listener.local_addr()?)?;
    out.flush()?;
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |socket| {
            // Each message is to go when it is written, as with the others.
            let _ = socket.set_nodelay(true);
        }),
        axum::Router::new().layer(layer),
    )
    .await
}
