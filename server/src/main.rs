//! `rsockd`: an RSocket service that needs nothing else to run.

#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
mod allocator;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::Parser;
use rsock::ConnectError;
use rsock_cli::{HELP_WIDTH, STYLES, TIMES};
use rsock_server::{Log, LogFilter, OpenFiles, Options, Service, StartError, try_it};

/// An RSocket service, ready to run
#[derive(Debug, Parser)]
#[command(name = "rsockd", version, max_term_width = HELP_WIDTH, styles = STYLES, after_help = TIMES)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Events to log to stderr: off, error, warn, info, debug or trace, by module as in
    /// info,rsock=debug; trace shows every frame. Lines that stderr does not take in time are left out,
    /// and counted
    #[arg(long, value_name = "FILTER", env = "RSOCKD_LOG", default_value = "info")]
    log: LogFilter,
}

fn main() -> ExitCode {
    #[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
    allocator::set_up();
    let Arguments { options, log } = Arguments::parse();
    let log = match log.install() {
        Ok(log) => Arc::new(log),
        Err(error) => {
            // Without a stderr there is no one to tell.
            let _ = writeln!(io::stderr(), "rsockd: cannot start a thread for the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(options, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the log shows.
            log.say(format_args!("rsockd: {error}"));
            match error.downcast_ref() {
                // It was asked wrongly, as where clap says so.
                Some(
                    StartError::Listen(ConnectError::Uri { .. }) | StartError::DefaultRoute { .. },
                ) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn serve(mut options: Options, log: &Arc<Log>) -> Result<(), Box<dyn std::error::Error>> {
    let files = options.fit_to_open_files()?;
    options.build_runtime()?.block_on(serve_on_it(options, files, log))
}

async fn serve_on_it(
    options: Options,
    files: OpenFiles,
    log: &Arc<Log>,
) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything is announced: who was told that it listens may also stop it.
    let mut signals = Signals::new()?;
    ignore_hangups()?;
    let service = Service::bind(options).await?;
    #[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
    allocator::follow(service.memory())?;
    let addresses = service.addresses();
    files.log();
    tracing::info!("listening on {}", addresses.join(" and "));
    announce(&addresses)?;
    let log = Arc::clone(log);
    let shutdown = async move {
        let (name, _) = signals.next().await;
        tracing::info!("{name}: stopping, open streams may end; once more to stop at once");
        tokio::spawn(async move {
            let (name, number) = signals.next().await;
            tracing::warn!("{name} again: stopped at once");
            // It is in a hurry: what stderr takes at once is written.
            log.flush(Duration::from_millis(50));
            // As a shell reports a process that the signal ended.
            std::process::exit(128 + number);
        });
    };
    service.run(shutdown).await;
    tracing::info!("stopped");
    Ok(())
}

/// Says where it listens. On a thread: a stdout that nobody reads holds up nothing else.
fn announce(addresses: &[String]) -> io::Result<()> {
    let mut text: String =
        addresses.iter().map(|address| format!("listening on {address}\n")).collect();
    text.push_str(&try_it(addresses));
    thread::Builder::new().name("rsockd-announce".to_owned()).spawn(move || {
        let mut stdout = io::stdout();
        // A service whose stdout is closed serves all the same.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    })?;
    Ok(())
}

/// A terminal that is closed, or whoever wants settings read anew, does not end the service.
#[cfg(unix)]
fn ignore_hangups() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP: there is nothing to reload; SIGTERM stops the service");
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn ignore_hangups() -> io::Result<()> {
    Ok(())
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
