//! The names of files, and what is kept as JSON: `store.json`, and what is known of each topic.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    catalogue::CatalogueFile,
    disk::{Disk, read_named},
    pack::PackFile,
};
use crate::{name::TopicName, position::Epoch};

/// The file of the whole directory.
pub(super) const STORE: &str = "store.json";
/// The file that says that the disk has failed, and how.
pub(super) const FAILED: &str = "failed";
/// The directory of the journal's files.
pub(super) const JOURNAL: &str = "journal";
/// The directory of the files that topics share.
pub(super) const PACKS: &str = "packs";
/// The directory of the file that says which topics there are.
pub(super) const CATALOGUE: &str = "catalogue";
/// The directory of the topics' directories: of those that have segments.
pub(super) const TOPICS: &str = "topics";

/// The directory of a topic.
pub(super) fn topic_directory(topic: u64) -> String {
    format!("{TOPICS}/{topic:016x}")
}

/// The file of a pack.
pub(super) fn pack_file(pack: u32) -> String {
    format!("{PACKS}/{pack:08}")
}

/// The file of the catalogue; it gets another number whenever it is written anew.
pub(super) fn catalogue_file(number: u32) -> String {
    format!("{CATALOGUE}/{number:08}")
}

/// The file of a segment.
pub(super) fn segment_file(topic: u64, first: u64) -> String {
    format!("{TOPICS}/{topic:016x}/{first:016}.segment")
}

/// The first offset of a segment, from its file's name.
pub(super) fn segment_first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    digits.parse().ok().filter(|_| digits.len() == 16)
}

/// The file of a place of the journal.
pub(super) fn journal_file(place: u32) -> String {
    format!("{JOURNAL}/{place:04}")
}

/// All that is known of the directory as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreFile {
    pub(super) format: u32,
    /// The key of the hashes of idempotency keys, in hexadecimal digits.
    pub(super) key: String,
    /// The first file of the journal whose records may not be in segments yet.
    pub(super) sequence: u64,
    /// Its generation.
    pub(super) generation: u64,
    /// The number of its first batch.
    pub(super) batch: u64,
    /// The number of the next topic that is made.
    pub(super) next_topic: u64,
    /// The time since the machine was started in which it was written.
    pub(super) boot: String,
    /// The process ended in order: all that was written has been synced.
    pub(super) is_clean: bool,
    /// Topics that are acknowledged before they are synced are to begin a new epoch.
    pub(super) renumber: bool,
    /// Damage that is not in the catalogue yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) damaged: Vec<(u64, String)>,
    /// Topics whose next offset is beyond what was lost of them, and not in the catalogue yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) raised: Vec<(u64, u64)>,
    /// The catalogue, as far as it is safe.
    #[serde(default)]
    pub(super) catalogue: CatalogueFile,
    /// The packs that are safe. Others are of no use.
    #[serde(default)]
    pub(super) packs: Vec<PackFile>,
}

/// All that is known of a topic, beside its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicFile {
    pub(super) id: u64,
    #[serde(with = "name_form")]
    pub(super) name: TopicName,
    pub(super) epoch: Epoch,
    /// The oldest offset that is kept.
    pub(super) base: u64,
    /// No message before this one is ever given a number again: those that are not there were lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) next: u64,
    /// The loss of messages before this one was accepted, and is not told of the topic again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) accepted: u64,
    /// The time of the last message before it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) time: u64,
    /// The last message, behind which nothing is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed: Option<u64>,
    /// Messages are acknowledged before they are synced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_loose: bool,
    /// The service's own, which the store carries.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) settings: String,
    /// The part of it that is lost: nothing is appended until somebody has seen to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) damage: Option<String>,
}

/// Names as text; what is not one is refused.
mod name_form {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::name::TopicName;

    pub(super) fn serialize<S: Serializer>(name: &TopicName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TopicName, D::Error> {
        TopicName::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_false(is: &bool) -> bool {
    !is
}

#[derive(Serialize, Deserialize)]
struct Checked<'a> {
    crc32: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

fn checksum(content: &str) -> String {
    format!("{:08x}", crc32fast::hash(content.as_bytes()))
}

/// JSON with a checksum.
pub(super) fn write_checked<T: Serialize>(content: &T) -> Vec<u8> {
    // Neither maps with odd keys nor numbers that JSON has not: both always can be written.
    let content = serde_json::value::to_raw_value(content).unwrap_or_default();
    let mut bytes =
        serde_json::to_vec(&Checked { crc32: checksum(content.get()), content: &content })
            .unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The content, if it is whole.
pub(super) fn read_checked<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    let checked: Checked<'_> = serde_json::from_slice(bytes).ok()?;
    let content = checked.content.get();
    if checked.crc32 != checksum(content) {
        return None;
    }
    serde_json::from_str(content).ok()
}

/// Replaces `store.json`, safe when it returns.
pub(super) fn replace_store<D: Disk>(disk: &D, content: &StoreFile) -> std::io::Result<()> {
    let new = "store.json.new";
    let file = disk.create(new)?;
    disk.write_at(&file, &write_checked(content), 0)?;
    disk.sync(&file)?;
    disk.rename(new, STORE)?;
    disk.sync_directory("")
}

/// Leaves a note for the next start, as well as a disk can that has failed.
pub(super) fn note_failure<D: Disk>(disk: &D, text: &str) -> std::io::Result<()> {
    let file = disk.create(FAILED)?;
    disk.write_at(&file, text.as_bytes(), 0)?;
    disk.sync(&file)?;
    disk.sync_directory("")
}

/// Reads a file with a checksum: `None` without one, `Some(None)` if it is not whole.
pub(super) fn read_named_checked<D: Disk, T: for<'de> Deserialize<'de>>(
    disk: &D,
    path: &str,
) -> std::io::Result<Option<Option<T>>> {
    Ok(read_named(disk, path)?.map(|bytes| read_checked(&bytes)))
}
