//! `clock`: the time.

use std::time::SystemTime;

use futures_util::{Stream, StreamExt};
use humantime::format_rfc3339_millis;
use rsock::{Json, MethodRoute, request_response};
use serde::Serialize;

use super::{Every, JsonOptions, ticks::Ticks};
use crate::app::App;

pub(super) fn clock() -> MethodRoute<App> {
    request_response(async |_: App, (): ()| format_rfc3339_millis(SystemTime::now()).to_string())
        .request_stream(|_, JsonOptions(options)| ticks(options))
        .about("the time; a stream ticks each {\"interval_ms\":1000} and tells a slow reader what it missed")
}

#[derive(Serialize)]
struct Tick {
    seq: u64,
    time: String,
    missed: u64,
}

fn ticks(Every { interval_ms }: Every) -> impl Stream<Item = Json<Tick>> {
    Ticks::every(interval_ms).map(|tick| {
        // When it was due by a clock that may have been set since: counted back from now.
        let time = SystemTime::now().checked_sub(tick.late).unwrap_or(SystemTime::UNIX_EPOCH);
        let time = format_rfc3339_millis(time).to_string();
        Json(Tick { seq: tick.seq, time, missed: tick.missed })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ticks_tell_their_number_their_time_and_what_was_missed() {
        let mut ticks = Box::pin(ticks(Every { interval_ms: 100 }));
        assert_eq!(ticks.size_hint(), (usize::MAX, None));
        ticks.next().await.unwrap();
        tokio::time::advance(Duration::from_millis(350)).await;
        let Json(tick) = ticks.next().await.unwrap();
        assert_eq!((tick.seq, tick.missed), (3, 2));
        assert!(humantime::parse_rfc3339(&tick.time).is_ok(), "{}", tick.time);
    }
}
