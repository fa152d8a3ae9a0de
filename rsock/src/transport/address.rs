//! Addresses to connect to, or to listen on: what a URI says, read in one place.

use std::fmt;

use crate::error::ConnectError;
#[cfg(unix)]
use crate::transport::unix::UnixName;

/// A parsed URI: `tcp://host:port`, `ws://host[:port][/path]`, `unix:/path` or `unix:@name`. Where the bytes go, what protects them,
/// and how frames lie on them are independent of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    pub(crate) address: Address,
    pub(crate) security: Security,
    pub(crate) layout: Layout,
}

/// The way to the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(HostPort),
    #[cfg(unix)]
    Unix(UnixName),
}

/// The protection of the bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// Nothing.
    Clear,
}

/// How frames are to lie on the byte stream: what a [`Framing`](super::Framing) is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A u24 length before each frame.
    Prefixed,
    #[cfg(feature = "websocket")]
    WebSocket {
        /// With its query.
        path: String,
    },
}

impl Layout {
    pub(crate) fn has_query(&self) -> bool {
        match self {
            Self::Prefixed => false,
            #[cfg(feature = "websocket")]
            Self::WebSocket { path } => path.contains('?'),
        }
    }
}

/// A host and a port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// Without the brackets of an IPv6 address; its zone is behind a plain `%`.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Uri {
    pub(crate) fn parse(uri: &str) -> Result<Self, ConnectError> {
        Self::read(uri).map_err(|problem| ConnectError::Uri { uri: uri.to_owned(), problem })
    }

    fn read(uri: &str) -> Result<Self, String> {
        let security = Security::Clear;
        if let Some((scheme, name)) = uri.split_once(':')
            && scheme.eq_ignore_ascii_case("unix")
        {
            return Ok(Self { address: Address::unix(name)?, security, layout: Layout::Prefixed });
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Err("it has no scheme; expected tcp://HOST:PORT, ws://HOST:PORT/PATH or \
                        unix:/PATH"
                .into());
        };
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        match scheme.to_ascii_lowercase().as_str() {
            "tcp" => {
                let without_port = "it has no port, as in tcp://localhost:7878";
                let host = HostPort::read(authority, None, without_port)?;
                if !matches!(path, "" | "/") {
                    return Err("a tcp URI has no path".into());
                }
                Ok(Self { address: Address::Tcp(host), security, layout: Layout::Prefixed })
            }
            #[cfg(feature = "websocket")]
            "ws" => {
                let host = HostPort::read(authority, Some(80), "")?;
                let slash = if path.starts_with('/') { "" } else { "/" };
                let layout = Layout::WebSocket { path: format!("{slash}{path}") };
                Ok(Self { address: Address::Tcp(host), security, layout })
            }
            other => {
                Err(format!("the scheme {other:?} is not supported, only tcp, ws and unix are"))
            }
        }
    }
}

impl Address {
    #[cfg(unix)]
    fn unix(name: &str) -> Result<Self, String> {
        UnixName::read(name).map(Self::Unix)
    }

    #[cfg(not(unix))]
    fn unix(_: &str) -> Result<Self, String> {
        Err("this system has no Unix sockets that can be used".into())
    }
}

impl HostPort {
    /// `usual` is the port that need not be named; where there is none, one that misses is told so.
    fn read(authority: &str, usual: Option<u16>, without_port: &str) -> Result<Self, String> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or("a ] is missing")?;
                // RFC 6874: a zone is written behind an escaped %.
                (host.replacen("%25", "%", 1), after.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (authority.to_owned(), None),
            },
        };
        if host.is_empty() {
            return Err("it names no host".into());
        }
        let port = match port {
            Some(port) => {
                port.parse().map_err(|_| "its port is not a number from 0 to 65535".to_owned())?
            }
            None => usual.ok_or(without_port)?,
        };
        Ok(Self { host, port })
    }
}

/// As in a Host header.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{}]:{port}", host.replacen('%', "%25", 1))
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// The address alone, as errors name it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => host.fmt(f),
            #[cfg(unix)]
            Self::Unix(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, security: Security::Clear, layout } = self;
        match (address, layout) {
            (Address::Tcp(host), Layout::Prefixed) => write!(f, "tcp://{host}"),
            #[cfg(feature = "websocket")]
            (Address::Tcp(host), Layout::WebSocket { path }) => write!(f, "ws://{host}{path}"),
            #[cfg(unix)]
            (Address::Unix(name), _) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_and_written() {
        for (uri, written) in [
            ("tcp://localhost:7878", "tcp://localhost:7878"),
            ("TCP://[::1]:1/", "tcp://[::1]:1"),
            ("tcp://[fe80::1%25eth0]:1", "tcp://[fe80::1%25eth0]:1"),
            #[cfg(feature = "websocket")]
            ("ws://example.org", "ws://example.org:80/"),
            #[cfg(feature = "websocket")]
            ("ws://127.0.0.1:7879/rsocket?a=b", "ws://127.0.0.1:7879/rsocket?a=b"),
            #[cfg(feature = "websocket")]
            ("ws://h:1?a=b", "ws://h:1/?a=b"),
            #[cfg(unix)]
            ("unix:/run/a b?c.sock", "unix:/run/a b?c.sock"),
            #[cfg(unix)]
            ("Unix:///run/a.sock", "unix:/run/a.sock"),
            #[cfg(any(target_os = "android", target_os = "linux"))]
            ("unix:@rsockd", "unix:@rsockd"),
        ] {
            assert_eq!(Uri::parse(uri).unwrap().to_string(), written);
        }
    }

    #[test]
    fn a_wrong_uri_is_told_what_is_wrong() {
        let too_long = format!("unix:/{}", "a".repeat(107));
        for (uri, expected) in [
            ("localhost:7878", "no scheme"),
            ("http://localhost", "\"http\" is not supported"),
            ("tcp://localhost", "no port"),
            ("tcp://:7878", "no host"),
            ("tcp://localhost:70000", "port"),
            ("tcp://localhost:1/path", "no path"),
            ("tcp://[::1:1", "]"),
            #[cfg(unix)]
            ("unix:", "names no socket"),
            #[cfg(unix)]
            ("unix:///", "names no socket"),
            #[cfg(unix)]
            ("unix:@", "names no socket"),
            #[cfg(unix)]
            ("unix:a.sock", "begins with /"),
            #[cfg(unix)]
            ("unix://host/a.sock", "begins with /"),
            #[cfg(unix)]
            ("unix:/a\0b", "zero byte"),
            #[cfg(unix)]
            (too_long.as_str(), "has 108 bytes, and this system takes at most 10"),
        ] {
            let error = Uri::parse(uri).unwrap_err().to_string();
            assert!(error.contains(expected), "{uri}: {error}");
        }
    }
}
