//! The task that wakes a topic's readers, a handful at a time.

use std::sync::Arc;

use rsock::WakeGroup;
use tokio::runtime::Handle;

use super::presence::Shared;
use crate::topic::{Pumped, Topic, Wake};

/// The readers of one connection on one topic, as their connection wakes them.
#[derive(Debug)]
pub(super) struct Group(pub(super) Arc<WakeGroup>);

impl Wake for Group {
    fn wake(&self) -> bool {
        self.0.wake()
    }
}

/// Wakes all that wait for news of a topic: a handful at once, the others behind whoever else is ready, so
/// that an acknowledgement does not wait for a thousand writes.
pub(super) fn pump(topic: &Arc<Topic>) {
    if topic.pump() == Pumped::All {
        return;
    }
    let topic = Arc::clone(topic);
    go_on(move || topic.pump());
}

/// The same for the watchers of a topic's presence.
pub(super) fn pump_presence(shared: &Arc<Shared>) {
    if shared.hubs.pump() == Pumped::All {
        return;
    }
    let shared = Arc::clone(shared);
    go_on(move || shared.hubs.pump());
}

/// Wakes a handful after the other, behind whoever else is ready.
fn go_on(pump: impl Fn() -> Pumped + Send + 'static) {
    let Ok(runtime) = Handle::try_current() else {
        // It was dropped behind the end of its runtime, where nobody else is.
        while pump() == Pumped::More {}
        return;
    };
    runtime.spawn(async move {
        loop {
            tokio::task::yield_now().await;
            if pump() == Pumped::All {
                return;
            }
        }
    });
}
