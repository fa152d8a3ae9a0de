//! Putting fragments together, and holding their sender to how a payload is cut (FRAG-01 to FRAG-13,
//! and what peers that are looser than the protocol need: the safe sender).

use bytes::{Bytes, BytesMut};

use crate::{
    broken::{Check, hold},
    wire::{Frame, flag},
};

/// A payload of which more fragments are to come.
#[derive(Debug)]
pub(crate) struct Run {
    request: bool,
    metadata: Option<BytesMut>,
    data: BytesMut,
}

/// The outcome of a frame that made something whole: a request, an item, or the end of a half.
#[derive(Debug)]
pub(crate) struct Joined {
    /// It opens its stream.
    pub(crate) request: bool,
    /// Metadata and data, if it is more than an end.
    pub(crate) payload: Option<(Option<Bytes>, Bytes)>,
    /// It ends its sender's half.
    pub(crate) complete: bool,
}

impl Run {
    pub(crate) fn is_request(&self) -> bool {
        self.request
    }

    /// The first frame of a payload, often the only one.
    pub(crate) fn begin(
        frame: &Frame,
        request: bool,
        limit: usize,
        run: &mut Option<Self>,
    ) -> Check<Option<Joined>> {
        Self::check_len(frame, limit)?;
        let (complete, follows) = (frame.has(flag::COMPLETE), frame.has(flag::FOLLOWS));
        if !follows {
            let is_item = request || frame.has(flag::NEXT);
            let payload = is_item.then(|| {
                (frame.metadata.clone().map(Bytes::from), Bytes::from(frame.data.clone()))
            });
            return Ok(Some(Joined { request, payload, complete }));
        }
        hold!(request || frame.has(flag::NEXT), Fragments, "FRAG-06: NEXT on each");
        hold!(!complete, Fragments, "FRAG-06: COMPLETE on the last alone");
        let metadata = frame.metadata.as_ref().map(|metadata| BytesMut::from(&metadata[..]));
        *run = Some(Self { request, metadata, data: BytesMut::from(&frame.data[..]) });
        Ok(None)
    }

    /// Another fragment. `answer` is the only payload whose last fragment may carry COMPLETE: some
    /// peers overlook it on the others.
    pub(crate) fn go_on(
        frame: &Frame,
        limit: usize,
        answer: bool,
        slot: &mut Option<Self>,
    ) -> Check<Option<Joined>> {
        Self::check_len(frame, limit)?;
        let Some(run) = slot else { return Ok(None) };
        let (complete, follows) = (frame.has(flag::COMPLETE), frame.has(flag::FOLLOWS));
        hold!(frame.has(flag::NEXT), Fragments, "FRAG-06, FRAG-13: NEXT on each");
        if let Some(part) = &frame.metadata {
            hold!(run.data.is_empty(), Fragments, "FRAG-03: metadata behind data");
            hold!(!part.is_empty(), Fragments, "FRAG-04: no metadata, but its length");
            hold!(run.metadata.is_some(), Fragments, "FRAG-06: metadata from the first on");
            run.metadata.get_or_insert_default().extend_from_slice(part);
        }
        run.data.extend_from_slice(&frame.data);
        if follows {
            hold!(!complete, Fragments, "FRAG-06: COMPLETE on the last alone");
            return Ok(None);
        }
        let answers = answer && !run.request;
        hold!(complete == answers, Fragments, "FRAG-06, RR-01: COMPLETE on an answer's last alone");
        let metadata = run.metadata.take().map(BytesMut::freeze);
        let payload = Some((metadata, run.data.split().freeze()));
        let request = run.request;
        *slot = None;
        Ok(Some(Joined { request, payload, complete }))
    }

    fn check_len(frame: &Frame, limit: usize) -> Check {
        let len = frame.raw.len();
        hold!(len <= limit, Fragments, "FRAG-01: {len} bytes, at most {limit} are wanted");
        let small = frame.has(flag::FOLLOWS) && len < 61;
        hold!(!small, Fragments, "FRAG-06: {len} bytes, and more follow");
        Ok(())
    }
}
