//! Reads the raw wire and knows what may stand on it: which frames in which order, credit, fragments,
//! ids, permits and positions. It judges each side by what that side has been told so far.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    broken::{Check, hold, some},
    join::{Joined, Run},
    lease::Permits,
    positions::{Place, Positions},
    wire::{Frame, flag, kind},
};

/// The judge of both sides.
#[derive(Debug)]
pub(crate) struct Referee {
    views: [View; 2],
    /// Written and not read by the peer, with the bytes each has on the transport.
    flight: [VecDeque<(usize, Frame)>; 2],
}

/// A frame that was written.
#[derive(Debug)]
pub(crate) struct Wrote {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) place: Place,
    /// The payload it makes whole, if any.
    pub(crate) joined: Option<Joined>,
}

/// One side's view: what it has written and been told.
#[derive(Debug)]
struct View {
    client: bool,
    /// The longest request or payload frame it may write.
    limit: usize,
    /// SETUP is written, or has come.
    set_up: bool,
    /// ERROR on stream 0 is written.
    over: bool,
    /// It has written RESUME, or read it: nothing else may be written before RESUME_OK.
    greeting: bool,
    /// The last id it has used.
    last: u32,
    lines: BTreeMap<u32, Line>,
    /// Data of KEEPALIVEs that it has to answer.
    owed: VecDeque<Vec<u8>>,
    permits: Permits,
    positions: Positions,
}

/// A stream, as one side knows it.
#[derive(Debug)]
struct Line {
    kind: u8,
    /// It has asked.
    ours: bool,
    /// Its half is open.
    may_send: bool,
    credit: u64,
    /// The other half is open.
    may_receive: bool,
    /// The payload it is sending in fragments.
    run: Option<Run>,
    /// It has written something on a stream of the peer.
    answered: bool,
    /// It has said that it wants nothing more.
    cancelled: bool,
    /// It has given the stream up, and says nothing more.
    silent: bool,
    /// It has been told that the peer has.
    given_up: bool,
    /// The peer wants nothing more of it, and it may break off.
    unwanted: bool,
}

impl Line {
    fn request(frame: &Frame, ours: bool) -> Self {
        let channel = frame.kind == kind::REQUEST_CHANNEL;
        let credit = match frame.kind {
            kind::REQUEST_RESPONSE => 1,
            _ => u64::from(frame.number()),
        };
        let answered = frame.kind != kind::REQUEST_FNF;
        let up = channel && !frame.has(flag::COMPLETE);
        Self {
            kind: frame.kind,
            ours,
            may_send: if ours { up } else { answered },
            credit: if ours { 0 } else { credit },
            may_receive: if ours { answered } else { up },
            run: None,
            answered: false,
            cancelled: false,
            silent: false,
            given_up: false,
            unwanted: false,
        }
    }

    /// REQUEST_N is for items alone, and so is what it grants.
    fn asks_with_n(&self, asking: bool) -> bool {
        self.kind == kind::REQUEST_CHANNEL
            || (self.kind == kind::REQUEST_STREAM && self.ours == asking)
    }

    fn may_interrupt(&self) -> bool {
        self.run.is_none() || self.unwanted
    }
}

impl Referee {
    pub(crate) fn new(limits: [usize; 2], leases: bool, resumable: bool) -> Self {
        let view = |side: usize| View {
            client: side == 0,
            limit: limits[side],
            set_up: false,
            over: false,
            greeting: false,
            last: 0,
            lines: BTreeMap::new(),
            owed: VecDeque::new(),
            permits: Permits::new(leases),
            positions: Positions::new(resumable),
        };
        Self { views: [view(0), view(1)], flight: [VecDeque::new(), VecDeque::new()] }
    }

    /// `side` has written a frame of so many bytes on the transport, if there is one that works. What
    /// is below the position `retained` was decided while there was none, and waited.
    pub(crate) fn wrote(
        &mut self,
        side: usize,
        raw: &Bytes,
        on_transport: Option<usize>,
        retained: u64,
    ) -> Check<Wrote> {
        let frame = Frame::read(raw)?;
        let view = &mut self.views[side];
        let late = view.positions.sent() < retained;
        let place = view.positions.wrote(&frame)?;
        let joined = match place {
            Place::Replay => None,
            Place::New => view.wrote(&frame, late).map_err(|mut broken| {
                let who = if side == 0 { "the client" } else { "the server" };
                broken.detail = format!("{} ({who} wrote {frame})", broken.detail);
                broken
            })?,
        };
        let wrote = Wrote { stream: frame.stream, kind: frame.kind, place, joined };
        if let Some(len) = on_transport {
            self.flight[side].push_back((len, frame));
        }
        Ok(wrote)
    }

    /// `side` has taken so many bytes off the transport.
    pub(crate) fn read(&mut self, side: usize, mut bytes: usize, now: Instant) -> Check {
        while bytes > 0 {
            let next = self.flight[1 - side].pop_front();
            let (len, frame) = some!(next, Wire, "more was read than written");
            hold!(len <= bytes, Wire, "half of {frame} was taken");
            bytes -= len;
            self.views[side].positions.read(&frame)?;
            self.views[side].read(frame, now);
        }
        Ok(())
    }

    /// Somebody who is not the session refuses to resume it (RESUME-16, RESUME-20).
    pub(crate) fn refused(&mut self, raw: &Bytes, on_transport: usize) -> Check {
        let frame = Frame::read(raw)?;
        let refusal = frame.kind == kind::ERROR && frame.number() == 0x004;
        hold!(refusal, Wire, "RESUME-16: {frame}");
        self.views[1].greeting = false;
        self.flight[1].push_back((on_transport, frame));
        Ok(())
    }

    /// A transport is lost with everything on it.
    pub(crate) fn cut(&mut self) {
        self.flight.iter_mut().for_each(VecDeque::clear);
    }

    /// `side` has given its transport up.
    pub(crate) fn lost(&mut self, side: usize) {
        let view = &mut self.views[side];
        view.owed.clear();
        view.permits.void();
        view.greeting = false;
    }

    /// The next tracked frame of `side` is one that it has written before.
    pub(crate) fn replays(&self, side: usize) -> bool {
        self.views[side].positions.replays()
    }

    /// The application of `side` asks something of the other.
    pub(crate) fn requested(&mut self, side: usize, now: Instant) -> Check {
        self.views[side].permits.spend(now)
    }

    /// Tracked bytes `side` has written and read.
    pub(crate) fn positions(&self, side: usize) -> (u64, u64) {
        let positions = &self.views[side].positions;
        (positions.sent(), positions.received())
    }

    /// Both sides have read what the other has written: their positions agree.
    pub(crate) fn settled(&self) -> Check {
        let [client, server] = &self.views;
        for (writer, reader, who) in [(client, server, "client"), (server, client, "server")] {
            let (sent, received) = (writer.positions.sent(), reader.positions.received());
            hold!(sent == received, Positions, "the {who} sent {sent}, and {received} were read");
        }
        Ok(())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.flight.iter().all(VecDeque::is_empty)
    }
}

impl View {
    fn wrote(&mut self, frame: &Frame, late: bool) -> Check<Option<Joined>> {
        hold!(!self.over, Terminal, "FRAME-23: after ERROR on stream 0");
        if frame.stream == 0 {
            self.wrote_of_connection(frame)?;
            return Ok(None);
        }
        hold!(!self.greeting, Wire, "RESUME-09, RESUME-13: before RESUME_OK");
        hold!(self.set_up, Wire, "SETUP-01: before SETUP");
        if frame.is_request() {
            return self.wrote_request(frame);
        }
        let limit = self.limit;
        let line = self.lines.get_mut(&frame.stream);
        let line = some!(line, Terminal, "RS-16: there is no such stream");
        hold!(!line.silent, Terminal, "CAN-03, ERR-05: it has given it up");
        // A CANCEL may cross the end, and find nothing; so may the refusal of a request.
        let crossing = frame.kind == kind::CANCEL || (frame.kind == kind::ERROR && !line.answered);
        hold!(
            !line.given_up || crossing || late,
            Terminal,
            "RS-08, ERR-05: the peer has given it up"
        );
        line.answered |= !line.ours;
        match frame.kind {
            kind::PAYLOAD => return line.payload(frame, limit, late),
            kind::REQUEST_N => {
                hold!(line.asks_with_n(true), Wire, "RN-06: nothing to ask for");
                hold!(line.may_receive || late, Terminal, "RN-10: the half has ended");
                hold!(line.may_interrupt(), Fragments, "between fragments");
            }
            kind::CANCEL if line.ours => {
                let unsent = line.kind == kind::REQUEST_FNF && line.run.is_none();
                hold!(!unsent, Terminal, "FNF-02: it has ended");
                (line.silent, line.run) = (true, None);
            }
            kind::CANCEL => {
                hold!(line.kind == kind::REQUEST_CHANNEL, Wire, "RC-18: nothing to cancel");
                hold!(!line.cancelled, Terminal, "CAN-05: once");
                hold!(line.may_interrupt(), Fragments, "FRAG-16: between fragments");
                (line.may_receive, line.cancelled) = (false, true);
            }
            kind::ERROR => {
                let answers = !line.ours && line.kind != kind::REQUEST_FNF;
                let channel = line.ours && line.kind == kind::REQUEST_CHANNEL;
                hold!(answers || channel, Wire, "ERR-13, FNF-01: it may not fail");
                hold!(line.may_send || line.unwanted, Terminal, "ERR-05: its half has ended");
                // Between fragments it gives the payload up (FRAG-16, FRAG-17).
                (line.silent, line.run) = (true, None);
            }
            _ => hold!(false, Wire, "nothing for a stream"),
        }
        Ok(None)
    }

    fn wrote_of_connection(&mut self, frame: &Frame) -> Check {
        match frame.kind {
            kind::SETUP => {
                hold!(self.client && !self.set_up, Wire, "SETUP-01: once, by the client");
                self.set_up = true;
                return Ok(());
            }
            kind::RESUME => {
                hold!(self.client && !self.greeting, Wire, "RESUME-09: once, by the client");
                self.greeting = true;
                return Ok(());
            }
            kind::RESUME_OK => {
                hold!(!self.client && self.greeting, Wire, "RESUME-12: to a RESUME");
                self.greeting = false;
            }
            kind::ERROR => self.over = true,
            kind::LEASE => hold!(self.permits.negotiated(), Lease, "LEASE-14: not negotiated"),
            kind::KEEPALIVE if !frame.has(flag::RESPOND) => {
                // Those before it were dropped for want of room (KA-15).
                let at = self.owed.iter().position(|data| *data == frame.data);
                let at = some!(at, Wire, "KA-04: an answer to nothing");
                self.owed.drain(..=at);
            }
            _ => {}
        }
        hold!(!self.greeting || frame.kind == kind::ERROR, Wire, "RESUME-09: before RESUME_OK");
        // A server may refuse what is no SETUP.
        let refusal = !self.client && frame.kind == kind::ERROR;
        hold!(self.set_up || refusal, Wire, "SETUP-01: before SETUP");
        Ok(())
    }

    fn wrote_request(&mut self, frame: &Frame) -> Check<Option<Joined>> {
        let odd = frame.stream % 2 == 1;
        hold!(odd == self.client, StreamIds, "SID-01: the peer's ids");
        hold!(frame.stream > self.last, StreamIds, "SID-02: not above {}", self.last);
        hold!(!frame.has(flag::COMPLETE), Wire, "FRAG-06: some peers overlook COMPLETE here");
        self.last = frame.stream;
        self.permits.write()?;
        let mut line = Line::request(frame, true);
        let joined = Run::begin(frame, true, self.limit, &mut line.run)?;
        self.lines.insert(frame.stream, line);
        Ok(joined)
    }

    fn read(&mut self, frame: Frame, now: Instant) {
        match frame.kind {
            kind::SETUP => {
                self.set_up = true;
                return;
            }
            kind::KEEPALIVE if frame.has(flag::RESPOND) => {
                self.owed.push_back(frame.data.clone());
                return;
            }
            kind::LEASE => return self.permits.granted(&frame, now),
            kind::RESUME => {
                self.greeting = true;
                return;
            }
            kind::RESUME_OK => {
                self.greeting = false;
                return;
            }
            _ if frame.is_request() => {
                self.lines.insert(frame.stream, Line::request(&frame, false));
                return;
            }
            _ => {}
        }
        let Some(line) = self.lines.get_mut(&frame.stream) else { return };
        match frame.kind {
            kind::REQUEST_N if line.asks_with_n(false) => line.credit += u64::from(frame.number()),
            kind::CANCEL if !line.ours => line.given_up = true,
            kind::CANCEL => {
                // RC-17; that it has failed is still to be said.
                (line.may_send, line.unwanted) = (false, true);
            }
            kind::PAYLOAD if frame.has(flag::COMPLETE) => line.may_receive = false,
            kind::ERROR => line.given_up = true,
            _ => {}
        }
    }
}

impl Line {
    fn payload(&mut self, frame: &Frame, limit: usize, late: bool) -> Check<Option<Joined>> {
        if let Some(run) = &self.run {
            let stopped = self.unwanted && !run.is_request() && !late;
            hold!(!stopped, Terminal, "RC-17: nobody wants the rest of it");
            let answer = self.kind == kind::REQUEST_RESPONSE && !self.ours;
            let joined = Run::go_on(frame, limit, answer, &mut self.run)?;
            if joined.as_ref().is_some_and(|joined| joined.complete) {
                self.may_send = false;
            }
            return Ok(joined);
        }
        hold!(self.may_send || (late && self.unwanted), Terminal, "RC-08: its half has ended");
        if frame.has(flag::NEXT) {
            hold!(self.credit > 0, Credit, "RS-02, RC-02: it was not asked for");
            self.credit -= 1;
        }
        let answer = self.kind == kind::REQUEST_RESPONSE;
        let whole = frame.has(flag::COMPLETE) || frame.has(flag::FOLLOWS);
        hold!(!answer || whole, Terminal, "RR-01: an answer completes");
        let joined = Run::begin(frame, false, limit, &mut self.run)?;
        self.may_send = !frame.has(flag::COMPLETE);
        Ok(joined)
    }
}
