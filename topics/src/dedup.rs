//! Idempotency: which publishes a topic has seen, by the keys that their senders gave them.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{memory::Held, position::Offset};

/// The secret that idempotency keys are hashed with. Whoever does not know it cannot make two of them meet.
#[derive(Clone)]
pub struct DedupSecret([u8; 16]);

impl DedupSecret {
    /// The secret of these random bits.
    pub fn new(random: [u64; 2]) -> Self {
        let mut bytes = [0; 16];
        for (bytes, bits) in bytes.chunks_exact_mut(8).zip(random) {
            bytes.copy_from_slice(&bits.to_le_bytes());
        }
        Self(bytes)
    }

    /// The key of a publish to this topic, by this name where it is authenticated, with this id. Without
    /// the name in it, somebody could use up another's key before them.
    pub fn key(&self, topic: &str, name: Option<&str>, id: &str) -> DedupKey {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        // With the lengths before them no part can pass for the end of another.
        for part in [topic, name.unwrap_or_default(), id] {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part.as_bytes());
        }
        let hash = hasher.finish128();
        DedupKey([hash.h1, hash.h2])
    }
}

impl std::fmt::Debug for DedupSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DedupSecret")
    }
}

/// An idempotency key: 128 bits that stand for the topic, the name and the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupKey(pub [u64; 2]);

/// Its bits are a hash already.
impl Hash for DedupKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0[0]);
    }
}

/// The hasher that leaves a hash as it is.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        // Keys give it whole numbers alone; other bytes would be mixed somehow.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The keys of a topic's last publishes, each with the offset that it got.
///
/// A key is entered with the append, under the topic's lock, and so at most one append of it is kept. While
/// that is not durable, its offset is one that readers do not see yet, and whoever comes with the same key
/// waits for it like the first. An append that is taken back takes its key along.
#[derive(Debug)]
pub struct Dedup {
    offsets: HashMap<DedupKey, Offset, BuildHasherDefault<AsItIs>>,
    /// The same keys, the oldest first.
    order: VecDeque<DedupKey>,
    limit: usize,
}

impl Dedup {
    /// Room for so many keys; it takes no memory before they come.
    pub fn new(limit: usize) -> Self {
        Self { offsets: HashMap::default(), order: VecDeque::new(), limit }
    }

    /// The offset that the publish of this key got, if it is remembered.
    pub fn find(&self, key: DedupKey) -> Option<Offset> {
        self.offsets.get(&key).copied()
    }

    /// Enters the key of an append; the oldest key is forgotten where there are too many. One that is known
    /// keeps its offset.
    pub fn insert(&mut self, key: DedupKey, offset: Offset) {
        if self.limit == 0 || self.offsets.contains_key(&key) {
            return;
        }
        while self.order.len() >= self.limit {
            // It is as long as it was made to be.
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.offsets.remove(&oldest));
        }
        self.order.push_back(key);
        self.offsets.insert(key, offset);
    }

    /// Forgets the key of an append that is taken back: a publish that was refused leaves nothing behind.
    pub fn take_back(&mut self, key: DedupKey, offset: Offset) {
        if self.find(key) != Some(offset) {
            return;
        }
        self.offsets.remove(&key);
        // What is taken back is what came last.
        if let Some(at) = self.order.iter().rposition(|known| *known == key) {
            self.order.remove(at);
        }
    }

    /// Keys that are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The memory that it takes: about 40 to 70 bytes a key.
    pub fn bytes(&self) -> usize {
        // Of eight places in the map one is left free, and each has a byte of its own.
        let places = self.offsets.capacity() * 8 / 7;
        places * (size_of::<(DedupKey, Offset)>() + 1)
            + self.order.capacity() * size_of::<DedupKey>()
    }
}

/// Idempotency keys, and their memory as part of what somebody holds.
#[derive(Debug)]
pub(crate) struct Ids {
    dedup: Dedup,
    /// The bytes of it that are counted.
    bytes: usize,
    held: Arc<Held>,
}

impl Ids {
    /// None yet, and room for so many.
    pub(crate) fn new(limit: usize, held: Arc<Held>) -> Self {
        Self { dedup: Dedup::new(limit), bytes: 0, held }
    }

    /// See [`Dedup::find`].
    pub(crate) fn find(&self, key: DedupKey) -> Option<Offset> {
        self.dedup.find(key)
    }

    /// Enters the key of an append.
    pub(crate) fn enter(&mut self, key: DedupKey, offset: Offset) {
        self.dedup.insert(key, offset);
        let bytes = self.dedup.bytes();
        self.held.add(bytes.saturating_sub(self.bytes));
        self.bytes = bytes.max(self.bytes);
    }

    /// Keys that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.dedup.len()
    }

    /// The same, as part of what another holds.
    pub(crate) fn held_by(mut self, held: &Arc<Held>) -> Self {
        held.add(self.bytes);
        self.held.release(self.bytes);
        self.held = Arc::clone(held);
        self
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        self.held.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> DedupSecret {
        DedupSecret::new([1, 2])
    }

    #[test]
    fn the_topic_the_name_and_the_id_are_all_in_the_key() {
        let key = |topic, name, id| secret().key(topic, name, id);
        let same = key("room.1", Some("ann"), "m-1");
        assert_eq!(same, key("room.1", Some("ann"), "m-1"));
        for other in [
            key("room.2", Some("ann"), "m-1"),
            key("room.1", Some("bob"), "m-1"),
            key("room.1", Some("ann"), "m-2"),
            key("room.1", None, "m-1"),
            // The same bytes, cut at other places.
            key("room.1a", Some("nn"), "m-1"),
            key("room.1", Some("annm"), "-1"),
            key("room.1ann", None, "m-1"),
            DedupSecret::new([2, 1]).key("room.1", Some("ann"), "m-1"),
        ] {
            assert_ne!(same, other);
        }
        // It is written beside the messages on disk and must not change. Computed by another program, from
        // the description of SipHash-1-3 with 128 bits.
        assert_eq!(format!("{same:x?}"), "DedupKey([e344608b266e4094, cd6be80a56bf7d07])");
        assert_eq!(format!("{:?}", secret()), "DedupSecret");
    }

    #[test]
    fn the_oldest_is_forgotten_and_what_is_known_stays_as_it_was() {
        let key = |id: u64| DedupKey([id, 0]);
        let mut dedup = Dedup::new(3);
        for offset in 1..=3 {
            dedup.insert(key(offset), Offset(offset));
        }
        dedup.insert(key(1), Offset(9));
        assert_eq!((dedup.find(key(1)), dedup.len()), (Some(Offset(1)), 3));
        dedup.insert(key(4), Offset(4));
        assert_eq!((dedup.find(key(1)), dedup.find(key(2))), (None, Some(Offset(2))));
        // What is taken back makes room, and an older append of the same key is not touched.
        dedup.take_back(key(4), Offset(4));
        dedup.take_back(key(3), Offset(4));
        assert_eq!(
            (dedup.find(key(4)), dedup.find(key(3)), dedup.len()),
            (None, Some(Offset(3)), 2)
        );
        dedup.insert(key(5), Offset(5));
        assert_eq!(dedup.find(key(2)), Some(Offset(2)));
        let mut none = Dedup::new(0);
        none.insert(key(1), Offset(1));
        assert!(none.is_empty() && none.bytes() == 0);
    }

    #[test]
    fn its_memory_is_bounded_by_its_keys() {
        let mut dedup = Dedup::new(16_384);
        assert_eq!(dedup.bytes(), 0);
        for offset in 0..100_000 {
            let key = secret().key("room.1", None, &offset.to_string());
            dedup.insert(key, Offset(offset));
            assert!(dedup.bytes() <= 70 * 16_384 + 1_024, "{}", dedup.bytes());
        }
        assert_eq!(dedup.len(), 16_384);
    }

    /// A list of all that was appended and not taken back says what must be found.
    #[test]
    fn it_finds_what_a_list_of_the_newest_has() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for limit in [1, 2, 7, 100] {
            let mut dedup = Dedup::new(limit);
            let mut model: Vec<(u64, u64)> = Vec::new();
            for offset in 1..5_000 {
                let id = next(2 * limit as u64 + 1);
                let key = DedupKey([id, 0]);
                let known = model.iter().find(|(known, _)| *known == id).map(|(_, offset)| *offset);
                assert_eq!(dedup.find(key), known.map(Offset));
                if known.is_none() {
                    dedup.insert(key, Offset(offset));
                    model.push((id, offset));
                    if model.len() > limit {
                        model.remove(0);
                    }
                    // The disk refuses one in four, before anything else comes, or after.
                    if next(4) == 0 {
                        let at = model.len() - 1 - (next(3) as usize).min(model.len() - 1);
                        let (id, offset) = model.remove(at);
                        dedup.take_back(DedupKey([id, 0]), Offset(offset));
                    }
                }
                assert_eq!(dedup.len(), model.len());
            }
        }
    }
}
