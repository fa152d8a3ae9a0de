//! The server under attack: a process of its own.

use std::{ffi::OsString, process::Command as Build};

use rsock_tests::process::{Process, rsockd};
use tokio::process::Command;

/// Starts `rsockd`, or the program that `RSOCKD` names, behind these words and with these flags.
///
/// What there is of this build is brought up to date first.
pub async fn start(before: &[&str], flags: &[String]) -> Process {
    Process::start_for_long(command(before, flags), 2).await
}

/// The command that starts it.
pub fn command(before: &[&str], flags: &[String]) -> Command {
    let program = match std::env::var_os("RSOCKD") {
        Some(path) => path,
        None => built(),
    };
    let mut words = before.iter().map(OsString::from).chain([program]);
    let mut command = Command::new(words.next().expect("at least the program"));
    command.args(words).args(flags);
    for uri in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"] {
        command.args(["--listen", uri]);
    }
    command
}

/// The path of `rsockd`, built anew if its sources have changed.
fn built() -> OsString {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let mut build = Build::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--package", "rsock-server", "--bin", "rsockd"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "rsockd does not build");
    });
    rsockd().into()
}
