//! The command line.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use crate::{
    Error, Result,
    apart::Task,
    case::{self, Case, Mode},
    contender::{Contender, Entry},
    load::Extent,
    series::{Kind, Series},
    special::Special,
    topics::Topics,
};

/// The text that `--help` prints.
pub(crate) const HELP: &str = "\
rsock-bench: the limits of this machine, rsock and others, side by side

Usage: rsock-bench [OPTIONS]
       rsock-bench shaped|slow|idle [OPTIONS]      (--help says more)
       rsock-bench routing|resume|growth [OPTIONS] (--help says more)
       rsock-bench topics [OPTIONS]                (--help says more)
       rsock-bench plot FILE DIR                figures and tables of a sitting's JSON

Without options, everything: about forty minutes on an idle machine.

  --quick           three short rounds of the telling cases in the modes 1cpu and 2w, and
                    shorter streams: about two minutes
  --only NAME       only cases whose name contains NAME (may be repeated; see --list)
  --contender NAME  only this one (may be repeated)
                      raw                   frames echoed, nobody woken for one: the limit
                      mux                   the least a request API costs: no protocol
                      rsock                 this library
                      rsocket_rust          0.7, as shipped
                      rsocket_rust-nodelay  the same with TCP_NODELAY
                      tonic, nats           gRPC, a broker; if built with that feature
  --mode MODE       only 1cpu, split or 2w (may be repeated)
                      1cpu   one thread each, both processes pinned to the same CPU
                      split  one thread each, pinned to different CPUs
                      2w     two tokio workers each, placed by the kernel
  --rounds N        how many rounds
  --no-spinner      let the CPUs halt when they are idle; otherwise, but for 1cpu, a thread
                    of the class SCHED_IDLE keeps each busy (by chrt of util-linux)
  --json FILE       also write every measurement to FILE
  --list            print the names of the cases
  --help            print this

Progress goes to stderr, the table to stdout.
";

/// The options of the command line.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    List,
    /// Be the server of a pair.
    Serve(Entry, Mode, IpAddr),
    /// Be the client of a pair, and start its server.
    Measure(Task),
    /// Be the process that keeps the CPUs from halting.
    Spin,
    /// Draw the figures of a file into a directory.
    Plot(PathBuf, PathBuf),
    Special(Special),
    Series(Series),
    Topics(Topics),
    Sit(Plan),
}

/// The measurements of a sitting.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) modes: Vec<Mode>,
    pub(crate) cases: Vec<Case>,
    pub(crate) entries: Vec<Entry>,
    /// Whether a case is left out where it [is not quick](Case::is_quick).
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) extent: Extent,
    /// How often a disturbed measurement is made again.
    pub(crate) repeats: usize,
    /// Whether the CPUs are kept from halting.
    pub(crate) spinner: bool,
    pub(crate) json: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            modes: Mode::ALL.to_vec(),
            cases: case::all().collect(),
            entries: Entry::all().collect(),
            quick: false,
            rounds: 5,
            extent: Extent::default(),
            repeats: 2,
            spinner: true,
            json: None,
        }
    }
}

impl Plan {
    /// The contenders that take part in a case.
    pub(crate) fn entries_of(&self, case: Case) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied().filter(move |entry| {
            entry.contender.takes(case) && (!self.quick || case.is_quick(entry.transport))
        })
    }

    pub(crate) fn has_contender(&self, contender: Contender) -> bool {
        self.entries.iter().any(|entry| entry.contender == contender)
    }
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Command> {
    let mut arguments = arguments.peekable();
    let command = arguments.next_if(|first| !first.starts_with('-'));
    if let Some(what) = command.as_deref().and_then(Special::named) {
        return Ok(Command::Special(Special::parse(what, arguments)?));
    }
    if let Some(what) = command.as_deref().and_then(Kind::named) {
        return Ok(Command::Series(Series::parse(what, arguments)?));
    }
    if command.as_deref() == Some("topics") {
        return Ok(Command::Topics(Topics::parse(arguments)?));
    }
    if command.as_deref() == Some("plot") {
        let (Some(file), Some(directory), None) =
            (arguments.next(), arguments.next(), arguments.next())
        else {
            return Err("plot needs a sitting's JSON and a directory".into());
        };
        return Ok(Command::Plot(file.into(), directory.into()));
    }
    let mut plan = Plan::default();
    let mut host = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (mut modes, mut contenders, mut only) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rounds, mut items, mut entry, mut case) = (None, None, None, None);
    let (mut warm_up, mut count_for, mut spinner) = (None, None, None);
    let mut quick = false;
    while let Some(option) = arguments.next() {
        let mut value = || {
            arguments.next().ok_or_else(|| Error::from(format!("{option} is missing its value")))
        };
        match option.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--quick" => quick = true,
            "--only" => only.push(value()?),
            "--contender" => contenders.push(value()?),
            "--mode" => modes.push(value()?.parse()?),
            "--rounds" => rounds = Some(number(&value()?)?),
            "--no-spinner" => plan.spinner = false,
            "--json" => plan.json = Some(value()?.into()),
            "--items" => items = Some(number(&value()?)?),
            "--warm-up" => warm_up = Some(milliseconds(&value()?)?),
            "--count-for" => count_for = Some(milliseconds(&value()?)?),
            "--spinner" => spinner = Some(value()?.parse()?),
            "--host" => host = value()?.parse()?,
            "--entry" => entry = Some(value()?.parse()?),
            "--case" => case = Some(value()?.parse()?),
            _ => return Err(format!("{option} is not an option; see --help").into()),
        }
    }
    if quick {
        plan.modes = vec![Mode::OneCpu, Mode::TwoWorkers];
        (plan.rounds, plan.extent, plan.repeats) = (3, Extent::quick(), 0);
        // Whoever names cases gets those.
        plan.quick = only.is_empty();
    }
    plan.rounds = rounds.unwrap_or(plan.rounds);
    plan.extent.items = items.unwrap_or(plan.extent.items);
    plan.extent.warm_up = warm_up.unwrap_or(plan.extent.warm_up);
    plan.extent.count_for = count_for.unwrap_or(plan.extent.count_for);

    match command.as_deref() {
        None => {}
        Some("spin") => return Ok(Command::Spin),
        Some("serve") => {
            let entry = entry.ok_or("serve needs --entry")?;
            return Ok(Command::Serve(entry, one(modes, "--mode")?, host));
        }
        Some("measure") => {
            let entry = entry.ok_or("measure needs --entry")?;
            let case = case.ok_or("measure needs --case")?;
            let (mode, extent) = (one(modes, "--mode")?, plan.extent);
            return Ok(Command::Measure(Task { entry, case, mode, extent, spinner }));
        }
        Some(other) => return Err(format!("{other} is not a command; see --help").into()),
    }
    if !modes.is_empty() {
        plan.modes = modes;
    }
    if !only.is_empty() {
        plan.cases.retain(|case| only.iter().any(|part| case.to_string().contains(part.as_str())));
    }
    if let Some(unknown) = contenders
        .iter()
        .find(|name| Contender::ALL.iter().all(|contender| contender.name() != *name))
    {
        return Err(format!("nobody competes as {unknown:?}").into());
    }
    if !contenders.is_empty() {
        plan.entries.retain(|entry| contenders.iter().any(|name| name == entry.contender.name()));
    }
    let cases = mem::take(&mut plan.cases);
    plan.cases = cases.into_iter().filter(|&case| plan.entries_of(case).next().is_some()).collect();
    if plan.cases.is_empty() || plan.entries.is_empty() || plan.rounds == 0 {
        return Err("that leaves nothing to measure".into());
    }
    Ok(Command::Sit(plan))
}

pub(crate) fn number(text: &str) -> Result<usize> {
    match usize::from_str(text) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text:?} is not a number above zero").into()),
    }
}

fn milliseconds(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(text.parse()?))
}

fn one(modes: Vec<Mode>, option: &str) -> Result<Mode> {
    match modes[..] {
        [mode] => Ok(mode),
        _ => Err(format!("{option} is wanted once").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Transport;

    fn plan(line: &str) -> Plan {
        match parse(line.split_whitespace().map(str::to_owned)) {
            Ok(Command::Sit(plan)) => plan,
            other => panic!("{line} gave {other:?}"),
        }
    }

    #[test]
    fn options_narrow_the_plan() {
        assert_eq!(plan("").cases.len(), 15);
        assert_eq!(plan("--only stream").cases.len(), 2);
        assert_eq!(plan("--only /64/ --only /1/").cases.len(), 6);
        assert_eq!(plan("--mode 2w --mode 1cpu").modes, [Mode::TwoWorkers, Mode::OneCpu]);
        assert_eq!(plan("--contender raw").entries.len(), 1);
    }

    #[test]
    fn quick_does_not_overrule_what_is_said() {
        let plan = plan("--rounds 7 --mode split --quick");
        assert_eq!(
            (plan.rounds, plan.extent.items, plan.modes.as_slice()),
            (7, 100_000, &[Mode::Split][..])
        );
    }

    #[test]
    fn quick_leaves_out_most_cases_unless_they_are_named() {
        assert_eq!(plan("--quick").cases.len(), 8);
        let plan = plan("--quick --only request-response/64/65536B");
        assert_eq!(plan.cases.len(), 1);
        assert!(plan.entries_of(plan.cases[0]).any(|it| it.transport == Transport::WebSocket));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for line in ["--only nothing", "--rounds 0", "--mode", "--what", "dance", "--contender x"] {
            assert!(parse(line.split_whitespace().map(str::to_owned)).is_err(), "{line}");
        }
    }
}
