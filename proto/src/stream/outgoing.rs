//! The frames of a stream, written one at a time.

use crate::{
    frame::{
        HEADER_LEN, Interaction, PayloadSignal, Request, Sink, encode_cancel, encode_error,
        encode_payload, encode_request_n, encode_shared, payload_frame_len,
    },
    payload::{Payload, SharedPayload},
    stream::{Cut, CutEnd, Stream, send::Output},
};

/// The kind of a frame that a stream has written, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// An item that fits a frame.
    Item,
    /// The end of a fire-and-forget.
    FireAndForget,
    /// A fragment of a request, but for the end of a fire-and-forget.
    RequestFragment,
    /// The first fragment of an item.
    ItemBegun,
    /// Another fragment of an item.
    ItemFragment,
    /// Anything else.
    Other,
}

impl Written {
    /// A request that fits a frame.
    #[inline]
    pub(crate) fn request(interaction: Interaction) -> Self {
        if interaction == Interaction::FireAndForget { Self::FireAndForget } else { Self::Other }
    }
}

impl Stream {
    /// Writes its CANCEL or REQUEST_N; `None` if it has none, or is in the middle of a payload.
    #[inline]
    pub(crate) fn write_control<S: Sink>(&mut self, out: &mut S) -> Option<Written> {
        if !self.has_control() {
            return None;
        }
        if self.recv.take_cancel() {
            encode_cancel(self.id, out);
        } else {
            encode_request_n(self.id, self.recv.take_request_n(), out);
        }
        Some(Written::Other)
    }

    /// Writes its next frame, of at most `max` bytes; `None` if it has none.
    #[inline]
    pub(crate) fn write_next<S: Sink>(&mut self, max: usize, out: &mut S) -> Option<Written> {
        if let Some(payload) = self.send.take_opening() {
            return Some(self.write_request(payload, max, out));
        }
        if self.cut.is_some() {
            return self.write_fragment(max, out);
        }
        // It has waited for the last fragment, and does not wait for the next item's as well.
        if self.has_control() {
            return self.write_control(out);
        }
        Some(match self.send.pop()? {
            Output::Item { item, last } if payload_frame_len(&item) > max => {
                let end = match (last, self.interaction) {
                    (true, Interaction::RequestResponse) => CutEnd::Answer,
                    (true, _) => CutEnd::LastItem,
                    (false, _) => CutEnd::Item,
                };
                self.cut = Some(Box::new(Cut::new(item, end)));
                self.write_fragment(max, out)?;
                Written::ItemBegun
            }
            Output::Item { item, last } => self.write_item(item, last, out),
            Output::Complete => self.write_complete(out),
            Output::Error(error) => {
                encode_error(Some(self.id), error.code, &error.message, out);
                Written::Other
            }
        })
    }

    /// Writes an item that fits a frame.
    #[inline]
    pub(crate) fn write_item<S: Sink>(&self, item: Payload, last: bool, out: &mut S) -> Written {
        let signal = if last { PayloadSignal::NextComplete } else { PayloadSignal::Next };
        encode_payload(self.id, signal, false, item, out);
        Written::Item
    }

    /// Writes an item that others are sent as well, and that fits a frame.
    #[inline]
    pub(crate) fn write_shared<S: Sink>(&self, item: &SharedPayload, out: &mut S) -> Written {
        encode_shared(self.id, item, out);
        Written::Item
    }

    fn write_complete<S: Sink>(&self, out: &mut S) -> Written {
        encode_payload(self.id, PayloadSignal::Complete, false, Payload::default(), out);
        Written::Other
    }

    /// Writes its request, or the first fragment of it.
    #[inline]
    fn write_request<S: Sink>(&mut self, payload: Payload, max: usize, out: &mut S) -> Written {
        let mut request = Request {
            stream: self.id,
            interaction: self.interaction,
            follows: false,
            // Some peers overlook COMPLETE here; it follows as a frame of its own (FRAG-06).
            complete: false,
            initial_n: self.take_initial_n(),
            payload,
        };
        if request.encoded_len() > max {
            let payload = std::mem::take(&mut request.payload);
            let mut cut = Cut::new(payload, CutEnd::Request);
            request.payload = cut.next(max - request.encoded_len());
            request.follows = true;
            self.cut = Some(Box::new(cut));
        }
        let is_whole = !request.follows;
        request.encode(out);
        if is_whole { Written::request(self.interaction) } else { Written::RequestFragment }
    }

    /// The initial request-n, which goes out with the request.
    #[inline]
    pub(crate) fn take_initial_n(&mut self) -> u32 {
        self.recv.take_request_n()
    }

    /// Writes the next fragment of what it is sending. NEXT is on every one of them, and COMPLETE on
    /// none but the last of an answer (FRAG-06).
    fn write_fragment<S: Sink>(&mut self, max: usize, out: &mut S) -> Option<Written> {
        let cut = self.cut.as_mut()?;
        if cut.is_spent() {
            // The last item has left whole; its COMPLETE follows.
            self.cut = None;
            return Some(self.write_complete(out));
        }
        let fragment = cut.next(max - HEADER_LEN);
        let (end, is_whole) = (cut.end, cut.is_spent());
        let signal = if is_whole && end == CutEnd::Answer {
            PayloadSignal::NextComplete
        } else {
            PayloadSignal::Next
        };
        encode_payload(self.id, signal, !is_whole, fragment, out);
        if is_whole && end != CutEnd::LastItem {
            self.cut = None;
        }
        Some(match end {
            CutEnd::Request if is_whole && self.interaction == Interaction::FireAndForget => {
                Written::FireAndForget
            }
            CutEnd::Request => Written::RequestFragment,
            CutEnd::Item | CutEnd::Answer | CutEnd::LastItem => Written::ItemFragment,
        })
    }
}
