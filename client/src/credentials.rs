//! The user's credentials: read where they do not show, and told to the peer.

use std::{convert::Infallible, fmt, net::IpAddr, str::FromStr};

use bytes::Bytes;
use rsock::metadata::{Authentication, WellKnownMime};

use crate::{
    args::{AuthArgs, ConnectionArgs, MetadataArgs},
    exit::Failure,
    input::{self, Source},
    metadata,
    render::say,
};

/// Something that is not to be shown, or where to find it.
#[derive(Clone)]
pub(crate) struct Secret(String);

/// Any text is one, so that no message about a wrong one quotes it.
impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The value it stands for: itself, a file's first line, or the value of an environment
    /// variable.
    fn read(&self, option: &str, is_literal: bool) -> Result<String, Failure> {
        if is_literal {
            return Ok(self.0.clone());
        }
        let text = match (self.0.strip_prefix('@'), self.0.strip_prefix("env:")) {
            (Some("-"), _) => {
                return Err(Failure::Usage(format!("{option} takes @FILE: stdin belongs to -d")));
            }
            (Some(_), _) => first_line(&input::value(&self.0)?),
            (None, Some(name)) => {
                let value = std::env::var_os(name).ok_or_else(|| {
                    Failure::Usage(format!("{option}: no environment variable {name:?} is set"))
                })?;
                Bytes::from(value.into_encoded_bytes())
            }
            (None, None) => return Ok(self.0.clone()),
        };
        if text.is_empty() {
            // A variable that was meant to be set, or a file that was to be written.
            return Err(Failure::Usage(format!("{option}: {} is empty", self.0)));
        }
        let text = String::from_utf8(text.into());
        text.map_err(|_| Failure::Usage(format!("{option}: credentials are UTF-8 text")))
    }
}

fn first_line(text: &Bytes) -> Bytes {
    let end = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
    let line = text.slice(..end);
    if line.ends_with(b"\r") { line.slice(..end - 1) } else { line }
}

/// The credentials given, if there are any.
pub(crate) fn given(args: &AuthArgs) -> Result<Option<Authentication>, Failure> {
    if let Some(secret) = &args.auth_simple {
        let text = secret.read("--auth-simple", args.auth_literal)?;
        let (username, password) = text.split_once(':').ok_or_else(|| {
            Failure::usage("--auth-simple: expected USER:PASSWORD, and there is no colon")
        })?;
        return Ok(Some(Authentication::simple(username, password)));
    }
    let read = |secret: &Secret| secret.read("--auth-bearer", args.auth_literal);
    let token = args.auth_bearer.as_ref().map(read).transpose()?;
    Ok(token.as_deref().map(Authentication::bearer))
}

/// Says so where credentials are about to travel in clear to another machine (AUTH-10).
pub(crate) fn warn_if_in_clear(connection: &ConnectionArgs, request: &MetadataArgs) {
    let auth = &connection.auth;
    let has_options = auth.auth_simple.is_some() || auth.auth_bearer.is_some();
    let has_entry =
        connection.setup_metadata.iter().chain(&request.metadata).any(|entry| names_auth(entry));
    let has_header =
        connection.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let has_user = authority(&connection.uri).is_some_and(|(_, authority)| authority.contains('@'));
    if (has_options || has_entry || has_header || has_user)
        && let Some(host) = reached_in_clear(&connection.uri)
    {
        say(format_args!(
            "rsock: warning: the credentials go to {host:?} in clear, and whoever is on the way can \
             read them"
        ));
    }
}

/// Whether a `MIME=VALUE` is about credentials.
fn names_auth(entry: &str) -> bool {
    let named = entry.split_once('=').and_then(|(name, _)| metadata::mime(name).ok());
    named == Some(WellKnownMime::Authentication.into())
}

/// A URI as it may be shown: without the credentials in it.
pub(crate) fn without_credentials(uri: &str) -> String {
    match authority(uri).and_then(|(_, authority)| authority.rsplit_once('@')) {
        Some((user, _)) => uri.replacen(&format!("{user}@"), "", 1),
        None => uri.to_owned(),
    }
}

/// The scheme of a URI, and what stands before its path.
fn authority(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    Some((scheme, rest.split(['/', '?', '#']).next().unwrap_or_default()))
}

/// The host of a URI whose transport does not encrypt, unless it is this machine.
fn reached_in_clear(uri: &str) -> Option<&str> {
    let (scheme, authority) = authority(uri)?;
    if !["tcp", "ws"].iter().any(|clear| scheme.eq_ignore_ascii_case(clear)) {
        return None;
    }
    let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let lower = host.to_ascii_lowercase();
    let is_local = lower == "localhost"
        || lower.ends_with(".localhost")
        || lower.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
    (!is_local).then_some(host)
}

/// Stdin is for `-d` alone.
pub(crate) fn refuse_stdin(option: &str, source: &Source) -> Result<(), Failure> {
    if *source == Source::Stdin {
        return Err(Failure::Usage(format!("{option} takes text or @FILE: stdin belongs to -d")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_no_way_to_listen_on() {
        for (uri, host) in [
            ("tcp://example.org:1", Some("example.org")),
            ("WS://10.0.0.1/path", Some("10.0.0.1")),
            ("tcp://[2001:db8::1]:7878", Some("2001:db8::1")),
            ("ws://localhost.example.org", Some("localhost.example.org")),
            ("ws://example.org?a=b:c", Some("example.org")),
            ("ws://ann:s3cret@example.org/", Some("example.org")),
            ("ws://ann:s3cret@localhost/", None),
            ("tcp://localhost:1", None),
            ("tcp://LOCALHOST:1", None),
            ("ws://app.localhost/x", None),
            ("tcp://127.1.2.3:1", None),
            ("tcp://[::1]:1", None),
            ("tcp://[::ffff:127.0.0.1]:1", None),
            ("tls://example.org:1", None),
            ("wss://example.org", None),
            ("unix:///run/rsock", None),
            ("example.org", None),
        ] {
            assert_eq!(reached_in_clear(uri), host, "{uri}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(without_credentials("ws://ann:s3cret@h:1/a@b"), "ws://h:1/a@b");
        assert_eq!(without_credentials("unix:@name"), "unix:@name");
        let secret: Secret = "hunter2".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(secret.read("--auth-bearer", false).unwrap(), "hunter2");
        assert_eq!(Secret("env:x".into()).read("--auth-bearer", true).unwrap(), "env:x");
        let stdin: Secret = "@-".parse().unwrap();
        assert!(stdin.read("--auth-bearer", false).unwrap_err().to_string().contains("stdin"));
    }

    #[test]
    fn a_file_is_read_to_the_end_of_its_first_line() {
        for (text, line) in [("tok\n", "tok"), ("tok\r\nmore", "tok"), ("tok", "tok"), ("", "")] {
            assert_eq!(first_line(&Bytes::from(text)), line);
        }
    }

    #[test]
    fn entries_of_credentials_are_known_by_any_name() {
        for entry in ["auth=@f", "0x7c=x", "message/x.rsocket.authentication.v0=x"] {
            assert!(names_auth(entry), "{entry}");
        }
        assert!(!names_auth("json=auth") && !names_auth("auth"));
    }
}
