//! Cutting a payload into fragments: metadata first, then data, never before the stream's turn.

use bytes::Bytes;

use crate::{frame::METADATA_LENGTH_LEN, payload::Payload};

/// The rest of a payload that did not fit one frame (FRAG-01). It shares the payload's memory.
#[derive(Debug)]
pub(crate) struct Cut {
    metadata: Option<Bytes>,
    data: Bytes,
    /// The end that follows the last fragment.
    pub(crate) end: CutEnd,
}

/// How a fragmented payload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutEnd {
    /// It is a request; PAYLOAD frames carry the rest of it.
    Request,
    /// It is an item, and more may follow.
    Item,
    /// It is the answer to a request-response: its last fragment carries COMPLETE.
    Answer,
    /// It is the last item of a stream or channel. COMPLETE follows as a frame of its own: some
    /// peers overlook it on a fragment.
    LastItem,
}

impl Cut {
    pub(crate) fn new(payload: Payload, end: CutEnd) -> Self {
        Self { metadata: payload.metadata, data: payload.data, end }
    }

    /// The next fragment of at most `room` bytes behind the fixed part of its frame. The metadata
    /// comes first, and its length is in exactly the fragments that have some (FRAG-03, FRAG-04).
    pub(crate) fn next(&mut self, room: usize) -> Payload {
        let Some(metadata) = &mut self.metadata else {
            return Payload::new(self.data.split_to(room.min(self.data.len())));
        };
        let room = room.saturating_sub(METADATA_LENGTH_LEN);
        if metadata.len() > room {
            let part = metadata.split_to(room);
            return Payload { metadata: Some(part), data: Bytes::new() };
        }
        let room = room - metadata.len();
        let data = self.data.split_to(room.min(self.data.len()));
        Payload { metadata: self.metadata.take(), data }
    }

    /// Bytes left to send.
    pub(crate) fn size(&self) -> usize {
        self.metadata.as_ref().map_or(0, Bytes::len) + self.data.len()
    }

    /// Nothing is left to send.
    pub(crate) fn is_spent(&self) -> bool {
        self.metadata.is_none() && self.data.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(metadata: Option<usize>, data: usize, room: usize) -> Vec<(Option<usize>, usize)> {
        let payload = Payload {
            metadata: metadata.map(|len| vec![1; len].into()),
            data: vec![2; data].into(),
        };
        let mut cut = Cut::new(payload, CutEnd::Item);
        let mut fragments = Vec::new();
        while !cut.is_spent() {
            let part = cut.next(room);
            fragments.push((part.metadata.map(|metadata| metadata.len()), part.data.len()));
        }
        fragments
    }

    #[test]
    fn metadata_comes_first_and_only_where_there_is_some() {
        assert_eq!(cut(None, 25, 10), [(None, 10), (None, 10), (None, 5)]);
        assert_eq!(cut(Some(9), 9, 10), [(Some(7), 0), (Some(2), 5), (None, 4)]);
        assert_eq!(cut(Some(7), 3, 10), [(Some(7), 0), (None, 3)]);
        assert_eq!(cut(Some(0), 12, 10), [(Some(0), 7), (None, 5)]);
        assert_eq!(cut(Some(12), 0, 10), [(Some(7), 0), (Some(5), 0)]);
    }

    #[test]
    fn fragments_share_the_payload() {
        let data = Bytes::from(vec![0; 100]);
        let mut cut = Cut::new(Payload::new(data.clone()), CutEnd::Item);
        cut.next(60);
        assert_eq!(cut.next(60).data.as_ptr(), data[60..].as_ptr());
    }
}
