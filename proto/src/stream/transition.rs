//! Transitions of a stream, by the peer or the application, and what follows from them.
//!
//! Each transition changes the stream alone and returns its effect; the connection tells the
//! application, and sees that what is to be written gets its turn.

use crate::{
    error::{ErrorCode, SendError, StreamError},
    frame::{Interaction, MAX_U31},
    payload::Payload,
    stream::{Stream, send::Terminal},
};

/// The effect of a transition.
#[derive(Debug)]
#[must_use]
pub(crate) enum Effect {
    /// None: it makes no sense in this state (UNX-01).
    Ignored,
    /// The peer has asked for items. They are waited for if there was no credit before, or somebody
    /// watches what is asked for.
    Credited { awaited: bool },
    /// Something has ended, or may be written now; the application is told this, if anything.
    Changed(Option<Tell>),
    /// The stream is over, and what it had to write with it; the application is told this, if
    /// anything.
    Ended(Option<Tell>),
}

/// The news of a transition for the application.
#[derive(Debug)]
pub(crate) enum Tell {
    /// The peer wants nothing more of it.
    Cancelled,
    /// It has failed.
    Failed(StreamError),
}

/// The acts of the peer.
impl Stream {
    /// An item has come, or the first fragment of one; false if it was not asked for.
    #[inline]
    #[must_use]
    pub(crate) fn receive_item(&mut self) -> bool {
        self.recv.receive()
    }

    /// Whether the peer's half ends with what has come whole; if so, it is closed.
    #[inline]
    pub(crate) fn receive_end(&mut self, complete: bool) -> bool {
        // RR-03: the first answer is the last.
        let complete = complete || self.interaction == Interaction::RequestResponse;
        if complete {
            self.recv.close();
        }
        complete
    }

    /// The peer's request is whole, after it came in fragments; whether its half ends with it.
    pub(crate) fn receive_whole_request(&mut self, complete: bool) -> bool {
        let complete = complete && self.interaction == Interaction::RequestChannel;
        if complete {
            self.recv.close();
        }
        complete
    }

    /// REQUEST_N has come.
    pub(crate) fn receive_request_n(&mut self, n: u32) -> Effect {
        let takes_credit = self.interaction == Interaction::RequestChannel
            || (self.interaction == Interaction::RequestStream && !self.requester);
        if !takes_credit || !self.send.is_open() || !(1..=MAX_U31).contains(&n) {
            return Effect::Ignored; // RR-11, RN-03, RN-04, RN-07
        }
        let awaited = self.send.add_credit(n) && !self.is_assembling_request();
        Effect::Credited { awaited }
    }

    /// CANCEL has come.
    pub(crate) fn receive_cancel(&mut self) -> Effect {
        if self.is_assembling_request() {
            return Effect::Ended(None); // FRAG-15: the application does not know of it.
        }
        // FRAG-16: a responder that gives up in mid-payload; on a channel, that payload alone.
        let gives_up = self.requester && self.assembly.is_some();
        if gives_up && self.interaction != Interaction::RequestChannel {
            let message = "the responder cancelled in the middle of a payload";
            let error = StreamError::new(ErrorCode::CANCELED, message);
            return Effect::Ended(Some(Tell::Failed(error)));
        }
        // Our ERROR ends both halves: it must reach the peer even if its CANCEL of one crosses it.
        let ends_our_half = self.interaction == Interaction::RequestChannel
            && (!self.send.is_done() || self.is_sending_item())
            && !self.send.is_failing();
        if gives_up {
            self.assembly = None;
        }
        if self.requester && self.send.is_failing() {
            // What stands before it is not wanted any more (RC-17).
            self.send.drop_items();
            self.drop_cut_item();
            return Effect::Changed(None);
        }
        if self.requester && !ends_our_half {
            return Effect::Ignored; // RR-12
        }
        // A stream that has failed here is over for the application, though its ERROR or CANCEL is
        // unwritten.
        let is_over_here = self.send.is_failing() || self.is_cancelled();
        let tell = (!is_over_here).then_some(Tell::Cancelled);
        if self.requester {
            self.send.abandon(); // RC-17
            self.drop_cut_item();
            Effect::Changed(tell)
        } else {
            Effect::Ended(tell)
        }
    }

    /// ERROR has come.
    pub(crate) fn receive_error(&mut self, error: StreamError) -> Effect {
        if self.is_assembling_request() {
            return Effect::Ended(None); // FRAG-17
        }
        if self.is_cancelled() {
            return Effect::Ignored; // RS-09
        }
        if !self.requester && self.interaction != Interaction::RequestChannel {
            return Effect::Ignored; // RR-11, RS-15
        }
        // What has failed here is over for the application: nothing follows.
        Effect::Ended((!self.send.is_failing()).then_some(Tell::Failed(error)))
    }

    /// The peer broke its credit, or its payload cannot be taken: the one who receives says so, in
    /// the way its role allows.
    pub(crate) fn fail_receiving(&mut self, error: StreamError) -> Effect {
        let completed = self.send.is_done() && !self.is_sending_item();
        self.cut = None;
        if self.requester {
            self.send.abandon();
            self.recv.cancel();
        } else if completed {
            // Nothing follows our COMPLETE, not even ERROR: CANCEL ends the other half (RC-18).
            self.recv.cancel();
        } else {
            self.recv.close();
            self.send.abandon();
            self.send.finish(Terminal::Error(error.clone()));
        }
        self.assembly = None;
        Effect::Changed(Some(Tell::Failed(error)))
    }

    /// Gives up an item that is being sent in fragments.
    fn drop_cut_item(&mut self) {
        if self.is_sending_item() {
            self.cut = None;
        }
    }
}

/// The acts of the application. Our half is open, where it sends.
impl Stream {
    /// Takes an item, to be written at its turn; with the last of them our half ends. Whether the
    /// sender has to wait for credit now.
    ///
    /// # Errors
    /// [`SendError::NoCredit`] beyond `capacity`; nothing has changed then.
    #[inline(always)]
    pub(crate) fn give(&mut self, item: Payload, last: bool) -> Result<bool, SendError> {
        // RR-01: a reply completes.
        let last = last || self.interaction == Interaction::RequestResponse;
        if self.send.capacity() == 0 || !self.send.push(item) {
            return Err(SendError::NoCredit);
        }
        if last {
            self.send.finish(Terminal::Complete);
        }
        Ok(!last && self.send.credit() == 0)
    }

    /// Spends the credit for an item that is written at once; false if there is none.
    #[inline]
    #[must_use]
    pub(crate) fn spend(&mut self) -> bool {
        self.send.spend()
    }

    /// The last item was written at once, and COMPLETE with it.
    #[inline]
    pub(crate) fn end_sending(&mut self) {
        self.send.abandon();
    }

    /// Completes our half. The stream may be over, or have that to write.
    #[inline]
    pub(crate) fn complete(&mut self) {
        if self.interaction == Interaction::FireAndForget {
            self.send.abandon();
        } else {
            self.send.finish(Terminal::Complete);
        }
    }

    /// Fails the stream in both directions, after what was sent before (RS-07, RC-13).
    pub(crate) fn fail(&mut self, error: StreamError) -> Effect {
        if self.interaction == Interaction::FireAndForget {
            self.send.abandon();
        } else if self.send.is_opening() {
            return Effect::Ended(None); // RR-10: nothing of it was sent.
        } else {
            self.recv.close();
            self.send.finish(Terminal::Error(error));
            self.assembly = None;
        }
        Effect::Changed(None)
    }

    /// Wants nothing more of the peer.
    pub(crate) fn cancel(&mut self) -> Effect {
        self.assembly = None;
        if self.requester {
            if self.send.is_opening() {
                return Effect::Ended(None); // RR-10: nothing of it was sent.
            }
            self.cut = None;
            self.send.abandon();
            self.recv.cancel();
        } else if self.recv.is_open() {
            self.recv.cancel(); // RC-18
        }
        Effect::Changed(None)
    }

    /// Asks the peer for `n` more items; nothing changes if its half has ended (RN-10).
    pub(crate) fn ask_for(&mut self, n: u32) -> Effect {
        if !self.recv.is_open() {
            return Effect::Ignored;
        }
        self.recv.grant(n);
        Effect::Changed(None)
    }
}
