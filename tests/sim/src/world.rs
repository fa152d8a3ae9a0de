//! Two ends, the wire between them, and virtual time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use rsock_proto::{CloseReason, Connection, ErrorCode, SendBuf, Side, Violation};

use crate::{
    broken::{Broken, Check, hold, some},
    end::End,
    fairness::Fairness,
    hostile,
    link::Pipe,
    model::Model,
    op::{Op, Size, Who},
    plan::Plan,
    positions::Place,
    referee::Referee,
    run::Totals,
    session::Greeter,
    tamper::Tamper,
    wire::kind,
};

/// Rounds with nothing in the way in which not a byte of a stream gets further.
const MOST_IDLE_ROUNDS: usize = 50;
/// The bytes that the items of a long transfer have more than others.
const BULK_BYTES: u32 = 5_000;
/// Streams an application keeps open.
const MOST_STREAMS: usize = 24;

/// Two connections over a wire, and those who watch.
#[derive(Debug)]
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Instant,
    pub(crate) ends: [End; 2],
    /// The link there is or was last, by who writes.
    pub(crate) pipes: [Pipe; 2],
    /// Its number, and whether it works.
    pub(crate) link: u32,
    pub(crate) alive: bool,
    /// The side that waits for the first frame on a new link.
    pub(crate) greeter: Option<Greeter>,
    pub(crate) model: Model,
    /// Nobody, in a hostile world.
    pub(crate) referee: Option<Referee>,
    fairness: [Fairness; 2],
    /// Sent with METADATA_PUSH and not received.
    pushes: [VecDeque<Bytes>; 2],
    tamper: Option<Tamper>,
    /// The events that the connections do not count.
    pub(crate) seen: Totals,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(plan: &Plan) -> Self {
        let now = Instant::now();
        let pipes = [Pipe::new(plan.messages), Pipe::new(plan.messages)];
        let [client, server] = plan.limits;
        let connection = Connection::client(plan.setup(), client.config(plan), now);
        let client = End::new(connection, &pipes[0], client, plan, now);
        let connection = Connection::server(server.config(plan), now);
        let server = End::new(connection, &pipes[1], server, plan, now);
        let limits = plan.limits.map(|limits| limits.frame_bytes());
        let referee = (!plan.hostile).then(|| Referee::new(limits, plan.leases, plan.resume));
        Self {
            plan: plan.clone(),
            now,
            ends: [client, server],
            pipes,
            link: 0,
            alive: true,
            greeter: None,
            model: Model::default(),
            referee,
            fairness: [Fairness::default(), Fairness::default()],
            pushes: [VecDeque::new(), VecDeque::new()],
            tamper: None,
            seen: Totals::default(),
        }
    }

    /// Shows the referee something else than what is written.
    #[must_use]
    pub fn tampered(mut self, tamper: Tamper) -> Self {
        self.tamper = Some(tamper);
        self
    }

    /// Lets something happen, and looks whether all that must hold holds.
    ///
    /// # Errors
    /// [`Broken`] says what does not.
    pub fn apply(&mut self, op: Op) -> Result<(), Broken> {
        self.act(op)?;
        self.hang_up();
        self.check()
    }

    fn act(&mut self, op: Op) -> Check {
        match op {
            Op::Open { who, interaction, n, size } => {
                self.catch_up(who)?;
                let end = &mut self.ends[who];
                let own = end.apps.keys().filter(|id| (*id + 1) % 2 == who as u32).count();
                if own < MOST_STREAMS
                    && let Some(id) = end.open(&mut self.model, interaction, n, size)?
                {
                    self.fairness[who].opened(id);
                    if let Some(referee) = &mut self.referee {
                        referee.requested(who, self.now)?;
                    }
                    self.look_at_once(who)?;
                }
            }
            Op::Emit { who, stream, items, size } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                let long = if self.plan.bulk && items > 1 { BULK_BYTES } else { 0 };
                let size = Size { data: size.data + long, ..size };
                self.ends[who].emit(&mut self.model, id, items.into(), false, size)?;
                self.look_at_once(who)?;
            }
            Op::EmitLast { who, stream, size } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                self.ends[who].emit(&mut self.model, id, 1, true, size)?;
                self.look_at_once(who)?;
            }
            Op::Complete { who, stream } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                self.ends[who].complete(&mut self.model, id)?;
            }
            Op::Fail { who, stream } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                self.ends[who].fail(&mut self.model, id)?;
                self.given_up(who, id);
            }
            Op::RequestN { who, stream, n } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                self.ends[who].request_n(&mut self.model, id, n)?;
            }
            Op::Cancel { who, stream } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                self.ends[who].cancel(&mut self.model, id)?;
                self.given_up(who, id);
            }
            Op::Push { who, bytes } => {
                self.catch_up(who)?;
                if let Some(metadata) = self.ends[who].push(bytes) {
                    self.pushes[who].push_back(metadata);
                }
            }
            Op::Grant { who, requests, ttl_ms } if !self.plan.steady_leases => {
                self.catch_up(who)?;
                self.ends[who].grant(requests, ttl_ms, self.now);
            }
            // Where it is the end, it is rare.
            Op::Cut { keep, noticed } if self.plan.resume || keep == [1, 1] => {
                self.cut(keep, noticed)?;
            }
            Op::Notice { who } if self.plan.resume => self.notice(who)?,
            Op::Cut { .. } | Op::Notice { .. } | Op::Grant { .. } => {}
            Op::Connect => self.connect(),
            Op::Ping { who, bytes } => {
                self.catch_up(who)?;
                self.ends[who].ping(bytes);
            }
            Op::Write { who, high_water } => self.write(who, high_water as usize)?,
            Op::Flush { who, bytes } => self.flush(who, bytes as usize),
            Op::Deliver { who, bytes } => self.deliver(who, bytes as usize)?,
            Op::Take { who, events } => {
                self.ends[who].may_refuse = self.may_refuse();
                for _ in 0..events {
                    if !self.ends[who].take(&mut self.model, self.now)? {
                        break;
                    }
                }
            }
            Op::Pump { who } => self.pump(who)?,
            Op::Advance { ms, late } => {
                let until = self.now + Duration::from_millis(ms.into());
                self.pass_time(until, late)?;
            }
            Op::Deadline => {
                if let Some(next) = self.next_deadline() {
                    self.pass_time(next, false)?;
                }
            }
            Op::Drain { who } => {
                self.ending(who);
                self.ends[who].connection.drain();
            }
            Op::Close { who } => {
                self.ending(who);
                self.ends[who].connection.close();
            }
            Op::Flip { .. } | Op::Lose { .. } | Op::Repeat { .. } | Op::Forge { .. } => {
                if self.plan.hostile {
                    let idle = self.ends.each_ref().map(|end| end.send.is_empty());
                    hostile::disturb(op, &mut self.pipes, idle);
                }
            }
        }
        Ok(())
    }

    // ---- applications -------------------------------------------------------------------------

    /// An engine may refuse requests and payloads by itself.
    fn may_refuse(&self) -> bool {
        (self.plan.leases && !self.plan.steady_leases)
            || self.ends.iter().any(|end| end.draining)
            || self.plan.limits.iter().any(|limits| limits.tight)
    }

    /// A request that is given up may never be written.
    fn given_up(&mut self, who: Who, id: u32) {
        if !self.ends[who].apps.contains_key(&id) {
            self.fairness[who].forget(id);
        }
    }

    /// An application acts on what it has been told, all of it.
    fn catch_up(&mut self, who: Who) -> Check {
        self.ends[who].may_refuse = self.may_refuse();
        self.ends[who].take_all(&mut self.model, self.now)?;
        self.check_told(who)
    }

    /// METADATA_PUSH and LEASE may be lost with a transport, but come in order.
    fn check_told(&mut self, who: Who) -> Check {
        if self.plan.hostile {
            return Ok(());
        }
        let [client, server] = &mut self.ends;
        let (end, other) = if who == 0 { (client, server) } else { (server, client) };
        for push in end.pushes.drain(..) {
            let sent = &mut self.pushes[1 - who];
            let at = some!(sent.iter().position(|sent| *sent == push), Told, "MDP-02: not sent");
            sent.drain(..=at);
        }
        for lease in end.leased.drain(..) {
            let at = other.granted.iter().position(|granted| *granted == lease);
            let at = some!(at, Told, "LEASE-06: nobody granted {lease:?}");
            other.granted.drain(..=at);
        }
        Ok(())
    }

    fn pick(&mut self, who: Who, stream: u8) -> Check<Option<u32>> {
        self.catch_up(who)?;
        Ok(self.ends[who].pick(stream))
    }

    fn ending(&mut self, who: Who) {
        self.ends[who].draining = true;
        self.ends[1 - who].peer_ends = true;
    }

    // ---- the wire -----------------------------------------------------------------------------

    fn write(&mut self, who: Who, high_water: usize) -> Check {
        let before = self.ends[who].send.len();
        let retained = self.ends[who].connection.positions().map_or(0, |(sent, _)| sent);
        self.ends[who].write(high_water);
        self.look(who, before, high_water, retained)
    }

    /// Looks at what was written at once.
    fn look_at_once(&mut self, who: Who) -> Check {
        let before = self.ends[who].send.len();
        self.look(who, before, SendBuf::HIGH_WATER, 0)
    }

    fn look(&mut self, who: Who, before: usize, high_water: usize, retained: u64) -> Check {
        let written = self.ends[who].written()?;
        if written.is_empty() {
            return Ok(());
        }
        self.seen.wire = written.iter().fold(self.seen.wire ^ who as u64, |digest, byte| {
            (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
        });
        let mut frames = self.pipes[who].frames(&written)?;
        if let (Some(tamper), Some(referee)) = (self.tamper, &self.referee) {
            tamper.apply(&mut frames, referee.replays(who));
        }
        let longest = frames.iter().map(|(_, len)| *len).max().unwrap_or(0);
        self.ends[who].check_buffer(before, high_water, longest)?;
        let Some(referee) = &mut self.referee else { return Ok(()) };
        let carried = self.alive && self.ends[who].link == Some(self.link);
        let limits = self.plan.limits[who];
        let turn = (limits.quantum_bytes as usize).saturating_add(limits.frame_bytes() + 4);
        for (frame, len) in frames {
            let wrote = referee.wrote(who, &frame, carried.then_some(len), retained)?;
            if wrote.stream == 0 || wrote.place == Place::Replay {
                continue;
            }
            if let Some(joined) = &wrote.joined {
                self.model.wrote(who, wrote.stream, joined)?;
            }
            if self.plan.resume {
                // What is retained goes ahead, and may hold everything up.
                continue;
            }
            let fairness = &mut self.fairness[who];
            match wrote.kind {
                kind::REQUEST_N => {}
                kind::CANCEL | kind::ERROR => fairness.forget(wrote.stream),
                _ => {
                    let more = self.model.has_output(who, wrote.stream);
                    let streams = self.ends[who].connection.open_streams();
                    fairness.wrote(wrote.stream, len, more, streams, turn)?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, who: Who, bytes: usize) {
        if !self.is_attached(who) {
            let send = &mut self.ends[who].send;
            send.advance(bytes.min(send.remaining()));
            return;
        }
        let listened_to =
            self.is_attached(1 - who) && !self.ends[1 - who].is_over() || self.greeter.is_some();
        let pipe = &mut self.pipes[who];
        pipe.carry(&mut self.ends[who].send, bytes);
        if !listened_to {
            pipe.bytes.clear();
        }
    }

    /// So many bytes reach `who`.
    pub(crate) fn deliver(&mut self, who: Who, bytes: usize) -> Check {
        if who == 1 && self.greeter.is_some() {
            return self.greet(bytes);
        }
        if !self.is_attached(who) {
            return Ok(());
        }
        let (end, pipe) = (&mut self.ends[who], &mut self.pipes[1 - who]);
        let mut taken = 0;
        if self.plan.messages {
            let mut left = bytes;
            while left > 0
                && end.connection.wants_input()
                && let Some((frame, len)) = pipe.message()
            {
                for _ in 0..self.tamper.map_or(1, |tamper| tamper.arrivals(&frame)) {
                    end.connection.handle_frame(frame.clone(), self.now);
                }
                end.heard = self.now;
                left = left.saturating_sub(len);
                taken += len;
            }
            if let Some(referee) = &mut self.referee {
                referee.read(who, taken, self.now)?;
            }
        } else {
            let arriving = bytes.min(pipe.bytes.len());
            end.input.unsplit(pipe.bytes.split_to(arriving));
            // The referee knows frames of an engine with a fault by the order in which they were read
            // alone.
            let answers = self.tamper.is_none() && self.ends[who].answers();
            loop {
                let read = self.ends[who].read(answers, &mut self.model, self.now)?;
                taken += read;
                if let Some(referee) = &mut self.referee {
                    referee.read(who, read, self.now)?;
                }
                // What was answered is seen before more is read.
                self.look_at_once(who)?;
                if read == 0 || !answers {
                    break;
                }
            }
        }
        let (end, pipe) = (&mut self.ends[who], &self.pipes[1 - who]);
        // Half a message is not to come any more.
        let half = self.plan.messages && bytes > 0 && end.connection.wants_input();
        let no_more = pipe.bytes.is_empty() || half;
        let read_all = taken == 0 && no_more && !end.connection.has_events();
        if pipe.ended && read_all && !end.is_over() {
            end.disconnect(&mut self.model, self.now)?;
        }
        Ok(())
    }

    /// Everything that `who` can say reaches the other.
    fn pump(&mut self, who: Who) -> Check {
        self.catch_up(who)?;
        self.write(who, SendBuf::HIGH_WATER)?;
        self.flush(who, usize::MAX);
        self.deliver(1 - who, usize::MAX)?;
        self.catch_up(1 - who)
    }

    /// Closes the transport of who is at its end, and has written its last.
    fn hang_up(&mut self) {
        for who in 0..2 {
            let end = &self.ends[who];
            let is_attached = self.is_attached(who);
            if end.connection.is_suspended() && end.link.is_some() {
                if is_attached {
                    self.pipes[who].ended = true;
                }
                self.detach(who);
            } else if is_attached && end.is_over() && end.send.is_empty() {
                self.pipes[who].ended = true;
            }
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    fn pass_time(&mut self, until: Instant, late: bool) -> Check {
        if !late {
            self.meet_deadlines(until)?;
        }
        self.now = self.now.max(until);
        self.time_out()
    }

    fn meet_deadlines(&mut self, until: Instant) -> Check {
        // Each is at least a millisecond behind the one before.
        while let Some(next) = self.next_deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.time_out()?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.ends.iter().filter_map(|end| end.connection.poll_timeout()).min()
    }

    fn time_out(&mut self) -> Check {
        for end in &mut self.ends {
            end.connection.handle_timeout(self.now);
            let next = end.connection.poll_timeout();
            let ahead = next.is_none_or(|next| next > self.now);
            hold!(ahead, Deadline, "a deadline {:?} ago", next.map(|next| self.now - next));
        }
        self.hang_up();
        Ok(())
    }

    // ---- what must hold -----------------------------------------------------------------------

    fn check(&mut self) -> Check {
        for end in &mut self.ends {
            end.check()?;
        }
        if let Some(referee) = &self.referee {
            for (who, end) in self.ends.iter().enumerate() {
                let ours = end.connection.positions().filter(|_| end.closed.is_none());
                let (sent, received) = ours.unwrap_or_else(|| referee.positions(who));
                let (seen, read) = referee.positions(who);
                hold!(received == read, Positions, "it counts {received} for {read} received");
                hold!(sent >= seen, Positions, "it counts {sent} for {seen} written");
            }
        }
        for end in &self.ends {
            if let (Some(reason), false) = (&end.closed, self.plan.hostile) {
                self.check_reason(end, reason)?;
            }
        }
        Ok(())
    }

    /// Nobody ends without being told to, or a reason in time.
    fn check_reason(&self, end: &End, reason: &CloseReason) -> Check {
        let told = self.ends.iter().any(|end| end.draining);
        let silent = |end: &End| self.now.saturating_duration_since(end.heard);
        let explained = match reason {
            CloseReason::Violation(Violation::KeepaliveTimeout) => {
                silent(end) >= self.plan.tolerance()
            }
            CloseReason::Violation(Violation::SetupTimeout) => {
                silent(end) >= Duration::from_secs(10)
            }
            CloseReason::Violation(_) => false,
            CloseReason::ResumeWindowOver => {
                let window = self.plan.limits[end.side].window_ms;
                end.lost.is_some_and(|lost| self.now >= lost + Duration::from_millis(window.into()))
            }
            CloseReason::Error { by: Side::Local, code: ErrorCode::REJECTED_RESUME, .. } => {
                self.ends.iter().any(|end| end.connection.stats().retention_overflows > 0)
            }
            // Of what the other did, who is judged by itself.
            _ => told || self.ends.iter().any(|end| end.is_over()),
        };
        hold!(explained, Told, "it ends for no reason: {reason}");
        Ok(())
    }

    /// Opens the link, lets the applications finish what they have begun, and looks whether they can.
    ///
    /// # Errors
    /// [`Broken`] says what is left.
    pub fn settle(&mut self) -> Result<(), Broken> {
        let mut idle = 0;
        let mut furthest = self.reach();
        loop {
            let reach = self.reach();
            idle = if reach == furthest { idle + 1 } else { 0 };
            furthest = reach;
            if self.plan.hostile && idle >= MOST_IDLE_ROUNDS {
                // Nobody says that what a forger has written leaves a way on.
                return Ok(());
            }
            hold!(idle < MOST_IDLE_ROUNDS, Rest, "it goes on for ever, and not further");
            let before = self.progress();
            self.reconnect()?;
            for who in 0..2 {
                self.catch_up(who)?;
                if !self.plan.hostile {
                    self.finish_streams(who)?;
                }
                self.pump(who)?;
                self.hang_up();
            }
            self.check()?;
            let waits = self.ends.iter().enumerate().any(|(who, end)| {
                let hangs = self.is_attached(who) && self.pipes[1 - who].ended && !end.is_over();
                hangs || end.connection.is_suspended() || end.connection.wants_output()
            });
            if self.progress() == before && !waits {
                break;
            }
        }
        if self.plan.hostile { Ok(()) } else { self.check_rest() }
    }

    /// A session without a transport gets one, or ends with its window.
    fn reconnect(&mut self) -> Check {
        if !self.is_attached(0) || self.ends[0].is_over() {
            self.greeter = None;
        }
        for who in 0..2 {
            // Nobody answers on a new link before RESUME has come.
            if !self.is_attached(who) && (who == 0 || self.greeter.is_none()) {
                self.notice(who)?;
            }
        }
        self.connect();
        let suspended = |end: &End| end.connection.is_suspended();
        if self.ends[0].is_over()
            && suspended(&self.ends[1])
            && let Some(until) = self.ends[1].connection.poll_timeout()
        {
            self.pass_time(until, false)?;
        }
        Ok(())
    }

    fn finish_streams(&mut self, who: Who) -> Check {
        let ids: Vec<u32> = self.ends[who].apps.keys().copied().collect();
        for id in ids {
            self.ends[who].finish(&mut self.model, id)?;
        }
        Ok(())
    }

    /// Grows while streams get further.
    fn reach(&self) -> [u64; 6] {
        let [client, server] = self.ends.each_ref().map(|end| {
            let stats = *end.connection.stats();
            let (sent, received) =
                end.connection.positions().unwrap_or((stats.frames_out, stats.frames_in));
            [sent, received, stats.replayed_frames]
        });
        let ([a, b, c], [d, e, f]) = (client, server);
        [a, b, c, d, e, f]
    }

    /// Grows while anything happens.
    fn progress(&self) -> [u64; 6] {
        let [client, server] = self.ends.each_ref().map(|end| *end.connection.stats());
        let over = self.ends.iter().filter(|end| end.is_over()).count();
        let frames = [client.frames_in, client.frames_out, server.frames_in, server.frames_out];
        let [a, b, c, d] = frames;
        [a, b, c, d, u64::from(self.link), over as u64]
    }

    fn check_rest(&self) -> Check {
        let closed = self.ends.each_ref().map(|end| end.closed.is_some());
        if closed != [false, false] {
            hold!(closed == [true, true], Rest, "only one side knows of the end: {closed:?}");
        }
        for end in &self.ends {
            end.check_empty()?;
        }
        if closed == [true, true] {
            return Ok(());
        }
        for (id, exchange) in &self.model.exchanges {
            exchange.finished(*id, self.may_refuse())?;
        }
        if let Some(referee) = &self.referee {
            hold!(referee.is_idle(), Rest, "frames are on their way for ever");
            referee.settled()?;
        }
        Ok(())
    }

    /// The figures so far.
    pub fn totals(&self) -> Totals {
        let [client, server] = self.ends.each_ref().map(|end| *end.connection.stats());
        let over = |end: &&End| end.closed == Some(CloseReason::ResumeWindowOver);
        Totals {
            requests: client.requests_in + server.requests_in,
            items: client.items_in + server.items_in,
            resumes: client.resumes,
            windows_over: self.ends.iter().filter(over).count() as u64,
            held: self.ends.iter().filter(|end| end.was_held).count() as u64,
            replayed: client.replayed_frames + server.replayed_frames,
            unleased: client.refused_leases + server.refused_leases,
            closed: self.ends.iter().filter(|end| end.closed.is_some()).count() as u64,
            ..self.seen
        }
    }
}
