//! Builds the library's sources that threads meet in with loom's locks, once as they are and once
//! for each way of breaking them.

use std::{env, error::Error, fmt::Write, fs, path::Path};

/// The sources, in `rsock/src`.
const SOURCES: [(&str, &str); 13] = [
    ("demand", "demand.rs"),
    ("error", "error.rs"),
    ("state", "state.rs"),
    ("memory", "memory.rs"),
    ("network", "network.rs"),
    ("connection::feed", "connection/feed.rs"),
    ("connection::inflow", "connection/inflow.rs"),
    ("connection::inlet", "connection/inlet.rs"),
    ("connection::mailbox", "connection/mailbox.rs"),
    ("connection::producers", "connection/producers.rs"),
    ("connection::sessions", "connection/sessions.rs"),
    ("connection::shares", "connection/shares.rs"),
    ("connection::wake_group", "connection/wake_group.rs"),
];

/// A way of breaking them: its name, the source, what is replaced and by what.
type Broken = (&'static str, &'static str, &'static str, &'static str);

const BROKEN: [Broken; 26] = [
    ("sleeps_on_commands", "connection/mailbox.rs", "if !inner.commands.is_empty() || ", "if "),
    ("sleeps_on_ready", "connection/mailbox.rs", "|| !inner.ready.is_empty() ", ""),
    ("sleeps_on_adoption", "connection/mailbox.rs", " || !inner.adoptions.is_empty()", ""),
    (
        "sleeps_in_two_steps",
        "connection/mailbox.rs",
        "        inner.awake = false;\n",
        "        drop(inner);\n        let mut inner = self.lock();\n        inner.awake = false;\n",
    ),
    (
        "looks_before_it_releases",
        "connection/inlet.rs",
        "        let before = self.0.fetch_sub(bytes, AcqRel);\n",
        "        let before = self.0.load(Acquire);\n        \
         self.0.fetch_sub(bytes, AcqRel);\n",
    ),
    (
        "sleeps_on_nudges",
        "connection/mailbox.rs",
        "        if mem::take(&mut inner.nudged) {\n            return false;\n        }\n",
        "",
    ),
    ("waits_awake", "connection/mailbox.rs", "*awake = *called;", "let _ = awake;"),
    ("stays_awake", "connection/mailbox.rs", "        inner.awake = false;\n", ""),
    (
        "sends_unchecked",
        "connection/mailbox.rs",
        "            return Err(reason.clone());\n        }\n        if inner.commands",
        "            return Err(reason.clone());\n        }\n        drop(inner);\n        \
         let mut inner = self.lock();\n        if inner.commands",
    ),
    (
        "adopts_unchecked",
        "connection/mailbox.rs",
        "            return Err(adoption);\n        }\n",
        "            return Err(adoption);\n        }\n        drop(inner);\n        \
         let mut inner = self.lock();\n",
    ),
    (
        "closes_permits_first",
        "connection/mailbox.rs",
        "Vec<Command> {\n        let mut inner",
        "Vec<Command> {\n        self.permits.close();\n        let mut inner",
    ),
    (
        "registers_too_late",
        "connection/inflow.rs",
        "                register(&mut inner.consumer, cx.waker());\n                self.waited = true;",
        "                drop(inner);\n                \
         register(&mut self.inlet.lock().consumer, cx.waker());\n                self.waited = true;",
    ),
    (
        "replies_register_too_late",
        "connection/inlet.rs",
        "                register(&mut inner.consumer, cx.waker());\n                Poll::Pending",
        "                drop(inner);\n                \
         register(&mut self.lock().consumer, cx.waker());\n                Poll::Pending",
    ),
    (
        "ends_in_two_steps",
        "connection/inlet.rs",
        "                inner.end = Some(Ok(()));\n                break true;",
        "                drop(inner);\n                return (true, self.end(Ok(())));",
    ),
    (
        "unlists_too_late",
        "connection/inlet.rs",
        "        inner.listed = false;\n        match inner.key.filter(|_| inner.end.is_none()) {\n            \
         Some(key) => (Some(key), inner.take_demand()),",
        "        match inner.key.filter(|_| inner.end.is_none()) {\n            Some(key) => {\n                \
         let demand = inner.take_demand();\n                drop(inner);\n                \
         self.lock().listed = false;\n                (Some(key), demand)\n            }",
    ),
    ("stays_listed", "connection/inlet.rs", "        inner.listed = false;\n", ""),
    ("grants_again", "connection/inlet.rs", "        self.demand.grant = 0;\n", ""),
    (
        "loses_early_credit",
        "connection/inlet.rs",
        "None => (None, inner.demand),",
        "None => (None, inner.take_demand()),",
    ),
    (
        "demands_in_two_steps",
        "connection/inlet.rs",
        "        change(&mut inner.demand);\n",
        "        let listed = inner.listed;\n        drop(inner);\n        \
         let mut inner = self.lock();\n        change(&mut inner.demand);\n        \
         if listed {\n            return false;\n        }\n",
    ),
    (
        "opens_in_two_steps",
        "connection/inlet.rs",
        "        inner.key = Some(key);\n",
        "        let demand = inner.take_demand();\n        drop(inner);\n        \
         let mut inner = self.lock();\n        inner.key = Some(key);\n        \
         if let demand @ InletDemand { cancel: false, .. } = demand {\n            return demand;\n        }\n",
    ),
    (
        "demands_too_late",
        "demand.rs",
        "        let waker = cx.waker();\n",
        "        drop(inner);\n        let mut inner = self.shared.lock();\n        \
         let waker = cx.waker();\n",
    ),
    (
        "unlists_without_looking",
        "connection/producers.rs",
        "shared.listed.swap(false, Ordering::AcqRel);",
        "shared.listed.store(false, Ordering::Release);",
    ),
    (
        "groups_unlist_without_looking",
        "connection/wake_group.rs",
        "self.is_listed.swap(false, Ordering::AcqRel);",
        "self.is_listed.store(false, Ordering::Release);",
    ),
    (
        "groups_are_not_told",
        "connection/mailbox.rs",
        "            inner.ready.push(GROUP_SLOT);\n",
        "",
    ),
    (
        "groups_forget_other_wakers",
        "connection/wake_group.rs",
        "            other.wake();\n",
        "            drop(other);\n",
    ),
    (
        "claims_in_two_steps",
        "connection/sessions.rs",
        "            return Err(NoSession::TokenInUse);\n        }\n",
        "            return Err(NoSession::TokenInUse);\n        }\n        \
         drop(table);\n        let mut table = self.lock();\n",
    ),
];

/// Ways of breaking what threads share in a topic, in `topics/src`; and of breaking its model's reader.
const BROKEN_TOPICS: [Broken; 6] = [
    ("does_not_look_again", "topics.rs", "if hubs.version() == seen {", "if seen > 0 {"),
    (
        "waits_too_late",
        "topic/hubs.rs",
        "                hub.is_waiting.swap(false, Ordering::AcqRel);\n                \
         let cost = hub.cost();\n                hub.wake.wake();\n",
        "                let cost = hub.cost();\n                hub.wake.wake();\n                \
         hub.is_waiting.swap(false, Ordering::AcqRel);\n",
    ),
    (
        "pumps_end_without_looking",
        "topic/hubs.rs",
        "self.version() != version && self.are_waiting.load(Ordering::SeqCst) > 0;",
        "false;",
    ),
    (
        "looks_before_it_tells",
        "topic/hubs.rs",
        "        self.version.fetch_add(1, Ordering::SeqCst);\n        \
         // Whoever registers later than this sees the version above.\n        \
         self.are_waiting.load(Ordering::SeqCst) > 0 && ",
        "        let are_waiting = self.are_waiting.load(Ordering::SeqCst) > 0;\n        \
         self.version.fetch_add(1, Ordering::SeqCst);\n        are_waiting && ",
    ),
    (
        "pumps_forget_who_came",
        "topic/hubs.rs",
        "            self.are_waiting.store(0, Ordering::SeqCst);\n            drop(waiting);\n",
        "            drop(waiting);\n            self.are_waiting.store(0, Ordering::SeqCst);\n",
    ),
    (
        "tells_without_a_version",
        "topic/hubs.rs",
        "        self.version.fetch_add(1, Ordering::SeqCst);\n",
        "",
    ),
];

/// The text of a source, broken if this is where.
fn text(
    path: &Path,
    file: &str,
    (name, broken, from, to): Broken,
) -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(path)?;
    if file != broken {
        return Ok(text);
    }
    if text.matches(from).count() != 1 {
        return Err(format!("{name}: what is to be broken is not in {file} once").into());
    }
    Ok(text.replace(from, to))
}

/// Copies of what threads share in a topic.
fn topics(out: &Path, all: &mut String) -> Result<(), Box<dyn Error>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topics/src/topic/hubs.rs");
    for broken in [("sound_topics", "", "", "")].into_iter().chain(BROKEN_TOPICS) {
        let name = broken.0;
        let folder = out.join(name);
        fs::create_dir_all(&folder)?;
        let mut places = Vec::new();
        for (path, file) in
            [(source.as_path(), "topic/hubs.rs"), (Path::new("src/topics.rs"), "topics.rs")]
        {
            let text = text(path, file, broken)?;
            let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let place = folder.join(path.file_name().unwrap_or_default());
            fs::write(&place, text.replace("crate::", &format!("crate::{name}::")))?;
            places.push(place);
        }
        let [hubs, models] = [&places[0], &places[1]];
        write!(
            all,
            "#[expect(dead_code, reason = \"the library uses more of it\")]\n\
             pub mod {name} {{\n\
             pub(crate) use crate::neighbours::topics as sync;\n\
             pub mod topic {{\n\
             #[path = {hubs:?}]\npub(crate) mod hubs;\n\
             #[path = {models:?}]\npub mod models;\n}}\n}}\n",
        )?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rsock/src");
    let out = env::var("OUT_DIR")?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/models.rs");
    let mut all = String::new();
    let sound = [("sound", "", "", "")];
    for (name, broken, from, to) in sound.into_iter().chain(BROKEN) {
        let folder = Path::new(&out).join(name);
        fs::create_dir_all(&folder)?;
        // What names a place in the library names one in this copy.
        let place = |text: &str| text.replace("crate::", &format!("crate::{name}::"));
        let mut modules = [String::new(), String::new()];
        for (module, file) in SOURCES {
            let path = sources.join(file);
            let text = text(&path, file, (name, broken, from, to))?;
            let (folder_of, module) = match module.split_once("::") {
                Some((_, module)) => (1, module),
                None => (0, module),
            };
            let copy = folder.join(format!("{module}.rs"));
            // The tests of the sources are not for loom's locks; they stand at the end.
            let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
            fs::write(&copy, place(text))?;
            writeln!(modules[folder_of], "#[path = {copy:?}]\npub(crate) mod {module};")?;
        }
        // A part of `error`, which looks for it beside itself.
        let part = sources.join("error/tls.rs");
        println!("cargo::rerun-if-changed={}", part.display());
        let part = fs::read_to_string(part)?;
        let part = part.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        fs::write(folder.join("tls.rs"), place(part))?;
        let models = fs::read_to_string("src/models.rs")?;
        let copy = folder.join("models.rs");
        fs::write(&copy, place(&models))?;
        let [above, within] = modules;
        write!(
            all,
            "#[expect(dead_code, reason = \"the library uses more of it\")]\n\
             pub mod {name} {{\n\
             pub(crate) use crate::neighbours::{{boxed, observe, sync, transport}};\n\
             {above}\n\
             pub mod connection {{\n{within}\n\
             pub(crate) use crate::neighbours::{{doors, snapshot}};\n\
             pub(crate) mod work {{\n\
             pub(crate) type Work = crate::neighbours::boxed::BoxFuture<\n\
             Result<Option<rsock_proto::Payload>, super::super::error::Error>>;\n}}\n\
             #[path = {copy:?}]\npub mod models;\n}}\n\
             }}\n",
        )?;
    }
    topics(Path::new(&out), &mut all)?;
    fs::write(Path::new(&out).join("copies.rs"), all)?;
    Ok(())
}
