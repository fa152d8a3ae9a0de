//! All that who administers the service acts upon: connections, settings, and its end.

use std::sync::OnceLock;

use rsock::Connections;
use tokio::sync::watch;

use crate::{reload::Reloader, settings::Options};

/// All that who administers the service acts upon. Most of it is known once the service is bound.
#[derive(Debug)]
pub(crate) struct Operations {
    bound: OnceLock<Bound>,
    reloader: OnceLock<Reloader>,
    drain_asked: watch::Sender<bool>,
}

#[derive(Debug)]
struct Bound {
    connections: Connections,
    options: Options,
}

impl Default for Operations {
    fn default() -> Self {
        let drain_asked = watch::Sender::new(false);
        Self { bound: OnceLock::new(), reloader: OnceLock::new(), drain_asked }
    }
}

impl Operations {
    /// The service is bound with these settings, and has these connections.
    pub(crate) fn begin(&self, connections: Connections, options: Options) {
        // A service is bound once.
        let _ = self.bound.set(Bound { connections, options });
    }

    /// Settings can be read anew by this.
    pub(crate) fn set_reloader(&self, reloader: Reloader) {
        // The first one has them as they were at the start.
        let _ = self.reloader.set(reloader);
    }

    pub(crate) fn connections(&self) -> Option<&Connections> {
        self.bound.get().map(|bound| &bound.connections)
    }

    /// The settings that the service was bound with.
    pub(crate) fn options(&self) -> Option<&Options> {
        self.bound.get().map(|bound| &bound.options)
    }

    pub(crate) fn reloader(&self) -> Option<&Reloader> {
        self.reloader.get()
    }

    /// Has the service end, gently.
    pub(crate) fn ask_to_drain(&self) {
        self.drain_asked.send_replace(true);
    }

    /// Resolves when somebody has asked for that.
    pub(crate) fn drain_asked(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut asked = self.drain_asked.subscribe();
        async move {
            if asked.wait_for(|asked| *asked).await.is_err() {
                // Nobody is left to ask.
                std::future::pending().await
            }
        }
    }
}
