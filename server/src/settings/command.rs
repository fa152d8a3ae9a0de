//! `rsockd config …`: settings without a service.

use clap::Subcommand;

use super::{Loaded, Options, Problems, describe};
use crate::{access, service, tls, topics};

/// A question about settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Read all settings as a start would, and say what is wrong with them
    Check,
    /// Print a file to begin with: all settings, as comments
    Default,
    /// Print the page of documentation
    Doc,
    /// Print a JSON schema of the file, for editors
    Schema,
    /// Print the settings as they are, with where each comes from
    Show,
}

impl ConfigCommand {
    /// The answer, as text to print.
    ///
    /// # Errors
    /// What is wrong with the settings, where they are asked for.
    pub fn answer(
        self,
        load: impl FnOnce() -> Result<Loaded, Problems>,
    ) -> Result<String, Problems> {
        match self {
            Self::Check => {
                let loaded = load()?;
                check_files(&loaded.options)?;
                Ok(match loaded.file() {
                    Some(file) => format!("{}: nothing is wrong with it\n", file.display()),
                    None => "no file; nothing is wrong with the rest\n".to_owned(),
                })
            }
            Self::Default => Ok(describe::default_file()),
            Self::Doc => Ok(describe::page()),
            Self::Schema => Ok(describe::schema()),
            Self::Show => load().map(|loaded| describe::effective(&loaded)),
        }
    }
}

/// Reads all that the settings name, as a start would.
fn check_files(options: &Options) -> Result<(), Problems> {
    let access = options.access.as_ref();
    let all = [
        topics::check(options).map(drop),
        access.map_or(Ok(()), access::check),
        tls::check(options),
        service::check(options),
    ];
    let problems: Vec<_> = all.into_iter().filter_map(Result::err).collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}
