//! Bounds that change while a server serves.

use std::sync::{Arc, PoisonError};

use rsock_proto::Config;

use crate::sync::Mutex;

/// The bounds of a server's connections, which may be changed while it serves: each connection keeps those
/// that held when it came.
///
/// ```
/// use rsock::{LiveConfig, Server, proto::Config};
///
/// let config = LiveConfig::new(Config::default());
/// let builder = Server::builder().live_config(config.clone());
/// // Later, for connections to come:
/// let mut fewer = Config::default();
/// fewer.max_streams = 16;
/// config.set(fewer);
/// # let _ = builder;
/// ```
#[derive(Clone, Debug)]
pub struct LiveConfig(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    config: Arc<Config>,
    /// The server's own part, which stays as it was built.
    own: fn(&mut Config, &Config),
    built: Arc<Config>,
}

impl LiveConfig {
    /// These bounds, until others are set.
    pub fn new(config: Config) -> Self {
        let config = Arc::new(config);
        let built = Arc::clone(&config);
        Self(Arc::new(Mutex::new(State { config, own: |_, _| (), built })))
    }

    /// Sets the bounds of connections that come from now on. Whether there are leases and sessions to resume,
    /// and the bounds of those, stays as the server was built.
    pub fn set(&self, mut config: Config) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.own)(&mut config, &state.built);
        state.config = Arc::new(config);
    }

    /// Those of a connection that comes now.
    pub(crate) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// A server is built with these.
    pub(crate) fn built(&self, built: &Arc<Config>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.config = Arc::clone(built);
        state.built = Arc::clone(built);
        state.own = |config, built| {
            (config.leases, config.resume) = (built.leases, built.resume);
        };
    }
}
