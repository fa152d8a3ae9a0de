//! Peers that speak something else to a port of frames, known by how they begin: the log names them.

/// The protocol that begins so, and what to do about it; none where it may be ours.
///
/// Each would be the length of a frame that no connection begins with.
pub(crate) fn foreign(input: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[&[u8]], &str); 3] = [
        (
            &[
                b"GET ",
                b"POST ",
                b"PUT ",
                b"HEAD ",
                b"DELETE ",
                b"OPTIONS ",
                b"PATCH ",
                b"CONNECT ",
                b"PRI * ",
            ],
            "the peer speaks HTTP, and this port RSocket over TCP: HTTP and WebSockets are for a ws:// port",
        ),
        (
            &[b"\x16\x03\x00", b"\x16\x03\x01", b"\x16\x03\x02", b"\x16\x03\x03"],
            "the peer speaks TLS, and this port does not: listen on tls:// (rsockd --tls-cert), or connect without",
        ),
        (
            &[b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"],
            "the peer speaks the PROXY protocol, and this port does not: turn it off in the proxy, or on here (rsockd --proxy-protocol)",
        ),
    ];
    let begins = |beginnings: &[&[u8]]| beginnings.iter().any(|begin| input.starts_with(begin));
    BEGINNINGS.iter().find(|(beginnings, _)| begins(beginnings)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_known_by_their_beginning() {
        for (input, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some("HTTP")),
            (b"PRI * HTTP/2.0\r\n", Some("HTTP")),
            (b"\x16\x03\x01\x02\x00\x01", Some("TLS")),
            (b"PROXY TCP4 192.0.2.1 ", Some("PROXY")),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", Some("PROXY")),
            (b"GET", None),
            (b"\0\0\x2c\0\0\0\0\x04\0", None),
            (b"", None),
        ] {
            let named = foreign(input);
            assert_eq!(named.is_some(), expected.is_some(), "{input:?}");
            let named = named.unwrap_or_default();
            assert!(named.contains(expected.unwrap_or_default()), "{named}");
        }
    }
}
