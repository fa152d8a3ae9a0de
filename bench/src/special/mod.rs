//! Measurements of one thing each, beside the comparison of a sitting: each contender in processes
//! of its own, one after the other.

mod idle;
pub(crate) mod link;
mod proxy;
mod shaped;
mod slow;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    Error, Result,
    case::Transport,
    contender::{Contender, Entry, Peer},
    machine,
    options::number,
    ours::Rsock,
    report,
    theirs::{AsShipped, RsocketRust},
};
use link::Link;

const HELP: &str = "\
rsock-bench shaped [OPTIONS]  a small request beside an endless series of large answers, on one
                              connection over a link of 500 Mbit/s
rsock-bench slow [OPTIONS]    memory of both sides while a stream of 1,000,000 items of 1 KiB is
                              taken at one a millisecond
rsock-bench idle [OPTIONS]    memory of both sides for each of 10,000 connections that do nothing

  --quick            shorter; 1,000 connections
  --contender NAME   only rsock or rsocket_rust (may be repeated)
  --link KIND        shaped: namespace (tc in network namespaces, needs root) or proxy; otherwise
                     the first that works; loopback is not shaped
  --connections N    idle: how many
  --json FILE        also add the figures to FILE
";

/// The libraries that are measured, by the interface their users have.
const MEASURED: &[Contender] = &[
    Contender::Rsock,
    Contender::RsocketRust,
    #[cfg(feature = "tonic")]
    Contender::Tonic,
];

/// A Markdown table of a measurement's rows.
pub(crate) type Table = fn(&[Value]) -> String;

/// Each measurement's name, which is its rows' in the JSON too, what it is, and its table.
pub(crate) const TABLES: [(&str, &str, Table); 3] = [
    ("shaped", "A small request beside answers of 16 MiB, 500 Mbit/s", shaped::text),
    ("slow", "A consumer that takes an item of 1 KiB a millisecond", slow::text),
    ("idle", "Idle connections", idle::text),
];

/// The measurements there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Shaped,
    Slow,
    Idle,
}

/// The options of the command line.
#[derive(Debug)]
pub(crate) struct Special {
    what: What,
    contenders: Vec<Contender>,
    /// Be the client of this one, rather than start a process for each.
    entry: Option<Entry>,
    link: Option<Link>,
    quick: bool,
    connections: Option<usize>,
    json: Option<PathBuf>,
    help: bool,
}

/// The work to be done with a contender through the interface its users have.
trait Measurement {
    /// Connects as often as it wants to, and says what it saw.
    async fn of<P: Peer>(self, transport: Transport, address: SocketAddr) -> Result<Value>;
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Shaped => "shaped",
            Self::Slow => "slow",
            Self::Idle => "idle",
        }
    }
}

impl Special {
    pub(crate) fn named(name: &str) -> Option<What> {
        [What::Shaped, What::Slow, What::Idle].into_iter().find(|what| what.name() == name)
    }

    /// Reads what follows the command's name.
    pub(crate) fn parse(what: What, mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut special = Self {
            what,
            contenders: Vec::new(),
            entry: None,
            link: None,
            quick: false,
            connections: None,
            json: None,
            help: false,
        };
        while let Some(option) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| Error::from(format!("{option} is missing its value")))
            };
            match option.as_str() {
                "--help" | "-h" => special.help = true,
                "--quick" => special.quick = true,
                "--contender" => special.contenders.push(contender(&value()?)?),
                "--entry" => special.entry = Some(value()?.parse()?),
                "--link" => special.link = Some(value()?.parse()?),
                "--connections" => special.connections = Some(number(&value()?)?),
                "--json" => special.json = Some(value()?.into()),
                _ => return Err(format!("{} has no option {option}", what.name()).into()),
            }
        }
        Ok(special)
    }

    pub(crate) fn run(self) -> Result<()> {
        if self.help {
            print!("{HELP}");
            return Ok(());
        }
        if let Some(entry) = self.entry {
            println!("{}", self.measure(entry)?);
            return Ok(());
        }
        let mut rows = Vec::new();
        for entry in Entry::all().filter(|entry| self.wants(*entry)) {
            eprintln!("{} {entry}", self.what.name());
            match self.measure_apart(entry) {
                Ok(mut row) => {
                    row["contender"] = json!(entry.contender.name());
                    row["transport"] = json!(entry.transport.name());
                    rows.push(row);
                }
                Err(error) => eprintln!("  failed: {error}"),
            }
        }
        println!("{}\n", machine::described());
        if let Some((_, _, table)) = TABLES.iter().find(|(name, ..)| *name == self.what.name()) {
            println!("{}", table(&rows));
        }
        match &self.json {
            Some(path) => add_to(path, self.what.name(), rows),
            None => Ok(()),
        }
    }

    fn wants(&self, entry: Entry) -> bool {
        MEASURED.contains(&entry.contender)
            && (self.contenders.is_empty() || self.contenders.contains(&entry.contender))
    }

    /// As the client of a pair.
    fn measure(&self, entry: Entry) -> Result<Value> {
        match self.what {
            What::Shaped => shaped::measure(entry, self.link.unwrap_or(Link::Proxy), self.quick),
            What::Slow => slow::measure(entry, self.quick),
            What::Idle => {
                let usual = if self.quick { 1_000 } else { 10_000 };
                idle::measure(entry, self.connections.unwrap_or(usual))
            }
        }
    }

    /// In processes of its own.
    fn measure_apart(&self, entry: Entry) -> Result<Value> {
        let links = match (self.what, self.link) {
            (What::Shaped, None) => vec![Some(Link::Namespace), Some(Link::Proxy)],
            (_, link) => vec![link],
        };
        let mut failure = Error::from("nothing was tried");
        for link in links {
            match self.measure_over(entry, link) {
                Ok(row) => return Ok(row),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn measure_over(&self, entry: Entry, link: Option<Link>) -> Result<Value> {
        let mut client = Command::new(std::env::current_exe()?);
        client.args([self.what.name(), "--entry", &entry.to_string()]);
        if let Some(link) = link {
            client.args(["--link", link.name()]);
        }
        if let Some(connections) = self.connections {
            client.args(["--connections", &connections.to_string()]);
        }
        if self.quick {
            client.arg("--quick");
        }
        let output = client.stderr(std::process::Stdio::inherit()).output()?;
        if !output.status.success() {
            let over = link.map_or(String::new(), |link| format!(" over {}", link.name()));
            return Err(format!("its client ended with {}{over}", output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// The rows of a measurement that the file has.
pub(crate) fn rows_in(path: &Path, name: &str) -> Result<Vec<Value>> {
    let Ok(bytes) = fs::read(path) else { return Ok(Vec::new()) };
    let mut all: Value = serde_json::from_slice(&bytes)?;
    Ok(match all[name].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    })
}

/// Adds the rows of a measurement to what the file has.
pub(crate) fn add_to(path: &Path, name: &str, rows: Vec<Value>) -> Result<()> {
    let mut all = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => json!({ "machine": machine::described() }),
    };
    all[name] = Value::Array(rows);
    Ok(fs::write(path, serde_json::to_string_pretty(&all)?)?)
}

fn contender(name: &str) -> Result<Contender> {
    MEASURED.iter().copied().find(|contender| contender.name() == name).ok_or_else(|| {
        format!(
            "{name:?} is not measured so; rsock and rsocket_rust are, and tonic if it is built in"
        )
        .into()
    })
}

/// Runs a measurement with the contender's own types.
async fn measure_peer(
    entry: Entry,
    address: SocketAddr,
    measurement: impl Measurement,
) -> Result<Value> {
    match entry.contender {
        Contender::Rsock => measurement.of::<Rsock>(entry.transport, address).await,
        Contender::RsocketRust => {
            measurement.of::<RsocketRust<AsShipped>>(entry.transport, address).await
        }
        #[cfg(feature = "tonic")]
        Contender::Tonic => measurement.of::<crate::grpc::Tonic>(entry.transport, address).await,
        _ => Err(format!("{entry} has no connections to be measured so").into()),
    }
}

/// A row's name in a table.
pub(crate) fn name(row: &Value) -> String {
    let part = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", part("contender"), part("transport"))
}

/// A figure of a row, with so many digits behind the point.
pub(crate) fn figure(row: &Value, key: &str, digits: usize) -> String {
    row[key].as_f64().map_or_else(report::missing, |figure| format!("{figure:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Special> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let what = Special::named(&words.next().unwrap_or_default()).ok_or("no such command")?;
        Special::parse(what, words)
    }

    #[test]
    fn options_are_read() {
        let special = parse("idle --quick --connections 5 --contender rsock").unwrap();
        assert_eq!((special.what, special.connections), (What::Idle, Some(5)));
        assert_eq!(special.contenders, [Contender::Rsock]);
        assert!(special.quick);
        let special = parse("shaped --link proxy --entry rsock/ws").unwrap();
        assert_eq!(special.link, Some(Link::Proxy));
        assert!(special.entry.is_some());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in ["slow --fast", "slow --contender raw", "shaped --link rope", "idle --json"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
