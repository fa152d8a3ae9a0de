//! Transports that come and go: cuts, new links, and who meets the client at the other end of one.

use bytes::{Buf, BytesMut};
use rsock_proto::{Connection, ErrorCode, Event, SendBuf, frame::Resume};

use crate::{
    broken::{Check, hold},
    link::Pipe,
    op::Who,
    world::World,
};

/// A server's end of a transport on which nothing has been said yet.
#[derive(Debug)]
pub(crate) struct Greeter {
    connection: Connection,
    input: BytesMut,
}

impl World {
    /// Whether this side uses the link that there is.
    pub(crate) fn is_attached(&self, who: Who) -> bool {
        self.alive && self.ends[who].link == Some(self.link)
    }

    /// The link breaks; so many bytes still arrive.
    pub(crate) fn cut(&mut self, keep: [u32; 2], noticed: u8) -> Check {
        if !self.alive {
            return Ok(());
        }
        for who in [0, 1] {
            self.deliver(who, keep[who] as usize)?;
        }
        let client = &self.ends[0];
        let greets = self.is_attached(0) && !client.is_over() && !client.connection.has_transport();
        self.seen.cuts += 1;
        self.seen.cuts_in_handshake += u64::from(greets);
        self.unlink();
        for who in [0, 1] {
            if noticed & 1 << who != 0 {
                self.notice(who)?;
            }
        }
        Ok(())
    }

    fn unlink(&mut self) {
        self.alive = false;
        self.greeter = None;
        for pipe in &mut self.pipes {
            *pipe = Pipe::new(self.plan.messages);
        }
        if let Some(referee) = &mut self.referee {
            referee.cut();
        }
    }

    /// Has the side that has a transport find that it is gone.
    pub(crate) fn notice(&mut self, who: Who) -> Check {
        if self.ends[who].link.is_none() {
            return Ok(());
        }
        if self.is_attached(who) {
            self.unlink();
        }
        self.ends[who].disconnect(&mut self.model, self.now)?;
        self.detach(who);
        Ok(())
    }

    /// The owner of a connection lets go of its transport.
    pub(crate) fn detach(&mut self, who: Who) {
        let end = &mut self.ends[who];
        end.lost.get_or_insert(self.now);
        end.attach(&self.pipes[who], None);
        if let Some(referee) = &mut self.referee {
            referee.lost(who);
        }
    }

    /// The client has a new transport.
    pub(crate) fn connect(&mut self) {
        let now = self.now;
        if !self.ends[0].connection.is_suspended() || self.ends[0].connection.resume(now).is_err() {
            return;
        }
        self.unlink();
        self.alive = true;
        self.link += 1;
        self.ends[0].attach(&self.pipes[0], Some(self.link));
        let config = self.plan.limits[1].config(&self.plan);
        let connection = Connection::server(config, now);
        self.greeter = Some(Greeter { connection, input: BytesMut::new() });
    }

    /// So many bytes reach whoever answers on a new link.
    pub(crate) fn greet(&mut self, bytes: usize) -> Check {
        let Some(mut greeter) = self.greeter.take() else { return Ok(()) };
        let pipe = &mut self.pipes[0];
        let mut taken = 0;
        if self.plan.messages {
            if bytes > 0
                && let Some((frame, len)) = pipe.message()
            {
                greeter.connection.handle_frame(frame, self.now);
                taken = len;
            }
        } else {
            let arriving = bytes.min(pipe.bytes.len());
            greeter.input.unsplit(pipe.bytes.split_to(arriving));
            let before = greeter.input.len();
            greeter.connection.handle_bytes(&mut greeter.input, self.now);
            taken = before - greeter.input.len();
        }
        let mut resume = None;
        while let Some(event) = greeter.connection.poll_event() {
            if let Event::Resume(said) = event {
                resume = Some(said);
            }
        }
        match resume {
            Some(resume) => self.take_up(greeter, &resume, taken),
            None if greeter.connection.is_closed() || greeter.connection.wants_output() => {
                hold!(self.plan.hostile, Wire, "RESUME-09: the first frame is not RESUME");
                self.pipes[1].ended = true;
                Ok(())
            }
            None => {
                self.greeter = Some(greeter);
                Ok(())
            }
        }
    }

    /// RESUME has come: the session takes the link, or the client is told that there is none.
    fn take_up(&mut self, mut greeter: Greeter, resume: &Resume, taken: usize) -> Check {
        let session = &mut self.ends[1];
        let known = session.connection.resume_token() == Some(&resume.token);
        let accepted = known && session.connection.accept_resume(resume, self.now).is_ok();
        if accepted {
            greeter.connection.hand_over();
            // What it had is of no use any more, and closed (RESUME-31).
            self.seen.takeovers += u64::from(self.ends[1].link.is_some());
            self.detach(1);
            let (link, session) = (self.link, &mut self.ends[1]);
            session.attach(&self.pipes[1], Some(link));
            session.input = greeter.input;
            session.heard = self.now;
            session.lost = None;
        }
        if let Some(referee) = &mut self.referee {
            referee.read(1, taken, self.now)?;
        }
        if !accepted {
            greeter.connection.reject(ErrorCode::REJECTED_RESUME, "no such session");
            let mut out = self.pipes[1].send_buf();
            greeter.connection.poll_transmit(&mut out);
            let written = out.chunk().to_vec();
            for (frame, len) in self.pipes[1].frames(&written)? {
                if let Some(referee) = &mut self.referee {
                    referee.refused(&frame, len)?;
                }
            }
            self.pipes[1].carry(&mut out, SendBuf::HIGH_WATER);
            self.pipes[1].ended = true;
        }
        Ok(())
    }
}
