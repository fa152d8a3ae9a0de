//! Keeps the CPUs from halting while a sitting runs.
//!
//! A halted CPU takes its time to wake, on a virtual machine tens of microseconds, and how often
//! one halts depends on how fast a contender is. So every CPU is given a thread to run when there
//! is nothing else: of the class `SCHED_IDLE`, it gives way to anything at once.

use std::{
    hint,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{Result, machine::Cpus};

/// The line it prints once every thread runs.
const SPINNING: &str = "spinning";

/// The process that spins. It ends with this value, or with this process.
pub(crate) struct Spinner(Child);

impl Spinner {
    pub(crate) fn start() -> Result<Self> {
        let child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(std::env::current_exe()?)
            .arg("spin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("chrt of util-linux is wanted, or --no-spinner: {error}"))?;
        let mut spinner = Self(child);
        let mut said = String::new();
        if let Some(stdout) = spinner.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        match said.trim_end() {
            SPINNING => Ok(spinner),
            _ => {
                Err("chrt could not start idle-class threads; --no-spinner leaves them out".into())
            }
        }
    }

    /// Its process; chrt has become it.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // Either may fail only because it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process: a thread for each CPU, until the parent hangs up.
pub(crate) fn spin() -> Result<()> {
    let cpus = Cpus::given()?;
    for cpu in cpus.each() {
        cpus.settle_on(cpu)?;
        thread::spawn(|| {
            loop {
                hint::spin_loop();
            }
        });
    }
    cpus.release()?;
    println!("{SPINNING}");
    // The parent never writes: this returns when it has ended, however it ended.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
