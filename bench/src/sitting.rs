//! One sitting: modes, rounds, cases, contenders, from the outside in.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Result,
    case::{Case, Interaction, Mode},
    contender::Entry,
    load::{Load, Tally},
    machine::{self, Cpus, Meter, Side},
    options::Plan,
    pair::Server,
    spinner::Spinner,
};

/// Others' work on the machine, in CPUs, above which a measurement is made again.
const DISTURBANCE: f64 = 0.3;

/// All that was measured.
pub(crate) struct Sitting {
    pub(crate) modes: Vec<(Mode, Vec<Comparison>)>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) took: Duration,
}

/// A case in a mode, with a row for each entry.
pub(crate) struct Comparison {
    pub(crate) case: Case,
    pub(crate) rows: Vec<Row>,
}

/// An entry's measurements, one a round; `None` if it failed.
pub(crate) struct Row {
    pub(crate) entry: Entry,
    pub(crate) rounds: Vec<Option<Tally>>,
}

/// The most memory either process of a fresh pair held.
pub(crate) struct Memory {
    pub(crate) case: Case,
    pub(crate) mode: Mode,
    pub(crate) entry: Entry,
    pub(crate) client_kib: u64,
    pub(crate) server_kib: u64,
}

impl Tally {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.spent.elapsed.as_secs_f64()
    }

    /// CPU seconds a million messages, given which CPU time.
    pub(crate) fn per_million(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.messages as f64
    }

    /// Whether so much else ran meanwhile that the figure is in doubt.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.spent.others.as_secs_f64() / self.spent.elapsed.as_secs_f64() > DISTURBANCE
    }
}

/// Runs everything that is planned.
pub(crate) fn hold(plan: &Plan) -> Result<Sitting> {
    let began = Instant::now();
    let cpus = Cpus::given()?;
    let mut sitting = Sitting { modes: Vec::new(), memory: Vec::new(), took: Duration::ZERO };
    for &mode in &plan.modes {
        sitting.modes.push((mode, compare(plan, mode, &cpus)?));
    }
    if plan.memory
        && let Some(&mode) = plan.modes.last()
    {
        sitting.memory = memory(plan, mode)?;
    }
    sitting.took = began.elapsed();
    Ok(sitting)
}

fn compare(plan: &Plan, mode: Mode, cpus: &Cpus) -> Result<Vec<Comparison>> {
    let server = Server::start(mode)?;
    let mut meter = server.meter()?;
    // With both on one CPU, one or the other always runs there, and a thread that spins on another
    // CPU may take half of the same core.
    let spins = plan.spinner && mode != Mode::OneCpu;
    let spinner = spins.then(Spinner::start).transpose()?;
    if let Some(spinner) = &spinner {
        meter = meter.without_spinner(spinner.pid())?;
    }
    cpus.settle(Side::Client, mode)?;
    let row = |entry: Entry| Row { entry, rounds: Vec::new() };
    let mut comparisons: Vec<_> = plan
        .cases
        .iter()
        .map(|&case| Comparison { case, rows: plan.entries_of(case).map(row).collect() })
        .collect();
    for round in 0..plan.rounds {
        for Comparison { case, rows } in &mut comparisons {
            eprintln!("{} {}/{} {case}", mode.name(), round + 1, plan.rounds);
            let load = load(plan, *case, meter);
            // There and back again, so that nobody always follows the same neighbour.
            let mut order: Vec<_> = rows.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for Row { entry, rounds } in order {
                let tally = measure(plan, &server, *entry, load);
                match &tally {
                    Ok(tally) => eprintln!("  {entry:<25} {:>12.0}/s", tally.rate()),
                    Err(error) => eprintln!("  {entry:<25} failed: {error}"),
                }
                rounds.push(tally.ok());
            }
        }
    }
    cpus.release()?;
    Ok(comparisons)
}

/// Measures, and again while others disturb, as often as the plan allows.
fn measure(plan: &Plan, server: &Server, entry: Entry, load: Load) -> Result<Tally> {
    let mut tally = server.measure(entry, load)?;
    for _ in 0..plan.repeats {
        if !tally.is_disturbed() {
            break;
        }
        tally = server.measure(entry, load)?;
    }
    Ok(tally)
}

fn load(plan: &Plan, case: Case, meter: Meter) -> Load {
    let Plan { warm_up, count_for, items, .. } = *plan;
    Load { case, warm_up, count_for, items, meter }
}

/// A fresh pair for each, since memory once used stays with a process.
fn memory(plan: &Plan, mode: Mode) -> Result<Vec<Memory>> {
    let telling = plan.cases.iter().filter(|case| match case.interaction {
        Interaction::RequestResponse { in_flight } => in_flight == 1024 && !plan.quick,
        Interaction::RequestStream => true,
        Interaction::RequestChannel | Interaction::FireAndForget => !plan.quick,
    });
    let mut memory = Vec::new();
    for &case in telling {
        eprintln!("{} memory {case}", mode.name());
        for entry in plan.entries_of(case) {
            let said = Command::new(std::env::current_exe()?)
                .args(["memory", "--mode", mode.name()])
                .args(["--entry", &entry.to_string(), "--case", &case.to_string()])
                .args(["--items", &plan.items.to_string()])
                .output()?;
            let said = String::from_utf8(said.stdout)?;
            let Some((client, server)) = said.trim().split_once(' ') else {
                eprintln!("  {entry:<25} failed");
                continue;
            };
            let (client_kib, server_kib) = (client.parse()?, server.parse()?);
            memory.push(Memory { case, mode, entry, client_kib, server_kib });
        }
    }
    Ok(memory)
}

/// The client of such a pair: measures once, and says what both processes held at most.
pub(crate) fn memory_of_one(entry: Entry, case: Case, mode: Mode, items: usize) -> Result<()> {
    let server = Server::start(mode)?;
    Cpus::given()?.settle(Side::Client, mode)?;
    let plan = Plan { items, ..Plan::default() };
    server.measure(entry, load(&plan, case, server.meter()?))?;
    let client = machine::peak_resident_kib(std::process::id())?;
    println!("{client} {}", machine::peak_resident_kib(server.pid())?);
    Ok(())
}
