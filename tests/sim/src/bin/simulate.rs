//! Runs seeds until one fails, or it is told to stop.

use std::{
    num::NonZero,
    process::ExitCode,
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rsock_sim::{Failure, OPERATIONS, Run, run_seed};

const HELP: &str = "\
Runs simulated worlds until one breaks, or until Ctrl-C.

  --from SEED        the first seed [0]
  --seeds N          so many of them [no end]
  --seed SEED        this one alone
  --input FILE       what the fuzzer's target `world` makes of this file, alone
  --operations N     operations in each [200]
  --jobs N           threads [one for each core]";

struct Options {
    input: Option<String>,
    from: u64,
    seeds: u64,
    operations: usize,
    jobs: usize,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    // A panic is told with its seed; while a run is shrunk there are many of them.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(path) = &options.input {
        return replay(path);
    }
    match run(&options) {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let jobs = thread::available_parallelism().map_or(1, NonZero::get);
    let mut options =
        Options { input: None, from: 0, seeds: u64::MAX, operations: OPERATIONS, jobs };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| format!("{name} needs a value\n\n{HELP}"));
        match name.as_str() {
            "--from" => options.from = number(&name, &value()?)?,
            "--seeds" => options.seeds = number(&name, &value()?)?,
            "--seed" => (options.from, options.seeds) = (number(&name, &value()?)?, 1),
            "--input" => options.input = Some(value()?),
            "--operations" => options.operations = number(&name, &value()?)?,
            "--jobs" => options.jobs = number::<usize>(&name, &value()?)?.max(1),
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(options)
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: expected a number, got {value:?}\n\n{HELP}"))
}

/// Runs a fuzzer's input and shows what happened.
fn replay(path: &str) -> ExitCode {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let run = Run::from_bytes(&bytes);
    match run.try_go() {
        Ok(totals) => {
            println!("{run}{totals:?}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{}{broken}", run.shrink(&broken));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Option<Failure> {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let (operations, items) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let begun = Instant::now();
    let told = Mutex::new(begun);
    let tell = || {
        let seconds = begun.elapsed().as_secs_f64().max(0.001);
        let [seeds, operations, items] = [&done, &operations, &items].map(|sum| sum.load(Relaxed));
        println!(
            "{seeds} seeds, {items} items delivered; {:.0} seeds and {:.0} operations a second",
            seeds as f64 / seconds,
            operations as f64 / seconds,
        );
    };
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let nth = next.fetch_add(1, Relaxed);
                    if nth >= options.seeds {
                        break;
                    }
                    match run_seed(options.from.wrapping_add(nth), options.operations) {
                        Ok(totals) => {
                            done.fetch_add(1, Relaxed);
                            operations.fetch_add(totals.operations, Relaxed);
                            items.fetch_add(totals.items, Relaxed);
                        }
                        Err(found) => {
                            stop.store(true, Relaxed);
                            if let Ok(mut failure) = failure.lock() {
                                failure.get_or_insert(*found);
                            }
                        }
                    }
                    if let Ok(mut told) = told.try_lock()
                        && told.elapsed() > Duration::from_secs(10)
                    {
                        *told = Instant::now();
                        tell();
                    }
                }
            });
        }
    });
    tell();
    failure.into_inner().ok().flatten()
}
