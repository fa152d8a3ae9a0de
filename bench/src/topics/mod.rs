//! Topics: what a delivery costs, how long it and an acknowledgement take, and what is held for whom.
//!
//! The server runs on the first CPU with one thread, a client that does as little as it can on the last.

mod appends;
mod bare;
mod catch_up;
mod fan_out;
mod figures;
mod fleet;
mod latency;
mod memory;
mod room;
mod server;
mod table;
mod wire;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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

pub(crate) use figures::figures;
pub(crate) use table::{summary, text as tables};

const HELP: &str = "\
rsock-bench topics [OPTIONS]  what one message to many costs and takes: rsock's topics, others' subjects

  --only PART        only fan-out, room, growth, latency, appends, catch-up, memory or slow (may be
                     repeated)
  --case NAME        only cases whose name contains NAME
  --contender NAME   only this one (may be repeated)
                       bare       the same bytes as rsock's, one send a connection: the floor
                       rsock      rsock-topics, on a router
                       rsock-ws   the same over WebSocket
                       rsock-disk the same with durable topics, in the directory for temporary files: appends
                       nats       nats-server, which is looked for in PATH; without acknowledgements
                       socketioxide, bun   rooms over WebSocket: see bench/peers/prepare
  --rounds N         how many rounds; 3 if it is not said
  --quick            one short round
  --json FILE        also add the figures to FILE, in the place of those of the same cases
";

/// A service that delivers what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Bare,
    Rsock,
    RsockWs,
    RsockDisk,
    Nats,
    SocketIo,
    Bun,
}

impl Contender {
    const ALL: [Self; 7] = [
        Self::Bare,
        Self::Rsock,
        Self::RsockWs,
        Self::RsockDisk,
        Self::Nats,
        Self::SocketIo,
        Self::Bun,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Rsock => "rsock",
            Self::RsockWs => "rsock-ws",
            Self::RsockDisk => "rsock-disk",
            Self::Nats => "nats",
            Self::SocketIo => "socketioxide",
            Self::Bun => "bun",
        }
    }

    fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|contender| contender.name() == name);
        let all = Self::ALL.map(Self::name).join(", ");
        Ok(found.ok_or_else(|| format!("{name:?} serves no topics here; there are {all}"))?)
    }

    /// Whether each connection has one subscription at most.
    fn has_rooms_alone(self) -> bool {
        matches!(self, Self::RsockWs | Self::SocketIo | Self::Bun)
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
    Room { clients: usize },
    Appends { topics: u64 },
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
            .chain([Self::Room { clients: 320 }])
            .chain(growth.map(Self::Growth))
            .chain(rates.map(Self::Latency))
            .chain([1, 1_000, 100_000].map(|topics| Self::Appends { topics }))
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
            Self::Room { .. } => "room",
            Self::Appends { .. } => "appends",
            Self::CatchUp { .. } => "catch-up",
            Self::Memory { .. } => "memory",
        }
    }

    fn name(self) -> String {
        match self {
            Self::FanOut(layout) | Self::Growth(layout) | Self::Slow(layout) => layout.name(),
            Self::Latency(rate) => rate.name(),
            Self::Room { clients } => format!("{clients} clients"),
            Self::Appends { topics: 1 } => "1 topic".to_owned(),
            Self::Appends { topics } => format!("{topics} topics"),
            Self::CatchUp { readers: 1 } => format!("{LOG}, one reader"),
            Self::CatchUp { readers } => format!("{LOG}, {readers} readers"),
            Self::Memory { connections } => format!("{connections} connections"),
        }
    }

    /// Whether a contender has such a thing.
    fn is_of(self, contender: Contender) -> bool {
        match (self, contender) {
            (_, Contender::RsockDisk) => matches!(self, Self::Appends { .. }),
            (_, Contender::Rsock) | (Self::Room { .. }, _) => true,
            (Self::FanOut(layout), contender) => {
                layout.of_each() == 1 || !contender.has_rooms_alone()
            }
            // It keeps nothing, waits for whoever does not read, and is no service.
            (_, Contender::Bare) => false,
            // Its core has no log and no acknowledgements.
            (Self::CatchUp { .. } | Self::Appends { .. }, Contender::Nats) => false,
            (_, Contender::Nats) => true,
            (_, Contender::RsockWs | Contender::SocketIo | Contender::Bun) => false,
        }
    }

    fn measure(self, contender: Contender, cpus: &Cpus, extent: Extent) -> Result<Value> {
        let server = Server::start(contender)?;
        cpus.settle(Side::Client, Mode::Split)?;
        let figures = match contender {
            Contender::Bare | Contender::Rsock | Contender::RsockDisk => {
                self.of::<wire::Rsocket<wire::Tcp>>(&server, extent)
            }
            Contender::RsockWs => self.of::<wire::Rsocket<wire::WebSocket>>(&server, extent),
            Contender::Nats => self.of::<wire::Nats>(&server, extent),
            Contender::SocketIo => self.of::<wire::SocketIo>(&server, extent),
            Contender::Bun => self.of::<wire::Bun>(&server, extent),
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
            Self::Room { clients } => room::measure::<W>(server, clients, extent),
            Self::Appends { topics } => appends::measure::<W>(server, topics, extent),
            Self::CatchUp { readers } => catch_up::measure::<W>(server, readers, LOG),
            Self::Memory { connections } => memory::measure::<W>(server, connections),
        }
    }
}

/// The options of the command line.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    serve: Option<Contender>,
    /// The directory in which the server is to keep topics.
    data: Option<PathBuf>,
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
                "--data" => topics.data = Some(value()?.into()),
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
            return server::serve(contender, self.data.as_deref());
        }
        let cpus = Cpus::given()?;
        let (present, missing) = self.contenders()?;
        for line in &missing {
            eprintln!("{line}");
        }
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for case in Case::all().filter(|case| self.wants(*case)) {
            let rows_of_case = self.rows(case, &present, &cpus, &mut failures);
            // What there is is kept, whatever becomes of the next.
            if let Some(path) = &self.json {
                add_to(path, &rows_of_case)?;
            }
            rows.extend(rows_of_case);
        }
        println!("{}\n", machine::described());
        println!("{}", tables(&rows));
        for line in missing {
            println!("{line}");
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
    }

    /// Those that are measured, and what is said of those that are not on this machine.
    fn contenders(&self) -> Result<(Vec<Contender>, Vec<String>)> {
        let is_wanted = |contender: &Contender| {
            self.contenders.is_empty() || self.contenders.contains(contender)
        };
        let (mut present, mut missing) = (Vec::new(), Vec::new());
        for contender in Contender::ALL.into_iter().filter(is_wanted) {
            match server::missing(contender)? {
                Some(how) => missing.push(format!("NOT MEASURED: {}: {how}", contender.name())),
                None => present.push(contender),
            }
        }
        Ok((present, missing))
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

    /// A row for each contender: the medians of its rounds. A round that fails is `null`, and told.
    fn rows(
        &self,
        case: Case,
        present: &[Contender],
        cpus: &Cpus,
        failures: &mut Vec<String>,
    ) -> Vec<Value> {
        let contenders: Vec<_> =
            present.iter().copied().filter(|contender| case.is_of(*contender)).collect();
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
                rounds[at].push(figures.unwrap_or_else(|error| {
                    let failure = format!("{what}: {error}");
                    eprintln!("FAILED: {failure}");
                    failures.push(failure);
                    Value::Null
                }));
            }
        }
        let of = |wanted| {
            let at = contenders.iter().position(|contender| *contender == wanted);
            at.map(|at| rounds[at].clone())
        };
        let others = OTHERS.map(|(key, other)| (key, of(other)));
        let row = |(contender, rounds): (Contender, Vec<Value>)| {
            let mut row = medians(&rounds);
            for (key, other) in &others {
                row[*key] = json!(other.as_ref().and_then(|other| ratio(&rounds, other)));
            }
            row["part"] = json!(case.part());
            row["name"] = json!(case.name());
            row["contender"] = json!(contender.name());
            row["rounds"] = Value::Array(rounds);
            row
        };
        let has_figures =
            |(_, rounds): &(Contender, Vec<Value>)| !rounds.iter().all(Value::is_null);
        contenders.iter().copied().zip(rounds.clone()).filter(has_figures).map(row).collect()
    }
}

/// The ratios of CPU time that each row has, and to whom.
const OTHERS: [(&str, Contender); 2] =
    [("cpu_of_nats", Contender::Nats), ("cpu_of_bare", Contender::Bare)];

/// Adds rows to a file, in the place of those of the same case and contender.
fn add_to(path: &Path, rows: &[Value]) -> Result<()> {
    let id = |row: &Value| ["part", "name", "contender"].map(|key| row[key].clone());
    let is_new = |row: &Value| rows.iter().any(|other| id(other) == id(row));
    let before = special::rows_in(path, "topics")?;
    let kept = before.into_iter().filter(|row| !is_new(row));
    special::add_to(path, "topics", kept.chain(rows.iter().cloned()).collect())
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
