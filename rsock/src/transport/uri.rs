//! Where to connect to, or to listen.

use std::fmt;

use crate::error::ConnectError;

/// A parsed URI: `tcp://host:port` or `ws://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    pub(crate) scheme: Scheme,
    /// The host, without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The path and query of a WebSocket; empty for TCP.
    pub(crate) path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Tcp,
    #[cfg(feature = "websocket")]
    WebSocket,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            #[cfg(feature = "websocket")]
            Self::WebSocket => "ws",
        }
    }
}

impl Uri {
    pub(crate) fn parse(uri: &str) -> Result<Self, ConnectError> {
        let wrong =
            |problem: &str| ConnectError::Uri { uri: uri.to_owned(), problem: problem.to_owned() };
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Err(wrong("it has no scheme; expected tcp://HOST:PORT or ws://HOST:PORT/PATH"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "tcp" => Scheme::Tcp,
            #[cfg(feature = "websocket")]
            "ws" => Scheme::WebSocket,
            other => {
                let problem = format!("the scheme {other:?} is not supported, only tcp and ws are");
                return Err(wrong(&problem));
            }
        };
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) =
                    bracketed.split_once(']').ok_or_else(|| wrong("a ] is missing"))?;
                (host, after.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = match (port, scheme) {
            (Some(port), _) => {
                port.parse().map_err(|_| wrong("its port is no number from 0 to 65535"))?
            }
            #[cfg(feature = "websocket")]
            (None, Scheme::WebSocket) => 80,
            (None, Scheme::Tcp) => return Err(wrong("it has no port, as in tcp://localhost:7878")),
        };
        let path = match scheme {
            Scheme::Tcp if matches!(path, "" | "/") => String::new(),
            Scheme::Tcp => return Err(wrong("a tcp URI has no path")),
            #[cfg(feature = "websocket")]
            Scheme::WebSocket if path.starts_with('/') => path.to_owned(),
            #[cfg(feature = "websocket")]
            Scheme::WebSocket => format!("/{path}"),
        };
        Ok(Self { scheme, host: host.to_owned(), port, path })
    }

    /// Host and port, as in a Host header.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
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
            #[cfg(feature = "websocket")]
            ("ws://example.org", "ws://example.org:80/"),
            #[cfg(feature = "websocket")]
            ("ws://127.0.0.1:7879/rsocket?a=b", "ws://127.0.0.1:7879/rsocket?a=b"),
            #[cfg(feature = "websocket")]
            ("ws://h:1?a=b", "ws://h:1/?a=b"),
        ] {
            assert_eq!(Uri::parse(uri).unwrap().to_string(), written);
        }
    }

    #[test]
    fn a_wrong_uri_is_told_what_is_wrong() {
        for (uri, expected) in [
            ("localhost:7878", "no scheme"),
            ("http://localhost", "\"http\" is not supported"),
            ("tcp://localhost", "no port"),
            ("tcp://:7878", "no host"),
            ("tcp://localhost:70000", "port"),
            ("tcp://localhost:1/path", "no path"),
            ("tcp://[::1:1", "]"),
        ] {
            let error = Uri::parse(uri).unwrap_err().to_string();
            assert!(error.contains(expected), "{uri}: {error}");
        }
    }
}
