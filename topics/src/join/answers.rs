//! The answers to a member's payloads, in order: items of their own, or its messages as they come back.

use std::collections::VecDeque;

use rsock_proto::SharedPayload;
use serde::Serialize;

use super::Outcome;
use crate::{
    cursor::Shape,
    entry::{Entry, Form, Meta},
    options::Receive,
    position::{Epoch, Offset},
    refusal::Refusal,
    topic::Topic,
};

/// The answer to a payload.
#[derive(Debug)]
pub(super) struct Answer {
    /// The idempotency key that came with it.
    pub(super) id: Option<Box<str>>,
    pub(super) outcome: Result<Outcome, Refusal>,
}

/// The answers that were not given yet: no more than a member may send payloads before them.
#[derive(Debug)]
pub(super) struct Answers {
    waiting: VecDeque<Answer>,
    window: usize,
    receive: Receive,
    form: Option<Form>,
    epoch: Epoch,
    /// The message that the member reads next: those before were sent to it, or never will be. None if it
    /// receives no messages.
    passed: Option<Offset>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Item<'a> {
    Ack {
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<Offset>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ephemeral: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        info: bool,
    },
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        code: &'static str,
        reason: String,
    },
}

impl Answers {
    pub(super) fn new(
        receive: Receive,
        form: Option<Form>,
        epoch: Epoch,
        window: usize,
        passed: Option<Offset>,
    ) -> Self {
        Self { waiting: VecDeque::new(), window, receive, form, epoch, passed }
    }

    /// Payloads that a member may send before them.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether as many wait as may.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= self.window
    }

    /// Whether nothing will be sent when no payload comes any more.
    pub(super) fn is_all(&self) -> bool {
        self.receive == Receive::None && self.waiting.is_empty()
    }

    /// Whether the member is told what became of each payload.
    pub(super) fn are_told(&self) -> bool {
        self.receive.has_acks()
    }

    pub(super) fn push(&mut self, answer: Answer) {
        self.waiting.push_back(answer);
    }

    /// The member goes on with this message.
    pub(super) fn pass(&mut self, next: Offset) {
        self.passed = Some(next);
    }

    /// Whether the first is to be given now: what it tells of is committed, and will not be shown by itself.
    pub(super) fn is_due(&self, topic: &Topic) -> bool {
        let Some(Answer { outcome, .. }) = self.waiting.front() else { return false };
        // As it is now: what has been committed meanwhile may be shown next.
        let visible = topic.visible();
        match *outcome {
            Ok(Outcome::Appended(offset)) => {
                let is_passed = self.passed.is_none_or(|passed| offset < passed);
                offset < visible && (is_passed || !self.are_told())
            }
            Ok(Outcome::Known(offset)) => offset < visible,
            Ok(Outcome::Event | Outcome::Info) | Err(_) => true,
        }
    }

    /// The message for whose commit the first waits.
    pub(super) fn awaits(&self, visible: Offset) -> Option<Offset> {
        match self.waiting.front()?.outcome {
            Ok(Outcome::Appended(offset) | Outcome::Known(offset)) if offset >= visible => {
                Some(offset)
            }
            _ => None,
        }
    }

    /// The disk has failed: what is not committed may be there or not. Whether that is so of something, and
    /// the member would not hear of it.
    pub(super) fn fail(&mut self, visible: Offset, failure: &Refusal) -> bool {
        let mut is_lost = false;
        for Answer { outcome, .. } in &mut self.waiting {
            if let Ok(Outcome::Appended(offset) | Outcome::Known(offset)) = *outcome
                && offset >= visible
            {
                *outcome = Err(failure.clone());
                is_lost = true;
            }
        }
        is_lost && !self.are_told()
    }

    /// Takes the first; the item that tells it, if it is told.
    pub(super) fn next(&mut self) -> Option<SharedPayload> {
        let Answer { id, outcome } = self.waiting.pop_front()?;
        // Those that are told can be: it was looked at when the member joined.
        let form = self.form.filter(|_| self.are_told())?;
        let (epoch, id) = (Some(self.epoch), id.as_deref());
        let appended = |offset, duplicate| Item::Ack {
            epoch,
            offset: Some(offset),
            id,
            duplicate,
            ephemeral: false,
            info: false,
        };
        let other = |ephemeral, info| Item::Ack {
            epoch: None,
            offset: None,
            id,
            duplicate: false,
            ephemeral,
            info,
        };
        let item = match outcome {
            Ok(Outcome::Appended(offset)) => appended(offset, false),
            Ok(Outcome::Known(offset)) => appended(offset, true),
            Ok(Outcome::Event) => other(true, false),
            Ok(Outcome::Info) => other(false, true),
            Err(refusal) => {
                let code = match refusal {
                    Refusal::Invalid(_) => "INVALID",
                    Refusal::Rejected(_) => "REJECTED",
                    Refusal::Failed(_) => "APPLICATION_ERROR",
                };
                Item::Refused { id, code, reason: refusal.to_string() }
            }
        };
        // Names and numbers can be written as JSON.
        let json = serde_json::to_vec(&item).unwrap_or_default();
        Some(SharedPayload::new(Some(&form.metadata(&json)), b""))
    }

    fn find(&self, appended: Offset) -> Option<usize> {
        let is_of =
            |answer: &Answer| matches!(answer.outcome, Ok(Outcome::Appended(at)) if at == appended);
        self.waiting.iter().position(is_of)
    }

    /// Whether the answer to a payload waits for this message to be shown, which was read from a disk: that it
    /// is the member's own is not written there.
    pub(super) fn await_stored(&self, entry: &Entry) -> bool {
        entry.join == 0 && self.are_told() && self.find(entry.offset).is_some()
    }

    /// The member's own message, which stands for its answer.
    pub(super) fn shown_as(&mut self, entry: &Entry, shape: Shape) -> SharedPayload {
        let at = self.find(entry.offset);
        let id = at.and_then(|at| self.waiting.remove(at)).and_then(|answer| answer.id);
        let mut members = r#","own":true"#.to_owned();
        if let Some(id) = id {
            // Text can be written as JSON.
            let id = serde_json::to_string(&id).unwrap_or_default();
            members = format!("{members},\"id\":{id}");
        }
        if shape.skipped > 0 {
            members = format!("{members},\"skipped\":{}", shape.skipped);
        }
        // What tells whose it is has to be in some metadata.
        let meta = if shape.meta == Meta::None { Meta::Offset } else { shape.meta };
        entry.item_with(&members, meta, shape.form)
    }
}
