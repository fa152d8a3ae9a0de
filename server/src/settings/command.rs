//! `rsockd config …`: settings without a service.

use clap::Subcommand;

use super::{Loaded, Problems, describe};
use crate::topics;

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
                topics::check(&loaded.options).map_err(|problem| Problems(vec![problem]))?;
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
