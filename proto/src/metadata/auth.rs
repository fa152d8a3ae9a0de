//! Authentication metadata: how a peer says who it is.
//!
//! ```text
//! | head 1 | name 0..=128 | payload to the end |
//! simple (0x00):  | user name length u16 | user name | password to the end |
//! bearer (0x01):  | token to the end |
//! ```

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::metadata::{
    LengthCoding, MetadataError,
    mime::{Head, ID_FLAG, put_name, split_head},
    split,
};

/// Credentials, of one of the types the authentication extension knows or leaves open.
///
/// Allowed in SETUP and in the four request types (AUTH-03), where they hold for that request
/// only; of several entries the first counts (AUTH-11). They travel in clear: use them over a
/// confidential transport (AUTH-10).
///
/// `Debug` shows no secrets, and there is no `PartialEq`: secrets are to be compared in constant
/// time, by the application (AUTH-12).
#[derive(Clone)]
pub enum Authentication {
    /// Type 0x00. Either may be empty: whether that authenticates is for the application
    /// (AUTH-07). Received bytes are not checked to be UTF-8.
    Simple {
        /// UTF-8, at most 65,535 bytes, no NUL at the end (AUTH-04).
        username: Bytes,
        /// UTF-8, no NUL at the end.
        password: Bytes,
    },
    /// Type 0x01.
    Bearer {
        /// UTF-8, no NUL at the end, possibly empty (AUTH-06, -07). Not checked if received.
        token: Bytes,
    },
    /// A type with a name, which the application may know (AUTH-09).
    Custom {
        /// The name, 1 to 128 bytes; ASCII to be encoded.
        name: Bytes,
        /// The payload that the type makes sense of.
        payload: Bytes,
    },
    /// An id in 0x02..=0x7F, which stands for nothing yet: not authenticated, but no fault of
    /// the protocol (AUTH-09).
    Reserved {
        /// The id.
        id: u8,
        /// The payload as it came.
        payload: Bytes,
    },
}

impl Authentication {
    /// User name and password.
    pub fn simple(username: &str, password: &str) -> Self {
        Self::Simple {
            username: Bytes::copy_from_slice(username.as_bytes()),
            password: Bytes::copy_from_slice(password.as_bytes()),
        }
    }

    /// A token.
    pub fn bearer(token: &str) -> Self {
        Self::Bearer { token: Bytes::copy_from_slice(token.as_bytes()) }
    }

    /// Decodes the content of an authentication entry; the parts are slices of it.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if the content is empty or a length runs past its end. Treat
    /// that as failed authentication (AUTH-05): REJECTED_SETUP or REJECTED, not INVALID
    /// (AUTH-08).
    pub fn decode(content: &Bytes) -> Result<Self, MetadataError> {
        Self::decode_with(content, LengthCoding::MinusOne)
    }

    /// [`decode`](Self::decode), but with the length of a custom type's name read as the peer
    /// writes it: [`LengthCoding::Plain`] for rsocket-go (AUTH-02).
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode); a plain length of 0 is truncated as well.
    pub fn decode_with(content: &Bytes, coding: LengthCoding) -> Result<Self, MetadataError> {
        let (head, payload) = split_head(content, TYPE, coding)?;
        match head {
            Head::Id(SIMPLE) => {
                let (len, rest) = split(payload, 2, "length of the user name")?;
                let len = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
                let (username, password) = split(rest, len, USERNAME)?;
                Ok(Self::Simple {
                    username: content.slice_ref(username),
                    password: content.slice_ref(password),
                })
            }
            Head::Id(BEARER) => Ok(Self::Bearer { token: content.slice_ref(payload) }),
            Head::Id(id) => Ok(Self::Reserved { id, payload: content.slice_ref(payload) }),
            Head::Name(name) => Ok(Self::Custom {
                name: content.slice_ref(name),
                payload: content.slice_ref(payload),
            }),
        }
    }

    /// The content of an authentication entry.
    ///
    /// # Errors
    ///
    /// [`MetadataError::TooLong`] for a user name over 65,535 bytes or a type name over 128,
    /// [`MetadataError::Empty`] or [`MetadataError::NotAscii`] for a type name that is, and
    /// [`MetadataError::NotReserved`] for an id outside 0x02..=0x7F.
    pub fn encode(&self) -> Result<Bytes, MetadataError> {
        self.encode_with(LengthCoding::MinusOne)
    }

    /// [`encode`](Self::encode), but with the length of a custom type's name written as the peer
    /// reads it (AUTH-02).
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode); a name has at most 127 bytes if its length is plain.
    pub fn encode_with(&self, coding: LengthCoding) -> Result<Bytes, MetadataError> {
        let mut buf = BytesMut::new();
        match self {
            Self::Simple { username, password } => {
                let Ok(len) = u16::try_from(username.len()) else {
                    let (len, max) = (username.len(), usize::from(u16::MAX));
                    return Err(MetadataError::TooLong { what: USERNAME, len, max });
                };
                buf.reserve(3 + username.len() + password.len());
                buf.put_u8(ID_FLAG | SIMPLE);
                buf.put_u16(len);
                buf.put_slice(username);
                buf.put_slice(password);
            }
            Self::Bearer { token } => {
                buf.reserve(1 + token.len());
                buf.put_u8(ID_FLAG | BEARER);
                buf.put_slice(token);
            }
            Self::Custom { name, payload } => {
                put_name(&mut buf, name, TYPE, coding)?;
                buf.put_slice(payload);
            }
            &Self::Reserved { id: id @ (SIMPLE | BEARER | ID_FLAG..), .. } => {
                return Err(MetadataError::NotReserved { what: "authentication id", id });
            }
            Self::Reserved { id, payload } => {
                buf.put_u8(ID_FLAG | id);
                buf.put_slice(payload);
            }
        }
        Ok(buf.freeze())
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple { .. } => f.debug_struct("Simple").finish_non_exhaustive(),
            Self::Bearer { .. } => f.debug_struct("Bearer").finish_non_exhaustive(),
            Self::Custom { name, .. } => {
                f.debug_struct("Custom").field("name", name).finish_non_exhaustive()
            }
            Self::Reserved { id, .. } => {
                f.debug_struct("Reserved").field("id", id).finish_non_exhaustive()
            }
        }
    }
}

const SIMPLE: u8 = 0x00;
const BEARER: u8 = 0x01;
const TYPE: &str = "authentication type";
const USERNAME: &str = "user name";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::testing::{hex, is_slice_of};

    fn simple(wire: &str) -> (Bytes, Bytes) {
        match Authentication::decode(&hex(wire)) {
            Ok(Authentication::Simple { username, password }) => (username, password),
            other => panic!("{wire} is {other:?}"),
        }
    }

    #[test]
    fn the_golden_vectors_hold_both_ways() {
        assert_eq!(simple("80 0001 75 7077"), ("u".into(), "pw".into()));
        let wire = Authentication::simple("u", "pw").encode().unwrap();
        assert_eq!(wire, hex("80 0001 75 7077"));

        let wire = hex("81 746f6b");
        assert_eq!(Authentication::bearer("tok").encode().unwrap(), wire);
        let Ok(Authentication::Bearer { token }) = Authentication::decode(&wire) else { panic!() };
        assert_eq!(token, "tok");
        assert!(is_slice_of(&token, &wire));
    }

    #[test]
    fn a_custom_type_is_named_with_its_length_minus_one() {
        let wire = hex("04 746f6b656e ff");
        let auth = Authentication::decode(&wire).unwrap();
        let Authentication::Custom { name, payload } = &auth else { panic!("{auth:?}") };
        assert_eq!((name, payload), (&"token".into(), &hex("ff")));
        assert_eq!(auth.encode().unwrap(), wire);
    }

    #[test]
    fn a_custom_type_can_be_named_as_go_does() {
        let wire = hex("05 746f6b656e ff");
        let auth = Authentication::decode_with(&wire, LengthCoding::Plain).unwrap();
        let Authentication::Custom { name, payload } = &auth else { panic!("{auth:?}") };
        assert_eq!((name, payload), (&"token".into(), &hex("ff")));
        assert_eq!(auth.encode_with(LengthCoding::Plain).unwrap(), wire);

        assert!(Authentication::decode_with(&hex("00 61"), LengthCoding::Plain).is_err());
        let long = Authentication::Custom { name: vec![b'x'; 128].into(), payload: Bytes::new() };
        assert_eq!(long.encode().unwrap()[0], 127);
        let refused = MetadataError::TooLong { what: TYPE, len: 128, max: 127 };
        assert_eq!(long.encode_with(LengthCoding::Plain), Err(refused));
    }

    #[test]
    fn empty_credentials_decode() {
        assert_eq!(simple("80 0000 7077"), (Bytes::new(), "pw".into()));
        assert_eq!(simple("80 0001 75"), ("u".into(), Bytes::new()));
        assert_eq!(simple("80 0000"), (Bytes::new(), Bytes::new()));
        let bearer = Authentication::decode(&hex("81"));
        assert!(matches!(bearer, Ok(Authentication::Bearer { token }) if token.is_empty()));
    }

    #[test]
    fn lengths_past_the_end_are_truncated() {
        for wire in ["", "80", "80 00", "80 00ff 75", "80 ffff", "00", "7f 61"] {
            let error = Authentication::decode(&hex(wire)).unwrap_err();
            assert!(matches!(error, MetadataError::Truncated { .. }), "{wire} is {error}");
        }
    }

    #[test]
    fn an_unknown_id_is_kept_with_its_payload() {
        let auth = Authentication::decode(&hex("ff 0102")).unwrap();
        let Authentication::Reserved { id, payload } = &auth else { panic!("{auth:?}") };
        assert_eq!((*id, payload), (0x7F, &hex("0102")));
        assert_eq!(auth.encode().unwrap(), hex("ff 0102"));

        for id in [SIMPLE, BEARER, 0x80, 0xFF] {
            let auth = Authentication::Reserved { id, payload: Bytes::new() };
            let refused = MetadataError::NotReserved { what: "authentication id", id };
            assert_eq!(auth.encode(), Err(refused));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let name = "x".repeat(65_535);
        assert_eq!(Authentication::simple(&name, "").encode().unwrap().len(), 65_538);
        let refused = MetadataError::TooLong { what: USERNAME, len: 65_536, max: 65_535 };
        assert_eq!(Authentication::simple(&(name + "x"), "").encode(), Err(refused));

        for (name, refused) in [
            ("x".repeat(129), MetadataError::TooLong { what: TYPE, len: 129, max: 128 }),
            (String::new(), MetadataError::Empty { what: TYPE }),
            ("ü".to_owned(), MetadataError::NotAscii { what: TYPE }),
        ] {
            let auth = Authentication::Custom { name: name.into(), payload: Bytes::new() };
            assert_eq!(auth.encode(), Err(refused));
        }
    }

    #[test]
    fn debug_output_shows_no_secrets() {
        let secret = Bytes::from_static(b"secret");
        for (auth, shown) in [
            (Authentication::simple("secret", "secret"), "Simple { .. }"),
            (Authentication::bearer("secret"), "Bearer { .. }"),
            (
                Authentication::Custom { name: "x".into(), payload: secret.clone() },
                r#"Custom { name: b"x", .. }"#,
            ),
            (Authentication::Reserved { id: 2, payload: secret }, "Reserved { id: 2, .. }"),
        ] {
            assert_eq!(format!("{auth:?}"), shown);
        }
    }
}
