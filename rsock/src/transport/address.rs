//! Addresses to connect to, or to listen on: what a URI says, read in one place.

use std::{fmt, net::Ipv6Addr};

#[cfg(unix)]
use crate::transport::unix::UnixName;
use crate::{error::ConnectError, nearest::nearest};

/// A parsed URI: `tcp://host:port`, `ws://host[:port][/path]`, `unix:/path` or `unix:@name`, and `tls://` and
/// `wss://` for the first two over TLS. Where the bytes go, what protects them, and how frames lie on them
/// are independent of each other.
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
    #[cfg(feature = "tls")]
    Tls,
}

impl Security {
    /// The schemes of TCP and of WebSockets that are protected so.
    pub(crate) fn schemes(self) -> (&'static str, &'static str) {
        match self {
            Self::Clear => ("tcp", "ws"),
            #[cfg(feature = "tls")]
            Self::Tls => ("tls", "wss"),
        }
    }

    /// The port of HTTP that is protected so.
    #[cfg(feature = "websocket")]
    pub(crate) fn http_port(self) -> u16 {
        match self {
            Self::Clear => 80,
            #[cfg(feature = "tls")]
            Self::Tls => 443,
        }
    }
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
        /// The credentials that the URI has.
        user: Option<UserInfo>,
    },
}

/// A name and password from a URI, as the value of an Authorization header (RFC 7617). Never shown.
#[cfg(feature = "websocket")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UserInfo(pub(crate) String);

#[cfg(feature = "websocket")]
impl UserInfo {
    fn read(text: &str) -> Result<Self, String> {
        use base64::{Engine, engine::general_purpose::STANDARD};

        let (name, password) = text.split_once(':').unwrap_or((text, ""));
        let decoded = (percent_decoded(name), percent_decoded(password));
        let (Some(name), Some(password)) = decoded else {
            return Err("its credentials have a % that two hexadecimal digits do not follow".into());
        };
        // Whoever reads it takes the first colon for the end of the name.
        if name.contains(&b':') {
            return Err("the name in its credentials has a colon".into());
        }
        Ok(Self(format!("Basic {}", STANDARD.encode([&name, &b":"[..], &password].concat()))))
    }
}

#[cfg(feature = "websocket")]
impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserInfo")
    }
}

#[cfg(feature = "websocket")]
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut decoded) = (text.bytes(), Vec::with_capacity(text.len()));
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            // Two digits are a byte.
            b'%' => (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8,
            byte => byte,
        });
    }
    Some(decoded)
}

impl Layout {
    pub(crate) fn has_query(&self) -> bool {
        match self {
            Self::Prefixed => false,
            #[cfg(feature = "websocket")]
            Self::WebSocket { path, .. } => path.contains('?'),
        }
    }

    pub(crate) fn has_credentials(&self) -> bool {
        match self {
            Self::Prefixed => false,
            #[cfg(feature = "websocket")]
            Self::WebSocket { user, .. } => user.is_some(),
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
        Self::read(uri)
            .map_err(|problem| ConnectError::Uri { uri: without_credentials(uri), problem })
    }

    fn read(uri: &str) -> Result<Self, String> {
        if let Some((scheme, name)) = uri.split_once(':')
            && scheme.eq_ignore_ascii_case("unix")
        {
            let (security, layout) = (Security::Clear, Layout::Prefixed);
            return Ok(Self { address: Address::unix(name)?, security, layout });
        }
        let Some((scheme, rest)) = uri.split_once("://") else { return Err(without_scheme(uri)) };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, authority),
        };
        let lower = scheme.to_ascii_lowercase();
        let (plain, security) = match lower.as_str() {
            #[cfg(feature = "tls")]
            "tls" | "tcp+tls" | "tcps" => ("tcp", Security::Tls),
            #[cfg(feature = "tls")]
            "wss" | "ws+tls" => ("ws", Security::Tls),
            other => (other, Security::Clear),
        };
        match plain {
            "tcp" => {
                if user.is_some() {
                    return Err(format!(
                        "a {lower} URI has no credentials: they go into SETUP, by \
                         ClientBuilder::authentication or rsock --auth-simple"
                    ));
                }
                let without_port = format!("it has no port, as in {lower}://localhost:7878");
                let host = HostPort::read(authority, None, &without_port)?;
                if !matches!(path, "" | "/") {
                    return Err(format!("a {lower} URI has no path"));
                }
                Ok(Self { address: Address::Tcp(host), security, layout: Layout::Prefixed })
            }
            #[cfg(feature = "websocket")]
            "ws" => {
                let host = HostPort::read(authority, Some(security.http_port()), "")?;
                let slash = if path.starts_with('/') { "" } else { "/" };
                let path = checked_path(format!("{slash}{path}"))?;
                let user = user.map(UserInfo::read).transpose()?;
                let layout = Layout::WebSocket { path, user };
                Ok(Self { address: Address::Tcp(host), security, layout })
            }
            other => Err(unknown_scheme(other, uri)),
        }
    }
}

/// The problem with a URI that has no scheme, and what may have been meant.
fn without_scheme(uri: &str) -> String {
    let shown = without_credentials(uri);
    // As in tcp:localhost:7878 and tcp:/localhost:7878.
    let scheme = ["tcp", "ws", "tls", "wss"].into_iter().find(|scheme| {
        let rest = shown.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':'));
        rest.is_some_and(|rest| rest.trim_start_matches('/').contains(':'))
    });
    let rest = scheme.map_or(&*shown, |scheme| shown[scheme.len() + 1..].trim_start_matches('/'));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = authority.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let has_port = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let meant = match scheme {
        Some(scheme) if has_port => format!("{scheme}://{rest}"),
        None if has_port && matches!(path, "" | "/") => format!("tcp://{authority}"),
        None if has_port => format!("ws://{rest}"),
        None if rest.starts_with('/') && cfg!(unix) => format!("unix:{rest}"),
        _ => {
            return "it has no scheme; expected tcp://HOST:PORT, ws://HOST:PORT/PATH or unix:/PATH"
                .to_owned();
        }
    };
    format!("it has no scheme; did you mean {meant}?")
}

/// The problem with a URI of a scheme that is none of ours, and what may have been meant.
fn unknown_scheme(scheme: &str, uri: &str) -> String {
    let known = if cfg!(feature = "tls") { "tcp, tls, ws, wss" } else { "tcp, ws" };
    let problem = format!("the scheme {scheme:?} is not supported, only {known} and unix are");
    // Whoever asks for encryption is not led to do without.
    let is_encrypted =
        ["wss", "ws+tls", "https", "tls", "tcps", "tcp+tls", "ssl"].contains(&scheme);
    if is_encrypted && !cfg!(feature = "tls") {
        return format!(
            "{problem}; none of them is encrypted: for that, build with the feature tls-aws-lc-rs or \
             tls-ring of rsock"
        );
    }
    let schemes = ["tcp", "tls", "ws", "wss", "unix", "http", "https", "ssl"];
    let of_tls = ["tls", "wss", "https", "ssl"];
    let schemes =
        schemes.into_iter().filter(|scheme| cfg!(feature = "tls") || !of_tls.contains(scheme));
    let meant = match nearest(scheme, schemes, |_| true) {
        // HTTP's port is that of the WebSocket.
        Some("http") => "ws",
        Some("https") => "wss",
        Some("ssl") => "tls",
        Some(scheme) => scheme,
        None => return problem,
    };
    let shown = without_credentials(uri);
    let (_, rest) = shown.split_at(scheme.len());
    let rest = if meant == "unix" { rest.replacen("://", ":", 1) } else { rest.to_owned() };
    match Uri::read(&format!("{meant}{}", rest.replacen("…@", "", 1))) {
        Ok(_) => format!("{problem}; did you mean {meant}{rest}?"),
        // There is more that is wrong with it.
        Err(_) => problem,
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
                let host = host.replacen("%25", "%", 1);
                check_ipv6(&host)?;
                let port = after.strip_prefix(':');
                if port.is_none() && !after.is_empty() {
                    return Err("a port begins with a colon, as in [::1]:7878".into());
                }
                (host, port)
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (authority.to_owned(), None),
            },
        };
        if host.is_empty() {
            return Err("it names no host".into());
        }
        if let Some(wrong) = host.chars().find(|&char| !char.is_ascii_graphic()) {
            return Err(match wrong {
                ' ' => "its host has a space".into(),
                _ if wrong.is_ascii() => "its host has a control character".into(),
                _ => format!("its host has {wrong:?}: write the name in ASCII, as xn--…"),
            });
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

#[cfg(feature = "websocket")]
impl HostPort {
    /// The value of a Host header: without the scheme's own port (RFC 9110, section 7.2), and without a
    /// zone, which means something on this machine alone (RFC 6874).
    pub(crate) fn header(&self, usual: u16) -> String {
        let Self { host, port } = self;
        let host = host.split('%').next().unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        if *port == usual { host } else { format!("{host}:{port}") }
    }
}

/// An IPv6 address, with a zone or without.
fn check_ipv6(text: &str) -> Result<(), String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let Ok(ip) = address.parse::<Ipv6Addr>() else {
        return Err("an IPv6 address stands between [ and ]".into());
    };
    // Every link has such addresses. Linux says no more than "invalid argument"; others may guess.
    if cfg!(target_os = "linux") && zone.is_none() && ip.is_unicast_link_local() {
        return Err("an address of a link needs its zone, as in [fe80::1%25eth0]".into());
    }
    if zone == Some("") {
        return Err("its zone is empty; it is written as in [fe80::1%25eth0]".into());
    }
    Ok(())
}

/// A path and query that an HTTP request can ask for.
#[cfg(feature = "websocket")]
fn checked_path(path: String) -> Result<String, String> {
    if path.contains('#') {
        return Err("the URI of a WebSocket has no fragment; # within a path is written %23".into());
    }
    if let Some(wrong) = path.chars().find(|&char| !char.is_ascii_graphic()) {
        let mut bytes = [0; 4];
        let written: String =
            wrong.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect();
        return Err(format!("its path has {wrong:?}, which is written {written}"));
    }
    match hyper::http::uri::PathAndQuery::try_from(path.as_str()) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("its path cannot be asked for: {error}")),
    }
}

/// A URI as it may be shown: what may be credentials is left out, whatever else is wrong with it.
fn without_credentials(uri: &str) -> String {
    let is_unix = uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("unix:"));
    let begin = match uri.find("://") {
        Some(at) => at + 3,
        // An @ begins the name of such a socket.
        None if is_unix => return uri.to_owned(),
        None => 0,
    };
    let (scheme, rest) = uri.split_at(begin);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password may have a / that should have been escaped: then this is the host's port, or so it seems.
    let has_port = authority.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    if !authority.contains('@') && has_port {
        return uri.to_owned();
    }
    match rest.rsplit_once('@') {
        Some((_, shown)) => format!("{scheme}…@{shown}"),
        None => uri.to_owned(),
    }
}

/// As errors and logs name it.
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
        let Self { address, security, layout } = self;
        #[cfg_attr(not(feature = "websocket"), expect(unused_variables, reason = "WebSocket's"))]
        let (raw, web) = security.schemes();
        match (address, layout) {
            (Address::Tcp(host), Layout::Prefixed) => write!(f, "{raw}://{host}"),
            #[cfg(feature = "websocket")]
            (Address::Tcp(host), Layout::WebSocket { path, .. }) => {
                write!(f, "{web}://{host}{path}")
            }
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
            #[cfg(feature = "websocket")]
            ("ws://ann:s3cret@h/%20?a=b@c", "ws://h:80/%20?a=b@c"),
            ("tcp://[fe80::1%eth0]:1", "tcp://[fe80::1%25eth0]:1"),
            #[cfg(feature = "tls")]
            ("tls://localhost:7878", "tls://localhost:7878"),
            #[cfg(feature = "tls")]
            ("TCP+TLS://[::1]:1/", "tls://[::1]:1"),
            #[cfg(feature = "tls")]
            ("tcps://h:1", "tls://h:1"),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            ("wss://ann:s3cret@h", "wss://h:443/"),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            ("ws+tls://h:1/a?b", "wss://h:1/a?b"),
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
            ("tcp://[::1]1", "begins with a colon"),
            ("tcp://[localhost]:1", "an IPv6 address stands"),
            ("tcp://[fe80::1%25]:1", "zone is empty"),
            #[cfg(target_os = "linux")]
            ("tcp://[fe80::1]:1", "an address of a link needs its zone"),
            ("tcp://a b:1", "its host has a space"),
            ("tcp://é:1", "write the name in ASCII"),
            ("tcp://h:1#x", "no path"),
            #[cfg(feature = "websocket")]
            ("ws://h:1#x", "no fragment"),
            #[cfg(feature = "websocket")]
            ("ws://h:1/x#y", "no fragment"),
            #[cfg(feature = "websocket")]
            ("ws://h:1/a b", "' ', which is written %20"),
            #[cfg(feature = "websocket")]
            ("ws://h:1/é", "'é', which is written %C3%A9"),
            #[cfg(feature = "websocket")]
            ("ws://h:1/<", "cannot be asked for"),
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

    #[cfg(not(feature = "tls"))]
    #[test]
    fn whoever_asks_for_encryption_is_told_how_to_have_it() {
        for uri in
            ["wss://h:1", "https://h", "tls://h:1", "tcps://h:1", "tcp+tls://h:1", "ssl://h:1"]
        {
            let error = Uri::parse(uri).unwrap_err().to_string();
            assert!(
                error.ends_with("build with the feature tls-aws-lc-rs or tls-ring of rsock"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (uri, meant) in [
            ("localhost:7878", Some("tcp://localhost:7878")),
            ("[::1]:7878/", Some("tcp://[::1]:7878")),
            ("localhost:7879/rsocket", Some("ws://localhost:7879/rsocket")),
            ("tcp:localhost:7878", Some("tcp://localhost:7878")),
            ("tcp:/localhost:7878", Some("tcp://localhost:7878")),
            ("ws:localhost:7879/rsocket", Some("ws://localhost:7879/rsocket")),
            ("ann:s3cret@h:1", Some("tcp://…@h:1")),
            ("tpc://h:1", Some("tcp://h:1")),
            ("TCPP://h:1", Some("tcp://h:1")),
            #[cfg(feature = "websocket")]
            ("sw://h:1/x", Some("ws://h:1/x")),
            #[cfg(feature = "websocket")]
            ("htp://h:1", Some("ws://h:1")),
            #[cfg(feature = "websocket")]
            ("http://h:1/rsocket", Some("ws://h:1/rsocket")),
            #[cfg(feature = "websocket")]
            ("http://ann:s3cret@h/x", Some("ws://…@h/x")),
            #[cfg(unix)]
            ("/run/a.sock", Some("unix:/run/a.sock")),
            #[cfg(unix)]
            ("unx:///run/a.sock", Some("unix:/run/a.sock")),
            ("localhost", None),
            (":7878", None),
            ("localhost:port", None),
            ("", None),
            ("udp://h:1", None),
            #[cfg(not(feature = "tls"))]
            ("wss://h:1", None),
            #[cfg(not(feature = "tls"))]
            ("https://h", None),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            ("https://h/x", Some("wss://h/x")),
            #[cfg(feature = "tls")]
            ("ssl://h:1", Some("tls://h:1")),
            #[cfg(feature = "tls")]
            ("tls:h:1", Some("tls://h:1")),
            ("tpc://h", None),
        ] {
            let error = Uri::parse(uri).unwrap_err().to_string();
            let said = error.split_once("did you mean ").map(|(_, said)| said);
            let said = said.and_then(|said| said.strip_suffix('?'));
            assert_eq!(said, meant, "{uri}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn credentials_of_a_wrong_uri_are_not_shown() {
        for (uri, shown) in [
            ("tcp://ann:s3cret@h:1", "tcp://…@h:1"),
            ("tcp://ann:s3cret@h:1/a", "tcp://…@h:1/a"),
            ("http://ann:s3cret@h", "http://…@h"),
            ("ann:s3cret@h:1", "…@h:1"),
            ("ws://ann:s3/cret@h:1", "ws://…@h:1"),
            ("ws://ann:s3@cret@h:1 /", "ws://…@h:1 /"),
            ("ws://ann:%zz@h", "ws://…@h"),
            ("unix://ann:s3cret@h/a", "unix://…@h/a"),
            ("http://h:1/a@b", "http://h:1/a@b"),
        ] {
            let error = Uri::parse(uri).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{shown:?} is not a valid URI")), "{error}");
            assert!(!error.contains("cret") && !error.contains("ann"), "{error}");
        }
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn credentials_of_awebsocket_are_basic_authorization() {
        for (uri, header) in [
            // RFC 7617, section 2.
            ("ws://Aladdin:open%20sesame@h/", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("ws://ann@h/", "Basic YW5uOg=="),
            ("ws://a:b:c@h/", "Basic YTpiOmM="),
        ] {
            let parsed = Uri::parse(uri).unwrap();
            assert!(!format!("{parsed:?}").contains("Basic"), "{parsed:?}");
            let Layout::WebSocket { user, .. } = parsed.layout else { panic!("{uri}") };
            assert_eq!(user.unwrap().0, header);
        }
        assert!(Uri::parse("ws://a%3ab:c@h/").unwrap_err().to_string().contains("colon"));
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn a_host_header_has_no_usual_port_and_no_zone() {
        for (uri, header) in [
            ("ws://h", "h"),
            ("ws://h:80/x", "h"),
            ("ws://h:8080", "h:8080"),
            ("ws://[::1]", "[::1]"),
            #[cfg(feature = "tls")]
            ("wss://h", "h"),
            #[cfg(feature = "tls")]
            ("wss://h:80", "h:80"),
            ("ws://[fe80::1%25eth0]:1", "[fe80::1]:1"),
        ] {
            let uri = Uri::parse(uri).unwrap();
            let Address::Tcp(host) = &uri.address else { panic!("{uri}") };
            assert_eq!(host.header(uri.security.http_port()), header);
        }
    }
}
