//! The task that wakes a topic's readers, a handful at a time.

use std::sync::Arc;

use rsock::WakeGroup;

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
    tokio::spawn(async move {
        loop {
            tokio::task::yield_now().await;
            if topic.pump() == Pumped::All {
                return;
            }
        }
    });
}
