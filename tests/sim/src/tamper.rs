//! Deliberate faults: what the referee is shown instead of what was written. They prove that it
//! looks.

use bytes::Bytes;

use crate::{
    broken::Invariant,
    wire::{Header, flag, kind},
};

/// A fault of an engine that does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tamper {
    /// An item is written twice.
    RepeatItem,
    /// A fragment is left out.
    DropFragment,
    /// The metadata of a fragmented payload comes behind its data.
    SwapFragments,
    /// A byte of an item is another.
    ChangeByte,
    /// An item is written although its stream's last frame is.
    ItemAfterEnd,
    /// An item is written that nobody asked for.
    ItemAboveCredit,
    /// A request has an id of the other side.
    PeersId,
    /// A request has an id that was used before.
    OldId,
    /// A flag that means nothing is set.
    UndefinedFlag,
    /// A KEEPALIVE nobody asked for is answered.
    UnaskedAnswer,
    /// The position in a KEEPALIVE is another.
    WrongPosition,
    /// A request is written that no lease allows.
    RequestWithoutPermit,
    /// The position in RESUME_OK is another.
    WrongResumePosition,
    /// A frame of a replay is left out.
    SkipReplay,
    /// A byte of a replay is another.
    ChangeReplay,
    /// An item arrives twice.
    ArriveTwice,
    /// An item does not arrive.
    ArriveNot,
}

impl Tamper {
    /// Every fault, and what it may be found to break; the first must be, somewhere.
    pub const ALL: &[(Self, &[Invariant])] = {
        use Invariant::{Credit, Fragments, Lease, Order, Positions, Rest, StreamIds, Terminal};
        use Invariant::{Told, Wire};
        &[
            (Self::RepeatItem, &[Order, Credit, Terminal]),
            (Self::DropFragment, &[Order, Fragments, Positions]),
            (Self::SwapFragments, &[Order, Fragments, Positions]),
            (Self::ChangeByte, &[Order]),
            (Self::ItemAfterEnd, &[Terminal]),
            (Self::ItemAboveCredit, &[Credit, Order, Terminal]),
            (Self::PeersId, &[StreamIds]),
            (Self::OldId, &[StreamIds]),
            (Self::UndefinedFlag, &[Wire]),
            (Self::UnaskedAnswer, &[Wire]),
            (Self::WrongPosition, &[Positions]),
            (Self::RequestWithoutPermit, &[Lease, Told, StreamIds, Positions]),
            (Self::WrongResumePosition, &[Positions]),
            (Self::SkipReplay, &[Positions]),
            (Self::ChangeReplay, &[Positions]),
            (Self::ArriveTwice, &[Order, Credit, Terminal, Told, Positions]),
            (Self::ArriveNot, &[Order, Terminal, Rest, Told, Positions]),
        ]
    };

    /// How often a frame arrives.
    pub(crate) fn arrivals(self, frame: &[u8]) -> usize {
        let is_item = Header::split(frame).is_some_and(|(header, _)| {
            header.kind == kind::PAYLOAD && header.flags & 0xff == flag::NEXT
        });
        match self {
            Self::ArriveTwice if is_item => 2,
            Self::ArriveNot if is_item => 0,
            _ => 1,
        }
    }

    /// Changes what the referee is shown of a write; `replaying` if it begins with a replay.
    pub(crate) fn apply(self, frames: &mut Vec<(Bytes, usize)>, replaying: bool) {
        let at = |wanted: &dyn Fn(Header, &[u8]) -> bool| {
            let wanted = |(frame, _): &(Bytes, usize)| {
                Header::split(frame).is_some_and(|(header, body)| wanted(header, body))
            };
            frames.iter().position(wanted)
        };
        let item = |header: Header, body: &[u8]| {
            let whole = !header.has(flag::FOLLOWS | flag::METADATA);
            header.kind == kind::PAYLOAD && header.has(flag::NEXT) && whole && !body.is_empty()
        };
        let fragment =
            |header: Header, _: &[u8]| header.kind == kind::PAYLOAD && header.has(flag::FOLLOWS);
        let end =
            |header: Header, _: &[u8]| header.kind == kind::PAYLOAD && header.has(flag::COMPLETE);
        let found = match self {
            Self::RepeatItem | Self::ChangeByte | Self::ItemAboveCredit => at(&item),
            Self::DropFragment | Self::SwapFragments => at(&fragment),
            Self::ItemAfterEnd => at(&end),
            Self::PeersId | Self::OldId | Self::RequestWithoutPermit => {
                at(&|header, _| header.is_request())
            }
            Self::WrongResumePosition => at(&|header, _| header.kind == kind::RESUME_OK),
            Self::SkipReplay | Self::ChangeReplay if replaying => {
                at(&|header, _| header.stream > 0)
            }
            Self::SkipReplay | Self::ChangeReplay | Self::ArriveTwice | Self::ArriveNot => None,
            Self::UndefinedFlag => at(&|_, _| true),
            Self::UnaskedAnswer | Self::WrongPosition => {
                at(&|header, _| header.kind == kind::KEEPALIVE)
            }
        };
        let Some(at) = found else { return };
        let (frame, len) = frames[at].clone();
        let changed = |change: &dyn Fn(&mut [u8])| {
            let mut frame = frame.to_vec();
            change(&mut frame);
            (Bytes::from(frame), len)
        };
        match self {
            Self::RepeatItem => frames.insert(at, (frame, 0)),
            Self::SwapFragments if at + 1 < frames.len() => frames.swap(at, at + 1),
            Self::SwapFragments => {}
            Self::ChangeByte => frames[at] = changed(&|frame| frame[6] ^= 1),
            Self::ItemAfterEnd => frames.insert(at + 1, (frame, 0)),
            Self::ItemAboveCredit => {
                for _ in 0..100 {
                    frames.insert(at, (frame.clone(), 0));
                }
            }
            Self::PeersId => frames[at] = changed(&|frame| frame[3] = frame[3].wrapping_add(1)),
            Self::OldId => frames.insert(at, (frame, 0)),
            Self::UndefinedFlag => frames[at] = changed(&|frame| frame[5] |= 0x10),
            Self::UnaskedAnswer => {
                let (frame, _) = changed(&|frame| frame[5] &= 0x7F);
                frames.splice(at..at, [(frame.clone(), 0), (frame, 0)]);
            }
            Self::WrongPosition | Self::WrongResumePosition => {
                frames[at] = changed(&|frame| frame[13] ^= 1);
            }
            Self::RequestWithoutPermit => {
                let (frame, _) = changed(&|frame| frame[1] ^= 1);
                frames.insert(at + 1, (frame, 0));
            }
            Self::DropFragment | Self::SkipReplay if frames.len() > 1 => {
                frames.remove(at);
                // On the transport it is there.
                let neighbour = at.min(frames.len() - 1);
                frames[neighbour].1 += len;
            }
            Self::DropFragment | Self::SkipReplay => {}
            Self::ChangeReplay => {
                frames[at] = changed(&|frame| frame[2] ^= 4);
            }
            Self::ArriveTwice | Self::ArriveNot => {}
        }
    }
}
