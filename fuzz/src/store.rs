//! The data directory: whatever bytes its files have, opening and reading it end, and every message that is read
//! was written.
//!
//! The engine is asked through its own door, over a disk in memory, and knows what its files look like; this
//! target does not. So the seeds of its corpus are written by the engine itself: see [`seeds`].

use std::{collections::BTreeMap, sync::OnceLock};

use rsock_topics::{
    Epoch, Message, Offset, TopicName,
    store::{Engine, NewTopic, Record, Retention, Settings, TopicId, TopicState, faulty::Faulty},
};

/// Bytes of a file in an input, at most: more would be zeros.
const MAX_FILE: u64 = 256 << 10;
/// Portions in which a log is read, beyond which it does not end.
const MAX_BLOCKS: usize = 100_000;
/// Bytes of memory that a disk takes beside those it was given: journals of their own.
const MORE: usize = 8 << 20;

/// Files with their names.
type Files = BTreeMap<String, Vec<u8>>;
/// Messages that were published, by topic and offset.
type Published = BTreeMap<(TopicId, u64), Vec<u8>>;

/// A directory of any files, or one put together from several states of a sound one.
pub fn store(data: &[u8]) {
    match data.split_first() {
        Some((kind, data)) if kind.is_multiple_of(2) => {
            open(&files(data), |_, _| {});
        }
        Some((_, data)) => {
            let history = history();
            let files = compose(&history.states, data);
            open(&files, |topic, (offset, read)| {
                let published = history.published.get(&(topic.id, offset));
                assert_eq!(published.map(Vec::as_slice), Some(read), "{offset} of {topic:?}");
            });
        }
        None => {}
    }
}

/// Inputs to begin with: each state of a sound directory as plain files, and some put together.
pub fn seeds() -> Vec<Vec<u8>> {
    let states = &history().states;
    let plain = states.iter().map(|files| [&[0][..], &input(files)].concat());
    let composed = (0..states.len() as u8).map(|at| vec![1, at, 3, at / 2, at, 1, at, at, 7]);
    plain.chain(composed).collect()
}

/// The files that an input stands for: for each the length of its name, the name, its length, that of what
/// is written there, and that.
fn files(mut data: &[u8]) -> Files {
    let mut files = Files::new();
    while let Some((len, rest)) = data.split_first() {
        let Some((name, rest)) = rest.split_at_checked(usize::from(*len % 64)) else { break };
        let Some((lens, rest)) = rest.split_first_chunk::<8>() else { break };
        let [len, written] = [&lens[..4], &lens[4..]].map(|bytes| {
            let number = bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            usize::try_from(number.min(MAX_FILE)).unwrap_or_default()
        });
        let (written, rest) = rest.split_at(written.min(rest.len()));
        let mut bytes = written.to_vec();
        bytes.resize(len.max(written.len()), 0);
        if let Some(name) = path(name) {
            files.insert(name, bytes);
        }
        data = rest;
    }
    files
}

/// A path within the directory, and none that would be a file and a directory at once.
fn path(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let is_path = !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    is_path.then(|| name.to_owned())
}

/// The input that stands for these files.
fn input(files: &Files) -> Vec<u8> {
    let mut input = Vec::new();
    for (name, bytes) in files {
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        input.push(name.len() as u8);
        input.extend_from_slice(name.as_bytes());
        input.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        input.extend_from_slice(&(written as u32).to_le_bytes());
        input.extend_from_slice(&bytes[..written]);
    }
    input
}

/// Steps of four bytes: a file is that of another moment, is gone, cut, changed, or has another's place.
fn compose(states: &[Files], data: &[u8]) -> Files {
    let Some((first, steps)) = data.split_first() else { return Files::new() };
    let state = |at: u8| &states[usize::from(at) % states.len()];
    let mut files = state(*first).clone();
    for step in steps.chunks_exact(4) {
        let [kind, which, of, at] = [step[0], step[1], step[2], step[3]];
        let other = state(of);
        let names: Vec<_> = files.keys().chain(other.keys()).cloned().collect();
        let Some(name) = names.get(usize::from(which) % names.len().max(1)) else { break };
        match kind % 6 {
            0 | 1 => match other.get(name) {
                Some(bytes) => drop(files.insert(name.clone(), bytes.clone())),
                None => drop(files.remove(name)),
            },
            2 => drop(files.remove(name)),
            3 => {
                if let Some(bytes) = files.get_mut(name) {
                    let len = bytes.len() * usize::from(at) / 255;
                    bytes.truncate(len);
                }
            }
            4 => {
                // Most of it lies in the first half.
                if let Some(bytes) = files.get_mut(name).filter(|bytes| !bytes.is_empty()) {
                    let place = usize::from(at) * 256 + usize::from(of);
                    let place = place % bytes.len();
                    bytes[place] ^= 1 << (kind / 6 % 8);
                }
            }
            _ => {
                let to = &names[usize::from(at) % names.len()];
                if let Some(bytes) = files.remove(name) {
                    files.insert(to.clone(), bytes);
                }
            }
        }
    }
    files
}

fn settings() -> Settings {
    Settings {
        journal_bytes: 4 << 10,
        max_waiting_files: 2,
        segment_bytes: 500,
        max_open_segments: 2,
        max_bytes: 1 << 40,
        batch_bytes: 2 << 10,
        flush_bytes: 400,
        pending_bytes: 8 << 10,
        pack_bytes: 1 << 10,
        max_runs: 2,
        catalogue_bytes: 500,
        accepts_damage: false,
    }
}

fn engine(disk: &Faulty) -> Option<Engine<Faulty>> {
    Engine::open(disk.clone(), settings(), [1, 2, 3]).ok()
}

/// All messages of a topic that can be read.
fn read(engine: &mut Engine<Faulty>, topic: &TopicState) -> Vec<(u64, Vec<u8>)> {
    let (disk, mut from) = (engine.disk().clone(), topic.base.0);
    let mut messages = Vec::new();
    for _ in 0..MAX_BLOCKS {
        let block = engine.read(topic.id, Offset(from), 700);
        let Some(block) = block.ok().and_then(|source| source.read(&disk).ok()) else {
            return messages;
        };
        let records = block.records().map(|record| (record.offset.0, record.message.data.to_vec()));
        messages.extend(records);
        if block.next().0 <= from || block.next() >= topic.next {
            return messages;
        }
        from = block.next().0;
    }
    panic!("it does not end: {topic:?}")
}

/// Opens a directory of these files, looks at all messages, goes on with it, and opens it again.
fn open(files: &Files, look: impl Fn(&TopicState, (u64, &[u8]))) {
    let names: Vec<_> = files.keys().collect();
    let is_tree = names.iter().all(|name| {
        !names
            .iter()
            .any(|other| other.strip_prefix(&***name).is_some_and(|it| it.starts_with('/')))
    });
    if !is_tree {
        return;
    }
    let given = files.iter().map(|(name, bytes)| (name.clone(), bytes.clone()));
    let disk = Faulty::of_files(7, given);
    let Some(mut opened) = engine(&disk) else { return };
    let topics: Vec<_> = opened.topics().collect();
    let mut there = BTreeMap::new();
    for topic in &topics {
        let messages = read(&mut opened, topic);
        for (offset, data) in &messages {
            let kept = topic.base.0..topic.next.0;
            assert!(kept.contains(offset), "{offset} of {topic:?}");
            // By its first byte before all of it, which costs a call where memory is checked.
            let is_it = |part: &[u8]| part.first() == data.first() && part == data;
            let is_written =
                data.is_empty() || files.values().any(|bytes| bytes.windows(data.len()).any(is_it));
            assert!(is_written, "nobody has written {offset} of {topic:?}");
            look(topic, (*offset, data));
        }
        there.insert(topic.id, messages);
    }
    for topic in topics.iter().filter(|topic| topic.damage.is_none() && topic.closed.is_none()) {
        let message = Message { data: b"more", ..Message::default() };
        let offset = topic.next;
        let record = Record { offset, time: topic.time, id: None, closes: false, message };
        if opened.append(topic.id, &record).is_ok() {
            there.entry(topic.id).or_default().push((offset.0, b"more".to_vec()));
        }
    }
    if opened.settle(0).is_err() {
        return;
    }
    drop(opened);
    let bytes: usize = disk.files("").iter().map(|(_, bytes)| bytes.len()).sum();
    let given: usize = files.values().map(Vec::len).sum();
    assert!(bytes <= 4 * given + MORE, "{bytes} bytes made of {given}");
    let mut again = engine(&disk).expect("it was opened, and nothing has failed since");
    let topics: Vec<_> = again.topics().collect();
    for (id, messages) in there {
        let topic = topics.iter().find(|topic| topic.id == id);
        let topic = topic.unwrap_or_else(|| panic!("{id:?} is gone"));
        let read = read(&mut again, topic);
        let kept = messages.iter().filter(|(offset, _)| *offset >= topic.base.0);
        for message in kept {
            assert!(read.contains(message), "{} of {topic:?} is gone", message.0);
        }
    }
}

/// The life of a sound directory: its states, one after another, and what was published in it.
struct History {
    states: Vec<Files>,
    published: Published,
}

fn history() -> &'static History {
    static HISTORY: OnceLock<History> = OnceLock::new();
    HISTORY.get_or_init(|| {
        let disk = Faulty::new(1);
        let (mut states, mut published) = (Vec::new(), Published::new());
        let mut keep = |disk: &Faulty| states.push(disk.files("").into_iter().collect());
        for life in 0..4_u64 {
            live(life, &disk, &mut published, &mut keep);
        }
        History { states, published }
    })
}

/// One life of a process: messages to several topics, one of which is closed, one trimmed, one deleted.
fn live(life: u64, disk: &Faulty, published: &mut Published, keep: &mut impl FnMut(&Faulty)) {
    let mut engine = engine(disk).expect("nothing has failed");
    for at in 0..3 {
        let name = TopicName::parse(&format!("t.{life}.{at}")).expect("a name");
        let new = NewTopic {
            name: &name,
            epoch: Epoch(7 * life + at),
            first: Offset(1),
            is_loose: at == 2,
            settings: "{\"a\":1}",
            retention: Retention::default(),
        };
        engine.create(&new).expect("there is room");
    }
    engine.settle(0).expect("nothing has failed");
    let mut topics: Vec<_> = engine.topics().collect();
    topics.retain(|topic| topic.closed.is_none());
    for round in 0..12 {
        for topic in topics.iter().filter(|topic| !(round + topic.id.0).is_multiple_of(3)) {
            let offset = engine.topic(topic.id).expect("it is there").next;
            let data = format!("{} {offset} {}", topic.name, "-".repeat(round as usize * 9));
            let message = Message {
                data: data.as_bytes(),
                from: (round % 2 == 0).then_some("ann"),
                key: (round % 3 == 0).then_some("k"),
                headers: (round % 5 == 0).then_some("{\"h\":1}"),
                ..Message::default()
            };
            let id = (round % 4 == 0).then_some(u128::from(round));
            let closes = round == 11 && topic.id.0.is_multiple_of(4);
            let record = Record { offset, time: 10 * life + round, id, closes, message };
            engine.append(topic.id, &record).expect("there is room");
            published.insert((topic.id, offset.0), data.into_bytes());
        }
        let job = engine.commit().ok().flatten();
        if let Some(job) = job {
            let written = job.run(engine.disk());
            engine.finish_commit(written).expect("nothing has failed");
        }
        if round % 4 == 3 {
            engine.settle(round).expect("nothing has failed");
            keep(disk);
        }
    }
    if let Some(topic) = topics.first() {
        engine.trim(topic.id, Offset(4)).expect("there is room");
    }
    if let Some(topic) = topics.get(1).filter(|_| life == 2) {
        engine.delete(topic.id).expect("there is room");
    }
    if life.is_multiple_of(2) {
        engine.close(99).expect("nothing has failed");
    } else {
        engine.settle(99).expect("nothing has failed");
    }
    keep(disk);
    drop(engine);
    if life == 1 {
        disk.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_stand_for_the_files_that_they_were_made_of() {
        for state in &history().states {
            assert_eq!(&files(&input(state)), state);
        }
    }
}
