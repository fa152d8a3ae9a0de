//! The PROXY protocol: the header by which a proxy says whose connection it passes on.
//!
//! A connection is taken for what it says only from networks that are trusted, and there it has to begin
//! with a header: whether there is one is never guessed.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use tokio::{io::AsyncReadExt, net::TcpStream};

/// The proxies whose word is taken for where connections come from, for
/// [`ServerBuilder::proxy_protocol`](crate::ServerBuilder::proxy_protocol).
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    trusted: Vec<Network>,
    versions: ProxyVersions,
}

/// The versions of the PROXY protocol that are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyVersions {
    /// Either.
    #[default]
    Any,
    /// The first, a line of text.
    V1,
    /// The second, which is binary.
    V2,
}

impl ProxyProtocol {
    /// Trusts proxies of these networks, as `10.0.0.0/8` or `::1`: each connection of theirs has to begin
    /// with a header. Those of others are closed.
    ///
    /// # Errors
    /// One is no network: it is named.
    pub fn from<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let trusted = networks
            .into_iter()
            .map(|network| network.as_ref().parse())
            .collect::<Result<_, _>>()?;
        Ok(Self { trusted, versions: ProxyVersions::Any })
    }

    /// Takes these versions alone.
    pub fn versions(mut self, versions: ProxyVersions) -> Self {
        self.versions = versions;
        self
    }

    /// Whether a proxy of this address is trusted.
    pub fn trusts(&self, proxy: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.has(proxy))
    }

    /// Reads the header of a connection that `proxy` passes on: whose it is. It is `proxy`'s own where the
    /// header says so, as when it looks whether we are well.
    ///
    /// # Errors
    /// `proxy` is not trusted, or there is no header that can be taken.
    pub(crate) async fn read(
        &self,
        socket: &mut TcpStream,
        proxy: SocketAddr,
    ) -> io::Result<SocketAddr> {
        if !self.trusts(proxy.ip()) {
            return Err(wrong("it comes from none of the proxies that are trusted"));
        }
        let mut head = Vec::new();
        let mut part = [0; 512];
        loop {
            // What is behind the header is not ours to read.
            let seen = socket.peek(&mut part).await?;
            if seen == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let before = head.len();
            head.extend_from_slice(&part[..seen]);
            let header = header(&head, self.versions).map_err(wrong)?;
            let taken = header.map_or(seen, |(len, _)| len - before);
            socket.read_exact(&mut part[..taken]).await?;
            if let Some((_, client)) = header {
                return Ok(client.unwrap_or(proxy));
            }
        }
    }
}

fn wrong(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the PROXY header is refused: {problem}"))
}

/// Bytes of the longest line of the first version.
const MAX_LINE: usize = 107;
/// Bytes of what may follow the fixed part of the second: addresses, and what we do not look at.
const MAX_REST: usize = 4_096;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const WORD: &[u8; 6] = b"PROXY ";

/// The length of a header, and the address that it tells, if it is whole.
pub(crate) type Header = Option<(usize, Option<SocketAddr>)>;

pub(crate) fn header(input: &[u8], versions: ProxyVersions) -> Result<Header, &'static str> {
    let may_be = |begin: &[u8]| {
        let common = begin.len().min(input.len());
        input[..common] == begin[..common]
    };
    if versions != ProxyVersions::V2 && may_be(WORD) {
        return line(input);
    }
    if versions != ProxyVersions::V1 && may_be(SIGNATURE) {
        return binary(input);
    }
    Err("the connection begins with something else")
}

fn line(input: &[u8]) -> Result<Header, &'static str> {
    let Some(end) = input.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        let is_open = input.len() < MAX_LINE;
        return if is_open { Ok(None) } else { Err("its line has more than 107 bytes") };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or("its line does not end with CR and LF")?;
    let text = std::str::from_utf8(line).map_err(|_| "its line is not text")?;
    let mut words = text.split(' ').skip(1);
    let address = match words.next() {
        Some("UNKNOWN") => None,
        Some(family @ ("TCP4" | "TCP6")) => {
            const WRONG: &str = "its addresses are not two of its family, and two ports";
            let [from, to] = [words.next(), words.next()]
                .map(|word| word.and_then(|word| word.parse::<IpAddr>().ok()));
            let [port, other] = [words.next(), words.next()]
                .map(|word| word.and_then(|word| word.parse::<u16>().ok()));
            let (Some(from), Some(to), Some(port), Some(_), None) =
                (from, to, port, other, words.next())
            else {
                return Err(WRONG);
            };
            if from.is_ipv4() != (family == "TCP4") || from.is_ipv4() != to.is_ipv4() {
                return Err(WRONG);
            }
            Some(SocketAddr::new(from, port))
        }
        _ => return Err("it names neither TCP4 nor TCP6 nor UNKNOWN"),
    };
    Ok(Some((end + 1, address)))
}

fn binary(input: &[u8]) -> Result<Header, &'static str> {
    let Some((fixed, rest)) = input.split_first_chunk::<16>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_REST {
        return Err("what follows has more than 4096 bytes");
    }
    let is_of_proxy = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("its version or its command is none that there is"),
    };
    let Some(rest) = rest.get(..len) else { return Ok(None) };
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let address = match (family >> 4, is_of_proxy) {
        (_, true) => None,
        // Of a Unix socket, or of something that the proxy does not know.
        (0 | 3, _) => None,
        (1, _) => {
            let from = rest.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip));
            // Both addresses, then both ports.
            let (Some(from), Some(port), Some(_)) = (from, port(8), port(10)) else {
                return Err("it is too short for its addresses");
            };
            Some(SocketAddr::new(from.into(), port))
        }
        (2, _) => {
            let from = rest.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip));
            let (Some(from), Some(port), Some(_)) = (from, port(32), port(34)) else {
                return Err("it is too short for its addresses");
            };
            Some(SocketAddr::new(from.into(), port))
        }
        _ => return Err("its family of addresses is none that there is"),
    };
    Ok(Some((fixed.len() + len, address)))
}

/// The addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    /// In the form that both families have in common.
    base: u128,
    bits: u32,
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        let differs = common(address) ^ self.base;
        differs.leading_zeros() >= self.bits
    }
}

fn common(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network: one is written as 10.0.0.0/8 or fd00::/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (all, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= all).ok_or_else(wrong)?,
            None => all,
        };
        Ok(Self { base: common(address), bits: before + bits })
    }
}

impl fmt::Display for ProxyVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    const FOUR: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

    /// Headers, and whose connection each tells.
    fn headers() -> Vec<(Vec<u8>, Option<SocketAddr>)> {
        let v4 = Some("192.0.2.7:8080".parse().expect("an address"));
        let v6 = Some("[2001:db8::7]:8080".parse().expect("an address"));
        let mut six = vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        six.extend([0; 16]);
        six.extend([0x1f, 0x90, 0, 80]);
        let with_more = [FOUR, &[4; 300]].concat();
        vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec(), v4),
            (b"PROXY TCP6 2001:db8::7 ::1 8080 80\r\n".to_vec(), v6),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever there is\r\n".to_vec(), None),
            (v2(0x21, 0x11, FOUR), v4),
            (v2(0x21, 0x21, &six), v6),
            (v2(0x21, 0x11, &with_more), v4),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, FOUR), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn headers_are_taken_wherever_they_are_cut_and_nothing_behind_them() {
        for (bytes, expected) in headers() {
            for cut in 1..bytes.len() {
                assert_eq!(header(&bytes[..cut], ProxyVersions::Any), Ok(None), "{cut}: {bytes:?}");
            }
            let followed = [&bytes[..], b"PROXY frames"].concat();
            let read = header(&followed, ProxyVersions::Any);
            assert_eq!(read, Ok(Some((bytes.len(), expected))), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 65536\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 8080 80\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 8080 80\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 8080 80\r\n",
            b"PROXY UNKNOWN\n",
            &[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat(),
            &v2(0x22, 0x11, FOUR),
            &v2(0x11, 0x11, FOUR),
            &v2(0x21, 0x41, FOUR),
            &v2(0x21, 0x11, &FOUR[..11]),
            &v2(0x21, 0x21, FOUR),
            &v2(0x21, 0x11, &[0; 4_097]),
        ] {
            assert!(header(bytes, ProxyVersions::Any).is_err(), "{bytes:?}");
        }
        let (one, two) = (b"PROXY UNKNOWN\r\n", v2(0x20, 0, b""));
        assert!(
            header(one, ProxyVersions::V2).is_err() && header(&two, ProxyVersions::V1).is_err()
        );
        assert!(header(one, ProxyVersions::V1).is_ok() && header(&two, ProxyVersions::V2).is_ok());
    }

    /// Whatever comes, it is judged, within what it may have; and a header is never longer than what came.
    #[test]
    fn anything_is_judged() {
        let mut random = 7_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        let headers = headers();
        for _ in 0..100_000 {
            let mut bytes = headers[next() % headers.len()].0.clone();
            for _ in 0..next() % 4 {
                let at = next() % bytes.len();
                bytes[at] = next() as u8;
            }
            bytes.truncate(1 + next() % bytes.len());
            match header(&bytes, ProxyVersions::Any) {
                Ok(Some((len, _))) => assert!(len <= bytes.len()),
                Ok(None) => assert!(bytes.len() < 16 + MAX_REST),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn networks_are_of_addresses_that_begin_alike() {
        for (network, address, has) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "192.0.2.1", true),
            ("fd00::/8", "fd12::1", true),
            ("::1", "::1", true),
            ("::1", "::2", false),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            let read: Network = network.parse().expect("a network");
            assert_eq!(read.has(address.parse().expect("an address")), has, "{network} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "a/8", "::/129", "::1/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_header_is_taken_off_a_socket_and_what_follows_is_left() {
        let trusting = ProxyProtocol::from(["127.0.0.0/8"]).expect("a network");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        for (bytes, expected) in headers() {
            let mut near = TcpStream::connect(address).await.expect("a connection");
            let (mut far, proxy) = listener.accept().await.expect("a connection");
            let writing = async {
                for piece in bytes.chunks(7) {
                    near.write_all(piece).await.expect("it is taken");
                    tokio::task::yield_now().await;
                }
                near.write_all(b"behind").await.expect("it is taken");
                near.shutdown().await.expect("it can be");
            };
            let (read, ()) = tokio::join!(trusting.read(&mut far, proxy), writing);
            assert_eq!(read.expect("a header"), expected.unwrap_or(proxy));
            let mut behind = String::new();
            far.read_to_string(&mut behind).await.expect("text");
            assert_eq!(behind, "behind");
            let stranger = "192.0.2.1:1".parse().expect("an address");
            assert!(trusting.read(&mut far, stranger).await.is_err());
        }
    }
}
