//! Deliberate faults: what the referee is shown instead of what was written. They prove that it
//! looks.

use bytes::Bytes;

use crate::wire::{flag, kind};

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
    /// The position in a KEEPALIVE is one too high.
    WrongPosition,
}

impl Tamper {
    /// Every fault that shows in any world.
    pub const ALL: &[Self] = &[
        Self::RepeatItem,
        Self::DropFragment,
        Self::SwapFragments,
        Self::ChangeByte,
        Self::ItemAfterEnd,
        Self::ItemAboveCredit,
        Self::PeersId,
        Self::OldId,
        Self::UndefinedFlag,
        Self::UnaskedAnswer,
        Self::WrongPosition,
    ];

    pub(crate) fn apply(&mut self, frames: &mut Vec<(Bytes, usize)>) {
        let at = |wanted: &dyn Fn(u8, u16, &[u8]) -> bool| {
            frames.iter().position(|(frame, _)| {
                let word = u16::from_be_bytes([frame[4], frame[5]]);
                wanted((word >> 10) as u8, word & 0x3FF, frame)
            })
        };
        let item = |kind: u8, flags: u16, frame: &[u8]| {
            let whole = flags & (flag::FOLLOWS | flag::METADATA) == 0;
            kind == kind::PAYLOAD && flags & flag::NEXT != 0 && whole && frame.len() > 6
        };
        let fragment =
            |kind: u8, flags: u16, _: &[u8]| kind == kind::PAYLOAD && flags & flag::FOLLOWS != 0;
        let request = |kind: u8, _: u16, _: &[u8]| {
            (kind::REQUEST_RESPONSE..=kind::REQUEST_CHANNEL).contains(&kind)
        };
        let keepalive = |kind: u8, _: u16, _: &[u8]| kind == kind::KEEPALIVE;
        let found = match self {
            Self::RepeatItem | Self::ChangeByte | Self::ItemAboveCredit => at(&item),
            Self::DropFragment | Self::SwapFragments => at(&fragment),
            Self::ItemAfterEnd => {
                at(&|kind, flags, _| kind == kind::PAYLOAD && flags & flag::COMPLETE != 0)
            }
            Self::PeersId | Self::OldId => at(&request),
            Self::UndefinedFlag => at(&|_, _, _| true),
            Self::UnaskedAnswer | Self::WrongPosition => at(&keepalive),
        };
        let Some(at) = found else { return };
        let (frame, len) = frames[at].clone();
        let changed = |change: &dyn Fn(&mut [u8])| {
            let mut frame = frame.to_vec();
            change(&mut frame);
            (Bytes::from(frame), len)
        };
        match self {
            Self::RepeatItem => frames.insert(at, (frame, len)),
            Self::DropFragment => _ = frames.remove(at),
            Self::SwapFragments if at + 1 < frames.len() => frames.swap(at, at + 1),
            Self::SwapFragments => {}
            Self::ChangeByte => frames[at] = changed(&|frame| frame[6] ^= 1),
            Self::ItemAfterEnd => frames.insert(at + 1, (frame, len)),
            Self::ItemAboveCredit => {
                for _ in 0..100 {
                    frames.insert(at, (frame.clone(), len));
                }
            }
            Self::PeersId => frames[at] = changed(&|frame| frame[3] ^= 1),
            Self::OldId => frames.insert(at, (frame, len)),
            Self::UndefinedFlag => frames[at] = changed(&|frame| frame[5] |= 0x10),
            Self::UnaskedAnswer => {
                frames.insert(
                    at,
                    changed(&|frame| {
                        frame[5] &= 0x7F;
                        frame[13] = 0;
                    }),
                );
                frames.insert(at, frames[at].clone());
            }
            Self::WrongPosition => frames[at] = changed(&|frame| frame[13] ^= 1),
        }
    }
}
