//! Features that a client declares in SETUP, and notices that are pushed to those who declared them.
//!
//! They are rsock's own: none of the extensions has them. Nobody is pushed anything who has not asked for it,
//! since some implementations end the connection at a METADATA_PUSH.

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::metadata::{
    CompositeBuilder, MetadataError, Mime,
    composite::RawEntry,
    mime::{AUTH, DRAIN, FEATURES, Head, is_composite},
};

/// The news that a client heeds: an entry of type [`FEATURES`](super::mime::FEATURES) in the composite metadata of SETUP, words of ASCII with
/// spaces between them. Words that are not known are skipped.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u8);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);
    /// `drain`: it moves to another server when it is told that this one stops, by [`Notice::Drain`].
    pub const DRAIN: Self = Self(1);
    /// `auth-refresh`: it authenticates again when it is told that its credentials expire, by
    /// [`Notice::Expires`].
    pub const AUTH_REFRESH: Self = Self(1 << 1);
    /// `deadline`: it says how long it waits for an answer, and heeds what it is told of that.
    pub const DEADLINE: Self = Self(1 << 2);

    const WORDS: [(Self, &str); 3] = [
        (Self::DRAIN, "drain"),
        (Self::AUTH_REFRESH, "auth-refresh"),
        (Self::DEADLINE, "deadline"),
    ];

    /// These, and others.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether all of these are among them.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The type of the entry.
    pub fn mime() -> Mime {
        Mime::from_setup(Bytes::from_static(FEATURES.as_bytes()))
    }

    /// Reads the content of the entry.
    pub fn decode(content: &[u8]) -> Self {
        let words = content.split(|byte| *byte == b' ');
        let known = words.filter_map(|word| {
            Self::WORDS.iter().find(|(_, known)| known.as_bytes() == word).map(|(known, _)| *known)
        });
        known.fold(Self::NONE, Self::with)
    }

    /// The features in the metadata of a SETUP, which says `connection_mime` for metadata: where that is no
    /// composite metadata there are none.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if an entry up to that of the features is cut short (CMETA-11).
    pub fn find(metadata: &[u8], connection_mime: impl AsRef<[u8]>) -> Result<Self, MetadataError> {
        let found = first(metadata, connection_mime.as_ref(), &[FEATURES])?;
        Ok(found.map_or(Self::NONE, |(_, content)| Self::decode(content)))
    }
}

/// The words, as they are written.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (_, word) in Self::WORDS.iter().filter(|(feature, _)| self.has(*feature)) {
            write!(f, "{space}{word}")?;
            space = " ";
        }
        Ok(())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

/// News of a server's about a connection: METADATA_PUSH with composite metadata of one entry, whose content is
/// text: names with numbers behind them, as `requests 5000 streams 30000`. Names that are not known are
/// skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The server stops, or wants the connection to go elsewhere: a client should ask another one from a
    /// moment within `requests` on, and end this connection when its streams have ended.
    Drain {
        /// How long requests are still taken, in milliseconds on the wire.
        requests: Duration,
        /// How long open streams may run, in milliseconds on the wire.
        streams: Duration,
    },
    /// The credentials that the connection came in with expire: a client should authenticate again.
    Expires {
        /// How long they count, in seconds on the wire.
        after: Duration,
    },
}

impl Notice {
    /// The features without which nobody is sent it.
    pub const fn needs(&self) -> Features {
        match self {
            Self::Drain { .. } => Features::DRAIN,
            Self::Expires { .. } => Features::AUTH_REFRESH,
        }
    }

    /// The metadata of the push.
    pub fn encode(&self) -> Bytes {
        let (mime, content) = match self {
            Self::Drain { requests, streams } => {
                let (requests, streams) = (requests.as_millis(), streams.as_millis());
                (DRAIN, format!("requests {requests} streams {streams}"))
            }
            Self::Expires { after } => (AUTH, format!("expires {}", after.as_secs())),
        };
        let mut metadata = CompositeBuilder::new();
        let mime = Mime::from_setup(Bytes::from_static(mime.as_bytes()));
        // A name and a content of less than a hundred bytes always fit.
        let _ = metadata.push(mime, content);
        metadata.finish()
    }

    /// The notice in the metadata of a push, on a connection whose SETUP says `connection_mime` for metadata.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if an entry up to it is cut short (CMETA-11),
    /// [`MetadataError::Malformed`] if what it has to say is not there, or no number.
    pub fn find(
        metadata: &[u8],
        connection_mime: impl AsRef<[u8]>,
    ) -> Result<Option<Self>, MetadataError> {
        let found = first(metadata, connection_mime.as_ref(), &[DRAIN, AUTH])?;
        let Some((mime, content)) = found else { return Ok(None) };
        let number = |name: &str| number(content, name);
        let (notice, expected) = if mime == DRAIN {
            let times = number("requests").zip(number("streams"));
            let drain = times.map(|(requests, streams)| Self::Drain {
                requests: Duration::from_millis(requests),
                streams: Duration::from_millis(streams),
            });
            (drain, "requests <ms> streams <ms>")
        } else {
            let after = number("expires");
            let expires = after.map(|after| Self::Expires { after: Duration::from_secs(after) });
            (expires, "expires <s>")
        };
        notice.map(Some).ok_or(MetadataError::Malformed { what: mime, expected })
    }
}

/// The number behind this name.
fn number(content: &[u8], name: &str) -> Option<u64> {
    let mut words = content.split(|byte| *byte == b' ');
    while let Some(word) = words.next() {
        let value = words.next()?;
        if word == name.as_bytes() {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
    }
    None
}

/// The first entry of one of these types: the type, and the content.
fn first<'a>(
    metadata: &'a [u8],
    connection_mime: &[u8],
    types: &[&'static str],
) -> Result<Option<(&'static str, &'a [u8])>, MetadataError> {
    if !is_composite(connection_mime) {
        return Ok(None);
    }
    let mut rest = metadata;
    while !rest.is_empty() {
        let (entry, behind) = RawEntry::split(rest)?;
        if let Head::Name(name) = entry.head
            && let Some(mime) = types.iter().find(|mime| mime.as_bytes().eq_ignore_ascii_case(name))
        {
            return Ok(Some((mime, entry.content)));
        }
        rest = behind;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{WellKnownMime, mime::COMPOSITE_METADATA, testing::hex};

    fn composite(entries: &[(&'static str, &str)]) -> Bytes {
        let mut metadata = CompositeBuilder::new();
        metadata.push(WellKnownMime::TextPlain, "before").unwrap();
        for (mime, content) in entries {
            metadata.push(Mime::from_setup(Bytes::from_static(mime.as_bytes())), content).unwrap();
        }
        metadata.finish()
    }

    /// Their bytes, written by hand: the length of the name less one, the name, the length of the content.
    #[test]
    fn an_entry_of_setup_says_what_a_client_heeds() {
        let features = Features::DRAIN.with(Features::AUTH_REFRESH);
        let mut metadata = CompositeBuilder::new();
        metadata.push(Features::mime(), features.to_string()).unwrap();
        let mut expected = hex("1a").to_vec();
        expected.extend_from_slice(b"message/x.rsock.features.v0\0\0\x12drain auth-refresh");
        assert_eq!(metadata.finish(), expected);
        assert_eq!(Features::find(&expected, COMPOSITE_METADATA), Ok(features));
    }

    #[test]
    fn words_that_are_not_known_are_skipped() {
        for (words, features) in [
            ("", Features::NONE),
            ("drain", Features::DRAIN),
            ("fly drain  deadline drains", Features::DRAIN.with(Features::DEADLINE)),
            ("Drain drain,deadline", Features::NONE),
        ] {
            let metadata = composite(&[(FEATURES, words), (FEATURES, "auth-refresh")]);
            assert_eq!(Features::find(&metadata, COMPOSITE_METADATA), Ok(features), "{words}");
            assert_eq!(Features::find(&metadata, "application/json"), Ok(Features::NONE));
        }
        assert_eq!(Features::find(b"", COMPOSITE_METADATA), Ok(Features::NONE));
        assert!(Features::find(&hex("85 000005 61"), COMPOSITE_METADATA).is_err());
        assert_eq!(format!("{:?}", Features::DRAIN), "Features(drain)");
        assert!(Features::NONE.is_empty() && Features::DRAIN.has(Features::NONE));
        assert!(!Features::DRAIN.has(Features::DRAIN.with(Features::DEADLINE)));
    }

    #[test]
    fn notices_are_read_as_they_were_written() {
        let drain = Notice::Drain {
            requests: Duration::from_millis(5_000),
            streams: Duration::from_millis(30_000),
        };
        let expires = Notice::Expires { after: Duration::from_secs(60) };
        for (notice, name, text, needs) in [
            (drain, DRAIN, "requests 5000 streams 30000", Features::DRAIN),
            (expires, AUTH, "expires 60", Features::AUTH_REFRESH),
        ] {
            let mut expected = vec![name.len() as u8 - 1];
            expected.extend_from_slice(name.as_bytes());
            expected.extend_from_slice(&[0, 0, text.len() as u8]);
            expected.extend_from_slice(text.as_bytes());
            assert_eq!(notice.encode(), expected);
            assert_eq!(Notice::find(&expected, COMPOSITE_METADATA), Ok(Some(notice)));
            assert_eq!(notice.needs(), needs);
        }
        let more = composite(&[(DRAIN, "because 7 streams 30000 requests 5000")]);
        assert_eq!(Notice::find(&more, COMPOSITE_METADATA), Ok(Some(drain)));
    }

    #[test]
    fn what_is_no_notice_is_none_and_half_of_one_is_an_error() {
        assert_eq!(Notice::find(&composite(&[]), COMPOSITE_METADATA), Ok(None));
        let notice = Notice::Expires { after: Duration::from_secs(1) };
        assert_eq!(Notice::find(&notice.encode(), "text/plain"), Ok(None));
        for (name, content) in
            [(DRAIN, "requests 5000"), (DRAIN, ""), (AUTH, "expires"), (AUTH, "expires -1")]
        {
            let problem = Notice::find(&composite(&[(name, content)]), COMPOSITE_METADATA);
            let problem = problem.unwrap_err();
            assert!(
                problem.is_violation() && problem.to_string().contains("expected"),
                "{content}"
            );
        }
    }
}
