//! The answering side: what the peer asks for is brought to the responder.

use std::sync::Arc;

use rsock_proto::{Interaction, Payload, StreamKey};

use super::{Driver, answer::Unanswered, lease::Leases, now, pushes::Pushes};
use crate::{
    connection::{
        Feeder, Inlet,
        handle::{Asked, Handle},
        inflow::Inflow,
        producers::guard,
    },
    error::Error,
};

/// The service that the peer has of us.
#[derive(Default)]
pub(super) struct Serving {
    pub(super) responder: Option<Arc<dyn Handle>>,
    /// Bytes of answers that were given at once in this turn.
    pub(super) answered_bytes: usize,
    /// Requests that were taken while they were read in this turn.
    pub(super) answered: usize,
    /// Those of them that are not answered yet; empty between reads.
    pub(super) unanswered: Vec<Unanswered>,
    pub(super) lease: Option<Box<Leases>>,
    /// Present from the first on: few peers push.
    pub(super) pushes: Option<Box<Pushes>>,
}

impl Driver {
    /// Gives a request of the peer to its handler, which is polled in this turn.
    pub(super) fn serve(
        &mut self,
        key: StreamKey,
        interaction: Interaction,
        payload: Payload,
        complete: bool,
    ) {
        let Some(responder) = &self.serving.responder else {
            let error = Error::rejected("nothing here answers requests");
            self.fail(key, error);
            return;
        };
        if !interaction.has_initial_n() {
            return self.start(key, interaction, payload);
        }
        let handler = Arc::clone(responder);
        let granted = self.connection.stream(key).map_or(0, |stream| stream.granted());
        let asked = Asked::new(key.id(), granted);
        let route = self.options.opened.as_ref().and_then(|opened| opened.route(&payload));
        // Of a channel, the items that follow may be as large.
        let window = self.options.window.expecting(payload.size());
        // A stream lasts.
        let (payload, charge) = self.wire.input.for_long(payload);
        let mut inlet = None;
        let source = guard(|| {
            if interaction == Interaction::RequestStream {
                handler.request_stream(payload, asked)
            } else {
                let shared = Arc::new(Inlet::default());
                // Its consumer does not exist yet, so it cannot have gone.
                let _ = shared.open(key);
                if complete {
                    shared.end(Ok(()));
                } else {
                    inlet = Some(Feeder::new(Arc::clone(&shared)));
                }
                let rest = Inflow::new(shared, Arc::clone(&self.mailbox), window);
                handler.request_channel(payload, rest, asked)
            }
        });
        match source {
            Ok(source) => {
                let slot = self.slots.fill(key, inlet, None);
                slot.producer = Some(source.into());
                slot.charge = charge;
                self.slots.queue(key.index());
                if let Some(opened) = &mut self.options.opened {
                    opened.add(key, route, now(), &mut self.connection);
                }
            }
            Err(error) => self.fail(key, error),
        }
    }
}
