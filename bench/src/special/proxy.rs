//! A link of a known rate where the kernel must not be asked for one: a proxy that forwards no
//! faster, and holds little.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::Result;

/// The bytes that each socket of the proxy may hold, and what a router in its place would.
const BUFFER: usize = 64 * 1024;

/// How much is forwarded at once.
const CHUNK: usize = 16 * 1024;

/// Unused time that may be made up for.
const CREDIT: Duration = Duration::from_micros(500);

/// Forwards every connection to `server`, each way at `megabits`, until the process ends. Connect
/// to the address returned instead.
pub(crate) fn start(server: SocketAddr, megabits: u32) -> Result<SocketAddr> {
    let socket = small_socket()?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(16)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Err(error) = forward(client, server, megabits) {
                eprintln!("rsock-bench: the proxy cannot reach the server: {error}");
            }
        }
    });
    Ok(address)
}

/// Accepted sockets have their listener's buffers.
fn small_socket() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn forward(client: TcpStream, server: SocketAddr, megabits: u32) -> Result<()> {
    let onward = small_socket()?;
    onward.connect(&server.into())?;
    let onward = TcpStream::from(onward);
    for (from, to) in [(&client, &onward), (&onward, &client)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            // An end of either side is the end of both.
            let _ = pace(&from, &to, megabits);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn pace(mut from: &TcpStream, mut to: &TcpStream, megabits: u32) -> std::io::Result<()> {
    let bytes_a_second = f64::from(megabits) * 1e6 / 8.0;
    let mut chunk = vec![0; CHUNK];
    let mut free_at = Instant::now();
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        // The chunk has passed when its last byte has.
        let earliest = Instant::now().checked_sub(CREDIT).unwrap_or(free_at);
        free_at = free_at.max(earliest) + Duration::from_secs_f64(read as f64 / bytes_a_second);
        thread::sleep(free_at.saturating_duration_since(Instant::now()));
        to.write_all(&chunk[..read])?;
    }
}
