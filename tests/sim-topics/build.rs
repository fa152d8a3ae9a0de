//! Copies the core of topics for `tests/faults.rs`, with faults that can be switched on: each is a place
//! in its sources, and what stands there instead.

use std::{error::Error, fs, path::Path};

/// A fault: its name, the file in `topics/src`, what is replaced and by what. `BROKEN` is whether it is
/// switched on.
type Fault = (&'static str, &'static str, &'static str, &'static str);

const FAULTS: &[Fault] = &[
    (
        "sees_too_late",
        "cursor.rs",
        "            self.seen = version;\n",
        "            self.seen = if BROKEN { topic.version() } else { version };\n",
    ),
    (
        "gap_one_too_far",
        "cursor.rs",
        "        self.gap = Some((from, Offset(to.0 - 1)));\n",
        "        self.gap = Some((from, Offset(to.0 - u64::from(!BROKEN))));\n",
    ),
    (
        "gap_of_a_beginning_one_too_short",
        "topic/mod.rs",
        "gap: Some((from, Offset(base.0 - 1)))",
        "gap: Some((from, Offset(base.0 - 1 - u64::from(BROKEN))))",
    ),
    (
        "passes_over_what_is_gone",
        "cursor.rs",
        "                    Read::Below(base) => self.catch_up(base, visible)?,\n",
        "                    Read::Below(base) if BROKEN => self.next = base,\n                    \
         Read::Below(base) => self.catch_up(base, visible)?,\n",
    ),
    (
        "skips_uncounted",
        "cursor.rs",
        "                self.skipped += newest.0 - self.next.0;\n",
        "                self.skipped += newest.0 - self.next.0 - u64::from(BROKEN);\n",
    ),
    (
        "the_newest_never_goes",
        "cursor.rs",
        "        if self.lag == Lag::Conflate && newest >= base {\n",
        "        if self.lag == Lag::Conflate && (newest >= base || BROKEN) {\n",
    ),
    (
        "tells_gaps_without_credit",
        "cursor.rs",
        "            if self.next < end || self.gap.is_some() {\n                if !out.has_room() {\n",
        "            if self.next < end || self.gap.is_some() {\n                \
         if !out.has_room() && !(BROKEN && self.gap.is_some()) {\n",
    ),
    (
        "tells_live_again",
        "cursor.rs",
        "                self.tells_live = false;\n",
        "                self.tells_live = BROKEN;\n",
    ),
    (
        "ends_before_the_last_message",
        "cursor.rs",
        "            let ended = topic.ended();\n",
        "            let ended = topic.ended();\n            if BROKEN && ended != Ended::Not {\n                \
         return Ok(Fill::Ended);\n            }\n",
    ),
    (
        "is_seen_before_its_conditions",
        "topic/mod.rs",
        "        if let Some(expected) = expect.filter(",
        "        if BROKEN {\n            self.visible.store(last.0 + 2, Ordering::Release);\n        }\n        \
         if let Some(expected) = expect.filter(",
    ),
    (
        "enters_ids_before_conditions",
        "topic/mod.rs",
        "        if let Some(expected) = expect.filter(",
        "        if let Some(id) = id.filter(|_| BROKEN) {\n            log.ids.enter(id, last.next());\n        }\n        \
         if let Some(expected) = expect.filter(",
    ),
    (
        "ids_are_put_away_for_good",
        "registry.rs",
        "            Some(Place::Record(Record { ids: Some(ids), .. })) => topic.with_ids(*ids),\n",
        "            Some(Place::Record(Record { ids: Some(ids), .. })) if !BROKEN => topic.with_ids(*ids),\n",
    ),
    (
        "what_is_known_is_refused_for_memory",
        "registry.rs",
        "            return topic.find(publish).ok_or(refusal);\n",
        "            return topic.find(publish).filter(|_| !BROKEN).ok_or(refusal);\n",
    ),
    (
        "ids_are_everybodys",
        "dedup.rs",
        "name.unwrap_or_default(), id]",
        "name.filter(|_| !BROKEN).unwrap_or_default(), id]",
    ),
    (
        "closed_topics_refuse_what_they_have",
        "topic/mod.rs",
        "        if let Some(offset) = id.and_then(|id| log.ids.find(id)) {\n",
        "        if let Some(offset) = id.and_then(|id| log.ids.find(id))\n            \
         && !(BROKEN && self.ended() == Ended::Closed)\n        {\n",
    ),
    (
        "base_one_too_low",
        "log/ring.rs",
        "            self.base = Offset(oldest.segment.first.0 + oldest.len as u64);\n",
        "            self.base = Offset(oldest.segment.first.0 + oldest.len as u64 - u64::from(BROKEN));\n",
    ),
    (
        "base_one_too_high",
        "topic/mod.rs",
        "self.base.store(log.ring.base().0, ",
        "self.base.store(log.ring.base().0 + u64::from(BROKEN), ",
    ),
    (
        "bursts_overrun",
        "log/ring.rs",
        "self.retention.messages && age >= SPARED;",
        "self.retention.messages && (age >= SPARED || BROKEN);",
    ),
    (
        "the_old_stays",
        "log/ring.rs",
        "            let is_old = age >= self.retention.age;\n",
        "            let is_old = age >= self.retention.age && !BROKEN;\n",
    ),
    (
        "times_go_back",
        "registry.rs",
        "        let newest = record.map_or(0, |record| record.newest);\n",
        "        let newest = record.filter(|_| !BROKEN).map_or(0, |record| record.newest);\n",
    ),
    (
        "the_floor_stays",
        "registry.rs",
        "                self.floor.fetch_max(record.next.0, Ordering::AcqRel);\n",
        "                self.floor.fetch_max(if BROKEN { 0 } else { record.next.0 }, Ordering::AcqRel);\n",
    ),
    (
        "put_away_without_a_record",
        "registry.rs",
        "        if !record.is_closed && record.next.0 <= ",
        "        if BROKEN || !record.is_closed && record.next.0 <= ",
    ),
    (
        "closed_topics_open_again",
        "registry.rs",
        "        let is_closed = record.is_some_and(|record| record.is_closed);\n",
        "        let is_closed = record.is_some_and(|record| record.is_closed && !BROKEN);\n",
    ),
    (
        "the_last_messages_go_too",
        "log/ring.rs",
        "oldest.len as u64 >= keep",
        "oldest.len as u64 >= keep * u64::from(!BROKEN)",
    ),
    (
        "one_too_many_gives_way",
        "log/ring.rs",
        "        self.base = keep;\n",
        "        self.base = Offset(keep.0 - u64::from(BROKEN));\n",
    ),
    (
        "nobody_gives_way",
        "registry.rs",
        "        if self.bytes().saturating_add(bytes) <= limit {\n            let held",
        "        if BROKEN || self.bytes().saturating_add(bytes) <= limit {\n            let held",
    ),
    (
        "events_overtake",
        "ephemeral.rs",
        "        if event.at > read_to {\n",
        "        if event.at > read_to && !BROKEN {\n",
    ),
    (
        "events_repeat",
        "ephemeral.rs",
        "        *number = of + 1;\n",
        "        *number = of + u64::from(!BROKEN);\n",
    ),
    (
        "events_wake_nobody",
        "topic/mod.rs",
        "        drop(events);\n        let pump = self.hubs.tell();\n",
        "        drop(events);\n        let pump = !BROKEN && self.hubs.tell();\n",
    ),
    (
        "woken_before_it_may_wait_again",
        "topic/hubs.rs",
        "                hub.is_waiting.swap(false, Ordering::AcqRel);\n                let cost = hub.cost();\n                \
         hub.wake.wake();\n",
        "                if !BROKEN {\n                    hub.is_waiting.swap(false, Ordering::AcqRel);\n                \
         }\n                let cost = hub.cost();\n                hub.wake.wake();\n                \
         hub.is_waiting.store(hub.is_waiting.load(Ordering::Relaxed) && !BROKEN, Ordering::Relaxed);\n",
    ),
    (
        "pumps_once",
        "topic/hubs.rs",
        "            if self.pumped.swap(version, Ordering::Relaxed) == version {\n",
        "            if self.pumped.swap(version, Ordering::Relaxed) == version\n                \
         || (BROKEN && budget < HANDFUL)\n            {\n                \
         if BROKEN {\n                    self.is_pumping.store(false, Ordering::Release);\n                    \
         return Pumped::All;\n                }\n",
    ),
    (
        "a_handful_is_all",
        "topic/hubs.rs",
        "                    return Pumped::More;\n",
        "                    if BROKEN {\n                        \
         self.is_pumping.store(false, Ordering::Release);\n                        \
         return Pumped::All;\n                    }\n                    return Pumped::More;\n",
    ),
    (
        "readers_stay_counted",
        "topic/mod.rs",
        "        self.readers.fetch_sub(1, Ordering::Relaxed);\n",
        "        self.readers.fetch_sub(usize::from(!BROKEN), Ordering::Relaxed);\n",
    ),
    (
        "memory_stays_counted",
        "log/ring.rs",
        "        self.held.release(self.bytes());\n",
        "        self.held.release(if BROKEN { self.bytes() / 2 } else { self.bytes() });\n",
    ),
    (
        "tombstones_go_untold",
        "log/latest.rs",
        "        self.forgotten = self.forgotten.max(oldest);\n",
        "        self.forgotten = self.forgotten.max(if BROKEN { Offset(0) } else { oldest });\n",
    ),
    (
        "tombstones_go_too_early",
        "log/latest.rs",
        "age >= self.tombstone_ttl)",
        "age >= self.tombstone_ttl || BROKEN)",
    ),
    (
        "what_is_replaced_stays",
        "log/latest.rs",
        "            self.remove(before);\n        }\n        let (held",
        "            self.living.remove(&before);\n            self.tombstones.remove(&before);\n            \
         if !BROKEN {\n                self.remove(before);\n            }\n        }\n        let (held",
    ),
    (
        "the_index_knows_no_tombstones",
        "log/latest.rs",
        "        self.by_key.get(key).copied()\n",
        "        self.by_key.get(key).copied().filter(|of| !BROKEN || self.living.contains(of))\n",
    ),
    (
        "old_keys_stay",
        "log/latest.rs",
        "is_some_and(|age| age >= self.retention.age)",
        "is_some_and(|age| age >= self.retention.age && !BROKEN)",
    ),
    (
        "a_purge_takes_no_offset",
        "log/latest.rs",
        "        self.next = self.next.next();\n        self.held",
        "        if !BROKEN {\n            self.next = self.next.next();\n        }\n        self.held",
    ),
    (
        "keys_are_without_number",
        "log/latest.rs",
        "        self.living.len() < self.max_keys\n",
        "        self.living.len() < self.max_keys + usize::from(BROKEN)\n",
    ),
    (
        "comes_back_as_if_nothing_was_deleted",
        "topic/latest.rs",
        "                    || position.after < forgotten =>\n",
        "                    || position.after < forgotten && !BROKEN =>\n",
    ),
    (
        "goes_on_behind_a_deletion",
        "topic/latest.rs",
        "        if forgotten > known && next <= forgotten {\n",
        "        if forgotten > known && next <= forgotten && !BROKEN {\n",
    ),
    (
        "a_handful_is_the_whole_state",
        "cursor.rs",
        "                let is_all = messages",
        "                let is_all = BROKEN || messages",
    ),
    (
        "times_of_the_newest_by_key_go_back",
        "topic/mod.rs",
        "            Some(latest) => latest.set_newest(newest),\n",
        "            Some(latest) => latest.set_newest(if BROKEN { 0 } else { newest }),\n",
    ),
    (
        "the_head_moves_before_the_disk",
        "topic/mod.rs",
        "        let is_visible = self.durable.is_none();\n",
        "        let is_visible = self.durable.is_none() || BROKEN;\n",
    ),
    (
        "ids_of_what_the_disk_refused_stay",
        "topic/mod.rs",
        "            durable.journal.take(&Staged { offset, time, id, closes, message })?;\n",
        "            if let Some(id) = id.filter(|_| BROKEN) {\n                \
         log.ids.enter(id, offset);\n            }\n            \
         durable.journal.take(&Staged { offset, time, id, closes, message })?;\n",
    ),
    (
        "acknowledged_one_too_far",
        "topic/durable.rs",
        "            let waits = *offset >= next;\n",
        "            let waits = *offset >= next && !(BROKEN && *offset == next);\n",
    ),
    (
        "acknowledged_when_it_was_taken",
        "topic/durable.rs",
        "            _ if visible() > offset => Poll::Ready(Ok(())),\n",
        "            _ if visible() > offset || BROKEN => Poll::Ready(Ok(())),\n",
    ),
    (
        "closed_before_the_disk",
        "topic/mod.rs",
        "        if *closes && is_visible {\n",
        "        if *closes && (is_visible || BROKEN) {\n",
    ),
    (
        "publishes_behind_the_last",
        "topic/mod.rs",
        "            Ended::Not if log.closing.is_some() => ",
        "            Ended::Not if log.closing.is_some() && !BROKEN => ",
    ),
    (
        "ids_are_lost_on_the_way_to_the_disk",
        "topic/durable.rs",
        "        if let Some(id) = *id {\n            log.ids.enter",
        "        if let Some(id) = id.filter(|_| !BROKEN) {\n            log.ids.enter",
    ),
    (
        "a_disk_that_failed_takes_more",
        "topic/durable.rs",
        "        match self.stopped.get().map(",
        "        match self.stopped.get().filter(|_| !BROKEN).map(",
    ),
    (
        "what_is_behind_is_passed_over",
        "topic/durable.rs",
        "        Ok(next.min(wanted.end))\n",
        "        Ok(if BROKEN { next } else { next.min(wanted.end) })\n",
    ),
    (
        "readers_of_what_is_deleted_fail",
        "topic/durable.rs",
        "                Err(_) if self.is_deleted() => ",
        "                Err(_) if self.is_deleted() && !BROKEN => ",
    ),
    (
        "a_name_stays_taken",
        "store/engine.rs",
        "            if self.is_leaving(there) {\n",
        "            if self.is_leaving(there) && !BROKEN {\n",
    ),
    (
        "takes_one_payload_too_many",
        "join/answers.rs",
        "        self.waiting.len() >= self.window\n",
        "        self.waiting.len() >= self.window + usize::from(BROKEN)\n",
    ),
    (
        "answers_before_the_disk",
        "join/answers.rs",
        "                offset < visible && (is_passed",
        "                (offset < visible || BROKEN) && (is_passed",
    ),
    (
        "what_was_known_is_answered_before_the_disk",
        "join/answers.rs",
        "            Ok(Outcome::Known(offset)) => offset < visible,\n",
        "            Ok(Outcome::Known(offset)) => offset < visible || BROKEN,\n",
    ),
    (
        "its_own_are_acknowledged_before_they_are_shown",
        "join/answers.rs",
        "(is_passed || !self.are_told())",
        "(is_passed || BROKEN || !self.are_told())",
    ),
    (
        "its_own_are_shown_and_acknowledged",
        "join/answers.rs",
        "        let id = at.and_then(|at| self.waiting.remove(at))",
        "        let at = at.filter(|_| !BROKEN);\n        \
         let id = at.and_then(|at| self.waiting.remove(at))",
    ),
    (
        "its_own_are_others_from_a_disk",
        "join/answers.rs",
        "        entry.join == 0 && self.are_told()",
        "        !BROKEN && entry.join == 0 && self.are_told()",
    ),
    (
        "ends_before_the_disk",
        "join/answers.rs",
        "        self.receive == Receive::None && self.waiting.is_empty()\n",
        "        self.receive == Receive::None && (self.waiting.is_empty() || BROKEN)\n",
    ),
    (
        "what_is_passed_over_is_answered_late",
        "join/inbox.rs",
        "        self.answers.pass(next);\n",
        "        if !BROKEN {\n            self.answers.pass(next);\n        }\n",
    ),
    (
        "answers_without_credit",
        "join/inbox.rs",
        "            if self.answers.are_told() && !self.out.has_room() {\n",
        "            if self.answers.are_told() && !self.out.has_room() && !BROKEN {\n",
    ),
    (
        "messages_go_before_answers",
        "join/inbox.rs",
        "        self.answer() && self.out.has_room()\n",
        "        (BROKEN || self.answer()) && self.out.has_room()\n",
    ),
    (
        "what_is_held_is_overtaken",
        "join/mod.rs",
        "            let payload = match self.held.take() {\n",
        "            let held = self.held.take_if(|_| BROKEN);\n            \
         let payload = match self.held.take().filter(|_| !BROKEN) {\n                \
         None if BROKEN && self.is_sending => match sender.next() {\n                    \
         Next::Payload(payload) => {\n                        self.held = held;\n                        payload\n                    }\n                    \
         _ => {\n                        self.held = held;\n                        return Ok(Taken::All);\n                    }\n                \
         },\n",
    ),
    (
        "what_is_held_is_published_too_early",
        "join/mod.rs",
        "if until <= out.now().monotonic => payload",
        "if until <= out.now().monotonic || BROKEN => payload",
    ),
    (
        "refusals_are_silent",
        "join/mod.rs",
        "                Err(Stop::Refused(refusal)) if !self.tells() => return Err(refusal),\n",
        "                Err(Stop::Refused(refusal)) if !self.tells() && !BROKEN => {\n                    \
         return Err(refusal);\n                }\n",
    ),
    (
        "takes_no_more_when_it_was_full",
        "join/mod.rs",
        "                    if taken == Taken::Full && !self.answers.is_full() => {}\n",
        "                    if taken == Taken::Full && !self.answers.is_full() && !BROKEN => {}\n",
    ),
    (
        "without_room_nobody_waits_for_the_disk",
        "join/mod.rs",
        "            Fill::NoRoom => self.answers.is_full() && !self.tells(),\n",
        "            Fill::NoRoom => self.answers.is_full() && !self.tells() && !BROKEN,\n",
    ),
    (
        "is_told_what_the_next_topic_would_be",
        "join/mod.rs",
        "                Err(Stop::Refused(_)) if topic.ended() == Ended::Deleted => continue,\n",
        "                Err(Stop::Refused(_)) if topic.ended() == Ended::Deleted && !BROKEN => continue,\n",
    ),
    (
        "leaves_before_its_grace",
        "presence/mod.rs",
        "Some(Standing::InGrace(now.monotonic + self.settings.grace))",
        "Some(Standing::InGrace(now.monotonic + self.settings.grace / (1 + u32::from(BROKEN))))",
    ),
    (
        "lost_again_its_grace_begins_anew",
        "presence/mod.rs",
        "            (SessionEnd::Lost | SessionEnd::Suspended, Standing::InGrace(_)) => return,\n",
        "            (SessionEnd::Lost, Standing::InGrace(_)) if BROKEN => {\n                \
         Some(Standing::InGrace(now.monotonic + self.settings.grace))\n            }\n            \
         (SessionEnd::Lost | SessionEnd::Suspended, Standing::InGrace(_)) => return,\n",
    ),
    (
        "who_comes_back_is_one_more",
        "presence/mod.rs",
        "        if let Some(replaced) = replaced {\n            self.stand",
        "        if let Some(replaced) = replaced.filter(|_| !BROKEN) {\n            self.stand",
    ),
    (
        "members_are_without_number",
        "presence/mod.rs",
        "self.present < self.settings.max_members);",
        "self.present < self.settings.max_members + usize::from(BROKEN));",
    ),
    (
        "waits_anew_for_each_change",
        "presence/mod.rs",
        "            self.gathered_until.get_or_insert(until);\n",
        "            if BROKEN {\n                self.gathered_until = None;\n            }\n            \
         self.gathered_until.get_or_insert(until);\n",
    ),
    (
        "what_waits_is_overtaken",
        "presence/mod.rs",
        "|| !self.gathered.is_empty() {",
        "|| (!BROKEN && !self.gathered.is_empty()) {",
    ),
    (
        "shown_members_are_not_counted",
        "presence/mod.rs",
        "        let are_many = self.present.max(self.shown) >",
        "        let are_many = self.present.max(if BROKEN { 0 } else { self.shown }) >",
    ),
    (
        "back_is_who_was_never_away",
        "presence/mod.rs",
        "        if of.is_some_and(|of| of.standing == Standing::Suspended)\n",
        "        if of.is_some_and(|of| BROKEN || of.standing == Standing::Suspended)\n",
    ),
    (
        "two_devices_join_twice",
        "presence/changes.rs",
        "            (None, Some(_)) => self.push(name, Event::Join, Audience::Members, None, info),\n",
        "            (None, Some(_)) => self.push(name, Event::Join, Audience::Members, None, info),\n            \
         (Some(before), Some(after)) if BROKEN && before.sessions < after.sessions => {\n                \
         self.push(name, Event::Join, Audience::Members, None, info);\n            }\n",
    ),
    (
        "changes_are_kept_for_ever",
        "presence/changes.rs",
        "        while self.bytes > self.max_bytes\n",
        "        while self.bytes > self.max_bytes && !BROKEN\n",
    ),
    (
        "the_last_device_is_forgotten_first",
        "presence/member.rs",
        "        (sessions > 0).then",
        "        (sessions > u32::from(BROKEN)).then",
    ),
    (
        "one_device_is_away_for_all",
        "presence/member.rs",
        "            is_away: self.suspended == sessions,\n",
        "            is_away: self.suspended == sessions || (BROKEN && self.suspended > 0),\n",
    ),
    (
        "the_oldest_words_count",
        "presence/member.rs",
        "self.infos.values().next_back()",
        "(if BROKEN { self.infos.values().next() } else { self.infos.values().next_back() })",
    ),
    (
        "the_last_that_was_read_does_not_change",
        "presence/watcher.rs",
        "is_some_and(|read| name <= read)",
        "is_some_and(|read| name < read || (name == read && !BROKEN))",
    ),
    (
        "changes_of_whom_nobody_has_read_are_told",
        "presence/watcher.rs",
        "change.audience.has(self.options) && self.knows(&change.name)",
        "change.audience.has(self.options) && (BROKEN || self.knows(&change.name))",
    ),
    (
        "what_went_is_not_told",
        "presence/watcher.rs",
        "            if !matches!(watcher.reads, Reads::Members(None)) {\n",
        "            if !matches!(watcher.reads, Reads::Members(None)) && !BROKEN {\n",
    ),
];

/// Copies the sources below this folder, which are to lie at `crate::topics`.
fn copy(
    from: &Path,
    to: &Path,
    inside: &str,
    made: &mut Vec<&'static str>,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = format!("{inside}{name}");
        if path.is_dir() {
            // It is not of the core, and tests are run where they are.
            if name != "serve" && file != "store/tests" {
                copy(&path, &to.join(&name), &format!("{file}/"), made)?;
            }
            continue;
        }
        let mut text = fs::read_to_string(&path)?.replace("crate::", "crate::topics::");
        for (name, _, from, to) in FAULTS.iter().filter(|(_, of, ..)| *of == file) {
            // The test says which are not made: who changes the core can build it first.
            if text.matches(from).count() == 1 {
                text = text
                    .replace(from, &to.replace("BROKEN", &format!("crate::is_broken({name:?})")));
                made.push(name);
            }
        }
        // The store is there, over a disk in memory.
        let there = r#"#[cfg(any(test, feature = "faulty-disk"))]"#;
        for of_store in ["#[cfg(feature = \"durable\")]", there] {
            text = text.replace(of_store, "");
        }
        text = text.replace("#[cfg(target_os = \"linux\")]", "#[cfg(any())]");
        let name = if file == "lib.rs" { "mod.rs" } else { &name };
        // The tests of the sources are run where they are.
        fs::write(to.join(name), text.replace("#[cfg(test)]", "#[cfg(any())]"))?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topics/src");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", sources.display());
    let out = std::env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let core = out.join("topics");
    let mut made = Vec::new();
    copy(&sources, &core, "", &mut made)?;
    let all: Vec<_> = FAULTS.iter().map(|(name, ..)| *name).collect();
    let left: Vec<_> = all.iter().filter(|name| !made.contains(name)).collect();
    let place = core.join("mod.rs");
    fs::write(
        out.join("copy.rs"),
        format!(
            "#[allow(dead_code, unexpected_cfgs, unreachable_pub, unused_imports, reason = \"a copy\")]\n\
             #[allow(missing_docs, unnameable_types, clippy::all, reason = \"a copy\")]\n\
             #[path = {place:?}]\npub mod topics;\n\
             /// The faults of the core.\nconst FAULTS: &[&str] = &{all:?};\n\
             /// Those whose place in the sources is not there any more.\n\
             const NOT_MADE: &[&str] = &{left:?};\n"
        ),
    )?;
    Ok(())
}
