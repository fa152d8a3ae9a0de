//! `rsock-bench`: the raw limit of this machine, `rsock` and `rsocket_rust`, side by side.
//!
//! One binary starts itself again for each measurement, as the client and as the server, and lets
//! the contenders take turns: within a round they run one after the other, and a ratio is taken between neighbours of
//! one round only. What is printed is the median over the rounds, of the ratios as of the rates.
//! Absolute rates say little on a shared or virtual machine; ratios in one mode say much.

mod apart;
mod broker;
mod case;
mod contender;
mod frames;
#[cfg(feature = "tonic")]
mod grpc;
mod latency;
mod load;
mod machine;
mod mux;
#[cfg(feature = "nats")]
mod nats;
mod options;
mod ours;
mod pair;
mod plot;
mod raw;
mod report;
mod series;
mod sitting;
mod special;
mod spinner;
mod svg;
mod theirs;
mod topics;

use std::{error::Error as StdError, process::ExitCode};

/// The error that ends the run, said once: a benchmark has nothing to recover.
pub(crate) type Error = Box<dyn StdError + Send + Sync>;

/// The result of everything here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    match options::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rsock-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: options::Command) -> Result<()> {
    match command {
        options::Command::Help => {
            print!("{}", options::HELP);
            Ok(())
        }
        options::Command::List => {
            for case in case::all() {
                println!("{case}");
            }
            Ok(())
        }
        options::Command::Serve(entry, mode, host) => pair::serve(entry, mode, host),
        options::Command::Measure(task) => {
            println!("{}", task.perform()?.json());
            Ok(())
        }
        options::Command::Spin => spinner::spin(),
        options::Command::Plot(file, directory) => plot::write(&file, &directory),
        options::Command::Special(special) => special.run(),
        options::Command::Series(series) => series.run(),
        options::Command::Topics(topics) => topics.run(),
        options::Command::Sit(plan) => {
            let sitting = sitting::hold(&plan)?;
            print!("{}", report::text(&plan, &sitting));
            if let Some(path) = &plan.json {
                std::fs::write(path, report::json(&plan, &sitting)?)?;
            }
            Ok(())
        }
    }
}
