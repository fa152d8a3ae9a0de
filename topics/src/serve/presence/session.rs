//! The session of a join: it is present for as long as it is held, and ends as its connection does.

use std::{sync::Arc, time::Duration};

use rsock::{CloseReason, ConnectionState, ErrorCode, Request, Requester, Side};
use serde_json::value::RawValue;
use tokio::task::AbortHandle;

use super::all::Place;
use crate::{
    name::TopicName,
    options::is_member_name,
    presence::{Begun, PresenceSettings, SessionEnd, SessionId},
    refusal::Refusal,
    serve::Service,
};

/// The least time of silence after which a connection that has joined counts as lost.
const LEAST_LIFETIME: Duration = Duration::from_secs(30);
/// The status code of a WebSocket that is closed because it has served its purpose (RFC 6455, section 7.4.1):
/// a page that is left or loaded again says another.
const NORMAL_CLOSURE: u16 = 1_000;
/// The KEEPALIVEs of which one must come within that time.
const KEEPALIVES: u32 = 3;

/// A member's session in the presence of a topic, for as long as this is held. It ends as its connection
/// does: at once if that is closed in order, and after a grace if it is lost.
#[derive(Debug)]
pub struct PresenceSession {
    place: Place,
    id: SessionId,
    begun: Begun,
    requester: Requester,
    /// The task that hears of the loss of its connection, where the connection may come back.
    watch: Option<AbortHandle>,
}

impl Service {
    /// Has somebody appear in the presence of a topic, on the connection that a request came by: for as long
    /// as the session is held, and without having joined the topic. Whoever is shown as present is alive, so
    /// the connection counts as lost sooner from then on.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what is not a name, [`Refusal::Rejected`] where there are as many topics as
    /// allowed, or none of this name.
    pub fn appear(
        &self,
        request: &Request,
        topic: &TopicName,
        name: &str,
        info: Option<&RawValue>,
    ) -> Result<PresenceSession, Refusal> {
        if !is_member_name(name) {
            return Err(Refusal::invalid(format_args!(
                "name: {name:?} is not a valid name: 1 to 64 bytes, without control and format characters"
            )));
        }
        let place = self.0.presence.open(topic, PresenceSettings::of(self.settings_of(topic)?))?;
        let peer = request.peer();
        let requester = peer.requester().clone();
        let interval = Duration::from_millis(peer.setup().keepalive_interval_ms.into());
        requester.shorten_lifetime(LEAST_LIFETIME.max(KEEPALIVES * interval));
        let id = place.all.new_session();
        let begun = match place.all.is_full() {
            true => Begun::Full,
            false => place.change(|presence, now| presence.begin(id, name, info, now)),
        };
        let mut session = PresenceSession { place, id, begun, requester, watch: None };
        if begun == Begun::Full {
            session.place.all.count_unseen();
        } else if peer.setup().resume_token.is_some() {
            session.watch = Some(session.watch_connection());
        }
        Ok(session)
    }
}

impl PresenceSession {
    /// Whether it appears nowhere, because there are as many members as there may be.
    pub fn is_full(&self) -> bool {
        self.begun == Begun::Full
    }

    /// Sets what it says of its member.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] where there is no memory for it; it says what it said before.
    pub fn update(&self, info: Option<&RawValue>) -> Result<(), Refusal> {
        let all = &self.place.all;
        if info.is_some() && all.is_full() {
            return Err(Refusal::no_memory_for_presence(all.max_bytes()));
        }
        self.place.change(|presence, now| presence.update(self.id, info, now));
        Ok(())
    }

    /// Says who is away, and back.
    fn watch_connection(&self) -> AbortHandle {
        let (all, shared, id) =
            (Arc::clone(&self.place.all), Arc::clone(&self.place.shared), self.id);
        let requester = self.requester.clone();
        let task = tokio::spawn(async move {
            let mut state = ConnectionState::Established;
            loop {
                state = requester.state_after(&state).await;
                // What comes too late, when the session is over, changes nothing.
                match state {
                    ConnectionState::Suspended => all.change(&shared, |presence, now| {
                        presence.end(id, SessionEnd::Suspended, now);
                    }),
                    ConnectionState::Established => {
                        all.change(&shared, |presence, now| presence.resume(id, now));
                    }
                    ConnectionState::Closed(_) => return,
                    _ => {}
                }
            }
        });
        task.abort_handle()
    }
}

/// The way in which a session ends whose connection is like this.
fn end_by(state: &ConnectionState) -> SessionEnd {
    match state {
        ConnectionState::Closed(reason) => match reason {
            CloseReason::Finished(Side::Peer)
            | CloseReason::WebSocketClosed { code: NORMAL_CLOSURE, .. }
            | CloseReason::Error { by: Side::Peer, code: ErrorCode::CONNECTION_CLOSE, .. } => {
                SessionEnd::Orderly
            }
            // Whom we have turned away is about to come back, as whoever was lost.
            _ => SessionEnd::Lost,
        },
        // The join is over, and not its connection.
        _ => SessionEnd::Orderly,
    }
}

impl Drop for PresenceSession {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        let how = end_by(&self.requester.state());
        self.place.change(|presence, now| presence.end(self.id, how, now));
    }
}
