//! Topics: what a delivery costs, how long it and an acknowledgement take, and what is held for whom.
//!
//! The server runs on the first CPU with one thread, a client that does as little as it can on the last.

mod bare;
mod catch_up;
mod fan_out;
mod fleet;
mod latency;
mod memory;
mod server;
mod table;
mod wire;

use std::{path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    Error, Result,
    case::Mode,
    machine::{self, Cpus, Side},
    options::number,
    report, special,
};
use fan_out::Layout;
use latency::Rate;
use server::Server;

pub(crate) use table::{figure, text as tables};

const HELP: &str = "\
rsock-bench topics [OPTIONS]  what one message to many costs and takes: rsock's topics, others' subjects

  --only PART        only fan-out, growth, latency, catch-up, memory or slow (may be repeated)
  --case NAME        only cases whose name contains NAME
  --contender NAME   only this one (may be repeated)
                       bare   the same bytes as rsock's, one send a connection: the floor
                       rsock  rsock-topics, on a router
                       nats   nats-server, which is looked for in PATH; without acknowledgements
  --rounds N         how many rounds; 3 if it is not said
  --quick            one short round
  --json FILE        also add the figures to FILE
";

/// A service that delivers what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Bare,
    Rsock,
    Nats,
}

impl Contender {
    const ALL: [Self; 3] = [Self::Bare, Self::Rsock, Self::Nats];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Rsock => "rsock",
            Self::Nats => "nats",
        }
    }

    fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|contender| contender.name() == name);
        Ok(found
            .ok_or_else(|| format!("{name:?} serves no topics here; bare, rsock and nats do"))?)
    }
}

/// How long it is measured.
#[derive(Clone, Copy, Debug)]
struct Extent {
    warm_up: Duration,
    count_for: Duration,
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
enum Case {
    FanOut(Layout),
    Growth(Layout),
    Slow(Layout),
    Latency(Rate),
    CatchUp { readers: usize },
    Memory { connections: usize },
}

/// Messages that are caught up with.
const LOG: u64 = 300_000;

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let layouts = |subscribers: u64, connections: &'static [usize]| {
            connections.iter().map(move |&connections| Layout::new(subscribers, connections))
        };
        let fan_out = layouts(1_000, &[10, 100, 1_000]).chain(layouts(10_000, &[10, 100, 1_000]));
        let growth =
            [10, 100, 1_000].map(|connections| Layout::new(100 * connections as u64, connections));
        let slow = [0, 100].map(|stuck| Layout { stuck, ..Layout::new(10_000, 1_000) });
        let rates = [10, 100, 1_000].map(|connections| Layout::new(10_000, connections));
        let rates = rates.map(|layout| Rate { layout, messages: 300 });
        fan_out
            .map(Self::FanOut)
            .chain(growth.map(Self::Growth))
            .chain(rates.map(Self::Latency))
            .chain([1, 10].map(|readers| Self::CatchUp { readers }))
            .chain([Self::Memory { connections: 10_000 }])
            .chain(slow.map(Self::Slow))
    }

    fn part(self) -> &'static str {
        match self {
            Self::FanOut(_) => "fan-out",
            Self::Growth(_) => "growth",
            Self::Slow(_) => "slow",
            Self::Latency(_) => "latency",
            Self::CatchUp { .. } => "catch-up",
            Self::Memory { .. } => "memory",
        }
    }

    fn name(self) -> String {
        match self {
            Self::FanOut(layout) | Self::Growth(layout) | Self::Slow(layout) => layout.name(),
            Self::Latency(rate) => rate.name(),
            Self::CatchUp { readers: 1 } => format!("{LOG}, one reader"),
            Self::CatchUp { readers } => format!("{LOG}, {readers} readers"),
            Self::Memory { connections } => format!("{connections} connections"),
        }
    }

    /// Whether a contender has such a thing.
    fn is_of(self, contender: Contender) -> bool {
        match (self, contender) {
            (_, Contender::Rsock) | (Self::FanOut(_), _) => true,
            // It keeps nothing, waits for whoever does not read, and is no service.
            (_, Contender::Bare) => false,
            // Its core has no log and no acknowledgements.
            (Self::CatchUp { .. }, Contender::Nats) => false,
            (_, Contender::Nats) => true,
        }
    }

    fn measure(self, contender: Contender, cpus: &Cpus, extent: Extent) -> Result<Value> {
        let server = Server::start(contender)?;
        cpus.settle(Side::Client, Mode::Split)?;
        let figures = match contender {
            Contender::Bare | Contender::Rsock => self.of::<wire::Rsocket>(&server, extent),
            Contender::Nats => self.of::<wire::Nats>(&server, extent),
        };
        cpus.release()?;
        figures
    }

    fn of<W: wire::Wire>(self, server: &Server, extent: Extent) -> Result<Value> {
        match self {
            Self::FanOut(layout) | Self::Growth(layout) | Self::Slow(layout) => {
                fan_out::measure::<W>(server, layout, extent)
            }
            Self::Latency(rate) => latency::measure::<W>(server, rate, extent),
            Self::CatchUp { readers } => catch_up::measure::<W>(server, readers, LOG),
            Self::Memory { connections } => memory::measure::<W>(server, connections),
        }
    }
}

/// The options of the command line.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    serve: Option<Contender>,
    only: Vec<String>,
    case: Option<String>,
    contenders: Vec<Contender>,
    quick: bool,
    rounds: Option<usize>,
    json: Option<PathBuf>,
    help: bool,
}

impl Topics {
    /// Reads what follows the command's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut topics = Self::default();
        while let Some(option) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| Error::from(format!("{option} is missing its value")))
            };
            match option.as_str() {
                "--help" | "-h" => topics.help = true,
                "--quick" => topics.quick = true,
                "--serve" => topics.serve = Some(Contender::named(&value()?)?),
                "--contender" => topics.contenders.push(Contender::named(&value()?)?),
                "--only" => topics.only.push(part(value()?)?),
                "--case" => topics.case = Some(value()?),
                "--rounds" => topics.rounds = Some(number(&value()?)?),
                "--json" => topics.json = Some(value()?.into()),
                _ => return Err(format!("topics has no option {option}").into()),
            }
        }
        Ok(topics)
    }

    pub(crate) fn run(self) -> Result<()> {
        if self.help {
            print!("{HELP}");
            return Ok(());
        }
        if let Some(contender) = self.serve {
            return server::serve(contender);
        }
        let cpus = Cpus::given()?;
        let mut rows = Vec::new();
        for case in Case::all().filter(|case| self.wants(*case)) {
            rows.extend(self.rows(case, &cpus)?);
        }
        println!("{}\n", machine::described());
        println!("{}", tables(&rows));
        match &self.json {
            Some(path) => special::add_to(path, "topics", rows),
            None => Ok(()),
        }
    }

    fn wants(&self, case: Case) -> bool {
        (self.only.is_empty() || self.only.iter().any(|part| part == case.part()))
            && self.case.as_ref().is_none_or(|part| case.name().contains(part))
    }

    fn extent(&self) -> Extent {
        let (warm_up, count_for) = if self.quick { (200, 500) } else { (500, 2_000) };
        let [warm_up, count_for] = [warm_up, count_for].map(Duration::from_millis);
        Extent { warm_up, count_for }
    }

    /// A row for each contender: the medians of its rounds.
    fn rows(&self, case: Case, cpus: &Cpus) -> Result<Vec<Value>> {
        let takes_part = |contender: &Contender| {
            case.is_of(*contender)
                && (self.contenders.is_empty() || self.contenders.contains(contender))
        };
        let contenders: Vec<_> = Contender::ALL.into_iter().filter(takes_part).collect();
        let mut rounds = vec![Vec::new(); contenders.len()];
        for round in 0..self.rounds.unwrap_or(if self.quick { 1 } else { 3 }) {
            for at in 0..contenders.len() {
                // In turned order every other round.
                let at = if round % 2 == 0 { at } else { contenders.len() - 1 - at };
                let contender = contenders[at];
                let what = format!("{} {} {}", case.part(), case.name(), contender.name());
                eprintln!("{what}");
                // With a delivery missing there is no figure.
                let figures = case.measure(contender, cpus, self.extent());
                rounds[at].push(figures.map_err(|error| format!("{what}: {error}"))?);
            }
        }
        let nats = contenders.iter().position(|contender| *contender == Contender::Nats);
        let nats = nats.map(|at| rounds[at].clone());
        let row = |(contender, rounds): (Contender, Vec<Value>)| {
            let mut row = medians(&rounds);
            row["cpu_of_nats"] = json!(nats.as_ref().and_then(|nats| ratio(&rounds, nats)));
            row["part"] = json!(case.part());
            row["name"] = json!(case.name());
            row["contender"] = json!(contender.name());
            row["rounds"] = Value::Array(rounds);
            row
        };
        Ok(contenders.into_iter().zip(rounds).map(row).collect())
    }
}

fn part(name: String) -> Result<String> {
    if Case::all().any(|case| case.part() == name) {
        return Ok(name);
    }
    Err(format!("topics has no part {name:?}; see --help").into())
}

/// The median of each figure, over the rounds that have it.
fn medians(rounds: &[Value]) -> Value {
    let mut medians = Map::new();
    for key in rounds.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        let figures: Vec<_> = rounds.iter().filter_map(|round| round[key].as_f64()).collect();
        medians.insert(key.clone(), json!(report::median(&figures)));
    }
    Value::Object(medians)
}

/// The CPU time of a delivery over that of another's in the same round: the median.
fn ratio(rounds: &[Value], others: &[Value]) -> Option<f64> {
    let cpu = |round: &Value| round["server_cpu_nanos"].as_f64();
    let ratios = rounds.iter().zip(others).filter_map(|(one, other)| Some(cpu(one)? / cpu(other)?));
    report::median(&ratios.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Topics> {
        Topics::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let topics = parse("--only latency --only slow --contender nats --quick").expect("options");
        let cases: Vec<_> = Case::all().filter(|case| topics.wants(*case)).collect();
        assert_eq!(cases.len(), 5);
        assert_eq!(topics.contenders, [Contender::Nats]);
        for line in ["--only speed", "--contender redis", "--rounds 0", "--case"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_median_is_that_of_the_rounds_that_have_the_figure() {
        let rounds = [json!({ "a": 3, "b": 1 }), json!({ "a": 1 }), json!({ "a": 2, "b": 2 })];
        assert_eq!(medians(&rounds), json!({ "a": 2.0, "b": 1.5 }));
    }
}
