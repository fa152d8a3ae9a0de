//! A measurement in processes of its own, so that it does not matter who was measured before.
//!
//! What a process has allocated stays with its allocator: glibc's takes memory from the system and
//! gives it back by thresholds that grow with the largest block ever freed. A contender that is
//! measured behind one that held a gigabyte finds all the memory it wants, and no page of it missing.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Error, Result,
    case::{Case, Mode},
    contender::Entry,
    latency::Latency,
    load::{Extent, Load, Tally},
    machine::{self, Cpus, Reading, Side},
    pair::Server,
};

/// Others' work on the machine, in CPUs, above which a measurement is made again.
const DISTURBANCE: f64 = 0.3;

/// The measurement to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) entry: Entry,
    pub(crate) case: Case,
    pub(crate) mode: Mode,
    pub(crate) extent: Extent,
    /// The process that keeps the CPUs from halting.
    pub(crate) spinner: Option<u32>,
}

/// The result of one measurement, and the most memory either process held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) client_peak_kib: u64,
    pub(crate) server_peak_kib: u64,
}

impl Task {
    /// Measures in a fresh pair of processes, and again while others disturb, at most so many times.
    pub(crate) fn run(&self, repeats: usize) -> Result<Measured> {
        let mut measured = self.run_once()?;
        for _ in 0..repeats {
            if !measured.is_disturbed() {
                break;
            }
            measured = self.run_once()?;
        }
        Ok(measured)
    }

    fn run_once(&self) -> Result<Measured> {
        let Self { entry, case, mode, extent, spinner } = self;
        let mut client = Command::new(std::env::current_exe()?);
        client
            .args(["measure", "--mode", mode.name()])
            .args(["--entry", &entry.to_string(), "--case", &case.to_string()])
            .args(["--items", &extent.items.to_string()])
            .args(["--warm-up", &extent.warm_up.as_millis().to_string()])
            .args(["--count-for", &extent.count_for.as_millis().to_string()]);
        if let Some(spinner) = spinner {
            client.args(["--spinner", &spinner.to_string()]);
        }
        let output = client.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("its client ended with {}", output.status).into());
        }
        Measured::read(&serde_json::from_slice(&output.stdout)?)
    }

    /// Measures in this process, whose server it starts.
    pub(crate) fn perform(&self) -> Result<Measured> {
        let server = Server::start(self.entry, self.mode)?;
        let mut meter = server.meter()?;
        if let Some(spinner) = self.spinner {
            meter = meter.without_spinner(spinner)?;
        }
        Cpus::given()?.settle(Side::Client, self.mode)?;
        let tally = server.measure(Load { case: self.case, extent: self.extent, meter })?;
        Ok(Measured {
            tally,
            client_peak_kib: machine::peak_resident_kib(std::process::id())?,
            server_peak_kib: machine::peak_resident_kib(server.pid())?,
        })
    }
}

impl Measured {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.tally.messages as f64 / self.tally.spent.elapsed.as_secs_f64()
    }

    /// CPU seconds a million messages, of both processes.
    pub(crate) fn cpu(&self) -> f64 {
        self.client_cpu() + self.server_cpu()
    }

    pub(crate) fn client_cpu(&self) -> f64 {
        self.per_million(self.tally.spent.client)
    }

    pub(crate) fn server_cpu(&self) -> f64 {
        self.per_million(self.tally.spent.server)
    }

    fn per_million(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.tally.messages as f64
    }

    /// Whether so much else ran meanwhile that the figure is in doubt.
    pub(crate) fn is_disturbed(&self) -> bool {
        let Reading { elapsed, others, .. } = self.tally.spent;
        others.as_secs_f64() / elapsed.as_secs_f64() > DISTURBANCE
    }

    /// All of it.
    pub(crate) fn json(&self) -> Value {
        let Tally { messages, spent, latency } = self.tally;
        json!({
            "messages": messages,
            "seconds": spent.elapsed.as_secs_f64(),
            "client_cpu_seconds": spent.client.as_secs_f64(),
            "server_cpu_seconds": spent.server.as_secs_f64(),
            "others_cpu_seconds": spent.others.as_secs_f64(),
            "client_page_faults": spent.client_faults,
            "server_page_faults": spent.server_faults,
            "client_peak_kib": self.client_peak_kib,
            "server_peak_kib": self.server_peak_kib,
            "p50_micros": latency.map(|it| it.p50.as_secs_f64() * 1e6),
            "p99_micros": latency.map(|it| it.p99.as_secs_f64() * 1e6),
        })
    }

    fn read(said: &Value) -> Result<Self> {
        let missing = |key: &str| Error::from(format!("a measurement says no {key}"));
        let count = |key: &str| said[key].as_u64().ok_or_else(|| missing(key));
        let seconds =
            |key: &str| said[key].as_f64().map(Duration::from_secs_f64).ok_or_else(|| missing(key));
        let micros = |key: &str| Some(Duration::from_secs_f64(said[key].as_f64()? / 1e6));
        let spent = Reading {
            elapsed: seconds("seconds")?,
            client: seconds("client_cpu_seconds")?,
            server: seconds("server_cpu_seconds")?,
            others: seconds("others_cpu_seconds")?,
            client_faults: count("client_page_faults")?,
            server_faults: count("server_page_faults")?,
        };
        let latency = micros("p50_micros").zip(micros("p99_micros"));
        let latency = latency.map(|(p50, p99)| Latency { p50, p99 });
        Ok(Self {
            tally: Tally { messages: count("messages")?, spent, latency },
            client_peak_kib: count("client_peak_kib")?,
            server_peak_kib: count("server_peak_kib")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_read_as_it_is_said() {
        let seconds = Duration::from_secs;
        let micros = Duration::from_micros;
        let spent = Reading {
            elapsed: seconds(2),
            client: seconds(1),
            server: seconds(3),
            others: seconds(1),
            client_faults: 4,
            server_faults: 5,
        };
        let latency = Some(Latency { p50: micros(6), p99: micros(7) });
        let tally = Tally { messages: 8, spent, latency };
        let measured = Measured { tally, client_peak_kib: 9, server_peak_kib: 10 };
        let read = Measured::read(&measured.json()).unwrap();
        assert_eq!(read.json(), measured.json());
        assert_eq!((read.rate(), read.cpu()), (4.0, 500_000.0));
        assert!(read.is_disturbed());
        assert!(Measured::read(&json!({ "messages": 1 })).is_err());
    }
}
