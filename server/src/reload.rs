//! Settings that are read anew while the service runs: with SIGHUP, and when who administers it asks.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    logging::Log,
    notify::{notify_ready, notify_reloading},
    service::Live,
    settings::{Changes, Flags, Loaded, Problems},
};

/// The settings of a service that runs, and what is needed to read them anew. Cheap to clone.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    flags: Flags,
    config: Option<PathBuf>,
    live: Live,
    log: Arc<Log>,
    /// Those that the service was started with.
    started: Arc<Loaded>,
    /// Those that were read last.
    newest: Mutex<Arc<Loaded>>,
    /// Held while they are read, so that those that were read last are those that hold.
    reloading: Mutex<()>,
}

/// The settings of a service, with where they come from.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// Those that the service was started with.
    pub(crate) started: Arc<Loaded>,
    /// Those that were read last, of which act those that take no restart.
    pub(crate) newest: Arc<Loaded>,
    /// Those that the sources have now, if they can be read.
    pub(crate) fresh: Option<Loaded>,
}

impl Reloader {
    /// One for a service that was started with these settings.
    pub fn new(
        flags: Flags,
        config: Option<PathBuf>,
        loaded: Loaded,
        live: Live,
        log: Arc<Log>,
    ) -> Self {
        let started = Arc::new(loaded);
        let (newest, reloading) = (Mutex::new(Arc::clone(&started)), Mutex::default());
        Self(Arc::new(Inner { flags, config, live, log, started, newest, reloading }))
    }

    /// Reads all settings again, and has those act that were changed. It reads files.
    ///
    /// # Errors
    /// Why nothing is changed, as one or several lines.
    pub fn reload(&self) -> Result<Changes, String> {
        let inner = &self.0;
        let _reloading = inner.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        notify_reloading();
        let reloaded = self.try_reload();
        notify_ready();
        let Changes { live, new_connections, restart } = match &reloaded {
            Ok(changes) => changes,
            Err(problem) => {
                tracing::error!("reload: nothing was changed: {problem}");
                return reloaded;
            }
        };
        if live.is_empty() && new_connections.is_empty() && restart.is_empty() {
            tracing::info!("reload: the settings are as they were");
        }
        if !live.is_empty() {
            tracing::info!("reload: changed: {}", live.join(", "));
        }
        if !new_connections.is_empty() {
            tracing::info!("reload: changed for new connections: {}", new_connections.join(", "));
        }
        if !restart.is_empty() {
            tracing::warn!("reload: {} changed: that takes a restart", restart.join(", "));
        }
        reloaded
    }

    fn try_reload(&self) -> Result<Changes, String> {
        let inner = &self.0;
        let loaded = self.read().map_err(|problems| {
            inner.live.refuse();
            problems.to_string()
        })?;
        let changes = loaded.changes_since(&self.newest());
        inner.live.apply(&loaded.options)?;
        inner.log.set_filter(loaded.options.log.clone());
        *inner.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(changes)
    }

    fn read(&self) -> Result<Loaded, Problems> {
        Loaded::read(&self.0.flags, self.0.config.as_deref())
    }

    fn newest(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings, and all that is wrong with them as their sources have them now, a line each. It reads files.
    pub(crate) fn look(&self) -> (InForce, Vec<String>) {
        let (fresh, problems) = match self.read() {
            Ok(fresh) => (Some(fresh), Vec::new()),
            Err(problems) => (None, problems.into_lines()),
        };
        (InForce { started: Arc::clone(&self.0.started), newest: self.newest(), fresh }, problems)
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("config", &self.0.config).finish_non_exhaustive()
    }
}
