//! One machine for all four interactions: two halves, and how they start.
//!
//! ```text
//! interaction        requester sends     requester receives   responder receives   responder sends
//! FIRE_AND_FORGET    closed              closed               closed               closed
//! REQUEST_RESPONSE   closed              credit 1             closed               credit 1
//! REQUEST_STREAM     closed              credit n             closed               credit n
//! REQUEST_CHANNEL    open, credit 0      credit n             open, granted 0      credit n
//! ```
//!
//! COMPLETE closes its sender's half. ERROR closes both. The requester's CANCEL closes both, the
//! responder's only the requester's send half (RC-17). The stream ends when both are closed.

mod credit;
mod fragment;
mod key;
mod reassemble;
mod recv;
mod send;

use std::num::NonZeroU32;

use crate::{
    frame::{Interaction, StreamId},
    payload::Payload,
};

pub use credit::{Credit, Window};
pub(crate) use fragment::{Cut, CutEnd};
pub use key::StreamKey;
pub(crate) use reassemble::{Assembly, Unjoinable};
pub(crate) use recv::RecvHalf;
pub(crate) use send::{Output, SendHalf, Terminal};

/// A place in the table, and the stream that has it. It is filled and emptied where it lies: moving
/// it would cost more than what is set.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    /// Given by the table: no two streams share it, and an empty place has none.
    pub(crate) serial: Option<NonZeroU32>,
    /// Frames may name it: the table's ids have it.
    pub(crate) addressable: bool,
    pub(crate) interaction: Interaction,
    /// We asked; otherwise the peer did.
    pub(crate) requester: bool,
    /// Our request, until it is written. Its initial request-n is what `recv` has to write.
    pub(crate) opening: Option<Payload>,
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
    /// What is being sent in fragments. Nothing else of the stream comes between them (FRAG-13).
    pub(crate) cut: Option<Box<Cut>>,
    /// What is being received in fragments.
    pub(crate) assembly: Option<Box<Assembly>>,
    /// Bytes of the peer's request, counted against `max_request_bytes`.
    pub(crate) request_bytes: usize,
    /// Bytes that wait to be sent, as the table has counted them.
    pub(crate) counted_unsent: usize,
    /// In the scheduler's control list.
    pub(crate) in_control: bool,
    /// In one of the scheduler's data lists.
    pub(crate) in_data: bool,
    /// Bytes it may write this turn; negative after a frame longer than the quantum.
    pub(crate) deficit: i64,
}

impl Stream {
    /// A place without a stream.
    pub(crate) fn vacant() -> Self {
        Self {
            id: StreamId::MIN,
            serial: None,
            addressable: false,
            interaction: Interaction::FireAndForget,
            requester: false,
            opening: None,
            send: SendHalf::closed(),
            recv: RecvHalf::closed(),
            cut: None,
            assembly: None,
            request_bytes: 0,
            counted_unsent: 0,
            in_control: false,
            in_data: false,
            deficit: 0,
        }
    }

    /// Ends its stream, and frees what that held.
    #[inline]
    pub(crate) fn vacate(&mut self) {
        self.serial = None;
        self.addressable = false;
        self.opening = None;
        self.send.abandon();
        self.recv = RecvHalf::closed();
        self.cut = None;
        self.assembly = None;
        self.request_bytes = 0;
        self.counted_unsent = 0;
        self.in_control = false;
        self.in_data = false;
        self.deficit = 0;
    }

    /// Becomes a stream that we open, with its payload if the request is not written yet.
    #[inline]
    pub(crate) fn request(&mut self, interaction: Interaction, payload: Option<Payload>, n: u32) {
        self.interaction = interaction;
        self.requester = true;
        self.opening = payload;
        match interaction {
            Interaction::FireAndForget => {}
            Interaction::RequestResponse => self.recv = RecvHalf::open(1),
            Interaction::RequestStream | Interaction::RequestChannel => {
                self.recv = RecvHalf::open(0);
                self.recv.grant(n);
                if interaction == Interaction::RequestChannel {
                    self.send.open(0);
                }
            }
        }
    }

    /// Becomes a stream that the peer opened.
    #[inline]
    pub(crate) fn respond(
        &mut self,
        interaction: Interaction,
        n: u32,
        complete: bool,
        request_bytes: usize,
    ) {
        self.interaction = interaction;
        self.requester = false;
        self.request_bytes = request_bytes;
        match interaction {
            // Open while the handler runs; nothing is ever written (FNF-01).
            Interaction::FireAndForget => self.send.open(0),
            Interaction::RequestResponse => self.send.open(1),
            Interaction::RequestStream => self.send.open(n.into()),
            Interaction::RequestChannel => {
                self.send.open(n.into());
                if !complete {
                    self.recv = RecvHalf::open(0);
                }
            }
        }
    }

    /// Both halves are closed and nothing is left to write.
    pub(crate) fn is_over(&self) -> bool {
        self.has_sent_all() && !self.recv.is_open() && !self.recv.has_output()
    }

    /// We have cancelled it; CANCEL may still be unwritten.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.send.is_done() && !self.recv.is_open() && !self.is_sending_item()
    }

    /// An item is on its way in fragments; if it is the last, only this keeps our half open.
    pub(crate) fn is_sending_item(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| cut.end != CutEnd::Request)
    }

    /// Bytes that wait to be sent: the request, an item in fragments, and items.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.opening.as_ref().map_or(0, Payload::size)
            + self.cut.as_ref().map_or(0, |cut| cut.size())
            + self.send.unsent_bytes()
    }

    /// There is data to write: the request, items or a terminal.
    pub(crate) fn has_data(&self) -> bool {
        self.opening.is_some() || self.cut.is_some() || self.send.has_output()
    }

    /// It will never have data to write again.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.opening.is_none() && self.cut.is_none() && self.send.is_done()
    }

    /// The peer's request is not whole yet; the application does not know of it (FRAG-18).
    pub(crate) fn is_assembling_request(&self) -> bool {
        self.assembly.as_ref().is_some_and(|assembly| assembly.is_request)
    }

    /// There is a CANCEL or REQUEST_N to write, and the request before it is out (RS-16). Neither
    /// comes between fragments: a CANCEL there would give up the payload (FRAG-15, FRAG-16). A
    /// requester that cancels means just that, and has given up its fragments before.
    pub(crate) fn has_control(&self) -> bool {
        self.opening.is_none() && self.cut.is_none() && self.recv.has_output()
    }
}
