//! `rsockd`: an RSocket service that needs nothing else to run.

#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
mod allocator;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand};
use rsock::ConnectError;
use rsock_cli::{HELP_WIDTH, STYLES, TIMES};
use rsock_server::{
    ConfigCommand, Flags, Loaded, Log, OpenFiles, Options, Problems, Reloader, Service, StartError,
    UserCommand, notify_ready, notify_stopping, try_it, watchdog,
};

/// An RSocket service, ready to run
#[derive(Debug, Parser)]
#[command(name = "rsockd", version, max_term_width = HELP_WIDTH, styles = STYLES)]
#[command(after_help = format!("{TIMES} {SOURCES}"))]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// The file of settings, in TOML; else the one that RSOCKD_CONFIG names, or /etc/rsockd/rsockd.toml if
    /// it is there. SIGHUP reads it anew
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The end of the help.
const SOURCES: &str = "Each flag is also a key of the file, as max_streams, and a variable, as \
                       RSOCKD_MAX_STREAMS; a flag wins, then the variable. See rsockd config --help.";

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Check, show and document settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Add users to a file, set their passwords, and list them
    #[command(subcommand)]
    User(UserCommand),
}

/// The exit code where settings are wrong: EX_CONFIG.
const WRONG_SETTINGS: u8 = 78;

impl Arguments {
    fn load(&self) -> Result<Loaded, Problems> {
        Loaded::read(&self.flags, self.config.as_deref())
    }
}

fn main() -> ExitCode {
    #[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
    allocator::set_up();
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Config(question)) => return answer(*question, &arguments),
        Some(Command::User(command)) => return change_users(command),
        None => {}
    }
    let loaded = match arguments.load() {
        Ok(loaded) => loaded,
        Err(problems) => return wrong_settings(&problems),
    };
    let log = match loaded.options.log.clone().install(loaded.options.log_format) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            // Without a stderr there is no one to tell.
            let _ = writeln!(io::stderr(), "rsockd: cannot start a thread for the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(&arguments, loaded, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the log shows.
            log.say(format_args!("rsockd: {error}"));
            match error.downcast_ref() {
                // It was asked wrongly, as where clap says so.
                Some(
                    StartError::Listen(ConnectError::Uri { .. })
                    | StartError::Sockets(_)
                    | StartError::DefaultRoute { .. }
                    | StartError::OpenToAll(_),
                ) => ExitCode::from(2),
                Some(StartError::Access(_) | StartError::Settings(_)) => {
                    ExitCode::from(WRONG_SETTINGS)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Answers a question about settings.
fn answer(question: ConfigCommand, arguments: &Arguments) -> ExitCode {
    match question.answer(|| arguments.load()) {
        Ok(text) => {
            // Who has closed stdout does not want it.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problems) => wrong_settings(&problems),
    }
}

/// Changes or lists the users of a file.
fn change_users(command: &UserCommand) -> ExitCode {
    match command.run() {
        Ok(text) => {
            // Who has closed stdout does not want it.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            // Without a stderr there is no one to tell.
            let _ = writeln!(io::stderr(), "rsockd: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_settings(problems: &Problems) -> ExitCode {
    // Without a stderr there is no one to tell.
    let _ = writeln!(io::stderr(), "{problems}");
    ExitCode::from(WRONG_SETTINGS)
}

fn serve(
    arguments: &Arguments,
    loaded: Loaded,
    log: &Arc<Log>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut options = loaded.options.clone();
    let files = options.fit_to_open_files()?;
    let runtime = options.build_runtime()?;
    runtime.block_on(serve_on_it(arguments, loaded, options, files, log))
}

async fn serve_on_it(
    arguments: &Arguments,
    loaded: Loaded,
    options: Options,
    files: OpenFiles,
    log: &Arc<Log>,
) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything is announced: who was told that it listens may also stop it.
    let mut signals = Signals::new()?;
    let hangups = Hangups::new()?;
    let service = Service::bind(options).await?;
    let (flags, config) = (arguments.flags.clone(), arguments.config.clone());
    let (live, log_of_reloads) = (service.live(), Arc::clone(log));
    let drain_asked = live.drain_asked();
    let reloader = Reloader::new(flags, config, loaded, live, log_of_reloads);
    service.administer_with(reloader.clone());
    hangups.reload(reloader);
    #[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
    allocator::follow(service.memory())?;
    let addresses = service.addresses();
    files.log();
    tracing::info!("listening on {}", addresses.join(" and "));
    announce(&addresses, &service.admin_addresses(), service.console())?;
    notify_ready();
    watchdog();
    let log = Arc::clone(log);
    let shutdown = async move {
        let name = tokio::select! {
            (name, _) = signals.next() => name,
            () = drain_asked => "asked by who administers it",
        };
        notify_stopping();
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
fn announce(addresses: &[String], admin: &[String], console: Option<&str>) -> io::Result<()> {
    let mut text: String =
        addresses.iter().map(|address| format!("listening on {address}\n")).collect();
    text.extend(admin.iter().map(|address| format!("health and figures at {address}\n")));
    text.push_str(&try_it(addresses));
    text.extend(console.map(|page| format!("or see it in a browser: {page}\n")));
    thread::Builder::new().name("rsockd-announce".to_owned()).spawn(move || {
        let mut stdout = io::stdout();
        // A service whose stdout is closed serves all the same.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    })?;
    Ok(())
}

/// SIGHUP: settings are read anew. A terminal that is closed does not end the service.
#[cfg(unix)]
struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::hangup())?))
    }

    fn reload(mut self, reloader: Reloader) {
        tokio::spawn(async move {
            while self.0.recv().await.is_some() {
                let reloader = reloader.clone();
                // A panic of it is in the log, and changes nothing; what it has to say is there as well.
                let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
            }
        });
    }
}

#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    fn reload(self, _: Reloader) {}
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
