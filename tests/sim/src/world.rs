//! Two ends, the wire between them, and virtual time.

use std::time::{Duration, Instant};

use rsock_proto::{CloseReason, Connection, SendBuf, Violation};

use crate::{
    broken::{Broken, Check, hold},
    end::End,
    fairness::Fairness,
    hostile,
    link::Pipe,
    model::Model,
    op::{Op, Who},
    plan::Plan,
    positions::Place,
    referee::Referee,
    tamper::Tamper,
    wire::kind,
};

/// Rounds in which everything must have finished once nothing is in the way.
const MOST_ROUNDS: usize = 20_000;
/// Streams an application keeps open.
const MOST_STREAMS: usize = 24;

/// Two connections over a wire, and those who watch.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    now: Instant,
    ends: [End; 2],
    /// By who writes.
    pipes: [Pipe; 2],
    model: Model,
    /// Nobody, in a hostile world.
    referee: Option<Referee>,
    fairness: [Fairness; 2],
    tamper: Option<Tamper>,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(plan: &Plan) -> Self {
        let now = Instant::now();
        let pipes = [Pipe::new(plan.messages), Pipe::new(plan.messages)];
        let [client, server] = plan.limits;
        let connection = Connection::client(plan.setup(), client.config(), now);
        let client = End::new(connection, &pipes[0], client, plan.hostile, now);
        let connection = Connection::server(server.config(), now);
        let server = End::new(connection, &pipes[1], server, plan.hostile, now);
        let limits = plan.limits.map(|limits| limits.frame_bytes());
        let referee = (!plan.hostile).then(|| Referee::new(limits, false, false));
        Self {
            plan: plan.clone(),
            now,
            ends: [client, server],
            pipes,
            model: Model::default(),
            referee,
            fairness: [Fairness::default(), Fairness::default()],
            tamper: None,
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
                }
            }
            Op::Emit { who, stream, items, size } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                self.ends[who].emit(&mut self.model, id, items.into(), false, size)?;
            }
            Op::EmitLast { who, stream, size } => {
                let Some(id) = self.pick(who, stream)? else { return Ok(()) };
                self.ends[who].emit(&mut self.model, id, 1, true, size)?;
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
                self.ends[who].push(bytes);
            }
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
                let next = self.ends.iter().filter_map(|end| end.connection.poll_timeout()).min();
                if let Some(next) = next {
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
        self.ends.iter().any(|end| end.draining)
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
        self.ends[who].take_all(&mut self.model, self.now)
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
        let written = self.ends[who].write(high_water)?;
        if written.is_empty() {
            return Ok(());
        }
        let mut frames = self.pipes[who].frames(&written)?;
        if let Some(tamper) = &mut self.tamper {
            tamper.apply(&mut frames);
        }
        let longest = frames.iter().map(|(_, len)| *len).max().unwrap_or(0);
        self.ends[who].check_buffer(before, high_water, longest)?;
        let Some(referee) = &mut self.referee else { return Ok(()) };
        let limits = self.plan.limits[who];
        let turn = (limits.quantum_bytes as usize).saturating_add(limits.frame_bytes() + 4);
        for (frame, len) in frames {
            let wrote = referee.wrote(who, &frame, len, self.now)?;
            if wrote.stream == 0 || wrote.place == Place::Replay {
                continue;
            }
            if let Some(joined) = &wrote.joined {
                self.model.wrote(who, wrote.stream, joined)?;
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
        let reader_is_over = self.ends[1 - who].is_over();
        let pipe = &mut self.pipes[who];
        pipe.carry(&mut self.ends[who].send, bytes);
        if reader_is_over {
            pipe.bytes.clear();
        }
    }

    /// So many bytes reach `who`.
    fn deliver(&mut self, who: Who, bytes: usize) -> Check {
        let (end, pipe) = (&mut self.ends[who], &mut self.pipes[1 - who]);
        let mut taken = 0;
        if self.plan.messages {
            let mut left = bytes;
            while left > 0
                && end.connection.wants_input()
                && let Some((frame, len)) = pipe.message()
            {
                end.connection.handle_frame(frame, self.now);
                end.heard = self.now;
                left = left.saturating_sub(len);
                taken += len;
            }
        } else {
            let arriving = bytes.min(pipe.bytes.len());
            end.input.unsplit(pipe.bytes.split_to(arriving));
            taken = end.read(self.now);
        }
        if let Some(referee) = &mut self.referee {
            referee.read(who, taken, self.now)?;
        }
        let (end, pipe) = (&mut self.ends[who], &self.pipes[1 - who]);
        let read_all = taken == 0 && pipe.bytes.is_empty() && !end.connection.has_events();
        if pipe.ended && read_all && !end.is_over() {
            end.disconnect();
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

    /// Who is at its end, and has written its last, closes the transport.
    fn hang_up(&mut self) {
        for who in 0..2 {
            if self.ends[who].is_over() && self.ends[who].send.is_empty() {
                self.pipes[who].ended = true;
            }
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    fn pass_time(&mut self, until: Instant, late: bool) -> Check {
        // Bounded: the shortest interval is a millisecond, and no time is longer than some seconds.
        while !late {
            let next = self.ends.iter().filter_map(|end| end.connection.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.time_out()?;
        }
        self.now = self.now.max(until);
        self.time_out()
    }

    fn time_out(&mut self) -> Check {
        for end in &mut self.ends {
            end.connection.handle_timeout(self.now);
            let next = end.connection.poll_timeout();
            let ahead = next.is_none_or(|next| next > self.now);
            hold!(ahead, Deadline, "a deadline {:?} ago", next.map(|next| self.now - next));
        }
        Ok(())
    }

    // ---- what must hold -----------------------------------------------------------------------

    fn check(&mut self) -> Check {
        for end in &mut self.ends {
            end.check()?;
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
        for round in 0.. {
            hold!(round < MOST_ROUNDS, Rest, "it does not come to rest");
            let before = self.progress();
            for who in 0..2 {
                self.catch_up(who)?;
                if !self.plan.hostile {
                    self.finish_streams(who)?;
                }
                self.pump(who)?;
                self.hang_up();
            }
            self.check()?;
            if self.progress() == before {
                break;
            }
        }
        for who in 0..2 {
            self.deliver(who, usize::MAX)?;
            self.catch_up(who)?;
        }
        if self.plan.hostile { Ok(()) } else { self.check_rest() }
    }

    fn finish_streams(&mut self, who: Who) -> Check {
        let ids: Vec<u32> = self.ends[who].apps.keys().copied().collect();
        for id in ids {
            self.ends[who].finish(&mut self.model, id)?;
        }
        Ok(())
    }

    /// Grows while anything happens.
    fn progress(&self) -> [u64; 4] {
        let [client, server] = self.ends.each_ref().map(|end| *end.connection.stats());
        [client.frames_in, client.frames_out, server.frames_in, server.frames_out]
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

    /// How many streams there were, and items delivered.
    pub fn totals(&self) -> [u64; 2] {
        let [client, server] = self.ends.each_ref().map(|end| *end.connection.stats());
        [client.requests_in + server.requests_in, client.items_in + server.items_in]
    }
}
