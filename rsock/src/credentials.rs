//! Credentials: put into SETUP, and compared.

use rsock_proto::{
    Payload,
    metadata::{Authentication, WellKnownMime, append_entry, mime},
};
#[cfg(feature = "auth")]
use subtle::ConstantTimeEq;

use crate::error::ConnectError;

/// The payload of SETUP with credentials added to its metadata, which is of the type
/// `metadata_mime` (CMETA-09).
pub(crate) fn in_setup(
    payload: &Payload,
    credentials: &Authentication,
    metadata_mime: &[u8],
) -> Result<Payload, ConnectError> {
    let content = credentials.encode().map_err(|_| {
        ConnectError::Setting(
            "the credentials do not fit: a user name has at most 65535 bytes, the name of a type \
             from 1 to 128 that are ASCII",
        )
    })?;
    let before = payload.metadata.clone().unwrap_or_default();
    let metadata = if mime::is_composite(metadata_mime) {
        append_entry(&before, WellKnownMime::Authentication, content)
            .map_err(|_| ConnectError::Setting("the credentials have 16777216 bytes or more"))?
    } else if metadata_mime.eq_ignore_ascii_case(mime::AUTHENTICATION.as_bytes())
        && before.is_empty()
    {
        content
    } else {
        return Err(ConnectError::Setting(
            "credentials in SETUP need composite metadata, or metadata that is nothing else",
        ));
    };
    Ok(Payload { metadata: Some(metadata), data: payload.data.clone() })
}

/// Comparing credentials with those expected, in a time that says nothing about where they differ
/// (AUTH-12): it depends on lengths alone.
///
/// ```
/// use rsock::{CheckCredentials, metadata::Authentication};
///
/// let credentials = Authentication::simple("ann", "secret");
/// assert!(credentials.is_simple("ann", "secret"));
/// assert!(!credentials.is_simple("ann", "guess"));
/// assert!(!credentials.is_bearer("secret"));
/// ```
#[cfg(feature = "auth")]
pub trait CheckCredentials {
    /// Whether these are this user name and this password.
    fn is_simple(&self, username: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> bool;

    /// Whether these are this token.
    fn is_bearer(&self, token: impl AsRef<[u8]>) -> bool;
}

#[cfg(feature = "auth")]
impl CheckCredentials for Authentication {
    fn is_simple(&self, username: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> bool {
        match self {
            Self::Simple { username: user, password: given } => {
                // Both are compared, whatever comes of the first.
                let same = user.ct_eq(username.as_ref()) & given.ct_eq(password.as_ref());
                same.into()
            }
            _ => false,
        }
    }

    fn is_bearer(&self, token: impl AsRef<[u8]>) -> bool {
        match self {
            Self::Bearer { token: given } => given.ct_eq(token.as_ref()).into(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rsock_proto::metadata::Extensions;

    use super::*;

    #[cfg(feature = "auth")]
    #[test]
    fn credentials_are_compared_whole() {
        let simple = Authentication::simple("ann", "secret");
        assert!(simple.is_simple("ann", "secret"));
        for (username, password) in
            [("ann", "secre"), ("an", "nsecret"), ("bob", "secret"), ("ann", ""), ("", "")]
        {
            assert!(!simple.is_simple(username, password));
        }
        assert!(Authentication::simple("", "").is_simple("", ""));
        let bearer = Authentication::bearer("secret");
        assert!(bearer.is_bearer("secret") && !bearer.is_bearer("Secret"));
        assert!(!bearer.is_simple("", "secret") && !simple.is_bearer("secret"));
        // AUTH-09
        let reserved = Authentication::Reserved { id: 9, payload: "secret".into() };
        assert!(!reserved.is_bearer("secret") && !reserved.is_simple("", "secret"));
    }

    #[test]
    fn credentials_go_behind_what_setup_already_says() {
        let composite = mime::COMPOSITE_METADATA;
        let token = |setup: &Payload, mime: &str| {
            let metadata = setup.metadata.as_ref().unwrap();
            match Extensions::read(metadata, mime).unwrap().authentication() {
                Ok(Some(Authentication::Bearer { token })) => token,
                other => panic!("{other:?}"),
            }
        };
        let credentials = Authentication::bearer("tok");
        let setup = in_setup(&"data".into(), &credentials, composite.as_bytes()).unwrap();
        assert_eq!((token(&setup, composite), setup.data), ("tok".into(), "data".into()));

        let before = Payload::new("").with_metadata(b"\x85\0\0\x02{}".as_slice());
        let setup = in_setup(&before, &credentials, composite.as_bytes()).unwrap();
        assert_eq!(token(&setup, composite), "tok");
        assert!(setup.metadata.unwrap().starts_with(b"\x85\0\0\x02{}"));

        let alone = mime::AUTHENTICATION;
        let setup = in_setup(&Payload::default(), &credentials, alone.as_bytes()).unwrap();
        assert_eq!(token(&setup, alone), "tok");
    }

    #[test]
    fn credentials_that_do_not_fit_are_refused() {
        let refused = |payload: &Payload, credentials: &Authentication, mime: &str| {
            in_setup(payload, credentials, mime.as_bytes()).unwrap_err().to_string()
        };
        let long = Authentication::simple(&"x".repeat(65_536), "");
        let composite = mime::COMPOSITE_METADATA;
        assert!(refused(&Payload::default(), &long, composite).contains("at most 65535 bytes"));
        let bearer = Authentication::bearer("tok");
        let json = refused(&Payload::default(), &bearer, mime::APPLICATION_JSON);
        assert!(json.contains("need composite metadata"), "{json}");
        let taken = Payload::new("").with_metadata("x");
        assert!(refused(&taken, &bearer, mime::AUTHENTICATION).contains("nothing else"));
    }
}
