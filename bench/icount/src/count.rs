//! Counting by callgrind.

use std::{fs, path::Path, process::Command};

use crate::{Result, Scenario};

/// From where on callgrind counts: [`crate::measured`]. What follows it is little.
const MEASURED: &str = "rsock_icount::measured*";

/// The allocator's ways to give memory.
const ALLOCATORS: [&str; 6] =
    ["malloc", "calloc", "realloc", "aligned_alloc", "memalign", "posix_memalign"];

/// The cost of a scenario, of both sides together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    /// Memory taken from the allocator, or given back larger or smaller.
    pub(crate) allocations: u64,
}

/// Runs a scenario under callgrind, which leaves its profile at `path`.
pub(crate) fn count(scenario: &Scenario, path: &Path) -> Result<Counts> {
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--compress-strings=no"])
        // Collecting from there on would leave out instructions, but not calls.
        .arg(format!("--zero-before={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", path.display()))
        .arg(std::env::current_exe()?)
        .args(["run", scenario.name])
        .output()
        .map_err(|error| format!("cannot run valgrind (apt-get install valgrind): {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} under valgrind: {}\n{said}", scenario.name, output.status).into());
    }
    let counts = read(&fs::read_to_string(path)?)?;
    if counts.instructions == 0 {
        return Err("callgrind counted nothing: the binary has no symbols".into());
    }
    Ok(counts)
}

/// The instructions of a profile.
pub(crate) fn total(profile: &str) -> Result<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("a profile without totals")?.trim().parse()?)
}

/// Reads callgrind's profile.
fn read(profile: &str) -> Result<Counts> {
    let mut counts = Counts { instructions: 0, allocations: 0 };
    let mut callee = "";
    for line in profile.lines() {
        if let Some(total) = line.strip_prefix("totals: ") {
            counts.instructions = total.trim().parse()?;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ALLOCATORS.contains(&callee)
        {
            let times = calls.split(' ').next().unwrap_or_default();
            counts.allocations += times.parse::<u64>()?;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_added_up() {
        let profile = "events: Ir\n\nfn=a\n3 4\ncfn=malloc\ncalls=7 0\n3 90\ncfn=other\ncalls=5 0\n\
                       3 6\ncfn=realloc\ncalls=2 +1\n3 1\n\ntotals: 101\n";
        let counts = read(profile).unwrap();
        assert_eq!(counts, Counts { instructions: 101, allocations: 9 });
    }
}
