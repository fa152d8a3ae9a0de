//! The gateway: routes and topics for clients that speak HTTP, under `/api`.
//!
//! What a request asks for is asked of the same router as by RSocket, by a peer that comes in by the same door.
//! Credit is the body being polled: a client that reads slowly holds a socket's buffer and its place in a log.

mod cors;
mod format;
mod items;
mod metadata;
mod poll;
mod problem;
mod publish;
mod routes;
mod target;
mod topics;

use std::{sync::Arc, time::Duration};

use rsock::{HttpRequest, HttpResponse};
use tokio::sync::watch;

use self::{cors::Cors, target::Target};
pub(crate) use self::{
    format::{beside, envelope},
    items::drawn,
    problem::Problem,
    target::{Query, decoded},
    topics::{beginning, behind},
};
use crate::{
    api::answers::ways_to_sign_in,
    visitors::{Visitor, Visitors},
};

/// The path below which the gateway is.
pub(crate) const PREFIX: &str = "/api/";

/// Answers requests below [`PREFIX`]. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    visitors: Visitors,
    drain: Drain,
}

/// The way in which streams without an end are ended when the service stops: each at its own time.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) begins: watch::Receiver<bool>,
    /// From the beginning of the drain until the first stream ends.
    pub(crate) grace: Duration,
    /// From then until the last does.
    pub(crate) spread: Duration,
}

impl Gateway {
    pub(crate) fn new(visitors: Visitors, drain: Drain) -> Self {
        Self(Arc::new(Inner { visitors, drain }))
    }

    /// Answers a request whose path begins with [`PREFIX`].
    pub(crate) async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let cors = Cors::of(&request, self.0.visitors.access());
        let ways = ways_to_sign_in(&request);
        let accept = request.header("accept").unwrap_or_default();
        let reads_events = accept.contains("text/event-stream");
        let answer = match request.method().as_str() {
            "OPTIONS" => cors::preflight(),
            _ => self.try_answer(request).await.unwrap_or_else(|problem| {
                let problem = if reads_events { problem.told_as_event() } else { problem };
                problem.into_response(ways)
            }),
        };
        // Whoever has sent the data says what they are, and a browser need not think otherwise.
        cors.mark(answer).header("x-content-type-options", "nosniff")
    }

    async fn try_answer(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        let target = Target::parse(request.path())?;
        let mut query = Query::parse(request.query())?;
        target.check_method(request.method())?;
        if target == Target::Ticket && query.has("ticket") {
            return Err(Problem::invalid(
                "a ticket is given to who says who it is, and not for another",
            ));
        }
        let visitor = self.let_in(&request, &mut query).await?;
        match target {
            Target::Ticket => self.give_ticket(&visitor, query),
            Target::Request(route) => self.request(request, query, &visitor, &route).await,
            Target::FireAndForget(route) => self.forget(request, query, visitor, &route).await,
            Target::Stream(route) => self.stream(request, query, visitor, &route).await,
            Target::List(route) => self.list(&request, query, visitor, route).await,
            Target::Topic(name) if request.method() == "POST" => {
                self.publish(request, query, visitor, &name).await
            }
            Target::Topic(name) => self.read_topic(&request, query, visitor, &name).await,
            Target::History(name) => self.history(&request, query, visitor, &name).await,
            Target::Presence(name) => self.presence(&request, query, visitor, &name).await,
        }
    }

    /// Lets in whoever sent a request: by a ticket, or as a connection of theirs would be.
    async fn let_in(&self, request: &HttpRequest, query: &mut Query) -> Result<Visitor, Problem> {
        let visitors = &self.0.visitors;
        match query.take("ticket") {
            Some(ticket) => visitors.with_ticket(request.to_peer(), &ticket).await,
            None => visitors.let_in(request.to_peer()).await,
        }
        .map_err(Problem::of_door)
    }
}
