//! A position that is kept in a file, for the next run.

use std::{fs, io::ErrorKind, path::PathBuf};

use rsock::topic::{Position, Start};

use super::shown::Shown;
use crate::exit::Failure;

/// The file, if one is to be kept.
pub(super) struct Kept {
    path: Option<PathBuf>,
    last: Option<Position>,
}

impl Kept {
    /// The place to begin at: that of the file, where it has one.
    pub(super) fn read(path: Option<PathBuf>, start: Start) -> Result<(Self, Start), Failure> {
        let last = match path.as_ref().map(fs::read_to_string) {
            None => None,
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => None,
            Some(text) => {
                let position = text.map_err(|error| error.to_string()).and_then(|text| {
                    text.trim().parse::<Position>().map_err(|error| error.to_string())
                });
                Some(position.map_err(|error| Failure::Usage(format!("--position: {error}")))?)
            }
        };
        Ok((Self { path, last }, last.map_or(start, Start::After)))
    }

    pub(super) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Keeps this, once all that is before it has been written.
    pub(super) async fn write(
        &mut self,
        position: Option<Position>,
        shown: &mut Shown,
    ) -> Result<(), Failure> {
        let (Some(path), Some(position)) = (&self.path, position) else { return Ok(()) };
        if self.last == Some(position) {
            return Ok(());
        }
        shown.flush().await?;
        // Whole, or as it was before.
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        fs::write(&beside, format!("{position}\n"))
            .and_then(|()| fs::rename(&beside, path))
            .map_err(|error| Failure::Local(format!("cannot write {}: {error}", path.display())))?;
        self.last = Some(position);
        Ok(())
    }
}
