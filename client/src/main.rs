//! `rsock`: RSocket from the command line.

mod args;
mod command;
mod compat;
mod connect;
mod credentials;
mod entries;
mod exit;
mod frame_log;
mod input;
mod metadata;
mod render;
mod stdout;
mod terminal;
mod timekeeper;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

use crate::{args::Cli, exit::Failure};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), Failure> {
    let arguments = compat::translate(std::env::args_os().collect())?;
    let cli = Cli::parse_from(arguments);
    // One worker drives the connection, which lives on while the main thread works.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Local(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command::run(cli.command));
    // Whoever still reads a terminal or resolves a name is not waited for.
    runtime.shutdown_background();
    outcome
}
