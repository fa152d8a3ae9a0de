//! The effects of a change of a stream: events, its turn to write, and its end.

use crate::{
    connection::{Connection, Event, Scheduler, Streams, receive::Ignored},
    error::StreamError,
    stream::{Effect, StreamKey, Tell},
};

impl Connection {
    /// Ends a stream that broke its credit, or whose payload cannot be taken.
    pub(super) fn fail_receiving(&mut self, key: StreamKey, error: StreamError) {
        let effect = self.streams.change(key, |stream| stream.fail_receiving(error));
        // There is always something to do.
        let _ = self.follow(key, effect);
    }

    /// Does what follows from a transition of a stream, if there is one of this key.
    #[inline]
    pub(super) fn follow(&mut self, key: StreamKey, effect: Option<Effect>) -> Result<(), Ignored> {
        let (tell, is_over) = match effect {
            None => return Ok(()),
            Some(Effect::Ignored) => return Err(Ignored::OutOfPlace),
            Some(Effect::Credited { awaited }) => {
                if awaited {
                    self.events.push_back(Event::Credited { key });
                }
                return Ok(());
            }
            Some(Effect::Changed(tell)) => (tell, false),
            Some(Effect::Ended(tell)) => (tell, true),
        };
        // Told before the stream leaves the table, which may end the connection.
        match tell {
            None => {}
            Some(Tell::Cancelled) => self.events.push_back(Event::Cancelled { key }),
            Some(Tell::Failed(error)) => self.events.push_back(Event::Failed { key, error }),
        }
        if is_over {
            self.remove(key);
        } else {
            self.settle(key);
        }
        Ok(())
    }

    /// Takes a stream off the table if it is over, else sees that what it has to write gets its turn.
    pub(super) fn settle(&mut self, key: StreamKey) {
        if settle(&mut self.streams, &mut self.scheduler, key) {
            self.close_if_drained();
        }
    }

    pub(super) fn remove(&mut self, key: StreamKey) {
        remove(&mut self.streams, &mut self.scheduler, key);
        self.close_if_drained();
    }
}

/// As [`Connection::settle`], but does not end a drained connection; true if the stream is over.
#[inline]
pub(super) fn settle(streams: &mut Streams, scheduler: &mut Scheduler, key: StreamKey) -> bool {
    let Some(stream) = streams.get(key) else {
        return false;
    };
    if stream.is_over() {
        remove(streams, scheduler, key);
        return true;
    }
    let Some((tenancy, stream)) = streams.count_unsent(key) else {
        return false;
    };
    if stream.has_control() {
        scheduler.add_control(key, &mut tenancy.turn);
    }
    if stream.has_data() {
        scheduler.add_data(key, &mut tenancy.turn);
    }
    false
}

fn remove(streams: &mut Streams, scheduler: &mut Scheduler, key: StreamKey) {
    streams.remove(key);
    scheduler.sweep(streams.len(), |key| streams.get(key).is_some());
}
