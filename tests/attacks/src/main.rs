//! `rsock-attacks`: attacks on a server of this build, and what comes of them.

use std::process::ExitCode;

use rsock_attacks::{
    attack,
    cuts::{self, Kind, Plan},
    memory,
};

const HELP: &str = "\
Attacks rsockd, each time one of its own, and says what came of it.

  memory [NAME…]     what each attack makes it hold, and what is left of that
    --percent N        of its full size [100]
  cuts [N] [SEED] [KIND…]
                     sessions through N transports that are disturbed in a dozen ways, or in these
                     [10000 1]
  list               the attacks

With RSOCKD set, the server is that program and not the one of this build.";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["memory", "--percent", percent, ref names @ ..] => {
            measure_memory(names, number(percent)).await
        }
        ["memory", ref names @ ..] => measure_memory(names, 100).await,
        ["cuts"] => cut(10_000, 1, &[]).await,
        ["cuts", cuts] => cut(number(cuts), 1, &[]).await,
        ["cuts", cuts, seed, ref kinds @ ..] => cut(number(cuts), number(seed), kinds).await,
        ["list"] => {
            for attack in attack::ALL {
                println!("{}: {}", attack.name, attack.story);
            }
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
    }
}

/// The attacks of these names; all without any.
fn chosen(names: &[&str]) -> Vec<&'static attack::Attack> {
    attack::ALL.iter().filter(|attack| names.is_empty() || names.contains(&attack.name)).collect()
}

async fn measure_memory(names: &[&str], percent: usize) -> ExitCode {
    println!("{}", memory::HEAD);
    let mut problems = Vec::new();
    for attack in chosen(names) {
        let measured = memory::measure(attack, percent).await;
        println!("{measured}");
        problems.extend(measured.problem().map(|problem| format!("{}: {problem}", attack.name)));
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Clients that are cut at the same time.
const CLIENTS: usize = 24;

async fn cut(cuts: usize, seed: usize, names: &[&str]) -> ExitCode {
    let named = |kind: &Kind| names.is_empty() || names.contains(&format!("{kind:?}").as_str());
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(named).collect();
    let totals = cuts::run(Plan { seed: seed as u64, cuts, clients: CLIENTS, kinds }).await;
    print!("{totals}");
    if totals.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A number on the command line; what is none ends the program.
fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|error| {
        eprintln!("{text}: {error}\n\n{HELP}");
        std::process::exit(2)
    })
}
