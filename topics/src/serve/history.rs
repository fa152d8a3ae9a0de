//! `history.{name}`: the messages that a topic has kept, as a page or as a stream that ends.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use rsock::{Error, Feed, MethodRoute, Outlet, Payload, Request, SharedPayload, request_response};

use super::{
    Action, Service, form_of,
    loading::{Loading, Side},
    subscribe::Outgoing,
};
use crate::{
    cursor::{Cursor, Fill, Shape, Sink},
    entry::{Entry, Room},
    history::{Backward, page},
    options::{HistoryOptions, HistoryPageOptions, SubscribeOptions},
    refusal::Refusal,
    registry::Reader,
    time::Now,
};

/// A reader of what is there now.
struct History {
    way: Way,
    /// Messages that it may still send.
    left: u64,
    reader: Reader,
    service: Service,
    /// Messages that are read for it from a disk.
    loading: Option<Box<Loading>>,
}

enum Way {
    Forward(Cursor),
    Backward(Backward),
}

impl Service {
    pub(super) fn history_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRoute<S> {
        let (pages, streams) = (self.clone(), self.clone());
        request_response(move |_: S, request: Request| {
            let pages = pages.clone();
            async move { pages.history_page(&request).await.map_err(|refusal| pages.refuse(refusal)) }
        })
        .stream_feed(move |_, request: Request| {
            let version = streams.0.permit.version();
            let feed = streams.history(&request);
            let guarded = feed
                .and_then(|feed| streams.guarded(request, &[Action::History], version, feed));
            guarded.map_err(|refusal| streams.refuse(refusal))
        })
        .about(
            "what a topic has kept: a page with {\"after\":O,\"epoch\":E}, a stream with \
             {\"from\":\"start\"}",
        )
    }

    async fn history_page(&self, request: &Request) -> Result<Payload, Refusal> {
        let name = self.topic_of(request, Action::History)?;
        let options = HistoryPageOptions::parse(request.data())?;
        // Whoever reads a topic that nobody has written to leaves none behind.
        let (reader, _) = self.reader(request, &name)?;
        let now = self.0.clock.now();
        if !reader.topic().is_durable() {
            return page(reader.topic(), &options, now).map(Payload::new);
        }
        let topic = Arc::clone(reader.topic());
        let page = tokio::task::spawn_blocking(move || page(&topic, &options, now));
        // The process stops, or the reading of a disk has panicked.
        let page =
            page.await.map_err(|error| Refusal::failed(format_args!("not read: {error}")))?;
        page.map(Payload::new)
    }

    fn history(&self, request: &Request) -> Result<History, Refusal> {
        let name = self.topic_of(request, Action::History)?;
        let options = HistoryOptions::parse(request.data())?;
        let (reader, _) = self.reader(request, &name)?;
        let (clock, topic, form) = (self.0.clock, reader.topic(), form_of(request));
        let left = options.limit.unwrap_or(u64::MAX);
        let way = if options.is_reversed {
            Way::Backward(Backward::new(topic, &options, form, clock.now()))
        } else {
            let HistoryOptions { from, to, meta, .. } = options;
            let subscribe = SubscribeOptions { from, meta, ..SubscribeOptions::default() };
            let cursor = Cursor::new(topic, &subscribe, form, 0, clock.now())?;
            let head = topic.visible();
            Way::Forward(cursor.until(to.map_or(head, |to| to.next().min(head))))
        };
        Ok(History { way, left, reader, service: self.clone(), loading: None })
    }
}

/// A stream of so many messages.
struct Limited<'a, 'b> {
    out: Outgoing<'a, 'b>,
    left: &'a mut u64,
}

impl Sink for Limited<'_, '_> {
    fn has_room(&mut self) -> bool {
        *self.left > 0 && self.out.has_room()
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        self.out.send(item)
    }

    fn send_entry(&mut self, entry: &Entry, shape: Shape, room: &Room<'_>) -> Result<(), Refusal> {
        *self.left -= 1;
        self.out.send_entry(entry, shape, room)
    }

    fn now(&self) -> Now {
        self.out.now()
    }

    fn missed(&mut self, messages: u64) {
        self.out.missed(messages);
    }
}

impl History {
    /// Gives its reader what was read for it from a disk, if anything is read.
    fn poll_loaded(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let Some(loading) = &mut self.loading else { return Poll::Ready(Ok(())) };
        let loaded = ready!(loading.poll(cx));
        self.loading = None;
        // What had to go for others is asked for again.
        let Some(loaded) = loaded else { return Poll::Ready(Ok(())) };
        Poll::Ready(loaded.and_then(|(segment, place)| match &mut self.way {
            Way::Forward(cursor) => cursor.give(segment, place, self.reader.topic()),
            Way::Backward(backward) => {
                backward.give(segment, place);
                Ok(())
            }
        }))
    }
}

impl Feed for History {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Err(refusal) = ready!(self.poll_loaded(cx)) {
                return Poll::Ready(Err(self.service.refuse(refusal)));
            }
            let credit = out.credit();
            let (topic, left) = (self.reader.topic(), &mut self.left);
            let mut out = Limited { out: Outgoing { out, service: &self.service }, left };
            let filled = match &mut self.way {
                Way::Forward(cursor) => cursor.fill(topic, &mut out),
                Way::Backward(backward) => backward.fill(topic, &mut out),
            };
            return match filled {
                Fill::Stored(wanted) => {
                    let side = match self.way {
                        Way::Forward(_) => Side::First,
                        Way::Backward(_) => Side::Last,
                    };
                    let loading = Loading::start(&self.service, topic, wanted, side, credit);
                    self.loading = Some(Box::new(loading));
                    continue;
                }
                Fill::NoRoom if self.left > 0 => Poll::Pending,
                // What is there now has been sent: nothing later is waited for.
                Fill::NoRoom | Fill::CaughtUp | Fill::Ended => Poll::Ready(Ok(())),
                Fill::Failed(refusal) => Poll::Ready(Err(self.service.refuse(refusal))),
            };
        }
    }
}
