//! Records, as they are given to the store and read from it.

use super::format::{Fields, Kind, RECORD_HEAD, claimed_len, parse_record};
use crate::{entry::Message, position::Offset};

/// A number of a topic in a data directory: no two topics ever have the same, of one name or of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u64);

/// A message of a topic, with all that is kept of it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its number.
    pub offset: Offset,
    /// Milliseconds since 1970; never less than that of the message before it.
    pub time: u64,
    /// The hash of its idempotency key, and of what the key belongs to.
    pub id: Option<u128>,
    /// It is the last of its topic.
    pub closes: bool,
    /// The message. Its origin and its join are not kept.
    pub message: Message<'a>,
}

impl<'a> Record<'a> {
    pub(super) fn fields(&self, topic: TopicId) -> Fields<'a> {
        Fields {
            kind: Kind::Message,
            topic: topic.0,
            offset: self.offset.0,
            time: self.time,
            is_tombstone: self.message.is_tombstone,
            closes: self.closes,
            id: self.id,
            key: self.message.key,
            from: self.message.from,
            headers: self.message.headers,
            data: self.message.data,
        }
    }

    fn of(fields: &Fields<'a>) -> Self {
        Self {
            offset: Offset(fields.offset),
            time: fields.time,
            id: fields.id,
            closes: fields.closes,
            message: Message {
                data: fields.data,
                from: fields.from,
                key: fields.key,
                headers: fields.headers,
                is_tombstone: fields.is_tombstone,
                ..Message::default()
            },
        }
    }

    /// Bytes that it takes in a journal, and again in a segment.
    pub fn stored_bytes(&self) -> usize {
        self.fields(TopicId(0)).len()
    }
}

/// Records that were read, in the order of their offsets. One allocation holds them: what is kept longer
/// is copied.
#[derive(Debug, Default)]
pub struct Block {
    /// Valid records, one behind another.
    pub(super) bytes: Vec<u8>,
    /// The offset to go on from.
    pub(super) next: u64,
    /// The first place that could not be read.
    pub(super) damage: Option<Lost>,
}

/// A place at which messages are lost.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// The first of them.
    pub(super) from: u64,
    /// The place, as a sentence.
    pub(super) text: String,
}

impl Block {
    /// The records. The first may have a larger offset than was asked for, and between two some may be
    /// missing: retention has overtaken the reader, or the disk has lost them.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (record, behind) = rest.split_at_checked(claimed_len(rest)?)?;
            rest = behind;
            Some(Record::of(&parse_record(record)?))
        })
    }

    /// The offset from which to read on.
    pub fn next(&self) -> Offset {
        Offset(self.next)
    }

    /// Whether there is nothing in it. There may be more to read from `next` all the same, if that is not
    /// what was asked for.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() < RECORD_HEAD
    }

    /// The first place at which a file is not what was written there, if one was met: the messages that are
    /// missing before `next` are lost.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_ref().map(|lost| &*lost.text)
    }
}
