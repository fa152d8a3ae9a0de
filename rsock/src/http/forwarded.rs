//! Clients of HTTP proxies: where they come from, as the proxies say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::{
    HeaderMap,
    header::{FORWARDED, HeaderName, HeaderValue},
};

use crate::transport::proxy::ProxyProtocol;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which HTTP proxies say where a request comes from, for
/// [`ServerBuilder::forwarded_clients`](crate::ServerBuilder::forwarded_clients). It is the one that they set or
/// append to: any other they pass on as the client has written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, as most proxies have it.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies whose word counts, and how they say it.
#[derive(Clone, Debug)]
pub(crate) struct ForwardedClients {
    pub(crate) header: ForwardedHeader,
    pub(crate) proxies: ProxyProtocol,
}

impl ForwardedClients {
    /// The address of the client for whom a proxy asks: the nearest to us that is none of the proxies; its port is
    /// not known, and 0. None where the one who asks is no proxy. Where a proxy does not say for whom it asks,
    /// or so that nobody can read it, it is nobody who is known, and not the proxy: the address is 0.0.0.0.
    pub(crate) fn client(&self, headers: &HeaderMap, peer: &str) -> Option<SocketAddr> {
        const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut client = peer.parse::<SocketAddr>().ok()?.ip();
        if !self.proxies.trusts(client) {
            return None;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        };
        let lists = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let entries: Vec<_> = lists.flat_map(|list| parts(list, b',')).collect();
        let mut is_told = false;
        for entry in entries.iter().rev() {
            if !self.proxies.trusts(client) {
                break;
            }
            let text = match self.header {
                ForwardedHeader::XForwardedFor => std::str::from_utf8(entry).ok().map(str::trim),
                ForwardedHeader::Forwarded => forwarded_for(entry),
            };
            let Some(address) = text.and_then(address) else {
                is_told = false;
                break;
            };
            (client, is_told) = (address, true);
        }
        Some(SocketAddr::new(if is_told { client } else { NOBODY }, 0))
    }
}

/// The parts between these bytes, but for those in quotes.
fn parts(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut begin, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if *byte == separator && !is_quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// The value of `for` in an element of `Forwarded`, without its quotes; none if there are two.
fn forwarded_for(element: &[u8]) -> Option<&str> {
    let mut found = parts(element, b';').into_iter().filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    });
    found.next().filter(|_| found.next().is_none())
}

/// An address as proxies write it: alone, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let plain = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    plain().or_else(with_port).or_else(in_brackets).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedHeader, peer: &str, values: &[&'static str]) -> Option<String> {
        let proxies = ProxyProtocol::from(["10.0.0.0/8", "127.0.0.1"]).expect("networks");
        let name = match header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let clients = ForwardedClients { header, proxies };
        clients.client(&headers, peer).map(|address| address.ip().to_string())
    }

    #[test]
    fn the_client_is_the_nearest_who_is_no_proxy() {
        use ForwardedHeader::{Forwarded, XForwardedFor};
        for (header, values, expected) in [
            (XForwardedFor, &["203.0.113.9"][..], Some("203.0.113.9")),
            // Whatever the client says of itself stands before it.
            (XForwardedFor, &["1.2.3.4, 203.0.113.9"], Some("203.0.113.9")),
            (XForwardedFor, &["1.2.3.4", "203.0.113.9"], Some("203.0.113.9")),
            (XForwardedFor, &["203.0.113.9, 10.1.1.1"], Some("203.0.113.9")),
            (XForwardedFor, &["203.0.113.9:4711"], Some("203.0.113.9")),
            (XForwardedFor, &["[2001:db8::7]:4711"], Some("2001:db8::7")),
            (XForwardedFor, &["2001:db8::7"], Some("2001:db8::7")),
            // Nobody knows who that is, and the proxy it is not.
            (XForwardedFor, &["203.0.113.9, unknown"], Some("0.0.0.0")),
            (XForwardedFor, &["203.0.113.9,"], Some("0.0.0.0")),
            (XForwardedFor, &[""], Some("0.0.0.0")),
            (XForwardedFor, &[], Some("0.0.0.0")),
            (XForwardedFor, &["127.0.0.9"], Some("127.0.0.9")),
            (XForwardedFor, &["\u{ff}, 203.0.113.9"], Some("203.0.113.9")),
            (XForwardedFor, &["203.0.113.9, \u{ff}"], Some("0.0.0.0")),
            // All are proxies: the farthest of them.
            (XForwardedFor, &["10.2.2.2, 10.1.1.1"], Some("10.2.2.2")),
            (Forwarded, &["for=203.0.113.9;proto=https"], Some("203.0.113.9")),
            (
                Forwarded,
                &["for=1.2.3.4, proto=https; For=\"[2001:db8::7]:1\""],
                Some("2001:db8::7"),
            ),
            (Forwarded, &["for=203.0.113.9;host=\"x,for=127.0.0.2\""], Some("203.0.113.9")),
            (Forwarded, &["host=\"x;for=127.0.0.2\";for=203.0.113.9"], Some("203.0.113.9")),
            (Forwarded, &["host=\"x\\\",for=1.2.3.4\";for=203.0.113.9"], Some("203.0.113.9")),
            (Forwarded, &["for=1.2.3.4;for=203.0.113.9"], Some("0.0.0.0")),
            (Forwarded, &["for=1.2.3.4, by=10.0.0.1"], Some("0.0.0.0")),
            (Forwarded, &["for=_hidden"], Some("0.0.0.0")),
        ] {
            let found = client(header, "127.0.0.1:1000", values);
            assert_eq!(found.as_deref(), expected, "{values:?}");
        }
        assert_eq!(client(XForwardedFor, "203.0.113.7:1", &["1.2.3.4"]), None);
        assert_eq!(client(XForwardedFor, "unix:uid=0", &["1.2.3.4"]), None);
    }
}
