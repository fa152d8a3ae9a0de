//! `rsockd`: an RSocket service that needs nothing else to run.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use rsock_server::{LogFilter, Options, Service, try_it};

/// An RSocket service, ready to run
#[derive(Debug, Parser)]
#[command(name = "rsockd", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// What to log to stderr: off, error, warn, info, debug or trace, by module as in
    /// info,rsock=debug; trace shows every frame
    #[arg(long, value_name = "FILTER", env = "RSOCKD_LOG", default_value = "info")]
    log: LogFilter,
}

fn main() -> ExitCode {
    let Arguments { options, log } = Arguments::parse();
    log.install();
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the log shows; without a stderr there is no one to tell.
            let _ = writeln!(io::stderr(), "rsockd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    options.build_runtime()?.block_on(serve_on_it(options))
}

async fn serve_on_it(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything is announced: who was told that it listens may also stop it.
    let mut signals = Signals::new()?;
    let service = Service::bind(options).await?;
    announce(&service.addresses());
    let shutdown = async move {
        let (name, _) = signals.next().await;
        tracing::info!("{name}: stopping, open streams may end; once more to stop at once");
        tokio::spawn(async move {
            let (name, number) = signals.next().await;
            tracing::warn!("{name} again: stopped at once");
            // As a shell reports a process that the signal ended.
            std::process::exit(128 + number);
        });
    };
    service.run(shutdown).await;
    tracing::info!("stopped");
    Ok(())
}

fn announce(addresses: &[String]) {
    let mut text: String =
        addresses.iter().map(|address| format!("listening on {address}\n")).collect();
    text.push_str(&try_it(addresses));
    // A service whose stdout is closed serves all the same.
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The signals that stop a service, by name and number.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", 2),
            _ = self.terminate.recv() => ("SIGTERM", 15),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> (&'static str, i32) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nothing can be heard, so nothing stops it but its end.
            std::future::pending::<()>().await;
        }
        ("Ctrl-C", 2)
    }
}
