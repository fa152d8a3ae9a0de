//! A disk that loses whatever was not synced, and fails when it is told to: for tests, of the store and of what
//! stands on it. It is a function of its seed and of what is done with it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, journal::mix};

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// A number below this one.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True once in so many times.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// As it is read.
    now: Vec<u8>,
    /// As it is after a cut.
    safe: Vec<u8>,
    /// Changes that are not safe.
    changes: Vec<Change>,
}

fn apply(bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
    if bytes.len() < at + written.len() {
        bytes.resize(at + written.len(), 0);
    }
    bytes[at..at + written.len()].copy_from_slice(written);
}

impl Inode {
    fn change(&mut self, change: Change) {
        match &change {
            Change::Write(at, written) => apply(&mut self.now, *at, written),
            Change::Len(len) => self.now.resize(*len, 0),
        }
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.safe.clone_from(&self.now);
        self.changes.clear();
    }

    /// Makes some of its changes safe, each sector for itself, and forgets the others.
    fn tear(&mut self, random: &mut Random) {
        let odds = random.below(5);
        let happens = |random: &mut Random| random.below(4) < odds;
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Len(len) => {
                    if happens(random) {
                        self.safe.resize(len, 0);
                    }
                }
                Change::Write(mut at, written) => {
                    let mut rest = &written[..];
                    while !rest.is_empty() {
                        let len = (SECTOR - at % SECTOR).min(rest.len());
                        let (sector, behind) = rest.split_at(len);
                        if happens(random) {
                            apply(&mut self.safe, at, sector);
                        } else if random.once_in(8) && self.safe.len() < at + len {
                            // The length is there, the bytes are not.
                            self.safe.resize(at + len, 0);
                        }
                        (at, rest) = (at + len, behind);
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
}

#[derive(Clone, Debug)]
enum Naming {
    Set(String, Node),
    Remove(String),
    Rename(String, String, Node),
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Set(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename(from, to, node) => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }

    fn directory(&self) -> &str {
        match self {
            Self::Set(path, _) | Self::Remove(path) | Self::Rename(path, _, _) => parent(path),
        }
    }
}

/// The error that a call fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power is cut: this call and all later ones fail.
    Cut,
    /// This call alone fails.
    Error,
    /// Calls that need room fail from this one on.
    Full,
}

#[derive(Debug)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<String, Node>,
    safe: BTreeMap<String, Node>,
    namings: Vec<Naming>,
    random: Random,
    calls: u64,
    fault: Option<(u64, Fault)>,
    is_dead: bool,
    is_full: bool,
    has_failed: bool,
    boot: u64,
    syncs: u64,
}

/// A disk of files in memory. Its clones are the same disk.
#[derive(Clone, Debug)]
pub struct Faulty(Arc<Mutex<World>>, Arc<Gate>);

/// A gate before every sync of a file.
#[derive(Debug, Default)]
struct Gate {
    is_closed: Mutex<bool>,
    has_opened: Condvar,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl World {
    /// Counts a call, which may fail; `half` is what it does then.
    fn call(&mut self, needs_room: bool, half: impl FnOnce(&mut Self)) -> io::Result<()> {
        self.calls += 1;
        if self.is_dead {
            return Err(eio());
        }
        if let Some((at, fault)) = self.fault
            && self.calls >= at
        {
            self.has_failed = true;
            match fault {
                Fault::Cut => {
                    self.is_dead = true;
                    half(self);
                    return Err(eio());
                }
                Fault::Error => {
                    self.fault = None;
                    half(self);
                    return Err(eio());
                }
                Fault::Full => self.is_full = true,
            }
        }
        if self.is_full && needs_room {
            half(self);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.namings.push(naming);
    }

    fn file(&self, path: &str) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            _ => Err(missing()),
        }
    }

    fn children(&self, path: &str) -> Vec<String> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.names.range(prefix.clone()..).map_while(|(name, _)| {
            let name = name.strip_prefix(&prefix)?;
            Some((!name.contains('/')).then(|| name.to_owned()))
        });
        below.flatten().collect()
    }

    /// Tears what is not safe: all of it, or that of some files, which goes on being read as it was written.
    fn lose_changes(&mut self, is_cut: bool) {
        let random = &mut self.random;
        for inode in &mut self.inodes {
            if is_cut || random.once_in(2) {
                inode.tear(random);
            }
        }
    }
}

impl Faulty {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self(
            Arc::new(Mutex::new(World {
                inodes: Vec::new(),
                names: BTreeMap::new(),
                safe: BTreeMap::new(),
                namings: Vec::new(),
                random: Random(seed),
                calls: 0,
                fault: None,
                is_dead: false,
                is_full: false,
                has_failed: false,
                boot: 1,
                syncs: 0,
            })),
            Arc::default(),
        )
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call fail: the next is 1.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        let mut world = self.world();
        world.fault = Some((world.calls + call, fault));
    }

    /// Lets syncs of what was written to files wait, or go on. A file that is only made ready is not held:
    /// who writes would wait for it, at a moment of its own.
    pub fn hold_syncs(&self, is_closed: bool) {
        *self.1.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = is_closed;
        self.1.has_opened.notify_all();
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut world = self.world();
        (world.fault, world.is_full, world.is_dead) = (None, false, false);
        world.has_failed = false;
    }

    /// Whether a call has failed since the last cut, kill or healing.
    pub fn has_failed(&self) -> bool {
        self.world().has_failed
    }

    /// Files that were synced so far, and directories, and barriers.
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.world().calls
    }

    /// Cuts the power: what was not synced is lost, in part, in any order.
    pub fn cut(&self) {
        let mut world = self.world();
        let world = &mut *world;
        world.lose_changes(true);
        let is_ordered = world.random.once_in(2);
        let odds = world.random.below(5);
        for naming in std::mem::take(&mut world.namings) {
            if world.random.below(4) < odds {
                naming.apply(&mut world.safe);
            } else if is_ordered {
                break;
            }
        }
        let safe = world.safe.clone();
        world.safe.retain(|path, _| {
            let above = parent(path);
            above.is_empty() || safe.get(above) == Some(&Node::Directory)
        });
        world.names.clone_from(&world.safe);
        for inode in &mut world.inodes {
            inode.now.clone_from(&inode.safe);
        }
        (world.fault, world.is_dead, world.is_full) = (None, false, false);
        world.has_failed = false;
        world.boot += 1;
    }

    /// Ends the process alone. The system may read again from the disk what it believes to be there.
    pub fn kill(&self) {
        let mut world = self.world();
        let world = &mut *world;
        for inode in &mut world.inodes {
            if inode.changes.is_empty() && world.random.once_in(2) {
                inode.now.clone_from(&inode.safe);
            }
        }
        (world.fault, world.is_dead, world.is_full) = (None, false, false);
        world.has_failed = false;
    }

    /// Files whose names contain this, with their bytes.
    pub fn files(&self, part: &str) -> Vec<(String, Vec<u8>)> {
        let world = self.world();
        let names = world.names.iter().filter(|(name, _)| name.contains(part));
        let file = |(name, node): (&String, &Node)| match node {
            Node::File(inode) => Some((name.clone(), world.inodes[*inode].now.clone())),
            Node::Directory => None,
        };
        names.filter_map(file).collect()
    }

    /// A disk on which these files are safe, in directories as their paths say.
    pub fn of_files(seed: u64, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let disk = Self::new(seed);
        let mut world = disk.world();
        for (path, bytes) in files {
            for (at, _) in path.match_indices('/') {
                world.names.insert(path[..at].to_owned(), Node::Directory);
            }
            let inode = Inode { now: bytes.clone(), safe: bytes, changes: Vec::new() };
            let at = world.inodes.len();
            world.inodes.push(inode);
            world.names.insert(path, Node::File(at));
        }
        let names = world.names.clone();
        world.safe = names;
        drop(world);
        disk
    }

    /// Puts other bytes on the disk.
    pub fn overwrite(&self, path: &str, bytes: Vec<u8>) {
        let mut world = self.world();
        if let Ok(inode) = world.file(path) {
            let inode = &mut world.inodes[inode];
            (inode.now, inode.safe) = (bytes.clone(), bytes);
        }
    }

    /// An independent copy of it.
    pub fn copy(&self) -> Self {
        let world = self.world();
        let copy = Self::new(world.random.0);
        {
            let mut new = copy.world();
            new.inodes.clone_from(&world.inodes);
            new.names.clone_from(&world.names);
            new.safe.clone_from(&world.safe);
            new.namings.clone_from(&world.namings);
            new.boot = world.boot;
        }
        copy
    }
}

impl Disk for Faulty {
    type File = usize;

    fn open(&self, path: &str) -> io::Result<usize> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        world.file(path)
    }

    fn create(&self, path: &str) -> io::Result<usize> {
        let mut world = self.world();
        world.call(true, |_| {})?;
        if !parent(path).is_empty() && world.names.get(parent(path)) != Some(&Node::Directory) {
            return Err(missing());
        }
        if let Ok(inode) = world.file(path) {
            world.inodes[inode].change(Change::Len(0));
            return Ok(inode);
        }
        world.inodes.push(Inode::default());
        let inode = world.inodes.len() - 1;
        world.name(Naming::Set(path.to_owned(), Node::File(inode)));
        Ok(inode)
    }

    fn len(&self, file: &usize) -> io::Result<u64> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        Ok(world.inodes[*file].now.len() as u64)
    }

    fn read_at(&self, file: &usize, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        let from = world.inodes[*file].now.get(at as usize..).unwrap_or_default();
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, file: &usize, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut world = self.world();
        let at = at as usize;
        // Within what was taken before, no room is needed.
        let needs_room = world.inodes[*file].now.len() < at + bytes.len();
        world.call(needs_room, |world| {
            let part = world.random.below(bytes.len() as u64 + 1) as usize;
            if part > 0 {
                world.inodes[*file].change(Change::Write(at, bytes[..part].to_vec()));
            }
        })?;
        world.inodes[*file].change(Change::Write(at, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, file: &usize, len: u64) -> io::Result<()> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        world.inodes[*file].change(Change::Len(len as usize));
        Ok(())
    }

    fn preallocate(&self, file: &usize, len: u64) -> io::Result<()> {
        let mut world = self.world();
        world.call(true, |_| {})?;
        if world.inodes[*file].now.len() < len as usize {
            world.inodes[*file].change(Change::Len(len as usize));
        }
        Ok(())
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let is_written = |change: &Change| matches!(change, Change::Write(..));
        if self.world().inodes[*file].changes.iter().any(is_written) {
            let closed = self.1.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.1.has_opened.wait_while(closed, |is_closed| *is_closed));
        }
        let mut world = self.world();
        world.syncs += 1;
        world.call(false, |world| {
            // What was not written counts as written from now on, though it is not.
            let mut random = world.random.clone();
            if !world.is_dead {
                world.inodes[*file].tear(&mut random);
            }
            world.random = random;
        })?;
        world.inodes[*file].sync();
        Ok(())
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let mut world = self.world();
        world.syncs += 1;
        world.call(false, |_| {})?;
        let world = &mut *world;
        world.namings.retain(|naming| {
            let is_here = naming.directory() == path;
            if is_here {
                naming.apply(&mut world.safe);
            }
            !is_here
        });
        Ok(())
    }

    fn barrier(&self) -> io::Result<()> {
        let mut world = self.world();
        world.syncs += 1;
        world.call(false, |world| {
            if !world.is_dead {
                world.lose_changes(false);
            }
        })?;
        for inode in &mut world.inodes {
            inode.sync();
        }
        world.namings.clear();
        let names = world.names.clone();
        world.safe = names;
        Ok(())
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call(true, |_| {})?;
        if !world.names.contains_key(path) {
            world.name(Naming::Set(path.to_owned(), Node::Directory));
        }
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        match world.names.get(path) {
            Some(Node::Directory) => Ok(world.children(path)),
            _ => Err(missing()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        let node = Node::File(world.file(from)?);
        world.name(Naming::Rename(from.to_owned(), to.to_owned(), node));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        world.file(path)?;
        world.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        match world.names.get(path) {
            Some(Node::Directory) if world.children(path).is_empty() => {
                world.name(Naming::Remove(path.to_owned()));
                Ok(())
            }
            Some(Node::Directory) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            _ => Err(missing()),
        }
    }

    fn free(&self) -> io::Result<u64> {
        let mut world = self.world();
        world.call(false, |_| {})?;
        Ok(if world.is_full { 0 } else { 1 << 40 })
    }

    fn boot(&self) -> String {
        self.world().boot.to_string()
    }
}
