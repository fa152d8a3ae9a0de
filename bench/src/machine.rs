//! Questions to the machine: where to run, what has been used, how much memory was held.

use std::{
    fs,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::ClockId,
    unistd::Pid,
};
use tokio::runtime::{Builder, Runtime};

use crate::{Error, Result, case::Mode};

/// `/proc/stat` counts in these; the kernel has shown 100 to user space on every platform of ours
/// since 2.6.
const TICKS_A_SECOND: f64 = 100.0;

/// Which side of the connection a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// The CPUs this process was given when it started.
pub(crate) struct Cpus {
    whole: CpuSet,
    first: usize,
    last: usize,
}

impl Cpus {
    pub(crate) fn given() -> Result<Self> {
        let mut cpus = Self { whole: sched_getaffinity(THIS_THREAD)?, first: 0, last: 0 };
        cpus.first = cpus.each().next().ok_or("no CPU to run on")?;
        cpus.last = cpus.each().last().unwrap_or(cpus.first);
        Ok(cpus)
    }

    /// Moves the calling thread, and with it every thread it starts from now on.
    pub(crate) fn settle(&self, side: Side, mode: Mode) -> Result<()> {
        let cpu = match (mode, side) {
            (Mode::TwoWorkers, _) => return self.release(),
            (Mode::Split, _) if self.first == self.last => {
                return Err("mode split needs two CPUs".into());
            }
            (Mode::Split, Side::Server) => self.first,
            (Mode::Split, Side::Client) | (Mode::OneCpu, _) => self.last,
        };
        self.settle_on(cpu)
    }

    /// Moves the calling thread to a CPU, and with it every thread it starts from now on.
    pub(crate) fn settle_on(&self, cpu: usize) -> Result<()> {
        let mut one = CpuSet::new();
        one.set(cpu)?;
        Ok(sched_setaffinity(THIS_THREAD, &one)?)
    }

    /// Every CPU that was given.
    pub(crate) fn each(&self) -> impl Iterator<Item = usize> + use<> {
        let whole = self.whole;
        (0..CpuSet::count()).filter(move |&cpu| whole.is_set(cpu).is_ok_and(|is_set| is_set))
    }

    /// Gives the calling thread its CPUs back.
    pub(crate) fn release(&self) -> Result<()> {
        Ok(sched_setaffinity(THIS_THREAD, &self.whole)?)
    }
}

/// As `sched_setaffinity(2)` reads it.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// The runtime of either process.
pub(crate) fn runtime(mode: Mode) -> Result<Runtime> {
    let mut builder = match mode {
        Mode::OneCpu | Mode::Split => Builder::new_current_thread(),
        Mode::TwoWorkers => Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(2).enable_all().build()?)
}

/// The clocks a measurement is read from: the wall, both processes, the whole machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    server: ClockId,
    server_pid: u32,
    broker: Option<ClockId>,
    /// The clock of threads that run only where nothing else would.
    spinner: Option<ClockId>,
}

/// The readings of the clocks at the start.
pub(crate) struct Mark {
    wall: Instant,
    client: Duration,
    server: Duration,
    client_faults: u64,
    server_faults: u64,
    /// The whole machine but for the spinner.
    machine: Duration,
}

/// The time spent between two looks at the clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) elapsed: Duration,
    /// CPU time of all threads of this process.
    pub(crate) client: Duration,
    /// CPU time of all threads of the server process.
    pub(crate) server: Duration,
    /// CPU time of everything else on the machine, to the tick of 10 ms.
    pub(crate) others: Duration,
    /// Pages that this process touched for the first time since it was given them.
    pub(crate) client_faults: u64,
    /// Those of the server.
    pub(crate) server_faults: u64,
}

impl Meter {
    /// Counts what a broker uses as the server's.
    pub(crate) fn of_server(pid: u32, broker: Option<u32>) -> Result<Self> {
        let broker = broker.map(clock_of).transpose()?;
        Ok(Self { server: clock_of(pid)?, server_pid: pid, broker, spinner: None })
    }

    /// Does not take what this process uses for others' work.
    pub(crate) fn without_spinner(self, pid: u32) -> Result<Self> {
        Ok(Self { spinner: Some(clock_of(pid)?), ..self })
    }

    pub(crate) fn start(&self) -> Result<Mark> {
        let read = |clock: ClockId| Ok::<Duration, Error>(clock.now()?.into());
        let read_any = |clock: Option<ClockId>| clock.map_or(Ok(Duration::ZERO), read);
        Ok(Mark {
            machine: machine_busy()?.saturating_sub(read_any(self.spinner)?),
            client: read(ClockId::CLOCK_PROCESS_CPUTIME_ID)?,
            server: read(self.server)? + read_any(self.broker)?,
            client_faults: page_faults(std::process::id())?,
            server_faults: page_faults(self.server_pid)?,
            wall: Instant::now(),
        })
    }

    pub(crate) fn since(&self, mark: &Mark) -> Result<Reading> {
        let now = Mark { wall: Instant::now(), ..self.start()? };
        let client = now.client.saturating_sub(mark.client);
        let server = now.server.saturating_sub(mark.server);
        Ok(Reading {
            elapsed: now.wall - mark.wall,
            client,
            server,
            client_faults: now.client_faults - mark.client_faults,
            server_faults: now.server_faults - mark.server_faults,
            others: now.machine.saturating_sub(mark.machine).saturating_sub(client + server),
        })
    }
}

fn clock_of(pid: u32) -> Result<ClockId> {
    Ok(ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))?)
}

/// How long the CPUs have not been idle, all together: `user`, `nice`, `system`, `irq` and
/// `softirq` of `/proc/stat`.
fn machine_busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let columns: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let ticks: u64 =
        [0, 1, 2, 5, 6].iter().map(|&column| columns.get(column).copied().unwrap_or(0)).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_A_SECOND))
}

/// Page faults that were answered without a disk, of all threads a process has had.
fn page_faults(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    Ok(fields.split_whitespace().nth(7).ok_or("no minflt in /proc/PID/stat")?.parse()?)
}

/// The most memory a process has ever held, in KiB.
pub(crate) fn peak_resident_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmHWM:")
}

/// The memory a process holds now, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmRSS:")
}

fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let figure = line.ok_or_else(|| format!("no {name} in /proc/{pid}/status"))?;
    Ok(figure.trim().trim_end_matches("kB").trim_end().parse()?)
}

/// CPUs, their model, and the kernel, in a line.
pub(crate) fn described() -> String {
    let cpus = available_parallelism().map_or(0, |cpus| cpus.get());
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpus} CPUs, {model}, Linux {}", kernel.trim())
}
