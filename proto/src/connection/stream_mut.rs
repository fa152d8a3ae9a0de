//! What an application may do to one stream.

use crate::{
    connection::Connection,
    error::{Misuse, StreamError},
    frame::{Interaction, payload_frame_len},
    payload::Payload,
    stream::{Stream, StreamKey, Terminal},
};

/// A stream, borrowed from its connection.
#[derive(Debug)]
pub struct StreamMut<'a> {
    connection: &'a mut Connection,
    key: StreamKey,
}

impl<'a> StreamMut<'a> {
    pub(super) fn new(connection: &'a mut Connection, key: StreamKey) -> Self {
        Self { connection, key }
    }

    /// How many items it takes now: the peer's credit, but no more than a turn's worth.
    pub fn capacity(&self) -> usize {
        self.connection.streams.get(self.key).map_or(0, |stream| stream.send.capacity())
    }

    /// Items the peer has asked for that were not sent.
    pub fn credit(&self) -> u64 {
        self.connection.streams.get(self.key).map_or(0, |stream| stream.send.credit())
    }

    /// Sends an item of a stream or channel; the answer to a request is the last in any case.
    ///
    /// # Errors
    /// [`Misuse::NoCredit`] beyond `capacity`: nothing is ever sent that was not asked for (RS-02).
    pub fn send(&mut self, item: Payload) -> Result<(), Misuse> {
        self.give(item, false)
    }

    /// Sends an item and completes.
    ///
    /// # Errors
    /// As for `send`; the stream is unchanged then.
    pub fn send_last(&mut self, item: Payload) -> Result<(), Misuse> {
        self.give(item, true)
    }

    fn give(&mut self, item: Payload, last: bool) -> Result<(), Misuse> {
        self.connection.check_outbound(payload_frame_len(&item))?;
        let stream = self.open()?;
        // RR-01: a reply completes.
        let last = last || stream.interaction == Interaction::RequestResponse;
        if stream.send.capacity() == 0 || !stream.send.push(item) {
            return Err(Misuse::NoCredit);
        }
        let stalled = stream.send.credit() == 0 && stream.interaction.has_initial_n() && !last;
        if last {
            stream.send.finish(Terminal::Complete);
        }
        self.connection.stats.credit_stalls += u64::from(stalled);
        self.connection.settle(self.key);
        Ok(())
    }

    /// Completes our half. For a fire-and-forget of the peer: its handler has ended.
    ///
    /// # Errors
    /// [`Misuse::StreamClosed`] if our half has ended before.
    #[inline]
    pub fn complete(&mut self) -> Result<(), Misuse> {
        let stream = self.open()?;
        if stream.interaction == Interaction::FireAndForget {
            stream.send.abandon();
        } else {
            stream.send.finish(Terminal::Complete);
        }
        self.connection.settle(self.key);
        Ok(())
    }

    /// Fails the stream in both directions, after what was sent before (RS-07, RC-13). A request
    /// that was not written yet is never sent (RR-10).
    ///
    /// # Errors
    /// [`Misuse::StreamClosed`] if our half has ended before.
    pub fn fail(&mut self, error: StreamError) -> Result<(), Misuse> {
        let stream = self.open()?;
        if stream.interaction == Interaction::FireAndForget {
            stream.send.abandon();
        } else if stream.opening.take().is_some() {
            self.connection.remove(self.key);
            return Ok(());
        } else {
            stream.recv.close();
            stream.send.finish(Terminal::Error(error));
            self.connection.streams.drop_assembly(self.key);
        }
        self.connection.settle(self.key);
        Ok(())
    }

    /// Asks the peer for `n` more items; nothing if its half has ended (RN-10).
    pub fn request_n(&mut self, n: u32) {
        if let Some(stream) = self.connection.streams.get_mut(self.key)
            && stream.recv.is_open()
        {
            stream.recv.grant(n);
            self.connection.settle(self.key);
        }
    }

    /// Wants nothing more of the peer. As requester this ends the stream in both directions; a
    /// request that was not written yet is never sent (RR-10). As responder of a channel it ends
    /// the requester's half alone (RC-18).
    pub fn cancel(&mut self) {
        self.connection.streams.drop_assembly(self.key);
        let Some(stream) = self.connection.streams.get_mut(self.key) else { return };
        if stream.requester {
            if stream.opening.take().is_some() {
                self.connection.remove(self.key);
                return;
            }
            stream.cut = None;
            stream.send.abandon();
            stream.recv.cancel();
        } else if stream.recv.is_open() {
            stream.recv.cancel();
        }
        self.connection.settle(self.key);
    }

    fn open(&mut self) -> Result<&mut Stream, Misuse> {
        self.connection
            .streams
            .get_mut(self.key)
            .filter(|stream| stream.send.is_open())
            .ok_or(Misuse::StreamClosed)
    }
}
