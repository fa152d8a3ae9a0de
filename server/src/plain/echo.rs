//! `/echo`: what one sends comes back, for a first try of a WebSocket.

use std::time::Duration;

use rsock::{HttpRequest, HttpResponse, WebSocket, WebSocketOptions};
use tokio::time::{Instant, sleep_until};

use crate::visitors::Visitor;

/// Messages of a second. Who sends more of them is read more slowly.
const PER_SECOND: u32 = 100;
/// How long nothing may be sent.
const IDLE: Duration = Duration::from_secs(60);

pub(super) fn answer(request: &HttpRequest, visitor: Visitor) -> HttpResponse {
    let options = WebSocketOptions::default().idle_timeout(IDLE);
    HttpResponse::websocket(request, options, |socket| async move {
        echo(socket).await;
        // It counts for its user until here.
        drop(visitor);
    })
}

async fn echo(mut socket: WebSocket) {
    let mut pace = Pace::new();
    while let Some(message) = socket.receive().await {
        pace.wait().await;
        // It waits until it can leave, and nothing is read meanwhile.
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// The pace of messages: as many as a second is for may come at once.
struct Pace {
    /// The time that is used up.
    until: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { until: Instant::now() }
    }

    async fn wait(&mut self) {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        self.until = self.until.max(now) + second / PER_SECOND;
        // What is used up beyond a second is waited for.
        let due = self.until - second;
        if due > now {
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hundred_come_at_once_and_then_a_hundred_a_second() {
        let mut pace = Pace::new();
        // Which is long before.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let began = Instant::now();
        for _ in 0..100 {
            pace.wait().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..200 {
            pace.wait().await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((1.9..2.1).contains(&took), "{took}");
    }
}
