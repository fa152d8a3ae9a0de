//! Requests that are answered as they come, and answers that are taken as they come: neither have an
//! event, and such requests of the peer no place in the table.

use crate::{
    connection::{
        Connection,
        direct::{Direct, write_at_once},
    },
    frame::{Interaction, PayloadSignal, Request, encode_payload, payload_frame_len},
    payload::Payload,
    stream::{StreamKey, Written},
    transmit::SendBuf,
};

/// A service that may answer request-responses as they come, and take the answers to ours. It saves their
/// way through the table of streams and the events: an eighth of what a request takes in all.
pub trait AnswerNow {
    /// Whether it takes a request now; otherwise [`Event::Request`](crate::Event::Request) tells of it.
    fn is_willing(&self) -> bool;

    /// Takes a request, and answers it if it can. If not, it has a stream of this key from here on, to be
    /// answered as others are, and [`follows`](Self::follows) is called next.
    fn answer(&mut self, key: StreamKey, payload: Payload) -> Option<Payload>;

    /// The request taken last has its stream: it was not answered, or by `reply`, which fits no frame.
    fn follows(&mut self, key: StreamKey, reply: Option<Payload>);

    /// Whether it takes answers now; otherwise, and by default,
    /// [`Event::Payload`](crate::Event::Payload) tells of them.
    fn takes_replies(&self) -> bool {
        false
    }

    /// Takes the answer to a request of ours, whose stream is over with it.
    fn reply(&mut self, key: StreamKey, payload: Payload) {
        let _ = (key, payload);
    }
}

/// Takes none.
pub(super) struct Nobody;

impl AnswerNow for Nobody {
    fn is_willing(&self) -> bool {
        false
    }

    fn answer(&mut self, _: StreamKey, _: Payload) -> Option<Payload> {
        None
    }

    fn follows(&mut self, _: StreamKey, _: Option<Payload>) {}
}

/// A service, and the buffer that its answers are written to.
pub(super) struct Answering<'a, S> {
    pub(super) service: &'a mut S,
    pub(super) out: &'a mut SendBuf,
}

impl<S: AnswerNow> Answering<'_, S> {
    /// Whether it takes this request: what happened before it has been told, and what is to leave
    /// before its answer has left.
    #[inline]
    pub(super) fn takes(&self, interaction: Interaction, connection: &Connection) -> bool {
        interaction == Interaction::RequestResponse
            && !connection.has_events()
            && self.service.is_willing()
            && connection.is_clear(self.out)
    }

    /// Whether it takes the answer to a request of ours: what happened before it has been told.
    #[inline]
    pub(super) fn takes_reply(&self, has_events: bool) -> bool {
        !has_events && self.service.takes_replies()
    }
}

impl Connection {
    /// Has a request answered that may be taken.
    #[inline]
    pub(super) fn answer_now<S: AnswerNow>(
        &mut self,
        mut request: Request,
        answering: &mut Answering<'_, S>,
    ) {
        let Answering { service, out } = answering;
        self.stats.requests_in += 1;
        let bytes = request.payload.size();
        let payload = std::mem::take(&mut request.payload);
        let key = self.streams.next_key(request.stream);
        let reply = match service.answer(key, payload) {
            Some(reply) if payload_frame_len(&reply) <= self.config.outbound_frame_bytes() => {
                let mut out = Direct { session: self.session.as_deref_mut(), out };
                write_at_once(&mut out, &mut self.stats, |out| {
                    let signal = PayloadSignal::NextComplete;
                    encode_payload(request.stream, signal, false, reply, out);
                    Written::Item
                });
                return;
            }
            reply => reply,
        };
        let inserted = self.streams.respond(&request, true);
        debug_assert_eq!(inserted, key);
        self.streams.hold_request(key, bytes);
        service.follows(key, reply);
    }
}
