//! `connections` and `close`: who is there, what goes on, and an end of one of them.

use rsock::{ConnectionInfo, HttpResponse, Side, StreamInfo};
use serde_json::{Value, json};

use super::{Administrator, answers};
use crate::{access::Access, app::App};

/// Connections on a page, unless fewer or more are asked for.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;
/// Streams that are told of a connection.
const MAX_STREAMS: usize = 256;

/// Answers with a page: `?after=ID` has those behind this one, `&limit=N` so many.
pub(super) async fn list(app: &App, query: &str) -> HttpResponse {
    let (after, limit) = match page_of(query) {
        Ok(page) => page,
        Err(problem) => return answers::error(400, "INVALID", &problem),
    };
    let Some(connections) = app.operations().connections() else { return not_there_yet() };
    let page = connections.page(after, limit).await;
    let all: Vec<_> = page.connections.iter().map(described).collect();
    answers::json(200, &json!({ "connections": all, "more": page.has_more }))
}

/// Answers with one connection, and its streams.
pub(super) async fn one(app: &App, id: &str, query: &str) -> HttpResponse {
    let id = match number_of(id, query) {
        Ok(id) => id,
        Err(problem) => return answers::error(400, "INVALID", &problem),
    };
    let Some(connections) = app.operations().connections() else { return not_there_yet() };
    let Some(found) = connections.get(id, MAX_STREAMS).await else { return no_connection(id) };
    let mut one = described(&found.info);
    one["open"] = found.streams.iter().map(described_stream).collect();
    answers::json(200, &one)
}

/// Ends a connection now; with `?gently` with its last stream.
pub(super) async fn close(app: &App, by: &Administrator, id: &str, query: &str) -> HttpResponse {
    let gently = matches!(query, "gently" | "gently=true");
    let id = match number_of(id, if gently { "" } else { query }) {
        Ok(id) => id,
        Err(problem) => return answers::error(400, "INVALID", &problem),
    };
    let Some(connections) = app.operations().connections() else { return not_there_yet() };
    let is_ended = if gently { connections.drain(id).await } else { connections.close(id).await };
    if !is_ended {
        return no_connection(id);
    }
    by.did(app, if gently { "close gently" } else { "close" }, Some(&id.to_string()));
    answers::json(200, &json!({ "closed": id, "gently": gently }))
}

fn not_there_yet() -> HttpResponse {
    answers::error(503, "REJECTED", "the service is not there yet")
}

fn no_connection(id: u64) -> HttpResponse {
    answers::error(404, "NOT_FOUND", &format!("no connection {id}, or not any more"))
}

/// The number of the connection that is meant.
fn number_of(id: &str, query: &str) -> Result<u64, String> {
    if let Some((name, _)) = pairs(query).next() {
        return Err(unknown(name));
    }
    let number = id.parse().ok().filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| "a connection is named by its number".to_owned())
}

fn unknown(name: &str) -> String {
    format!("unknown: {:?} in the query", name.chars().take(64).collect::<String>())
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The number behind which a page begins, and how many it has at most.
fn page_of(query: &str) -> Result<(u64, usize), String> {
    let (mut after, mut limit) = (0, PAGE);
    for (name, value) in pairs(query) {
        let wrong = |most: u64| format!("{name} must be a whole number from 0 to {most}");
        match name {
            "after" => after = value.parse().map_err(|_| wrong(u64::MAX))?,
            "limit" => {
                let asked = value.parse().ok().filter(|asked| *asked <= MAX_PAGE);
                limit = asked.ok_or_else(|| wrong(MAX_PAGE as u64))?;
            }
            _ => return Err(unknown(name)),
        }
    }
    Ok((after, limit))
}

/// Thousandths, as a number of the whole.
fn thousandths(number: u128) -> f64 {
    // What is lost of it beyond 2^53 nobody sees.
    number as f64 / 1_000.0
}

fn described(one: &ConnectionInfo) -> Value {
    json!({
        "id": one.id,
        "address": one.address,
        "transport": one.scheme,
        "tls": one.tls.as_ref().map(|tls| tls.version().to_string()),
        "subject": one.subject.as_deref().filter(|name| !Access::is_nobody(name)),
        "age_s": thousandths(one.age.as_millis()),
        "rtt_ms": one.round_trip.map(|time| thousandths(time.as_micros())),
        "streams": one.streams,
        "credit_stalls": one.credit_stalls,
        "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out,
        "resumable": one.is_resumable,
        "stuck": one.is_stuck,
    })
}

fn described_stream(stream: &StreamInfo) -> Value {
    json!({
        "stream": stream.id,
        "route": stream.route,
        "interaction": stream.interaction.name(),
        "direction": if stream.by == Side::Peer { "in" } else { "out" },
        "age_s": stream.age.map(|age| thousandths(age.as_millis())),
        "granted": stream.granted,
        "sent": stream.sent,
        "awaited": stream.awaited,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_named_by_what_is_before_it() {
        assert_eq!(page_of(""), Ok((0, PAGE)));
        assert_eq!(page_of("after=7&limit=1000"), Ok((7, 1_000)));
        for (wrong, expected) in [
            ("after=x", "after must be a whole number from 0 to"),
            ("limit=1001", "limit must be a whole number from 0 to 1000"),
            ("limit=-1", "limit must be"),
            ("before=7", "unknown: \"before\" in the query"),
        ] {
            let problem = page_of(wrong).expect_err(wrong);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
