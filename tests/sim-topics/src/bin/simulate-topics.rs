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

use rsock_sim_topics::{Failure, OPERATIONS, Totals, run_seed};

const HELP: &str = "\
Runs simulated worlds of topics until one breaks, or until Ctrl-C.

  --from SEED        the first seed [0]
  --seeds N          so many of them [no end]
  --seed SEED        this one alone
  --operations N     operations in each, beside those in the middle of others [400]
  --until N          no further world when there were so many operations in all [no end]
  --jobs N           threads [one for each core]";

struct Options {
    from: u64,
    seeds: u64,
    operations: usize,
    until: u64,
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
        Options { from: 0, seeds: u64::MAX, operations: OPERATIONS, until: u64::MAX, jobs };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| format!("{name} needs a value\n\n{HELP}"));
        match name.as_str() {
            "--from" => options.from = number(&name, &value()?)?,
            "--seeds" => options.seeds = number(&name, &value()?)?,
            "--seed" => (options.from, options.seeds) = (number(&name, &value()?)?, 1),
            "--operations" => options.operations = number(&name, &value()?)?,
            "--until" => options.until = number(&name, &value()?)?,
            "--jobs" => options.jobs = number::<usize>(&name, &value()?)?.max(1),
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(options)
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: expected a number, got {value:?}\n\n{HELP}"))
}

#[derive(Default)]
struct Done {
    seeds: u64,
    sum: Totals,
    told: Option<Instant>,
}

fn run(options: &Options) -> Option<Failure> {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let done: Mutex<Done> = Mutex::default();
    let begun = Instant::now();
    let tell = |done: &Done| {
        let rate = done.sum.operations as f64 / begun.elapsed().as_secs_f64().max(0.001);
        println!("{} seeds, {rate:.0} operations a second: {:?}", done.seeds, done.sum);
    };
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let nth = next.fetch_add(1, Relaxed);
                    if nth >= options.seeds {
                        break;
                    }
                    let ran = run_seed(options.from.wrapping_add(nth), options.operations);
                    // Nobody panics who holds them.
                    let (Ok(mut done), Ok(mut failure)) = (done.lock(), failure.lock()) else {
                        break;
                    };
                    match ran {
                        Ok(totals) => {
                            done.seeds += 1;
                            done.sum += totals;
                            if done.sum.operations >= options.until {
                                stop.store(true, Relaxed);
                            }
                        }
                        Err(found) => {
                            stop.store(true, Relaxed);
                            failure.get_or_insert(*found);
                        }
                    }
                    let told = done.told.get_or_insert(begun);
                    if told.elapsed() > Duration::from_secs(10) {
                        *told = Instant::now();
                        tell(&done);
                    }
                }
            });
        }
    });
    if let Ok(done) = done.lock() {
        tell(&done);
    }
    failure.into_inner().ok().flatten()
}
