//! The table of what was counted, and whether it is too much.

use std::{fs, path::Path, process::Command};

use crate::Result;

/// The most that a frame may cost in instructions, however short it is. The dearest opens a
/// channel: 3,300, or 4,300 beside thousands of ids that collide.
const MAX_FIXED: u64 = 6_000;
/// And for each byte of it: it is read, copied where it is kept, and echoed or told.
const MAX_PER_BYTE: u64 = 4;
/// The most that the end of a connection may cost in one poll: a portion of the streams that it
/// ends, and a look at all.
const MAX_PORTION: u64 = 128_000;
/// How much more it may cost beside thousands of streams than beside few, in percent.
const MAX_GROWTH_PERCENT: u64 = 30;
/// And in instructions: what is found beside few; where ids collide, to enter, find and take out one
/// in a sorted map of thousands.
const MAX_GROWTH: [u64; 2] = [300, 1_500];
/// And for each byte of it: libc copies long pieces by an instruction that is counted for each byte,
/// and how long a piece is depends on how much the reads before have brought.
const MAX_GROWTH_PER_BYTE: u64 = 2;

/// The counts of a cell: instructions a frame, and the bytes of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    instructions: u64,
    bytes: u64,
}

/// A line of the table: a frame in a state, with what it cost beside few streams, many, and many whose
/// ids collide.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    state: String,
    frame: String,
    beside: [Option<Counted>; 3],
}

/// The most that a frame may cost by its bytes.
fn most(row: &Row, bytes: u64) -> u64 {
    let fixed = if row.state == "End" { MAX_PORTION } else { MAX_FIXED };
    fixed + MAX_PER_BYTE * bytes
}

impl Row {
    /// The problem with it, if there is one.
    fn problem(&self) -> Option<String> {
        for counted in self.beside.into_iter().flatten() {
            let (now, most) = (counted.instructions, most(self, counted.bytes));
            if now > most {
                return Some(format!("{now} instructions, and {most} are justified"));
            }
        }
        // What ends a connection ends more where there is more, a portion a poll.
        let [Some(few), beside @ ..] = self.beside else { return None };
        if self.state == "End" {
            return None;
        }
        for (counted, growth) in beside.into_iter().zip(MAX_GROWTH) {
            let most = few.instructions * (100 + MAX_GROWTH_PERCENT) / 100
                + growth
                + MAX_GROWTH_PER_BYTE * few.bytes;
            if let Some(counted) = counted
                && counted.instructions > most
            {
                let (few, many) = (few.instructions, counted.instructions);
                return Some(format!("{many} instructions beside many streams, {few} beside few"));
            }
        }
        None
    }
}

/// Adds a cell to the table; where there is one, the dearer counts.
fn add(rows: &mut Vec<Row>, line: &str, instructions: u64) -> Result<()> {
    let mut fields = line.splitn(5, ' ');
    let mut next = || fields.next().ok_or_else(|| format!("a line of five fields, not {line:?}"));
    let (state, beside) = (next()?, next()?);
    let (frames, bytes): (u64, u64) = (next()?.parse()?, next()?.parse()?);
    let frame = next()?;
    let beside = match beside {
        "Few" => 0,
        "Full" => 1,
        _ => 2,
    };
    let counted = Counted { instructions: instructions / frames, bytes: bytes / frames };
    let at = rows.iter().position(|row| row.state == state && row.frame == frame);
    let at = at.unwrap_or_else(|| {
        let (state, frame) = (state.to_owned(), frame.to_owned());
        rows.push(Row { state, frame, beside: [None; 3] });
        rows.len() - 1
    });
    let before = &mut rows[at].beside[beside];
    if before.is_none_or(|before| before.instructions < counted.instructions) {
        *before = Some(counted);
    }
    Ok(())
}

/// Counts every frame in every state; true if one costs more than it may. `all` shows the whole table.
pub(crate) fn check(all: bool) -> Result<bool> {
    let directory = std::env::temp_dir().join(format!("callgrind.frames.{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let counted = count_all(&directory);
    fs::remove_dir_all(&directory)?;
    let rows = counted?;
    println!(
        "{:12} {:42} {:>6} {:>8} {:>8} {:>9}",
        "state", "frame", "bytes", "few", "full", "colliding"
    );
    let mut is_dear = false;
    for row in &rows {
        let problem = row.problem();
        is_dear |= problem.is_some();
        if all || problem.is_some() {
            let bytes = row.beside.iter().flatten().map(|counted| counted.bytes).max();
            let figures = row.beside.map(|counted| {
                counted.map_or_else(String::new, |counted| counted.instructions.to_string())
            });
            let [few, full, colliding] = figures;
            println!(
                "{:12} {:42} {:>6} {few:>8} {full:>8} {colliding:>9}  {}",
                row.state,
                row.frame,
                bytes.unwrap_or_default(),
                problem.unwrap_or_default(),
            );
        }
    }
    let dearest = rows
        .iter()
        .filter(|row| row.state != "End")
        .max_by_key(|row| row.beside.iter().flatten().map(|counted| counted.instructions).max());
    if let Some(Row { state, frame, .. }) = dearest {
        println!(
            "{} kinds of frames in their states; the dearest is {frame} in {state}",
            rows.len()
        );
    }
    Ok(is_dear)
}

fn count_all(directory: &Path) -> Result<Vec<Row>> {
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=rsock_icount::frames::stage::collected*")
        .arg("--zero-before=rsock_icount::frames::stage::begin*")
        .arg("--dump-after=rsock_icount::frames::stage::end*")
        .arg(format!("--callgrind-out-file={}", directory.join("out").display()))
        .arg(std::env::current_exe()?)
        .args(["run", "frames"])
        // The allocator is not to do for one what it has put off for thousands.
        .env("GLIBC_TUNABLES", "glibc.malloc.mxfast=0")
        .output()
        .map_err(|error| format!("cannot run valgrind (apt-get install valgrind): {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("frames under valgrind: {}\n{said}", output.status).into());
    }
    let mut rows = Vec::new();
    for (index, line) in String::from_utf8(output.stdout)?.lines().enumerate() {
        let path = directory.join(format!("out.{}", index + 1));
        let profile = fs::read_to_string(&path)
            .map_err(|error| format!("{line}: cannot read {}: {error}", path.display()))?;
        add(&mut rows, line, crate::count::total(&profile)?)?;
    }
    if rows.iter().all(|row| row.beside.iter().flatten().all(|counted| counted.instructions == 0)) {
        return Err("callgrind counted nothing: the binary has no symbols".into());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: &str, costs: [u64; 3], bytes: u64) -> Row {
        let beside = costs.map(|instructions| Some(Counted { instructions, bytes }));
        Row { state: state.into(), frame: "PAYLOAD NEXT".into(), beside }
    }

    #[test]
    fn what_costs_more_than_its_bytes_or_more_beside_others_is_told() {
        let dear = MAX_FIXED + MAX_PER_BYTE * 100;
        assert_eq!(row("Stream", [dear; 3], 100).problem(), None);
        assert!(row("Stream", [dear + 1, dear, dear], 100).problem().is_some());
        let [full, colliding] = MAX_GROWTH.map(|growth| 1_300 + growth + MAX_GROWTH_PER_BYTE * 100);
        assert_eq!(row("Stream", [1_000, full, colliding], 100).problem(), None);
        assert!(row("Stream", [1_000, full + 1, colliding], 100).problem().is_some());
        assert!(row("Stream", [1_000, full, colliding + 1], 100).problem().is_some());
        assert_eq!(row("End", [1_000, MAX_PORTION, 0], 0).problem(), None);
        assert!(row("End", [1_000, MAX_PORTION + 1, 0], 0).problem().is_some());
    }

    #[test]
    fn lines_become_rows_and_the_dearest_poll_counts() {
        let mut rows = Vec::new();
        add(&mut rows, "Stream Few 16 208 PAYLOAD NEXT", 16_000).unwrap();
        add(&mut rows, "Stream Full 16 208 PAYLOAD NEXT", 17_000).unwrap();
        add(&mut rows, "End Full 1 9 CANCEL", 5).unwrap();
        add(&mut rows, "End Full 1 9 CANCEL", 70).unwrap();
        add(&mut rows, "End Full 1 9 CANCEL", 6).unwrap();
        let of = |instructions, bytes| Some(Counted { instructions, bytes });
        assert_eq!(rows[0].beside, [of(1_000, 13), of(1_062, 13), None]);
        assert_eq!(rows[1].beside, [None, of(70, 9), None]);
        assert!(add(&mut rows, "Stream Few", 1).is_err());
    }
}
