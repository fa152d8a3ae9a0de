//! TCP: connecting, and what our sockets are set to.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::Instant,
};

use crate::{error::ConnectError, transport::address::HostPort};

/// How long an address has to itself before the next is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Opens a connection to the address of the host that takes it first (RFC 8305). An address that does
/// not answer costs the others 250 ms, one that refuses costs nothing.
pub(super) async fn connect(
    target: &HostPort,
    tried: &mut Tried,
) -> Result<TcpStream, ConnectError> {
    let addresses = lookup_host((target.host.as_str(), target.port)).await.map_err(|error| {
        ConnectError::Resolve { host: target.host.clone(), error: error.into() }
    })?;
    let addresses = interleaved(addresses.collect());
    let Some(stream) = first_to_connect(addresses, tried, TcpStream::connect).await else {
        return Err(tried.failed(target));
    };
    // What is waited for from here on is not for want of an address.
    tried.0.clear();
    prepare_tcp(&stream).map_err(|error| ConnectError::io(target.to_string(), error))?;
    Ok(stream)
}

/// The addresses that were tried, in their order, and what has come of each.
#[derive(Default)]
pub(super) struct Tried(Vec<(SocketAddr, Option<io::Error>)>);

impl Tried {
    /// The list of them; empty where it would say nothing that `target` does not.
    pub(super) fn beside(&self, target: &str) -> String {
        match self.0.as_slice() {
            [(address, _)] if address.to_string() == target => String::new(),
            _ => self.to_string(),
        }
    }

    /// None of them takes a connection.
    fn failed(&mut self, target: &HostPort) -> ConnectError {
        let address = target.to_string();
        let tried = self.beside(&address);
        // Where they differ, what the last address says tells most: IPv6 mostly comes first, and may
        // lead nowhere.
        let last = self.0.drain(..).rev().find_map(|(_, error)| error);
        let error = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()).into();
        ConnectError::Io { address, error, tried }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{address}: ")?;
            match error {
                Some(error) => error.fmt(f)?,
                None => f.write_str("no answer")?,
            }
        }
        Ok(())
    }
}

/// The addresses with their families in turn, beginning with that of the first: one family that leads
/// nowhere does not hold up the other for long.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return addresses };
    let leads_v6 = first.is_ipv6();
    let (leading, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == leads_v6);
    let (mut leading, mut other) = (leading.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(leading.len() + other.len());
    while leading.len() + other.len() > 0 {
        mixed.extend(leading.next());
        mixed.extend(other.next());
    }
    mixed
}

/// Returns what the first address yields that takes a connection. Each is tried when the one before
/// has failed, or has not answered for a while; those that are still tried then are given up. As
/// many are tried at a time as the host has addresses, at most.
async fn first_to_connect<S, F>(
    addresses: Vec<SocketAddr>,
    tried: &mut Tried,
    connect: impl Fn(SocketAddr) -> F,
) -> Option<S>
where
    F: Future<Output = io::Result<S>>,
{
    let mut addresses = addresses.into_iter();
    let mut attempts: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut delay = pin!(tokio::time::sleep(ATTEMPT_DELAY));
    let mut is_due = true;
    poll_fn(|cx| {
        loop {
            let mut index = 0;
            while let Some((place, attempt)) = attempts.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Some(stream)),
                    Poll::Ready(Err(error)) => {
                        tried.0[*place].1 = Some(error);
                        attempts.swap_remove(index);
                        is_due = true;
                    }
                }
            }
            if !is_due && delay.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let Some(address) = addresses.next() else {
                return if attempts.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            };
            attempts.push((tried.0.len(), Box::pin(connect(address))));
            tried.0.push((address, None));
            delay.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
            is_due = false;
        }
    })
    .await
}

/// Bytes that may wait in a socket before they are sent. Whatever waits there can no longer be
/// overtaken: the system's own limit, megabytes, lets a small answer wait behind a large one for
/// as long as a slow link takes for them.
///
/// Measured beside answers of 16 MiB over 500 Mbit/s: with 64 KiB a small one takes 6.6 ms in the
/// median, with 128 KiB 8.5 ms, with the system's limit 55 ms. Loopback is not slower for it.
#[cfg(any(target_os = "android", target_os = "linux"))]
const MAX_UNSENT_BYTES: u32 = 64 << 10;

/// Prepares a TCP socket as those of this library are: small writes leave at once, and what cannot leave
/// waits with whoever writes it, not in the system, but for 64 KiB (Linux and Android). For the sockets of
/// another HTTP server, whose streams are then held back by slow readers: without it the system takes
/// megabytes.
///
/// # Errors
/// If the system refuses.
pub fn prepare_tcp(stream: &TcpStream) -> io::Result<()> {
    // Without it, answers wait for longer and are none the worse.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
    stream.set_nodelay(true)
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::{TcpListener, TcpSocket},
        time::sleep,
    };

    use super::*;

    fn addresses(of: &[&str]) -> Vec<SocketAddr> {
        of.iter().map(|address| address.parse().expect("an address")).collect()
    }

    /// Races stand-ins for a connection to each of three addresses: after how many milliseconds it
    /// is there, or fails; `None` for never.
    async fn race(answers: [Option<(u64, bool)>; 3]) -> (Option<usize>, Duration, String) {
        let began = Instant::now();
        let mut tried = Tried::default();
        let three = addresses(&["[::1]:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let connect = |address: SocketAddr| async move {
            let index = usize::from(address.port() - 1);
            let Some((after, succeeds)) = answers[index] else {
                return std::future::pending().await;
            };
            sleep(Duration::from_millis(after)).await;
            if succeeds { Ok(index) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
        };
        let limit = Duration::from_secs(10);
        let first = tokio::time::timeout(limit, first_to_connect(three, &mut tried, connect)).await;
        (first.ok().flatten(), began.elapsed(), tried.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_costs_a_quarter_of_a_second() {
        let millis = Duration::from_millis;
        let (first, took, _) = race([None, Some((10, true)), None]).await;
        assert_eq!((first, took), (Some(1), millis(260)));
        let (first, took, _) = race([None, None, Some((10, true))]).await;
        assert_eq!((first, took), (Some(2), millis(510)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_costs_nothing() {
        let (first, took, _) = race([Some((1, false)), Some((1, false)), Some((1, true))]).await;
        assert_eq!((first, took), (Some(2), Duration::from_millis(3)));
        // Nor does one behind another that does not answer: the third does not wait for its turn.
        let (first, took, tried) = race([None, Some((5, false)), Some((5, true))]).await;
        assert_eq!((first, took), (Some(2), Duration::from_millis(260)));
        assert_eq!(
            tried,
            "[::1]:1: no answer, 127.0.0.1:2: connection refused, 127.0.0.1:3: no answer"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_goes_on_beside_the_next() {
        let (first, took, _) = race([Some((300, true)), Some((300, true)), None]).await;
        assert_eq!((first, took), (Some(0), Duration::from_millis(300)));
        let (first, took, _) = race([Some((900, true)), Some((1, false)), Some((1, false))]).await;
        assert_eq!((first, took), (Some(0), Duration::from_millis(900)));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_were_tried_are_told() {
        let (first, took, tried) = race([Some((1, false)), Some((300, false)), None]).await;
        assert_eq!((first, took), (None, Duration::from_secs(10)));
        assert_eq!(
            tried,
            "[::1]:1: connection refused, 127.0.0.1:2: connection refused, 127.0.0.1:3: no answer"
        );
        let refused = Some((1, false));
        let (first, took, _) = race([refused; 3]).await;
        assert_eq!((first, took), (None, Duration::from_millis(3)));
    }

    #[test]
    fn families_take_turns() {
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"];
        let mixed = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"];
        assert_eq!(interleaved(addresses(&given)), addresses(&mixed));
        let given = ["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"];
        assert_eq!(interleaved(addresses(&given)), addresses(&given));
        assert_eq!(interleaved(Vec::new()), []);
    }

    /// An address of which no answer comes: its queue is full.
    #[cfg(target_os = "linux")]
    async fn black_hole() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(0).expect("it listens");
        let address = listener.local_addr().expect("an address");
        let mut waiting = Vec::new();
        let patience = Duration::from_millis(500);
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
            waiting.push(stream.expect("it waits in the queue"));
        }
        (listener, address, waiting)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn behind_a_black_hole_the_next_address_is_reached() {
        let (_listener, silent, _waiting) = black_hole().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let open = listener.local_addr().expect("an address");
        let mut tried = Tried::default();
        let stream = first_to_connect(vec![silent, open], &mut tried, TcpStream::connect).await;
        let reached = stream.expect("one of them answers").peer_addr().expect("an address");
        assert_eq!(reached, open);
        assert_eq!(tried.to_string(), format!("{silent}: no answer, {open}: no answer"));
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_told_with_what_it_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let refused = async |host: &str| {
            let target = HostPort { host: host.to_owned(), port };
            connect(&target, &mut Tried::default()).await.map(drop).expect_err("nobody listens")
        };
        let error = refused("localhost").await.to_string();
        assert!(error.starts_with(&format!("localhost:{port}: ")), "{error}");
        assert!(error.contains(&format!("127.0.0.1:{port}: Connection refused")), "{error}");
        // An address that was given is told once.
        let error = refused("127.0.0.1").await.to_string();
        assert!(error.starts_with(&format!("127.0.0.1:{port}: Connection refused")), "{error}");
    }

    #[cfg(any(target_os = "android", target_os = "linux"))]
    #[tokio::test]
    async fn little_waits_unsent_in_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target = HostPort { host: address.ip().to_string(), port: address.port() };
        let stream = connect(&target, &mut Tried::default()).await.expect("it is listened on");
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_notsent_lowat().expect("it is set"), MAX_UNSENT_BYTES);
        assert!(stream.nodelay().expect("it is set"));
    }
}
