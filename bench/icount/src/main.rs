//! `rsock-icount`: what fixed scenarios cost in instructions and allocations.
//!
//! Time is not repeatable on a shared machine; these counts are. Client and server run on one
//! thread, over memory or sockets whose kernel side is not counted, and no timer fires. The program starts itself under callgrind, which counts
//! from [`measured`] on; calls of the allocator are counted in the same profile.

mod count;
mod fan_out;
mod frames;
mod permitted;
mod record;
mod scenario;
mod topics;

use std::{error::Error as StdError, process::ExitCode};

use record::Record;
use scenario::Scenario;

/// The error that ends the run, said once.
pub(crate) type Error = Box<dyn StdError + Send + Sync>;

/// The result of everything here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

const HELP: &str = "\
rsock-icount COMMAND [SCENARIO..]

  check    count, compare with the record; fails where one has grown by more than 3 %, and where a
           frame of a peer costs more than its bytes justify
  frames   count what each frame costs in each state, and show all of it
  record   count, and write the record anew
  profile  count one scenario, and leave callgrind's file for callgrind_annotate
  run      run one scenario without counting
  list     the scenarios

Counts are callgrind's (Debian: apt-get install valgrind) and of the compiler, the counter and the
processor's features in the record: with others, check shows what differs and fails for allocations
alone.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rsock-icount: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["check", names @ ..] => {
            let counted = Record::counted(&scenario::named(names)?)?;
            let grown = record::compare(&Record::read()?, &counted);
            // What a peer's frames cost is part of the whole.
            let is_dear = names.is_empty() && frames::check(false)?;
            Ok(if grown || is_dear { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        ["frames"] => Ok(if frames::check(true)? { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
        ["record", names @ ..] => {
            let counted = Record::counted(&scenario::named(names)?)?;
            let before = Record::read().unwrap_or_default();
            record::compare(&before, &counted);
            before.renewed(counted).write()?;
            Ok(ExitCode::SUCCESS)
        }
        ["profile", name] => {
            let scenario = Scenario::named(name)?;
            let path = std::env::temp_dir().join(format!("callgrind.{name}"));
            let counts = count::count(scenario, &path)?;
            println!("{}", record::per_unit(scenario, counts));
            println!("{}", path.display());
            Ok(ExitCode::SUCCESS)
        }
        ["run", "frames"] => {
            frames::run()?;
            Ok(ExitCode::SUCCESS)
        }
        ["run", name] => {
            scenario::run(Scenario::named(name)?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["list"] => {
            for scenario in scenario::ALL {
                println!("{:24} {}", scenario.name, scenario.what);
            }
            Ok(ExitCode::SUCCESS)
        }
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(format!("no such command: {}\n\n{HELP}", arguments.join(" ")).into()),
    }
}

/// Collects what is counted: callgrind begins anew here.
#[inline(never)]
pub(crate) fn measured(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    work()
}
