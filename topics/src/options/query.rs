use super::{
    read::{Members, Value, read},
    subscribe::{epoch, meta, start},
};
use crate::{
    entry::Meta,
    name::TopicName,
    position::{Epoch, Offset, Position},
    refusal::Refusal,
};

/// Messages of a page of history at most, and as many as there are in one if nothing is said.
const MAX_PAGE: u64 = 1_000;
const PAGE: u64 = 100;
/// Bytes of a page of history at most, and if nothing is said.
const MAX_PAGE_BYTES: u64 = 1 << 20;
const PAGE_BYTES: u64 = 256 << 10;

/// Options of a stream of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// The place in the log at which it begins; the oldest if nothing is said.
    pub from: super::Start,
    /// The last message; the head as of now if absent.
    pub to: Option<Offset>,
    /// Messages at most.
    pub limit: Option<u64>,
    /// The newest comes first (`reverse`).
    pub is_reversed: bool,
    /// The parts of its items' metadata.
    pub meta: Meta,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        let from = super::Start::Oldest;
        Self { from, to: None, limit: None, is_reversed: false, meta: Meta::Full }
    }
}

impl HistoryOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        read(json)
    }
}

impl Members for HistoryOptions {
    const KNOWN: &'static [&'static [&'static str]] =
        &[&["from", "to", "limit", "reverse", "meta"]];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "from" => self.from = start(value)?,
            "to" if value.as_text().as_deref() == Some("head") => self.to = None,
            "to" => {
                let offset = value.offset().map_err(|_| value.wrong("\"head\" or an offset"))?;
                self.to = Some(offset);
            }
            "limit" => self.limit = Some(value.number(1..=Offset::MAX.0)?),
            "reverse" => self.is_reversed = value.flag()?,
            // The last of the known ones.
            _ => self.meta = meta(value)?,
        }
        Ok(())
    }
}

/// The place of a page in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Around {
    /// The newest messages.
    #[default]
    Newest,
    /// Those behind a position, the first of them nearest to it.
    After(Position),
    /// Those before a position, the last of them nearest to it.
    Before(Position),
}

/// Options of a page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPageOptions {
    /// Its place in the log.
    pub around: Around,
    /// Messages at most.
    pub limit: usize,
    /// Bytes of JSON at most, but for a message that is larger alone.
    pub max_bytes: usize,
    /// The newest stands first (`reverse`).
    pub is_reversed: bool,
}

impl HistoryPageOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let PageForm { epoch, after, before, limit, max_bytes, is_reversed } = read(json)?;
        let around = match (epoch, after, before) {
            (None, None, None) => Around::Newest,
            (Some(epoch), Some(after), None) => Around::After(Position { epoch, after }),
            (Some(epoch), None, Some(before)) => Around::Before(Position { epoch, after: before }),
            _ => {
                return Err(Refusal::invalid(
                    "not valid options: a page is {\"after\":O,\"epoch\":E}, {\"before\":O,\"epoch\":E}, \
                     or, without them, the newest",
                ));
            }
        };
        // They are in the range that was read.
        let in_range = |given: Option<u64>, default: u64| given.unwrap_or(default) as usize;
        Ok(Self {
            around,
            limit: in_range(limit, PAGE),
            max_bytes: in_range(max_bytes, PAGE_BYTES),
            is_reversed,
        })
    }
}

#[derive(Default)]
struct PageForm {
    epoch: Option<Epoch>,
    after: Option<Offset>,
    before: Option<Offset>,
    limit: Option<u64>,
    max_bytes: Option<u64>,
    is_reversed: bool,
}

impl Members for PageForm {
    const KNOWN: &'static [&'static [&'static str]] =
        &[&["after", "before", "epoch", "limit", "max_bytes", "reverse"]];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "after" => self.after = Some(value.offset()?),
            "before" => self.before = Some(value.offset()?),
            "epoch" => self.epoch = Some(epoch(value)?),
            "limit" => self.limit = Some(value.number(1..=MAX_PAGE)?),
            "max_bytes" => self.max_bytes = Some(value.number(1..=MAX_PAGE_BYTES)?),
            // The last of the known ones.
            _ => self.is_reversed = value.flag()?,
        }
        Ok(())
    }
}

/// Options of a stream of presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceOptions {
    /// It tells who is away and who is back (`away`).
    pub tells_away: bool,
    /// Each session is an event (`each`).
    pub tells_each: bool,
}

impl PresenceOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        read(json)
    }
}

impl Members for PresenceOptions {
    const KNOWN: &'static [&'static [&'static str]] = &[&["away", "each"]];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "away" => self.tells_away = value.flag()?,
            // The last of the known ones.
            _ => self.tells_each = value.flag()?,
        }
        Ok(())
    }
}

/// Options of a page of presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresencePageOptions {
    /// Members at most.
    pub limit: usize,
    /// The name behind which it begins.
    pub after: Option<Box<str>>,
    /// How many there are, and no names (`count`).
    pub is_count: bool,
}

impl Default for PresencePageOptions {
    fn default() -> Self {
        Self { limit: PAGE as usize, after: None, is_count: false }
    }
}

impl PresencePageOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        read(json)
    }
}

impl Members for PresencePageOptions {
    const KNOWN: &'static [&'static [&'static str]] = &[&["limit", "after", "count"]];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "limit" => self.limit = value.number(1..=MAX_PAGE)? as usize,
            "after" => self.after = Some(value.member_name()?),
            // The last of the known ones.
            _ => self.is_count = value.flag()?,
        }
        Ok(())
    }
}

/// The thing that is asked of the list of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicsOptions {
    /// The topics whose names begin so.
    List {
        /// The beginning; all if it is empty.
        prefix: Box<str>,
    },
    /// To drop the messages of a topic (`{"purge":"name"}`).
    Purge(TopicName),
    /// To end and to forget a topic (`{"delete":"name"}`).
    Delete(TopicName),
}

impl TopicsOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        match read(json)? {
            TopicsForm { prefix, purge: None, delete: None } => {
                Ok(Self::List { prefix: prefix.unwrap_or_default() })
            }
            TopicsForm { prefix: None, purge: Some(topic), delete: None } => Ok(Self::Purge(topic)),
            TopicsForm { prefix: None, purge: None, delete: Some(topic) } => {
                Ok(Self::Delete(topic))
            }
            _ => Err(Refusal::invalid(
                "not valid options: one of \"prefix\", \"purge\" and \"delete\" at a time",
            )),
        }
    }
}

#[derive(Default)]
struct TopicsForm {
    prefix: Option<Box<str>>,
    purge: Option<TopicName>,
    delete: Option<TopicName>,
}

impl Members for TopicsForm {
    const KNOWN: &'static [&'static [&'static str]] = &[&["prefix", "purge", "delete"]];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        let topic = |value: Value<'_>| {
            let name = value.as_text().ok_or_else(|| value.wrong("the name of a topic"))?;
            TopicName::of_client(&name).map(Some)
        };
        match value.name {
            "prefix" => {
                let text = value.as_text().ok_or_else(|| value.wrong("the beginning of a name"))?;
                self.prefix = Some(text.into());
            }
            "purge" => self.purge = topic(value)?,
            // The last of the known ones.
            _ => self.delete = topic(value)?,
        }
        Ok(())
    }
}
