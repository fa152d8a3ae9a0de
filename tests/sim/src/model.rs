//! The model: what the applications have done, and so what each of them may be told.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use rsock_proto::{ErrorCode, Interaction, Payload, StreamError};

use crate::{
    broken::{Check, hold, some},
    join::Joined,
    op::Size,
    rng::{Rng, mix},
};

/// All that was sent and delivered, by stream id.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) exchanges: BTreeMap<u32, Exchange>,
}

/// A stream, as somebody sees it who sees both applications.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) opener: usize,
    pub(crate) interaction: Interaction,
    request: Payload,
    /// The request is written.
    pub(crate) written: bool,
    /// The responder's application knows of it.
    pub(crate) heard: bool,
    /// An engine has refused it, or part of it, within its limits.
    pub(crate) refused: bool,
    /// Its opener was told that nothing of it has left, and nothing will.
    pub(crate) unsent: bool,
    /// The payloads that go from the client, and those that go from the server.
    pub(crate) lines: [Line; 2],
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(crate) struct Line {
    items: Vec<Payload>,
    ended: Option<End>,
    /// Items on the wire.
    written: usize,
    end_written: bool,
    /// Items delivered.
    got: usize,
    end_got: bool,
    /// Items the receiver's application has asked for.
    asked: u64,
    /// The receiver has said that it wants no more.
    pub(crate) unwanted: bool,
}

/// How an application ended its half.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Failed(StreamError),
    /// It cancelled the whole stream, or lost it.
    Given,
}

/// The error with which applications fail.
pub(crate) fn failure(id: u32) -> StreamError {
    StreamError::new(ErrorCode(0x301 + id), "the application failed")
}

/// A payload of this size that hardly any other one equals.
pub(crate) fn payload(id: u32, side: usize, number: usize, size: Size) -> Payload {
    static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
        let mut rng = Rng::new(0);
        (0..1 << 14).flat_map(|_| rng.number().to_be_bytes()).collect()
    });
    let seed = mix(u64::from(id) << 32 | (number as u64) << 1 | side as u64);
    let piece = |len: u32, seed: u64| {
        let len = (len as usize).min(NOISE.len() / 2);
        let at = seed as usize % (NOISE.len() - len);
        NOISE.slice(at..at + len)
    };
    let metadata = size.metadata.map(|len| piece(len, seed >> 20));
    Payload { metadata, data: piece(size.data, seed) }
}

fn is(this: &Payload, (metadata, data): &(Option<Bytes>, Bytes)) -> bool {
    this.metadata == *metadata && this.data == *data
}

impl Model {
    pub(crate) fn of(&mut self, id: u32) -> Check<&mut Exchange> {
        Ok(some!(self.exchanges.get_mut(&id), Told, "stream {id} was never opened"))
    }

    pub(crate) fn opened(
        &mut self,
        side: usize,
        id: u32,
        interaction: Interaction,
        request: Payload,
        n: u32,
    ) -> Check {
        let known = self.exchanges.contains_key(&id);
        hold!(!known, StreamIds, "id {id} is used again");
        let mut lines = [Line::default(), Line::default()];
        lines[1 - side].asked = match interaction {
            Interaction::FireAndForget => 0,
            Interaction::RequestResponse => 1,
            Interaction::RequestStream | Interaction::RequestChannel => n.into(),
        };
        let exchange = Exchange {
            opener: side,
            interaction,
            request,
            written: false,
            heard: false,
            refused: false,
            unsent: false,
            lines,
        };
        self.exchanges.insert(id, exchange);
        Ok(())
    }

    /// A frame has made something whole on the wire.
    pub(crate) fn wrote(&mut self, side: usize, id: u32, joined: &Joined) -> Check {
        let exchange = self.of(id)?;
        if joined.request {
            let same = joined.payload.as_ref().is_some_and(|what| is(&exchange.request, what));
            hold!(same, Order, "the request of stream {id} is not what was written");
            exchange.written = true;
            return Ok(());
        }
        let line = &mut exchange.lines[side];
        if let Some(what) = &joined.payload {
            let same = line.items.get(line.written).is_some_and(|item| is(item, what));
            hold!(same, Order, "item {} of stream {id} is not what was written", line.written);
            line.written += 1;
        }
        if joined.complete {
            let all = line.ended == Some(End::Complete) && line.written == line.items.len();
            hold!(all, Terminal, "COMPLETE on stream {id} before its end");
            line.end_written = true;
        }
        Ok(())
    }

    /// Something of the stream waits to be written by `side`.
    pub(crate) fn has_output(&self, side: usize, id: u32) -> bool {
        self.exchanges.get(&id).is_some_and(|exchange| {
            let line = &exchange.lines[side];
            (exchange.opener == side && !exchange.written)
                || line.written < line.items.len()
                || (matches!(line.ended, Some(End::Complete | End::Failed(_))) && !line.end_written)
        })
    }
}

impl Exchange {
    /// The next payload that the application of `side` sends.
    pub(crate) fn next(&self, id: u32, side: usize, size: Size) -> Payload {
        payload(id, side, 1 + self.lines[side].items.len(), size)
    }

    pub(crate) fn gave(&mut self, side: usize, item: Payload, last: bool) -> Check {
        let line = &mut self.lines[side];
        line.items.push(item);
        let (given, asked) = (line.items.len() as u64, line.asked);
        hold!(given <= asked, Credit, "{given} items taken, {asked} were asked for");
        if last || self.interaction == Interaction::RequestResponse {
            self.completed(side);
        }
        Ok(())
    }

    pub(crate) fn completed(&mut self, side: usize) {
        self.lines[side].ended.get_or_insert(End::Complete);
    }

    pub(crate) fn failed(&mut self, id: u32, side: usize) {
        self.lines[side].ended.get_or_insert_with(|| End::Failed(failure(id)));
    }

    /// The application of `side` has cancelled.
    pub(crate) fn cancelled(&mut self, side: usize) {
        self.lines[1 - side].unwanted = true;
        if self.opener == side {
            self.lines[side].ended.get_or_insert(End::Given);
        }
    }

    pub(crate) fn asked(&mut self, side: usize, n: u32) {
        let asked = &mut self.lines[1 - side].asked;
        *asked = asked.saturating_add(n.into());
    }

    /// Items that `side` has asked for and not been given.
    pub(crate) fn outstanding(&self, side: usize) -> u64 {
        let line = &self.lines[1 - side];
        line.asked - line.got as u64
    }

    /// The responder is told of the request.
    pub(crate) fn heard(
        &mut self,
        side: usize,
        interaction: Interaction,
        payload: &Payload,
        complete: bool,
    ) -> Check {
        hold!(self.opener != side, Told, "its own request");
        hold!(!self.heard, Told, "the request twice");
        hold!(!self.unsent, Told, "a request that never left");
        let same = *payload == self.request && interaction == self.interaction;
        hold!(same, Order, "the request is not what was sent: {interaction:?}");
        hold!(!complete, Terminal, "nobody has completed it");
        self.heard = true;
        Ok(())
    }

    /// `side` is given an item, or the end of the other half, or both.
    pub(crate) fn got(&mut self, side: usize, item: Option<&Payload>, complete: bool) -> Check {
        let line = &mut self.lines[1 - side];
        hold!(!line.end_got, Terminal, "more after the end");
        if let Some(item) = item {
            let sent = some!(line.items.get(line.got), Order, "item {} was not sent", line.got);
            hold!(sent == item, Order, "item {} is not what was sent", line.got);
            line.got += 1;
            let (got, asked) = (line.got as u64, line.asked);
            hold!(got <= asked, Credit, "{got} items came, {asked} were asked for");
        }
        if complete {
            line.end_got = true;
            let all = line.got == line.items.len() && line.ended == Some(End::Complete);
            hold!(all, Terminal, "it ends after {} of {} items", line.got, line.items.len());
        }
        Ok(())
    }

    /// `side` is told that the stream has failed; `may_refuse` if an engine may do that by itself.
    pub(crate) fn got_failure(
        &mut self,
        side: usize,
        error: &StreamError,
        may_refuse: bool,
    ) -> Check {
        let unwanted = self.lines[side].unwanted;
        let line = &mut self.lines[1 - side];
        hold!(!line.end_got, Terminal, "more after the end");
        if line.ended == Some(End::Failed(error.clone())) {
            line.end_got = true;
            let all = line.got == line.items.len() || line.unwanted || unwanted;
            hold!(all, Order, "it fails after {} of {} items", line.got, line.items.len());
            return Ok(());
        }
        let code = error.code;
        let refusal =
            [ErrorCode::REJECTED, ErrorCode::CANCELED, ErrorCode::INVALID].contains(&code);
        hold!(refusal && (may_refuse || self.refused), Told, "it failed by itself: {error}");
        hold!(code != ErrorCode::REJECTED || !self.heard, Told, "ERR-08: it had effects");
        line.end_got = true;
        self.refused = true;
        self.lines[side].ended.get_or_insert(End::Given);
        Ok(())
    }

    /// `side` is told that the other wants nothing more; `may_refuse` if an engine may say so before
    /// its application knows.
    pub(crate) fn got_cancel(&mut self, side: usize, may_refuse: bool) -> Check {
        let unwanted = self.lines[side].unwanted || self.refused;
        hold!(unwanted || may_refuse, Told, "nobody has cancelled it");
        Ok(())
    }

    /// Nobody has given up any of it, and it has all arrived; `may_drop` if an engine may overlook a
    /// fire-and-forget.
    pub(crate) fn finished(&self, id: u32, may_drop: bool) -> Check {
        let dropped = may_drop && self.interaction == Interaction::FireAndForget;
        if dropped || self.refused || self.lines.iter().any(|line| line.unwanted) {
            return Ok(());
        }
        let heard = self.heard || matches!(self.lines[self.opener].ended, Some(End::Failed(_)));
        hold!(heard, Rest, "the request of stream {id} did not arrive");
        let failed = |line: &Line| matches!(line.ended, Some(End::Failed(_)));
        if self.lines.iter().any(failed) {
            return Ok(());
        }
        for line in &self.lines {
            let (got, given) = (line.got, line.items.len());
            hold!(got == given, Rest, "stream {id}: {given} items were sent, {got} delivered");
            let ended = line.ended == Some(End::Complete);
            hold!(ended == line.end_got, Rest, "stream {id}: the end of a half is not told");
        }
        Ok(())
    }
}
