//! Origins: the sites of pages, as browsers tell them.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Origins that are allowed: one, as `https://app.example`, those of all names below one, as
/// `https://*.example.org`, or `null`, that of pages without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginPattern {
    /// In lower case. None is `null`.
    site: Option<Site>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    scheme: String,
    is_below: bool,
    host: String,
    port: u16,
}

impl Site {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = host_and_port(authority, default_port(&scheme)?)?;
        Some(Self { scheme, is_below: false, host, port })
    }

    fn has(&self, other: &Self) -> bool {
        let is_host = match self.is_below {
            false => self.host == other.host,
            // A name before the dot.
            true => other
                .host
                .strip_suffix(&self.host)
                .is_some_and(|rest| rest.strip_suffix('.').is_some_and(|name| !name.is_empty())),
        };
        is_host && self.scheme == other.scheme && self.port == other.port
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// The host and the port of an authority, as `a.example`, `a.example:8080` or `[::1]:80`: the host in lower case.
fn host_and_port(authority: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of IPv6 stand in brackets.
        Some((host, port)) if !port.ends_with(']') => {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            (host, is_number.then(|| port.parse().ok()).flatten()?)
        }
        _ => (authority, default),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_ip = |host: &str| {
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
    };
    let is_host = !host.is_empty() && (host.bytes().all(is_plain) || is_ip(host));
    is_host.then(|| (host.to_ascii_lowercase(), port))
}

impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "not an origin: it must be https://HOST or http://HOST:PORT, with nothing \
                            behind it; https://*.HOST stands for all names below one, and null for pages \
                            without an origin";
        if text == "null" {
            return Ok(Self { site: None });
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let below = rest.strip_prefix("*.");
        let mut site = Site::parse(&format!("{scheme}://{}", below.unwrap_or(rest))).ok_or(FORM)?;
        site.is_below = below.is_some();
        Ok(Self { site: Some(site) })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Site { scheme, is_below, host, port }) = &self.site else {
            return f.write_str("null");
        };
        write!(f, "{scheme}://{}{host}", if *is_below { "*." } else { "" })?;
        if default_port(scheme) == Some(*port) { Ok(()) } else { write!(f, ":{port}") }
    }
}

impl OriginPattern {
    /// Whether it covers the origin of a page.
    pub(crate) fn covers(&self, origin: &str) -> bool {
        match &self.site {
            None => origin == "null",
            Some(site) => Site::parse(origin).is_some_and(|other| site.has(&other)),
        }
    }
}

/// Whether a page is the service's own: its origin is the host that was asked, by name and port. Over an
/// encrypted connection, a page that came in clear is not: whoever is on the way may have written it.
pub(crate) fn is_of_host(origin: &str, host: Option<&str>, is_encrypted: bool) -> bool {
    let Some((site, host)) = Site::parse(origin).zip(host) else { return false };
    // Where something else ends TLS, the page knows its scheme and we do not.
    let scheme = if is_encrypted { "https" } else { site.scheme.as_str() };
    let default = default_port(scheme).unwrap_or(site.port);
    site.scheme == scheme
        && host_and_port(host, default).is_some_and(|asked| asked == (site.host, site.port))
}

/// Whether a host, in lower case, is this machine whoever asks.
fn is_local_host(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || v6.is_some_and(|host| {
            host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        })
}

/// Whether a page is of this machine, as one that is being made: of `localhost` or a loopback address.
pub(crate) fn is_local_page(origin: &str) -> bool {
    Site::parse(origin).is_some_and(|site| is_local_host(&site.host))
}

/// Whether a `Host` names this machine, or one of these hosts: each counts with any port where it has none.
pub(crate) fn is_known_host(host: &str, known: &[String]) -> bool {
    // No port is number 0, which stands for none here.
    let Some((name, port)) = host_and_port(host, 0) else { return false };
    let is_it = |known: &String| {
        host_and_port(known, 0).is_some_and(|(known, at)| known == name && (at == 0 || at == port))
    };
    is_local_host(&name) || known.iter().any(is_it)
}

/// Whether a text may be a host that is known.
pub(crate) fn check_host(text: &str) -> Result<String, String> {
    match host_and_port(text, 0) {
        Some(_) => Ok(text.to_ascii_lowercase()),
        None => {
            Err("not a host: it must be a name or an address, with a port or without".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_service_s_own_by_name_and_port() {
        for (origin, host, is_encrypted) in [
            ("https://a.example", "a.example", true),
            ("https://a.example", "a.example", false),
            ("https://a.example", "A.example:443", true),
            ("http://a.example:8080", "a.example:8080", false),
            ("http://[::1]:7879", "[::1]:7879", false),
            ("https://a.example:7879", "a.example:7879", true),
        ] {
            assert!(is_of_host(origin, Some(host), is_encrypted), "{origin} {host}");
        }
        for (origin, host, is_encrypted) in [
            ("https://a.example", "b.example", false),
            ("https://a.example", "a.example:80", false),
            ("https://a.example.evil", "a.example", false),
            ("https://a.example:8080", "a.example", false),
            ("http://a.example", "a.example", true),
            ("http://a.example:7879", "a.example:7879", true),
            ("null", "a.example", false),
            ("file://a.example", "a.example", false),
            ("https://a.example", "a.example@b", false),
            ("https://a.example", "", false),
        ] {
            assert!(!is_of_host(origin, Some(host), is_encrypted), "{origin} {host}");
        }
        assert!(!is_of_host("https://a.example", None, false));
    }

    #[test]
    fn patterns_cover_what_they_say_and_nothing_that_looks_like_it() {
        let covers =
            |pattern: &str, origin| pattern.parse::<OriginPattern>().expect(pattern).covers(origin);
        for (pattern, origin) in [
            ("https://app.example", "https://app.example"),
            ("https://app.example", "https://App.Example:443"),
            ("http://app.example:3000", "http://app.example:3000"),
            ("https://*.example.org", "https://a.example.org"),
            ("https://*.example.org", "https://a.b.example.org"),
            ("null", "null"),
        ] {
            assert!(covers(pattern, origin), "{pattern} {origin}");
        }
        for (pattern, origin) in [
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example:8443"),
            ("https://app.example", "https://app.example.evil"),
            ("https://app.example", "https://app.example@evil.example"),
            ("https://*.example.org", "https://example.org"),
            ("https://*.example.org", "https://evilexample.org"),
            ("https://*.example.org", "https://.example.org"),
            ("https://*.example.org", "http://a.example.org"),
            ("https://app.example", "null"),
            ("null", ""),
        ] {
            assert!(!covers(pattern, origin), "{pattern} {origin}");
        }
        for wrong in [
            "",
            "app.example",
            "*",
            "https://",
            "https://*",
            "https://*.",
            "https://a/b",
            "https://a.*.b",
            "https://a:b",
            "https://a:",
            "ftp://a",
            "https://a b",
            "https://a?",
            "NULL",
        ] {
            assert!(wrong.parse::<OriginPattern>().is_err(), "{wrong}");
        }
        for text in ["null", "https://a.example", "http://a:81", "https://*.a.example"] {
            assert_eq!(text.parse::<OriginPattern>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn hosts_are_known_with_any_port_or_with_theirs() {
        let known = ["chat.example".to_owned(), "other.example:81".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:7879",
            "127.0.0.1:1",
            "127.1.2.3",
            "[::1]:7879",
            "chat.example",
            "Chat.Example:9",
            "other.example:81",
        ] {
            assert!(is_known_host(host, &known), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "other.example",
            "other.example:82",
            "10.0.0.1",
            "0.0.0.0",
            "localhost:",
            "localhost:x",
            "user@localhost",
        ] {
            assert!(!is_known_host(host, &known), "{host}");
        }
    }
}
