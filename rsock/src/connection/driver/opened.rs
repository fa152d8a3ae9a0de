//! The streams that the peer has opened, with what nobody else remembers of them: route and time. For whoever looks
//! at the connection; nothing of it is kept unless that was asked for.

use std::time::Instant;

use rsock_proto::{
    Connection, Payload, StreamKey,
    metadata::{Extensions, mime, plain_route},
};

/// Entries of streams that have ended are left until there are as many beside those that are open.
const LEAST_LEFT: usize = 16;

/// All that is remembered of streams and channels. Bounded: twice as many as are open, and a few.
#[derive(Default)]
pub(crate) struct Opened {
    /// The type of metadata where it is not composite.
    mime: Option<Box<[u8]>>,
    entries: Vec<Entry>,
}

/// A stream, if it is still open.
struct Entry {
    key: StreamKey,
    at: Instant,
    route: Option<Box<str>>,
}

impl Opened {
    /// Metadata of the connection are of this type.
    pub(super) fn set_mime(&mut self, mime: &[u8]) {
        self.mime = (!mime::is_composite(mime)).then(|| mime.into());
    }

    /// The route that a request names, copied: what it came in is not kept for it.
    pub(super) fn route(&self, payload: &Payload) -> Option<Box<str>> {
        let metadata = payload.metadata.as_ref()?;
        if self.mime.is_none()
            && let Some(plain) = plain_route(metadata)
        {
            return str::from_utf8(plain).ok().map(Box::from);
        }
        let mime = self.mime.as_deref().unwrap_or(mime::COMPOSITE_METADATA.as_bytes());
        let route = Extensions::read(metadata, mime).ok()?.route().ok()??;
        Some(route.as_str().into())
    }

    /// A stream is open from now on.
    pub(super) fn add(
        &mut self,
        key: StreamKey,
        route: Option<Box<str>>,
        at: Instant,
        connection: &mut Connection,
    ) {
        if self.entries.len() >= LEAST_LEFT + 2 * connection.open_streams() {
            self.entries.retain(|entry| connection.stream(entry.key).is_some());
        }
        self.entries.push(Entry { key, at, route });
    }

    /// The time at which each stream was opened, and its route; some of them have ended.
    pub(super) fn each(&self) -> impl Iterator<Item = (StreamKey, (Instant, Option<&str>))> {
        self.entries.iter().map(|entry| (entry.key, (entry.at, entry.route.as_deref())))
    }
}
