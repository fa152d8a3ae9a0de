//! The acts of an application on one stream.

use crate::{
    connection::Connection,
    error::{SendError, StreamError},
    frame::payload_frame_len,
    payload::Payload,
    stream::{Effect, Stream, StreamKey},
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
        self.connection.streams.get(self.key).map_or(0, Stream::capacity)
    }

    /// Items the peer has asked for that were not sent.
    pub fn credit(&self) -> u64 {
        self.connection.streams.get(self.key).map_or(0, Stream::credit)
    }

    /// Items the peer has asked for in all, which only grows. 0 once the stream is over.
    pub fn granted(&self) -> u64 {
        self.connection.streams.get(self.key).map_or(0, Stream::granted)
    }

    /// Has the next request-n of the peer told ([`Event::Credited`](super::Event::Credited)), for who
    /// passes it on; otherwise only one that is waited for is. Those that come before it is asked for
    /// again are not told one by one: [`granted`](Self::granted) is their sum.
    pub fn watch_credit(&mut self) {
        if let Some(stream) = self.connection.streams.get_mut(self.key) {
            stream.watch_credit();
        }
    }

    /// Sends an item of a stream or channel; the answer to a request is the last in any case.
    ///
    /// # Errors
    /// [`SendError::NoCredit`] beyond `capacity`: nothing is ever sent that was not asked for (RS-02).
    pub fn send(&mut self, item: Payload) -> Result<(), SendError> {
        self.give(item, false)
    }

    /// Sends an item and completes.
    ///
    /// # Errors
    /// As for `send`; the stream is unchanged then.
    pub fn send_last(&mut self, item: Payload) -> Result<(), SendError> {
        self.give(item, true)
    }

    fn give(&mut self, item: Payload, last: bool) -> Result<(), SendError> {
        self.connection.check_outbound(payload_frame_len(&item))?;
        let stalled = self.sending()?.give(item, last)?;
        self.connection.stats.credit_stalls += u64::from(stalled);
        self.connection.settle(self.key);
        Ok(())
    }

    /// Completes our half. For a fire-and-forget of the peer: its handler has ended.
    ///
    /// # Errors
    /// [`SendError::StreamClosed`] if our half has ended before.
    #[inline]
    pub fn complete(&mut self) -> Result<(), SendError> {
        self.sending()?.complete();
        self.connection.settle(self.key);
        Ok(())
    }

    /// Fails the stream in both directions, after what was sent before (RS-07, RC-13). A request
    /// that was not written yet is never sent (RR-10).
    ///
    /// # Errors
    /// [`SendError::StreamClosed`] if our half has ended before.
    pub fn fail(&mut self, error: StreamError) -> Result<(), SendError> {
        self.sending()?;
        self.change(|stream| stream.fail(error));
        Ok(())
    }

    /// Asks the peer for `n` more items; nothing if its half has ended (RN-10).
    pub fn request_n(&mut self, n: u32) {
        self.change(|stream| stream.ask_for(n));
    }

    /// Wants nothing more of the peer. As requester this ends the stream in both directions; a
    /// request that was not written yet is never sent (RR-10). As responder of a channel it ends
    /// the requester's half alone (RC-18).
    pub fn cancel(&mut self) {
        self.change(Stream::cancel);
    }

    /// The stream, if our half is open.
    fn sending(&mut self) -> Result<&mut Stream, SendError> {
        let stream = self.connection.streams.get_mut(self.key);
        stream.filter(|stream| stream.is_sending()).ok_or(SendError::StreamClosed)
    }

    #[inline]
    fn change(&mut self, transition: impl FnOnce(&mut Stream) -> Effect) {
        let effect = self.connection.streams.change(self.key, transition);
        // What changes nothing is no mistake of the application.
        let _ = self.connection.follow(self.key, effect);
    }
}
