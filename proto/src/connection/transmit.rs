//! The frames that leave a connection, and their order.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    connection::{
        Connection, Event, FirstFragments, Refusal, Session, State, Streams, Tenancy,
        effect::settle,
    },
    frame::{KeepAlive, Sink, encode_error, encode_metadata_push},
    stats::Stats,
    stream::Written,
    transmit::{Scheduler, SendBuf},
};

impl Connection {
    /// Encodes what is to be sent until `out` is full. The connection comes first, then REQUEST_N
    /// and CANCEL, then streams in turn (FRAME-22).
    pub fn poll_transmit(&mut self, out: &mut SendBuf) {
        let before = out.len();
        match self.state {
            State::Closed => return,
            State::Closing { code, ref message } => {
                // Nothing goes before SETUP, and a SETUP that is not written is not sent (SETUP-01).
                let unheard_of = self.setup.take().is_some() || self.has_unsent_resume();
                if !unheard_of {
                    encode_error(None, code, message, out);
                    self.stats.frames_out += 1;
                }
                self.state = State::Closed;
            }
            _ => {
                self.transmit_greeting(out);
                if self.has_transport() {
                    self.transmit_control(out);
                    self.transmit_replay(out);
                }
                self.transmit_refusals(out);
                self.transmit_streams(out);
                self.transmit_ask(out);
                self.close_if_drained();
            }
        }
        self.stats.bytes_out += (out.len() - before) as u64;
    }

    /// Whether something is to leave whatever streams do: no peer waits for it in vain.
    pub(super) fn wants_control_output(&self) -> bool {
        (self.has_transport() && self.wants_untracked_output()) || self.session_wants_output()
    }

    /// Whether something waits that belongs to no stream, and is not the session's own.
    #[inline]
    pub(super) fn wants_untracked_output(&self) -> bool {
        self.setup.is_some()
            || !self.echoes.is_empty()
            || !self.pushes.is_empty()
            || !self.pings.is_empty()
            || self.keepalive.as_ref().is_some_and(|clock| clock.due)
            || self.leases.as_ref().is_some_and(|leases| leases.has_unsent())
    }

    /// Whether something waits for which the retained frames must have room.
    pub(super) fn wants_tracked_output(&self) -> bool {
        let is_held = self.session.as_ref().is_some_and(|session| session.is_held());
        (!is_held || self.is_deaf()) && (!self.scheduler.is_empty() || !self.refusals.is_empty())
    }

    /// So many refusals wait that nothing is read: what would make room for them could not come.
    fn is_deaf(&self) -> bool {
        self.refusals.len() >= self.config.max_queued_replies
            && self.session.as_ref().is_some_and(|session| session.may_overflow())
    }

    fn transmit_control(&mut self, out: &mut SendBuf) {
        if let Some(setup) = self.setup.take() {
            setup.encode(out);
            self.stats.frames_out += 1;
        }
        if let Some(lease) = self.leases.as_mut().and_then(|leases| leases.take_unsent()) {
            lease.encode(out);
            self.stats.frames_out += 1;
        }
        let position = self.received_position();
        if let Some(clock) = &mut self.keepalive
            && clock.due
            && !out.is_full()
        {
            clock.due = false;
            KeepAlive { respond: true, position, data: Bytes::new() }.encode(out);
            self.stats.frames_out += 1;
            self.note_question();
        }
        while !out.is_full()
            && let Some(data) = self.pings.pop_front()
        {
            KeepAlive { respond: true, position, data }.encode(out);
            self.stats.frames_out += 1;
            self.note_question();
        }
        while !out.is_full()
            && let Some(data) = self.echoes.pop_front()
        {
            self.echo_bytes -= data.len();
            KeepAlive { respond: false, position, data }.encode(out);
            self.stats.frames_out += 1;
        }
        while !out.is_full()
            && let Some(metadata) = self.pushes.pop_front()
        {
            encode_metadata_push(metadata, out);
            self.stats.frames_out += 1;
        }
    }

    fn transmit_refusals(&mut self, out: &mut SendBuf) {
        loop {
            let is_deaf = self.is_deaf();
            let Some(Refusal { stream, code, message }) = self.refusals.front() else { return };
            match &mut self.session {
                None if out.is_full() => return,
                None => encode_error(Some(*stream), *code, message, out),
                Some(session) => {
                    let overflows = &mut self.stats.retention_overflows;
                    let mut out = SessionOutlet { session, out, is_deaf, overflows };
                    if !out.has_room() {
                        return;
                    }
                    encode_error(Some(*stream), *code, message, &mut out);
                }
            }
            self.refusals.pop_front();
            self.stats.frames_out += 1;
        }
    }

    fn transmit_streams(&mut self, out: &mut SendBuf) {
        if self.scheduler.is_empty() {
            return;
        }
        let is_deaf = self.is_deaf();
        let mut overflows = 0;
        let Self { streams, scheduler, events, stats, config, session, first_fragments, .. } = self;
        let max_frame_bytes = config.outbound_frame_bytes();
        let quantum = config.quantum_bytes as i64;
        let mut turns =
            Turns { streams, scheduler, events, stats, first_fragments, max_frame_bytes, quantum };
        match session {
            None => turns.take(out),
            Some(session) => {
                let overflows = &mut overflows;
                turns.take(&mut SessionOutlet { session, out, is_deaf, overflows });
            }
        }
        self.stats.retention_overflows += overflows;
    }
}

/// A sink for frames of streams.
trait Outlet: Sink {
    /// Whether another may be written now.
    fn has_room(&mut self) -> bool;
    /// Bytes written, to see what a frame takes, and where it begins.
    fn position(&self) -> u64;
    /// Notes that what was written last is the end of a fire-and-forget.
    fn end_fire_and_forget(&mut self);
}

/// Frames that are not kept for a resume.
impl Outlet for SendBuf {
    #[inline]
    fn has_room(&mut self) -> bool {
        !self.is_full()
    }

    #[inline]
    fn position(&self) -> u64 {
        Self::position(self)
    }

    #[inline]
    fn end_fire_and_forget(&mut self) {}
}

/// A session's tracked frames: to the transport, if there is one for them, and to what is retained.
struct SessionOutlet<'a> {
    session: &'a mut Session,
    out: &'a mut SendBuf,
    is_deaf: bool,
    overflows: &'a mut u64,
}

impl Sink for SessionOutlet<'_> {
    fn frame<const N: usize>(&mut self, head: &[u8; N], metadata: Option<Bytes>, data: Bytes) {
        self.session.frame(head, metadata.as_ref(), &data, self.out);
    }
}

impl Outlet for SessionOutlet<'_> {
    #[inline]
    fn has_room(&mut self) -> bool {
        if self.session.is_clear() {
            return !self.out.is_full();
        }
        *self.overflows += self.session.make_room(self.is_deaf);
        !self.session.is_held() && (!self.session.is_up() || !self.out.is_full())
    }

    fn position(&self) -> u64 {
        self.session.retained.sent()
    }

    fn end_fire_and_forget(&mut self) {
        self.session.retained.end_fire_and_forget();
    }
}

/// The streams of a connection while they write, one after the other.
struct Turns<'a> {
    streams: &'a mut Streams,
    scheduler: &'a mut Scheduler,
    events: &'a mut VecDeque<Event>,
    stats: &'a mut Stats,
    first_fragments: &'a mut Option<Box<FirstFragments>>,
    /// The longest frame there may be; what is longer is cut.
    max_frame_bytes: usize,
    /// Bytes a stream may write before it is the next one's turn.
    quantum: i64,
}

impl Turns<'_> {
    fn take<O: Outlet>(&mut self, out: &mut O) {
        self.take_control(out);
        self.take_data(out);
    }

    fn take_control<O: Outlet>(&mut self, out: &mut O) {
        while out.has_room()
            && let Some(key) = self.scheduler.pop_control()
        {
            let Some((Tenancy { turn, .. }, stream)) = self.streams.tenant(key) else {
                continue;
            };
            turn.leave_control();
            if let Some(written) = stream.write_control(out) {
                count_frame(written, self.stats);
            }
            settle(self.streams, self.scheduler, key);
        }
    }

    fn take_data<O: Outlet>(&mut self, out: &mut O) {
        while out.has_room()
            && let Some(key) = self.scheduler.pop_data()
        {
            let Some((Tenancy { turn, opened_at, .. }, stream)) = self.streams.tenant(key) else {
                continue;
            };
            if !stream.is_known() {
                *opened_at = out.position();
            }
            let mut left = turn.begin(self.quantum);
            let mut idle = true;
            while left > 0 && out.has_room() {
                let before = out.position();
                let Some(written) = stream.write_next(self.max_frame_bytes, out) else { break };
                count_frame(written, self.stats);
                match written {
                    Written::FireAndForget => {
                        self.events.push_back(Event::Completed { key });
                        out.end_fire_and_forget();
                        if let Some(first) = self.first_fragments {
                            first.count(key);
                        }
                    }
                    Written::RequestFragment | Written::ItemBegun | Written::ItemFragment => {
                        self.first_fragments
                            .get_or_insert_with(|| {
                                let is_request = written == Written::RequestFragment;
                                FirstFragments::new(
                                    key,
                                    is_request,
                                    self.max_frame_bytes,
                                    self.stats,
                                )
                            })
                            .count(key);
                    }
                    Written::Item | Written::Other => {}
                }
                left -= (out.position() - before) as i64;
                idle = false;
            }
            let stays = !(idle || stream.has_sent_all());
            if turn.end(left, stream.has_data(), stays) {
                self.scheduler.keep_data(key);
            }
            // Control that waited for the request, or the end of the stream.
            settle(self.streams, self.scheduler, key);
        }
    }
}

/// Counts a frame that a stream has written.
#[inline]
pub(super) fn count_frame(written: Written, stats: &mut Stats) {
    stats.frames_out += 1;
    match written {
        Written::Item | Written::ItemBegun => stats.items_out += 1,
        Written::FireAndForget => stats.fire_and_forget_out += 1,
        Written::RequestFragment | Written::ItemFragment | Written::Other => {}
    }
}
