//! Plain WebSockets, for those who speak no RSocket: `/echo`, `/ws/topics/{t}`, and `/ws` with JSON.

mod echo;
mod input;
mod json;
mod topics;

use std::time::Duration;

use rsock::{Error, HttpRequest, HttpResponse, WebSocket, WebSocketOptions};

use crate::{
    gateway::{Problem, Query},
    visitors::{Visitor, Visitors},
};

/// The path of the echo.
const ECHO: &str = "/echo";
/// The path of JSON.
const JSON: &str = "/ws";
/// The path below which topics are.
const TOPICS: &str = "/ws/topics/";

/// Serves plain WebSockets. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    visitors: Visitors,
    /// How long the first message may be waited for that says who asks.
    entry_limit: Duration,
}

impl Plain {
    pub(crate) fn new(visitors: Visitors, entry_limit: Duration) -> Self {
        Self { visitors, entry_limit }
    }

    /// Whether there is a plain WebSocket at this path, as it was sent.
    pub(crate) fn is_at(path: &str) -> bool {
        matches!(without_slash(path), ECHO | JSON) || path.starts_with(TOPICS)
    }

    /// Answers a request for a path of theirs.
    pub(crate) async fn answer(self, request: HttpRequest) -> HttpResponse {
        match without_slash(request.path()) {
            ECHO => {
                let mut query = Query::default();
                match self.let_in(&request, &mut query).await {
                    Ok(visitor) => echo::answer(&request, visitor),
                    Err(problem) => HttpResponse::websocket(
                        &request,
                        WebSocketOptions::default(),
                        move |mut socket| async move { close(&mut socket, &problem) },
                    ),
                }
            }
            JSON => self.json(&request).await,
            _ => self.topic(&request).await,
        }
    }

    /// Lets in whoever opens a WebSocket, by a ticket, or as a connection of theirs would be.
    async fn let_in(&self, request: &HttpRequest, query: &mut Query) -> Result<Visitor, Problem> {
        match query.take("ticket") {
            Some(ticket) => self.visitors.with_ticket(request.to_peer(), &ticket).await,
            None => self.visitors.let_in(request.to_peer()).await,
        }
        .map_err(Problem::of_door)
    }
}

/// A slash at the end makes no other path, as for RSocket's; a name with one is no name.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Closes a WebSocket because of a problem: with its status of HTTP, 4000 in the place of 400.
fn close(socket: &mut WebSocket, problem: &Problem) {
    socket.close(code_of(problem.status()), &problem.to_string());
}

/// The code of a close frame for a status of HTTP.
fn code_of(status: u16) -> u16 {
    match status {
        // Of a ticket that counts no more: in HTTP it is what stops clients that would ask again.
        204 => 4001,
        400..=599 => 4000 + (status - 400),
        _ => 4100,
    }
}

/// Closes a WebSocket because of an error.
fn fail(socket: &mut WebSocket, error: Error) {
    close(socket, &Problem::from(error));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_the_status() {
        for (status, code) in [
            (400, 4000),
            (401, 4001),
            (403, 4003),
            (410, 4010),
            (429, 4029),
            (500, 4100),
            (503, 4103),
            (204, 4001),
        ] {
            assert_eq!(code_of(status), code);
        }
    }

    #[test]
    fn paths_are_taken_by_the_letter() {
        for path in ["/echo", "/echo/", "/ws", "/ws/", "/ws/topics/a", "/ws/topics/"] {
            assert!(Plain::is_at(path), "{path}");
        }
        for path in ["/echo//", "/Echo", "/ws/topics", "/wss", "/%65cho", "//echo"] {
            assert!(!Plain::is_at(path), "{path}");
        }
    }
}
