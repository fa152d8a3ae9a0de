//! Clients of HTTP proxies: where they come from, as the proxies say.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap,
    header::{FORWARDED, HeaderName},
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
    /// not known, and 0. None where the one who asks is no proxy, or does not say.
    pub(crate) fn client(&self, headers: &HeaderMap, peer: &str) -> Option<SocketAddr> {
        let proxy = peer.parse::<SocketAddr>().ok()?.ip();
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        };
        // What is no text ends what can be followed.
        let lists: Vec<_> =
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
        let entries = lists.iter().rev().flat_map(|list| list.rsplit(','));
        let mut client = proxy;
        for entry in entries {
            if !self.proxies.trusts(client) {
                break;
            }
            let address = match self.header {
                ForwardedHeader::XForwardedFor => address(entry.trim()),
                ForwardedHeader::Forwarded => forwarded_for(entry).and_then(address),
            };
            // One that hides it stands for whoever is behind it.
            let Some(address) = address else { break };
            client = address;
        }
        (client != proxy).then(|| SocketAddr::new(client, 0))
    }
}

/// The value of `for` in an element of `Forwarded`, without its quotes.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
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
            headers.append(name, value.parse().expect("a value"));
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
            (XForwardedFor, &["203.0.113.9, unknown"], None),
            (XForwardedFor, &["203.0.113.9,"], None),
            (XForwardedFor, &[""], None),
            (XForwardedFor, &[], None),
            // All are proxies: the farthest of them.
            (XForwardedFor, &["10.2.2.2, 10.1.1.1"], Some("10.2.2.2")),
            (Forwarded, &["for=203.0.113.9;proto=https"], Some("203.0.113.9")),
            (
                Forwarded,
                &["for=1.2.3.4, proto=https; For=\"[2001:db8::7]:1\""],
                Some("2001:db8::7"),
            ),
            (Forwarded, &["for=1.2.3.4, by=10.0.0.1"], None),
            (Forwarded, &["for=_hidden"], None),
        ] {
            let found = client(header, "127.0.0.1:1000", values);
            assert_eq!(found.as_deref(), expected, "{values:?}");
        }
        assert_eq!(client(XForwardedFor, "203.0.113.7:1", &["1.2.3.4"]), None);
        assert_eq!(client(XForwardedFor, "unix:uid=0", &["1.2.3.4"]), None);
    }
}
