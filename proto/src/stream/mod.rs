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

/// A stream in the table.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    /// Given by the table: no two streams share it.
    pub(crate) serial: u32,
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
    /// In the scheduler's control list.
    pub(crate) in_control: bool,
    /// In one of the scheduler's data lists.
    pub(crate) in_data: bool,
    /// Bytes it may write this turn; negative after a frame longer than the quantum.
    pub(crate) deficit: i64,
}

impl Stream {
    /// A stream we open.
    pub(crate) fn requester(
        id: StreamId,
        interaction: Interaction,
        payload: Payload,
        n: u32,
    ) -> Self {
        let send = match interaction {
            Interaction::RequestChannel => SendHalf::open(0),
            _ => SendHalf::closed(),
        };
        let recv = match interaction {
            Interaction::FireAndForget => RecvHalf::closed(),
            Interaction::RequestResponse => RecvHalf::open(1),
            Interaction::RequestStream | Interaction::RequestChannel => {
                let mut recv = RecvHalf::open(0);
                recv.grant(n);
                recv
            }
        };
        Self::new(id, interaction, true, Some(payload), send, recv, 0)
    }

    /// A stream the peer opened.
    pub(crate) fn responder(
        id: StreamId,
        interaction: Interaction,
        n: u32,
        complete: bool,
        request_bytes: usize,
    ) -> Self {
        let send = match interaction {
            // Open while the handler runs; nothing is ever written (FNF-01).
            Interaction::FireAndForget => SendHalf::open(0),
            Interaction::RequestResponse => SendHalf::open(1),
            Interaction::RequestStream | Interaction::RequestChannel => SendHalf::open(n.into()),
        };
        let recv = match interaction {
            Interaction::RequestChannel if !complete => RecvHalf::open(0),
            _ => RecvHalf::closed(),
        };
        Self::new(id, interaction, false, None, send, recv, request_bytes)
    }

    fn new(
        id: StreamId,
        interaction: Interaction,
        requester: bool,
        opening: Option<Payload>,
        send: SendHalf,
        recv: RecvHalf,
        request_bytes: usize,
    ) -> Self {
        Self {
            id,
            serial: 0,
            addressable: false,
            interaction,
            requester,
            opening,
            send,
            recv,
            cut: None,
            assembly: None,
            request_bytes,
            in_control: false,
            in_data: false,
            deficit: 0,
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
