//! Credentials in the handshake of a WebSocket: `Authorization`, or a cookie.

use base64::{Engine, prelude::BASE64_STANDARD};
use rsock::{HttpHead, metadata::Authentication};
use rsock_access::CookieSettings;

use crate::doors::is_of_host;

/// Credentials of a handshake.
#[derive(Debug)]
pub(super) enum OfHandshake {
    /// Of the header.
    Header(Authentication),
    /// A token in the cookie.
    Cookie(String),
}

/// The credentials in the headers of a handshake, if there are any.
///
/// # Errors
/// What is wrong with them: they are not passed over.
pub(super) fn credentials(
    head: &HttpHead,
    cookie: Option<&CookieSettings>,
    is_encrypted: bool,
) -> Result<Option<OfHandshake>, &'static str> {
    if head.headers().any(|(name, _)| name == "authorization") {
        let value = head.header("authorization").ok_or("the Authorization header is not ASCII")?;
        return authorization(value).map(|found| Some(OfHandshake::Header(found)));
    }
    let Some(settings) = cookie else { return Ok(None) };
    let mut found = head
        .headers()
        .filter(|(name, _)| *name == "cookie")
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == settings.name);
    let Some((_, token)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err("the cookie is there twice");
    }
    // A browser sends it whichever page asks. Where pages only read from their own site it leaves the origin out, and
    // says so in a header that no page can set.
    let is_ours = match head.origin() {
        Some(origin) => {
            settings.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
                || is_of_host(origin, head.header("host"), is_encrypted)
        }
        None => head.header("sec-fetch-site") == Some("same-origin"),
    };
    if !is_ours {
        return Err("a cookie, and the page's Origin is not allowed");
    }
    Ok(Some(OfHandshake::Cookie(token.trim_matches('"').to_owned())))
}

pub(super) fn authorization(value: &str) -> Result<Authentication, &'static str> {
    let value = value.trim();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Authentication::bearer(rest));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err("the Authorization header is neither Basic nor Bearer");
    }
    let decoded = BASE64_STANDARD.decode(rest).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((name, password)) => Ok(Authentication::simple(name, password)),
        None => Err("the Authorization header is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_a_password_or_a_token() {
        assert!(matches!(
            authorization("Basic YW5uOnNlY3JldDp4"),
            Ok(Authentication::Simple { username, password }) if username == "ann" && password == "secret:x"
        ));
        assert!(matches!(
            authorization("bearer  tok"),
            Ok(Authentication::Bearer { token }) if token == "tok"
        ));
        for wrong in ["", "Basic", "Basic !", "Basic YW5u", "Digest x", "Negotiate"] {
            assert!(authorization(wrong).is_err(), "{wrong}");
        }
    }
}
