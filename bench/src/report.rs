//! The report that is printed: medians over the rounds, and ratios taken within a round.

use std::{fmt::Write, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    Result,
    apart::Measured,
    case::{Interaction, Transport},
    contender::Contender,
    latency::Latency,
    machine,
    options::Plan,
    sitting::{Comparison, Memory, Row, Sitting},
};

/// The table for people; it reads as Markdown too.
pub(crate) fn text(plan: &Plan, sitting: &Sitting) -> String {
    let mut text = String::new();
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    say("# rsock-bench");
    say("");
    say(&format!("{}; 127.0.0.1; {} s.", machine::described(), sitting.took.as_secs()));
    say(&format!(
        "Median of {} rounds (min–max); contenders take turns within a round, and a ratio is the \
         median of the rounds' ratios.",
        plan.rounds
    ));
    say(
        "CPU s/M: CPU seconds a million messages, client + server. p50 and p99: how long a request \
         takes, alone in flight.",
    );
    say("`of X`: the rate over that of X on the same transport, or on TCP where X has no other. \
         rsocket_rust is that of 0.7, as shipped.");
    let over: Vec<_> =
        COMPARED_WITH.iter().copied().filter(|&over| plan.has_contender(over)).collect();
    for (mode, comparisons) in &sitting.modes {
        say("");
        say(&format!("## {}: {}", mode.name(), mode.explained()));
        say("");
        let mut lines = vec![heading(&over)];
        for comparison in comparisons {
            lines.extend(comparison.rows.iter().map(|row| line(comparison, row, &over)));
        }
        say(&table(&lines));
    }
    if !sitting.memory.is_empty() {
        say("");
        say("## Peak resident memory, MiB");
        say("");
        let mut lines = vec![["case", "contender", "mode", "client", "server"].map(str::to_owned)];
        lines.extend(sitting.memory.iter().map(|memory| {
            let Memory { case, mode, entry, client_kib, server_kib } = memory;
            let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
            [
                case.to_string(),
                entry.to_string(),
                mode.name().to_owned(),
                mib(*client_kib),
                mib(*server_kib),
            ]
        }));
        say(&table(&lines));
    }
    let (disturbed, all) = disturbed(sitting);
    if disturbed > 0 {
        say("");
        say(&format!(
            "{disturbed} of {all} measurements were kept although others used the machine \
             meanwhile; do not quote this sitting."
        ));
    }
    text
}

/// Everything, for machines.
pub(crate) fn json(plan: &Plan, sitting: &Sitting) -> Result<String> {
    let row = |comparison: &Comparison, row: &Row| {
        let over: Map<_, _> = Contender::ALL
            .iter()
            .filter_map(|&over| {
                Some((over.name().to_owned(), json!(ratio(comparison, row, over)?)))
            })
            .collect();
        json!({
            "contender": row.entry.contender.name(),
            "transport": row.entry.transport.name(),
            "per_second": median(&row.all(Measured::rate)),
            "cpu_seconds_per_million": median(&row.all(Measured::cpu)),
            "p50_micros": row.micros(|it| it.p50),
            "p99_micros": row.micros(|it| it.p99),
            "over": over,
            "rounds": rounds(&row.rounds),
        })
    };
    let case = |comparison: &Comparison| {
        json!({
            "case": comparison.case.to_string(),
            "rows": comparison.rows.iter().map(|it| row(comparison, it)).collect::<Vec<_>>(),
        })
    };
    let mut results = Vec::new();
    for (mode, comparisons) in &sitting.modes {
        for comparison in comparisons {
            let mut case = case(comparison);
            case["mode"] = json!(mode.name());
            results.push(case);
        }
    }
    let memory: Vec<Value> = sitting
        .memory
        .iter()
        .map(|memory| {
            json!({
                "case": memory.case.to_string(),
                "mode": memory.mode.name(),
                "contender": memory.entry.contender.name(),
                "transport": memory.entry.transport.name(),
                "client_peak_kib": memory.client_kib,
                "server_peak_kib": memory.server_kib,
            })
        })
        .collect();
    let (disturbed, all) = disturbed(sitting);
    Ok(serde_json::to_string_pretty(&json!({
        "machine": machine::described(),
        "rounds": plan.rounds,
        "stream_items": plan.extent.items,
        "measurements": all,
        "disturbed": disturbed,
        "results": results,
        "memory": memory,
    }))?)
}

/// The columns of a table, but for those of the ratios.
const BEFORE_RATIOS: [&str; 4] = ["case", "contender", "per second", "min–max"];
const AFTER_RATIOS: [&str; 3] = ["CPU s/M", "client + server", "p50 / p99 µs"];

/// The contender that the others are compared with.
const COMPARED_WITH: &[Contender] = &[
    Contender::Raw,
    Contender::Mux,
    Contender::RsocketRust,
    #[cfg(feature = "tonic")]
    Contender::Tonic,
    #[cfg(feature = "nats")]
    Contender::Nats,
];

fn heading(over: &[Contender]) -> Vec<String> {
    let ratios = over.iter().map(|over| format!("of {}", over.name()));
    let before = BEFORE_RATIOS.map(str::to_owned).into_iter();
    before.chain(ratios).chain(AFTER_RATIOS.map(str::to_owned)).collect()
}

fn line(comparison: &Comparison, row: &Row, over: &[Contender]) -> Vec<String> {
    let rates = row.all(Measured::rate);
    let least = rates.iter().copied().reduce(f64::min);
    let most = rates.iter().copied().reduce(f64::max);
    let both = median(&row.all(Measured::cpu));
    let client = median(&row.all(Measured::client_cpu));
    let server = median(&row.all(Measured::server_cpu));
    let ratios = over.iter().map(|&over| shown(ratio(comparison, row, over), times));
    let before = [
        comparison.case.to_string(),
        row.entry.to_string(),
        shown(median(&rates), rounded),
        least
            .zip(most)
            .map_or_else(missing, |(least, most)| format!("{}–{}", rounded(least), rounded(most))),
    ];
    let is_alone = comparison.case.interaction == Interaction::RequestResponse { in_flight: 1 };
    let latency = row.micros(|it| it.p50).zip(row.micros(|it| it.p99)).filter(|_| is_alone);
    let after = [
        shown(both, seconds),
        client.zip(server).map_or_else(missing, |(client, server)| {
            format!("{} + {}", seconds(client), seconds(server))
        }),
        latency.map_or_else(String::new, |(p50, p99)| format!("{p50:.1} / {p99:.1}")),
    ];
    before.into_iter().chain(ratios).chain(after).collect()
}

impl Row {
    fn all(&self, figure: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.rounds.iter().flatten().map(figure).collect()
    }

    /// The median of the rounds' latencies; `None` where none is measured.
    fn micros(&self, of: impl Fn(Latency) -> Duration) -> Option<f64> {
        let micros = |measured: &Measured| Some(of(measured.tally.latency?).as_secs_f64() * 1e6);
        median(&self.rounds.iter().flatten().filter_map(micros).collect::<Vec<_>>())
    }
}

/// Every round of a row.
pub(crate) fn rounds(rounds: &[Option<Measured>]) -> Value {
    rounds.iter().map(|round| round.as_ref().map(Measured::json)).collect()
}

/// The row's rate over another contender's, on the same transport if it has that, else on TCP.
fn ratio(comparison: &Comparison, row: &Row, over: Contender) -> Option<f64> {
    let transport = match over.transports().contains(&row.entry.transport) {
        true => row.entry.transport,
        false => Transport::Tcp,
    };
    let other = comparison
        .rows
        .iter()
        .find(|row| row.entry.contender == over && row.entry.transport == transport)?;
    let ratios: Vec<_> = row
        .rounds
        .iter()
        .zip(&other.rounds)
        .filter_map(|(mine, others)| Some(mine.as_ref()?.rate() / others.as_ref()?.rate()))
        .collect();
    median(&ratios)
}

pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { *upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

fn disturbed(sitting: &Sitting) -> (usize, usize) {
    let tallies = || {
        sitting
            .modes
            .iter()
            .flat_map(|(_, comparisons)| comparisons)
            .flat_map(|comparison| &comparison.rows)
            .flat_map(|row| row.rounds.iter().flatten())
    };
    (tallies().filter(|measured| measured.is_disturbed()).count(), tallies().count())
}

/// Lines with columns that line up; the first is their heading.
pub(crate) fn table(lines: &[impl AsRef<[String]>]) -> String {
    let mut widths = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.as_ref().len()), 0);
        for (width, cell) in widths.iter_mut().zip(line.as_ref()) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.as_ref().iter().zip(&widths).enumerate() {
            // Names to the left, figures to the right. Writing to a string cannot fail.
            let _ = match column {
                0 | 1 => write!(table, "| {cell:<width$} "),
                _ => write!(table, "| {cell:>width$} "),
            };
        }
        table.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column < 2 { '-' } else { ':' };
                let _ = write!(table, "|{}{end}", "-".repeat(width + 1));
            }
            table.push_str("|\n");
        }
    }
    table.pop();
    table
}

pub(crate) fn shown(figure: Option<f64>, show: impl Fn(f64) -> String) -> String {
    figure.map_or_else(missing, show)
}

/// The mark where there is no figure.
pub(crate) fn missing() -> String {
    "–".to_owned()
}

/// Two decimals of what is more, three of what is less.
pub(crate) fn times(ratio: f64) -> String {
    if ratio < 1.0 { format!("{ratio:.3}") } else { format!("{ratio:.2}×") }
}

/// Three digits, as `9.23M` or `155k`.
pub(crate) fn rounded(figure: f64) -> String {
    match figure {
        1e6.. => format!("{}M", digits(figure / 1e6)),
        1e3.. => format!("{}k", digits(figure / 1e3)),
        _ => digits(figure),
    }
}

/// Seconds a million messages are microseconds a message: three digits of them, if there are any.
pub(crate) fn seconds(figure: f64) -> String {
    if figure < 1.0 { format!("{figure:.4}") } else { digits(figure) }
}

fn digits(figure: f64) -> String {
    match figure {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(rounded(9_234_567.0), "9.23M");
        assert_eq!(rounded(155_000.0), "155k");
        assert_eq!(rounded(56_800_000.0), "56.8M");
    }

    #[test]
    fn columns_line_up() {
        let lines = [["case", "min–max"], ["a", "1–2"]].map(|line| line.map(str::to_owned));
        assert_eq!(table(&lines), "| case | min–max |\n|------|---------|\n| a    | 1–2     |");
    }
}
