//! The files that opening finds: which topics there are, and what each of them has where.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    io,
};

use super::{
    StoreError, catalogue,
    disk::{Disk, read_named},
    files::{
        CATALOGUE, PACKS, StoreFile, TOPICS, TopicFile, catalogue_file, pack_file, segment_file,
        segment_first, topic_directory,
    },
    pack::{Extent, PackFile, index_again, most_records, pack_number, read_index},
    record::Lost,
    recover::{Damage, on},
    segment::{self, Segment},
};

/// The part of a topic that is in files.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) file: Option<TopicFile>,
    /// Segments and extents, in the order of their offsets.
    pub(super) segments: Vec<Segment>,
    /// The time of the last record, and whether it closes the topic.
    pub(super) time: u64,
    pub(super) closes: bool,
    /// Bytes of the last segment behind its last valid record.
    pub(super) behind: u64,
    /// The first record that is lost among those of the last segment.
    pub(super) lost: Option<Lost>,
    /// The directory is there.
    pub(super) is_made: bool,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) topics: BTreeMap<u64, Found>,
    /// The packs that `store.json` names, and whether they are not to be touched.
    pub(super) packs: Vec<(PackFile, bool)>,
    /// The number of the last pack that there was.
    pub(super) last_pack: u32,
    /// A part of the catalogue is lost.
    pub(super) is_catalogue_lost: bool,
    /// Records that may be lost of any topic.
    pub(super) lost_records: u64,
}

/// Looks at all files but the journal's. What `store.json` does not name is removed.
pub(super) fn look<D: Disk>(
    disk: &D,
    store: &mut StoreFile,
    damage: &mut Damage,
) -> Result<Files, StoreError> {
    let mut files = Files::default();
    let catalogue = catalogue::read(disk, &store.catalogue).map_err(on("read", CATALOGUE))?;
    files.is_catalogue_lost = !catalogue.lost.is_empty();
    for (id, file) in catalogue.topics {
        files.topics.insert(id, Found { file: Some(file), ..Found::default() });
    }
    remove_unnamed(disk, store, &mut files)?;
    let mut extents: BTreeMap<u64, Vec<Extent>> = BTreeMap::new();
    for file in &mut store.packs {
        let (found, is_whole) = look_at_pack(disk, file, damage, &mut files.lost_records)?;
        files.packs.push((*file, !is_whole || files.is_catalogue_lost));
        for extent in found {
            extents.entry(extent.topic).or_default().push(extent);
        }
    }
    for name in list(disk, TOPICS)? {
        let Some(id) = u64::from_str_radix(&name, 16).ok().filter(|_| name.len() == 16) else {
            continue;
        };
        let directory = topic_directory(id);
        let names = disk.list(&directory).map_err(on("list", &directory))?;
        let firsts: Vec<_> = names.iter().filter_map(|name| segment_first(name)).collect();
        let found = files.topics.entry(id).or_default();
        found.is_made = true;
        put_together(disk, id, &firsts, extents.remove(&id).unwrap_or_default(), found)
            .map_err(on("read", &directory))?;
    }
    for (id, extents) in extents {
        // Without an entry in the catalogue they are those of a topic that was deleted, or of one that is in
        // the journal, which has them as well.
        if files.is_catalogue_lost || files.topics.contains_key(&id) {
            let found = files.topics.entry(id).or_default();
            put_together(disk, id, &[], extents, found).map_err(on("read", PACKS))?;
        }
    }
    for (text, topic) in catalogue.lost {
        match topic.filter(|id| files.topics.contains_key(id)) {
            Some(id) if files.topics.get(&id).is_some_and(|found| found.file.is_some()) => {
                damage.topics.entry(id).or_insert(text);
            }
            Some(id) => damage.notes.push(format!(
                "{text}: topic {id:016x} is not known by its name, and its messages are left alone"
            )),
            None => drop(damage.all.get_or_insert(text)),
        }
    }
    Ok(files)
}

/// Names in one of our directories, which is made again if a copy has left it out because it was empty.
fn list<D: Disk>(disk: &D, directory: &str) -> Result<Vec<String>, StoreError> {
    match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.create_directory(directory).map_err(on("make", directory))?;
            Ok(Vec::new())
        }
        names => names.map_err(on("list", directory)),
    }
}

/// Removes what was not safe when it was last opened.
fn remove_unnamed<D: Disk>(
    disk: &D,
    store: &StoreFile,
    files: &mut Files,
) -> Result<(), StoreError> {
    let named: HashSet<_> = store.packs.iter().map(|pack| pack.id).collect();
    files.last_pack = named.iter().copied().max().unwrap_or(0);
    for name in list(disk, PACKS)? {
        let Some(id) = pack_number(&name) else { continue };
        files.last_pack = files.last_pack.max(id);
        if !named.contains(&id) {
            let path = pack_file(id);
            disk.remove(&path).map_err(on("remove", &path))?;
        }
    }
    for name in list(disk, CATALOGUE)? {
        let Ok(number) = name.parse::<u32>() else { continue };
        let path = catalogue_file(number);
        if number != store.catalogue.number && path.ends_with(&format!("/{name}")) {
            disk.remove(&path).map_err(on("remove", &path))?;
        }
    }
    Ok(())
}

/// The extents of a pack, from its index, or, if that is lost, from its records; and whether these are all.
fn look_at_pack<D: Disk>(
    disk: &D,
    file: &mut PackFile,
    damage: &mut Damage,
    lost_records: &mut u64,
) -> Result<(Vec<Extent>, bool), StoreError> {
    let path = pack_file(file.id);
    let index_len = file.bytes.saturating_sub(file.index_at);
    match disk.open(&path) {
        Ok(opened) => {
            let len = disk.len(&opened).map_err(on("read", &path))?;
            if len >= file.bytes {
                let mut index = vec![0; usize::try_from(index_len).unwrap_or_default()];
                let read = disk.read_at(&opened, &mut index, file.index_at);
                index.truncate(read.map_err(on("read", &path))?);
                if let Some(extents) = read_index(file, &index) {
                    return Ok((extents, true));
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(on("open", &path)(error)),
    }
    let mut bytes = read_named(disk, &path).map_err(on("read", &path))?.unwrap_or_default();
    bytes.truncate(usize::try_from(file.index_at).unwrap_or(usize::MAX));
    let (extents, end) = index_again(file.id, &bytes);
    if end as u64 == file.index_at {
        damage.notes.push(format!("{path}: its index is lost, and no message"));
        return Ok((extents, true));
    }
    if !std::mem::replace(&mut file.is_told, true) {
        *lost_records += most_records(file.index_at.saturating_sub(end as u64));
        damage.all.get_or_insert_with(|| {
            format!("{path} is not what was written there from byte {end} on")
        });
    }
    Ok((extents, false))
}

/// Puts the segments of a topic and its extents in order.
fn put_together<D: Disk>(
    disk: &D,
    id: u64,
    firsts: &[u64],
    extents: Vec<Extent>,
    found: &mut Found,
) -> io::Result<()> {
    let mut places: Vec<(u64, Option<Extent>)> =
        extents.into_iter().map(|extent| (extent.segment.first, Some(extent))).collect();
    places.extend(firsts.iter().map(|first| (*first, None)));
    // While packs are put together some of them hold what others hold as well: what was put together is longer
    // than its parts, and newer.
    places.sort_by_key(|(first, extent)| {
        let segment = extent.map(|extent| (extent.segment.end, extent.segment.pack));
        (*first, Reverse(segment))
    });
    for (at, (first, extent)) in places.iter().enumerate() {
        if let Some(Extent { segment, last_time, closes, .. }) = extent {
            if found.segments.last().is_none_or(|last| last.end <= *first) {
                (found.time, found.closes, found.behind) = (*last_time, *closes, 0);
                found.lost = None;
                found.segments.push(*segment);
            }
            continue;
        }
        let next = places.get(at + 1).map(|(next, _)| *next).filter(|next| next > first);
        look_at_segment(disk, id, *first, next, found)?;
    }
    Ok(())
}

fn look_at_segment<D: Disk>(
    disk: &D,
    id: u64,
    first: u64,
    next: Option<u64>,
    found: &mut Found,
) -> io::Result<()> {
    let file = disk.open(&segment_file(id, first))?;
    let len = disk.len(&file)?;
    let none = Segment { first, end: first, bytes: 0, time: 0, pack: 0, place: 0 };
    if let Some(end) = next {
        // Where it is lost it is no older than what comes before it.
        let before = found.segments.last().map_or(0, |before| before.time);
        let time = segment::time_of(disk, &file, id, first)?.unwrap_or(before);
        found.segments.push(Segment { end, bytes: len, time, ..none });
        return Ok(());
    }
    match segment::scan(disk, &file, id, first, u64::MAX)? {
        Some(scanned) => {
            (found.time, found.behind) = (scanned.last_time, scanned.behind);
            (found.closes, found.lost) = (scanned.closes, scanned.lost);
            found.segments.push(scanned.segment);
        }
        None => {
            found.behind = len.max(1);
            found.segments.push(none);
        }
    }
    Ok(())
}
