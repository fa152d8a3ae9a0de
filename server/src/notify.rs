//! News for systemd, where that has started the service: a unit of `Type=notify`, or of `notify-reload` from systemd 253 on, waits for them.

/// Tells that it listens, or that settings were read anew.
pub fn notify_ready() {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells that settings are read anew: it is [ready](notify_ready) behind that.
pub fn notify_reloading() {
    #[cfg(target_os = "linux")]
    match sd_notify::NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[sd_notify::NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("systemd cannot be told: {error}"),
    }
}

/// Tells that it stops.
pub fn notify_stopping() {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Stopping]);
}

/// Tells that it is alive, twice as often as systemd wants to hear of it (`WatchdogSec=` of the unit): from a task
/// of the runtime that serves, so that one which hangs is silent, and is started again.
pub fn watchdog() {
    #[cfg(target_os = "linux")]
    if let Some(interval) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval / 2).await;
                notify(&[sd_notify::NotifyState::Watchdog]);
            }
        });
    }
}

#[cfg(target_os = "linux")]
fn notify(news: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and that is no error.
    if let Err(error) = sd_notify::notify(news) {
        tracing::warn!("systemd cannot be told: {error}");
    }
}
