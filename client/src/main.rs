//! `rsock`: RSocket from the command line.

mod args;
mod calendar;
mod command;
mod compat;
mod connect;
mod credentials;
mod entries;
mod exit;
mod frame_log;
mod hex_dump;
mod input;
mod json;
mod metadata;
mod progress;
mod render;
mod stdout;
mod terminal;
mod timekeeper;
mod tls;
mod topic_args;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;
use tokio::runtime::Builder;

use crate::{args::Cli, exit::Failure};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let form = exit::Form::asked_for(&arguments);
    match run(arguments, form) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(form),
    }
}

fn run(arguments: Vec<OsString>, form: exit::Form) -> Result<(), Failure> {
    let arguments = compat::translate(arguments)?;
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // In clap's own words and colours, unless a program is to read it.
        Err(error) if form == exit::Form::Json && error.use_stderr() => {
            return Err(Failure::of_clap(&error));
        }
        Err(error) => error.exit(),
    };
    // One worker drives the connection, which lives on while the main thread works.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Local(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command::run(cli.command));
    render::end_progress();
    // Whoever still reads a terminal or resolves a name is not waited for.
    runtime.shutdown_background();
    outcome
}
