//! Series beside the comparison of a sitting, on one CPU: what something costs with an addition,
//! against without it, and how a cost grows with the number of something.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    Error, Result,
    apart::{Measured, Task},
    case::{self, Case, Interaction, Mode},
    contender::{Contender, Entry},
    load::Extent,
    machine,
    options::number,
    report::{self, median},
    special,
};

const HELP: &str = "\
rsock-bench routing [OPTIONS]  requests of 32 B, 64 in flight: to a bare responder, and to a router
                               without metadata, with a route, a pattern, a pattern behind a hundred
                               others, and a route that reads and answers JSON
rsock-bench resume [OPTIONS]   each interaction in a session that can be resumed, and in none
rsock-bench growth [OPTIONS]   streams that share a connection, requests in flight on one, and
                               connections that 64 requests in flight go over: more and more of each

Both processes are on one CPU, and each measurement is made by a pair of its own.

  --quick      three short rounds
  --only NAME  only what is named so, in part, with what it is compared with
  --rounds N   how many rounds
  --json FILE  also add the figures to FILE
";

/// The series there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Routing,
    Resume,
    Growth,
}

/// The table of each, by its name in the JSON.
pub(crate) const TABLES: [(&str, &str, special::Table); 3] = [
    (Kind::Routing.name(), "Routing: requests of 32 B, 64 in flight (1cpu)", text),
    (Kind::Resume.name(), "Sessions that can be resumed (1cpu)", text),
    (Kind::Growth.name(), "Growth: 32 B (1cpu)", text),
];

/// The options of the command line.
#[derive(Debug)]
pub(crate) struct Series {
    kind: Kind,
    only: Option<String>,
    rounds: usize,
    /// How often a disturbed measurement is made again.
    repeats: usize,
    extent: Extent,
    json: Option<PathBuf>,
    help: bool,
}

/// A row, which is compared with the first of its group of the same contender.
struct Row {
    group: &'static str,
    name: String,
    entry: Entry,
    case: Case,
    rounds: Vec<Option<Measured>>,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Routing, Self::Resume, Self::Growth];

    const fn name(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Resume => "resume",
            Self::Growth => "growth",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn rows(self) -> Vec<Row> {
        match self {
            Self::Routing => routing(),
            Self::Resume => resume(),
            Self::Growth => growth(),
        }
    }
}

fn row(group: &'static str, name: impl ToString, contender: Contender, case: Case) -> Row {
    let (name, entry) = (name.to_string(), Entry::tcp(contender));
    Row { group, name, entry, case, rounds: Vec::new() }
}

fn routing() -> Vec<Row> {
    let case = Case { interaction: Interaction::RequestResponse { in_flight: 64 }, size: 32 };
    [
        ("a bare responder", Contender::Rsock),
        ("a router, no metadata", Contender::RsockNoRoute),
        ("a route", Contender::RsockRoute),
        ("a pattern", Contender::RsockPattern),
        ("a pattern behind 100", Contender::RsockPatternBehind),
        ("a route, JSON", Contender::RsockJson),
    ]
    .map(|(name, contender)| row("64 routed requests, 32 B", name, contender, case))
    .into()
}

fn resume() -> Vec<Row> {
    let requests = Interaction::RequestResponse { in_flight: 64 };
    let cases = [
        ("64 requests, 32 B", requests, 32),
        ("64 requests, 1 KiB", requests, 1024),
        ("stream, 32 B", Interaction::RequestStream, 32),
        ("stream, 1 KiB", Interaction::RequestStream, 1024),
        ("channel, 32 B", Interaction::RequestChannel, 32),
        ("fire-and-forget, 32 B", Interaction::FireAndForget, 32),
    ];
    let both = |(group, interaction, size)| {
        let case = Case { interaction, size };
        [
            row(group, "no session", Contender::Rsock, case),
            row(group, "resumable", Contender::RsockResumable, case),
        ]
    };
    cases.into_iter().flat_map(both).collect()
}

fn growth() -> Vec<Row> {
    let case = |interaction| Case { interaction, size: 32 };
    let streams = case::AT_A_TIME.into_iter().map(|at_a_time| {
        let case = case(Interaction::Streams { at_a_time });
        row("streams at a time", at_a_time, Contender::Rsock, case)
    });
    let both = [Contender::Mux, Contender::Rsock];
    let in_flight = both.into_iter().flat_map(|contender| {
        case::IN_FLIGHT.map(|in_flight| {
            let case = case(Interaction::RequestResponse { in_flight });
            row("requests in flight", in_flight, contender, case)
        })
    });
    let connections = both.into_iter().flat_map(|contender| {
        case::CONNECTIONS.map(|connections| {
            let case = case(Interaction::Spread { in_flight: 64, connections });
            row("64 requests over connections", connections, contender, case)
        })
    });
    streams.chain(in_flight).chain(connections).collect()
}

impl Series {
    /// Reads what follows the command's name.
    pub(crate) fn parse(kind: Kind, mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut series = Self {
            kind,
            only: None,
            rounds: 5,
            repeats: 2,
            extent: Extent::default(),
            json: None,
            help: false,
        };
        let mut rounds = None;
        while let Some(option) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| Error::from(format!("{option} is missing its value")))
            };
            match option.as_str() {
                "--help" | "-h" => series.help = true,
                "--quick" => {
                    (series.rounds, series.repeats) = (3, 0);
                    // A stream of few items would be mostly its beginning.
                    series.extent = Extent { items: series.extent.items, ..Extent::quick() };
                }
                "--only" => series.only = Some(value()?),
                "--rounds" => rounds = Some(number(&value()?)?),
                "--json" => series.json = Some(value()?.into()),
                _ => return Err(format!("{} has no option {option}", kind.name()).into()),
            }
        }
        series.rounds = rounds.unwrap_or(series.rounds);
        Ok(series)
    }

    pub(crate) fn run(self) -> Result<()> {
        if self.help {
            print!("{HELP}");
            return Ok(());
        }
        let mut rows = self.rows()?;
        for round in 0..self.rounds {
            eprintln!("{} {}/{}", self.kind.name(), round + 1, self.rounds);
            // There and back again, so that nobody always follows the same neighbour.
            let mut order: Vec<_> = rows.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for Row { group, name, entry, case, rounds } in order {
                let (entry, case, extent) = (*entry, *case, self.extent);
                let task = Task { entry, case, mode: Mode::OneCpu, extent, spinner: None };
                let measured = task.run(self.repeats);
                let who = format!("{group}: {name}, {entry}");
                match &measured {
                    Ok(measured) => eprintln!("  {who:<50} {:>9.4} s/M", measured.cpu()),
                    Err(error) => eprintln!("  {who:<50} failed: {error}"),
                }
                rounds.push(measured.ok());
            }
        }
        let rows: Vec<_> = rows.iter().map(|row| row.json(&rows)).collect();
        println!("{}\n\n{}", machine::described(), text(&rows));
        match &self.json {
            Some(path) => special::add_to(path, self.kind.name(), rows),
            None => Ok(()),
        }
    }

    /// Those that are wanted, and the first of each group.
    fn rows(&self) -> Result<Vec<Row>> {
        let mut rows = self.kind.rows();
        let Some(only) = &self.only else { return Ok(rows) };
        let is_named = |row: &Row| row.name.contains(only) || row.group.contains(only);
        let kept: Vec<_> = rows.iter().filter(|row| is_named(row)).map(Row::series).collect();
        if kept.is_empty() {
            return Err(format!("{} has nothing named {only:?}", self.kind.name()).into());
        }
        let mut last = None;
        rows.retain(|row| {
            let is_first = last.replace(row.series()) != Some(row.series());
            is_named(row) || (is_first && kept.contains(&row.series()))
        });
        Ok(rows)
    }
}

impl Row {
    /// The group, and whose: routes of a router are ours, whatever they are called.
    fn series(&self) -> (&'static str, bool) {
        (self.group, self.entry.contender == Contender::Mux)
    }

    fn json(&self, rows: &[Self]) -> Value {
        let first = rows.iter().find(|row| row.series() == self.series()).unwrap_or(self);
        let ratios = self.rounds.iter().zip(&first.rounds);
        let ratios =
            ratios.filter_map(|(own, first)| Some(own.as_ref()?.cpu() / first.as_ref()?.cpu()));
        let all = |figure: fn(&Measured) -> f64| {
            median(&self.rounds.iter().flatten().map(figure).collect::<Vec<_>>())
        };
        json!({
            "group": self.group,
            "name": self.name,
            "contender": self.entry.contender.name(),
            "transport": self.entry.transport.name(),
            "case": self.case.to_string(),
            "per_second": all(Measured::rate),
            "cpu_seconds_per_million": all(Measured::cpu),
            "cpu_of_first": median(&ratios.collect::<Vec<_>>()),
            "client_peak_kib": all(|it| it.client_peak_kib as f64),
            "server_peak_kib": all(|it| it.server_peak_kib as f64),
            "rounds": report::rounds(&self.rounds),
        })
    }
}

/// The table.
fn text(rows: &[Value]) -> String {
    let mut lines = vec![
        [
            "of",
            "row",
            "contender",
            "per second",
            "CPU s/M",
            "of the first",
            "client peak MiB",
            "server peak MiB",
        ]
        .map(str::to_owned),
    ];
    lines.extend(rows.iter().map(|row| {
        let said = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let shown = |key: &str, show: fn(f64) -> String| {
            row[key].as_f64().map_or_else(report::missing, show)
        };
        let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
        [
            said("group"),
            said("name"),
            special::name(row),
            shown("per_second", report::rounded),
            shown("cpu_seconds_per_million", report::seconds),
            shown("cpu_of_first", report::times),
            shown("client_peak_kib", mib),
            shown("server_peak_kib", mib),
        ]
    }));
    report::table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(line: &str) -> Result<Vec<String>> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let kind = Kind::named(&words.next().unwrap_or_default()).ok_or("no such series")?;
        let rows = Series::parse(kind, words)?.rows()?;
        Ok(rows.iter().map(|row| format!("{} {}", row.name, row.entry.contender.name())).collect())
    }

    #[test]
    fn a_row_that_is_named_comes_with_the_first_of_its_series() {
        assert_eq!(
            rows("routing --only JSON").unwrap(),
            ["a bare responder rsock", "a route, JSON rsock-json"]
        );
        assert_eq!(rows("growth --only streams").unwrap().len(), case::AT_A_TIME.len());
        assert_eq!(
            rows("growth --only 1000").unwrap(),
            ["1 mux", "1000 mux", "1 rsock", "1000 rsock"]
        );
        assert!(rows("resume --only nothing").is_err());
        assert!(rows("resume --dance").is_err());
    }

    /// A client of its own is told both by name.
    #[test]
    fn every_row_has_a_case_and_a_contender_that_are_found_by_name() {
        for row in Kind::ALL.into_iter().flat_map(Kind::rows) {
            assert_eq!(row.case.to_string().parse::<Case>().ok(), Some(row.case));
            assert!(row.entry.contender.takes(row.case), "{} {}", row.entry, row.case);
        }
    }
}
