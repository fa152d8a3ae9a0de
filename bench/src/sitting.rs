//! One sitting: modes, rounds, cases, contenders, from the outside in.

use std::time::{Duration, Instant};

use crate::{
    Result,
    apart::{Measured, Task},
    case::{Case, Interaction, Mode},
    contender::Entry,
    options::Plan,
    report::median,
    spinner::Spinner,
};

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
    pub(crate) rounds: Vec<Option<Measured>>,
}

/// The most memory either process held, in the median of the rounds.
pub(crate) struct Memory {
    pub(crate) case: Case,
    pub(crate) mode: Mode,
    pub(crate) entry: Entry,
    pub(crate) client_kib: u64,
    pub(crate) server_kib: u64,
}

/// Runs everything that is planned.
pub(crate) fn hold(plan: &Plan) -> Result<Sitting> {
    let began = Instant::now();
    let mut sitting = Sitting { modes: Vec::new(), memory: Vec::new(), took: Duration::ZERO };
    for &mode in &plan.modes {
        sitting.modes.push((mode, compare(plan, mode)?));
    }
    if let Some((mode, comparisons)) = sitting.modes.last() {
        sitting.memory = memory(plan, *mode, comparisons);
    }
    sitting.took = began.elapsed();
    Ok(sitting)
}

fn compare(plan: &Plan, mode: Mode) -> Result<Vec<Comparison>> {
    // With both on one CPU, one or the other always runs there, and a thread that spins on another
    // CPU may take half of the same core.
    let spins = plan.spinner && mode != Mode::OneCpu;
    let spinner = spins.then(Spinner::start).transpose()?;
    let row = |entry: Entry| Row { entry, rounds: Vec::new() };
    let mut comparisons: Vec<_> = plan
        .cases
        .iter()
        .map(|&case| Comparison { case, rows: plan.entries_of(case).map(row).collect() })
        .collect();
    for round in 0..plan.rounds {
        for Comparison { case, rows } in &mut comparisons {
            eprintln!("{} {}/{} {case}", mode.name(), round + 1, plan.rounds);
            // There and back again, so that nobody always follows the same neighbour.
            let mut order: Vec<_> = rows.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for Row { entry, rounds } in order {
                let spinner = spinner.as_ref().map(Spinner::pid);
                let task = Task { entry: *entry, case: *case, mode, extent: plan.extent, spinner };
                let measured = task.run(plan.repeats);
                match &measured {
                    Ok(measured) => eprintln!("  {entry:<25} {:>12.0}/s", measured.rate()),
                    Err(error) => eprintln!("  {entry:<25} failed: {error}"),
                }
                rounds.push(measured.ok());
            }
        }
    }
    Ok(comparisons)
}

/// The peaks of the cases that tell most by them.
fn memory(plan: &Plan, mode: Mode, comparisons: &[Comparison]) -> Vec<Memory> {
    let telling = comparisons.iter().filter(|comparison| match comparison.case.interaction {
        Interaction::RequestResponse { in_flight } => in_flight == 1024 && !plan.quick,
        Interaction::RequestStream => true,
        _ => !plan.quick,
    });
    let mut memory = Vec::new();
    for Comparison { case, rows } in telling {
        memory.extend(rows.iter().filter_map(|Row { entry, rounds }| {
            let peak = |kib: fn(&Measured) -> u64| {
                let peaks: Vec<_> = rounds.iter().flatten().map(|it| kib(it) as f64).collect();
                Some(median(&peaks)? as u64)
            };
            Some(Memory {
                case: *case,
                mode,
                entry: *entry,
                client_kib: peak(|it| it.client_peak_kib)?,
                server_kib: peak(|it| it.server_peak_kib)?,
            })
        }));
    }
    memory
}
