//! The record: a line for each scenario, kept in the repository.

use std::{fmt::Write, fs, path::PathBuf, process::Command};

use crate::{Result, Scenario, count::Counts, scenario};

/// How much more a scenario may cost than its record says.
const TOLERANCE_PERCENT: f64 = 3.0;
/// So much more is nothing in any case: a buffer that grows once more often.
const TOLERANCE: u64 = 16;

/// Counts by scenario, and what they depend on beside the sources.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Record {
    tools: String,
    lines: Vec<(String, Counts)>,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("record.txt")
}

/// The compiler, the counter, and the processor's features by which libc chooses how it copies.
fn tools() -> Result<String> {
    let version = |tool: &str| -> Result<String> {
        let output = Command::new(tool)
            .arg("--version")
            .output()
            .map_err(|error| format!("cannot run {tool}: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let mut tools = vec![version("rustc")?, version("valgrind")?];
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let known = ["avx2", "avx512f", "erms", "fsrm"];
    tools.extend(flags.split(' ').filter(|flag| known.contains(flag)).map(str::to_owned));
    Ok(tools.join(", "))
}

impl Record {
    /// The costs of the scenarios now.
    pub(crate) fn counted(scenarios: &[&Scenario]) -> Result<Self> {
        let tools = tools()?;
        let profile = std::env::temp_dir().join(format!("callgrind.{}", std::process::id()));
        let mut lines = Vec::new();
        for scenario in scenarios {
            lines.push((scenario.name.to_owned(), crate::count::count(scenario, &profile)?));
        }
        fs::remove_file(profile)?;
        Ok(Self { tools, lines })
    }

    pub(crate) fn read() -> Result<Self> {
        let text = fs::read_to_string(path())
            .map_err(|error| format!("cannot read {}: {error}", path().display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some(tools) = line.strip_prefix("with ") {
                tools.trim().clone_into(&mut record.tools);
            } else if !line.is_empty() && !line.starts_with('#') {
                let fields: Vec<_> = line.split_whitespace().collect();
                let [name, instructions, allocations] = fields[..] else {
                    let wanted = "SCENARIO INSTRUCTIONS ALLOCATIONS";
                    return Err(format!("a line of the record is {line:?}, not {wanted}").into());
                };
                let (instructions, allocations) = (instructions.parse()?, allocations.parse()?);
                record.lines.push((name.to_owned(), Counts { instructions, allocations }));
            }
        }
        Ok(record)
    }

    fn of(&self, name: &str) -> Option<Counts> {
        self.lines.iter().find(|(known, _)| known == name).map(|(_, counts)| *counts)
    }

    /// The same, with what was counted in the place of what stood there. Scenarios that are no more
    /// are left out.
    pub(crate) fn renewed(&self, counted: Self) -> Self {
        let lines = scenario::ALL.iter().filter_map(|scenario| {
            let counts = counted.of(scenario.name).or_else(|| self.of(scenario.name))?;
            Some((scenario.name.to_owned(), counts))
        });
        Self { lines: lines.collect(), tools: counted.tools }
    }

    /// The pairs that are to cost the same, and do not.
    fn differences(&self) -> Vec<String> {
        let each = |name: &str| {
            let units = Scenario::named(name).ok()?.units;
            Some(self.of(name)?.instructions as f64 / units as f64)
        };
        let unlike = |(one, other, percent): (&str, &str, f64)| {
            let (costs, wanted) = (each(one)?, each(other)?);
            let differs = (costs / wanted - 1.0) * 100.0;
            (differs.abs() > percent).then(|| {
                format!(
                    "{one} costs {differs:+.1} % of {other}; {percent} % either way are allowed"
                )
            })
        };
        scenario::ALIKE.into_iter().filter_map(unlike).collect()
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# What the scenarios of rsock-icount cost, client and server together.\n\
             # Renew: cargo run --release -p rsock-icount -- record\n\
             with {}\n\n\
             # {:22} {:>14} {:>12}\n",
            self.tools, "scenario", "instructions", "allocations",
        );
        for (name, Counts { instructions, allocations }) in &self.lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:24} {instructions:>14} {allocations:>12}");
        }
        text
    }

    pub(crate) fn write(&self) -> Result<()> {
        Ok(fs::write(path(), self.text())?)
    }
}

/// Shows what has changed; true if a scenario costs more than it may.
pub(crate) fn compare(before: &Record, now: &Record) -> bool {
    let same_tools = before.tools == now.tools;
    if !same_tools {
        println!("the record is with {}; this is with {}", before.tools, now.tools);
        println!("instructions are shown and not judged");
    }
    println!("{:24} {:>24} {:>24}", "", "instructions each", "allocations each");
    let mut has_grown = false;
    for (name, counts) in &now.lines {
        let units = Scenario::named(name).map_or(1, |scenario| scenario.units);
        let (instructions, more) =
            change(before.of(name).map(|counts| counts.instructions), counts.instructions, units);
        let (allocations, more_allocations) =
            change(before.of(name).map(|counts| counts.allocations), counts.allocations, units);
        let grown = more_allocations || (more && same_tools);
        has_grown |= grown;
        let verdict = if grown { "  more than the record allows" } else { "" };
        println!("{name:24} {instructions:>24} {allocations:>24}{verdict}");
    }
    for difference in now.differences() {
        println!("{difference}");
        has_grown = true;
    }
    if has_grown {
        println!("if that is worth it: cargo run --release -p rsock-icount -- record");
    }
    has_grown
}

/// One count a unit of work, and by how much it differs; true if that is too much.
fn change(before: Option<u64>, now: u64, units: u64) -> (String, bool) {
    let each = now as f64 / units as f64;
    let digits = if each < 100.0 { 2 } else { 0 };
    match before {
        Some(before) => {
            let percent = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
            let is_more = percent > TOLERANCE_PERCENT && now > before + TOLERANCE;
            (format!("{each:.digits$} {percent:+.1} %"), is_more)
        }
        // One without a record is to be given one.
        None => (format!("{each:.digits$} new"), true),
    }
}

/// The counts of a scenario, for each unit of its work.
pub(crate) fn per_unit(scenario: &Scenario, counts: Counts) -> String {
    let units = scenario.units as f64;
    let Counts { instructions, allocations } = counts;
    format!(
        "{}: {:.1} instructions, {:.3} allocations a {}",
        scenario.name,
        instructions as f64 / units,
        allocations as f64 / units,
        scenario.unit,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_written() {
        let counts = Counts { instructions: 12_345, allocations: 67 };
        let name = scenario::ALL[0].name.to_owned();
        let record = Record { tools: "rustc 1".into(), lines: vec![(name, counts)] };
        assert_eq!(Record::parse(&record.text()).unwrap(), record);
        assert!(Record::parse("name 1").is_err());
    }

    #[test]
    fn what_grows_by_more_than_it_may_is_told() {
        assert!(!change(Some(10_000), 10_299, 10).1);
        assert!(change(Some(10_000), 10_301, 10).1);
        assert!(!change(Some(10_000), 10, 10).1);
        assert!(!change(Some(10), 26, 10).1);
        assert!(change(None, 1, 1).1);
    }

    #[test]
    fn pairs_that_are_to_cost_the_same_do() {
        assert_eq!(Record::read().unwrap().differences(), [""; 0]);
        let (one, other, _) = scenario::ALIKE[1];
        let counts = |instructions| Counts { instructions, allocations: 0 };
        let line = |name: &str, instructions| (name.to_owned(), counts(instructions));
        let lines = vec![line(one, 1_030_000), line(other, 1_000_000)];
        let differences = Record { tools: String::new(), lines }.differences();
        assert!(differences[0].contains("+3.0 %"), "{differences:?}");
    }

    /// The record is complete, and of nothing else.
    #[test]
    fn every_scenario_has_a_record() {
        let recorded: Vec<_> =
            Record::read().unwrap().lines.into_iter().map(|line| line.0).collect();
        let names: Vec<_> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(recorded, names);
    }
}
