//! `rsock-attacks`: attacks on a server of this build, and what comes of them.

use std::{fmt::Display, net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use rsock_attacks::{
    attack, budget, crashes,
    cuts::{self, Kind, Plan},
    memory, polite,
    target::Target,
};

const HELP: &str = "\
Attacks rsockd, each time one of its own, and says what came of it.

  memory [NAME…]     what each attack makes it hold, and what is left of that
    --percent N        of its full size [100]
  polite [NAME…]     what a client that asks each 5 ms sees beside each attack, with the server on one
                     processor and all others on another; and how long SIGTERM takes
  cuts [N] [SEED] [KIND…]
                     sessions through N transports that are disturbed in a dozen ways, or in these
                     [10000 1]
  crashes [N] [SEED] durable topics of a service that is killed N times while it is published to [100 1]
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
        ["crashes"] => crash(100, 1).await,
        ["crashes", rounds] => crash(number(rounds), 1).await,
        ["crashes", rounds, seed] => crash(number(rounds), number(seed)).await,
        ["polite", ref names @ ..] => look_politely(names).await,
        // What `polite` starts as processes of their own.
        ["ask", address, millis] => ask(parsed(address), number(millis)),
        ["attack", name, tcp, ws] => {
            let Some(attack) = attack::find(name) else { return ExitCode::from(2) };
            polite::attack_on(attack, &Target::at(parsed(tcp), parsed(ws), 100)).await;
            ExitCode::SUCCESS
        }
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
        budget::clean_up();
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

async fn crash(rounds: usize, seed: usize) -> ExitCode {
    let totals = crashes::run(rounds, seed as u64).await;
    print!("{totals}");
    if totals.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn look_politely(names: &[&str]) -> ExitCode {
    println!("{}", polite::HEAD);
    let mut failed = false;
    for attack in chosen(names) {
        let seen = polite::look(attack).await;
        println!("{seen}");
        failed |= seen.problem().is_some();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn ask(address: SocketAddr, millis: usize) -> ExitCode {
    match polite::ask(address, Duration::from_millis(millis as u64)) {
        Ok(times) => {
            println!("{times}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> usize {
    parsed(text)
}

/// A word of the command line; one that is not what it should be ends the program.
fn parsed<T: FromStr<Err: Display>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| {
        eprintln!("{text}: {error}\n\n{HELP}");
        std::process::exit(2)
    })
}
