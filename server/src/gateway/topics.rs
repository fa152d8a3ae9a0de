//! Topics: read as they grow, or polled for; what there was, and who is there.

use rsock::{HttpRequest, HttpResponse, Payload, PayloadExt};
use serde_json::{Map, Value, json};

use super::{
    Gateway,
    format::{Encoder, Format, Of},
    items, poll,
    problem::Problem,
    routes::{has_envelope, is_behind_end, json as answer_json},
    target::Query,
};
use crate::visitors::Visitor;

/// The parameters of whoever reads a topic.
const READING: [&str; 11] = [
    "from", "after", "lag", "max_lag", "live", "meta", "token", "envelope", "take", "poll",
    "ticket",
];
/// Those of a poll.
const POLLING: [&str; 9] =
    ["poll", "max", "from", "after", "lag", "max_lag", "meta", "token", "ticket"];

impl Gateway {
    /// `GET /topics/{t}`: a stream, or the answer to a poll.
    pub(super) async fn read_topic(
        &self,
        request: &HttpRequest,
        mut query: Query,
        visitor: Visitor,
        name: &str,
    ) -> Result<HttpResponse, Problem> {
        let polled = poll::Asked::take(&mut query)?;
        if is_behind_end(request) {
            return Ok(HttpResponse::new(204, ""));
        }
        let mut options = Map::new();
        let after = query.take("after");
        // What a client of events has had goes before what its address says: it said that when it began.
        let last = request.header("last-event-id").filter(|last| !last.is_empty());
        match (last.or(after.as_deref()), query.take("from")) {
            (Some(position), None) => drop(options.insert("from".into(), behind(position)?)),
            (Some(position), Some(_)) if last.is_some() => {
                options.insert("from".into(), behind(position)?);
            }
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("either from or after: both say where to begin"));
            }
            (None, Some(from)) => drop(options.insert("from".into(), beginning(&from)?)),
            (None, None) => {}
        }
        for option in ["lag", "meta", "token"] {
            if let Some(value) = query.take(option) {
                options.insert(option.into(), value.into());
            }
        }
        if let Some(max) = query.number("max_lag", 0..=u64::MAX)? {
            options.insert("max_lag".into(), max.into());
        }
        if query.flag("live")? == Some(true) {
            options.insert("live".into(), true.into());
        }
        options.insert("start".into(), true.into());
        let route = format!("topic.{name}");
        let payload = request_to(&route, &options)?;
        if let Some(polled) = polled {
            Format::accepted(request.header("accept"), &[Format::Whole])?;
            query.finish(&POLLING)?;
            return poll::answer(&visitor, payload, polled, &self.0.drain).await;
        }
        let format = Format::accepted(request.header("accept"), &[Format::Lines, Format::Events])?;
        let has_envelope = has_envelope(&mut query, format == Format::Lines)?;
        let take = query.number("take", 1..=u64::MAX)?;
        query.finish(&READING)?;
        if request.method() == "HEAD" {
            return Ok(items::marked(HttpResponse::new(200, ""), format));
        }
        let encoder = Encoder { format, of: Of::Topic, has_envelope };
        let items = visitor.caller.request_stream(payload);
        items::answer(items, encoder, take, &self.0.drain, visitor).await
    }

    /// `GET /topics/{t}/history`: a page.
    pub(super) async fn history(
        &self,
        request: &HttpRequest,
        mut query: Query,
        visitor: Visitor,
        name: &str,
    ) -> Result<HttpResponse, Problem> {
        Format::accepted(request.header("accept"), &[Format::Whole])?;
        let mut options = Map::new();
        for option in ["after", "before"] {
            if let Some(position) = query.take(option) {
                let (epoch, offset) = position_of(&position)?;
                options.insert("epoch".into(), epoch.into());
                options.insert(option.into(), offset.into());
            }
        }
        for option in ["limit", "max_bytes"] {
            if let Some(number) = query.number(option, 0..=u64::MAX)? {
                options.insert(option.into(), number.into());
            }
        }
        if let Some(reverse) = query.flag("reverse")? {
            options.insert("reverse".into(), reverse.into());
        }
        query.finish(&["after", "before", "limit", "max_bytes", "reverse", "ticket"])?;
        let payload = request_to(&format!("history.{name}"), &options)?;
        let page = visitor.caller.request_response(payload).await?;
        Ok(answer_json(page.unwrap_or_default().data))
    }

    /// `GET /topics/{t}/presence`: a page, or who comes and goes.
    pub(super) async fn presence(
        &self,
        request: &HttpRequest,
        mut query: Query,
        visitor: Visitor,
        name: &str,
    ) -> Result<HttpResponse, Problem> {
        let offered = [Format::Whole, Format::Events, Format::Lines];
        let format = Format::accepted(request.header("accept"), &offered)?;
        let mut options = Map::new();
        let known: &[&str] = if format == Format::Whole {
            if let Some(limit) = query.number("limit", 0..=u64::MAX)? {
                options.insert("limit".into(), limit.into());
            }
            if let Some(after) = query.take("after") {
                options.insert("after".into(), after.into());
            }
            if let Some(count) = query.flag("count")? {
                options.insert("count".into(), count.into());
            }
            &["limit", "after", "count", "ticket"]
        } else {
            for option in ["away", "each"] {
                if let Some(value) = query.flag(option)? {
                    options.insert(option.into(), value.into());
                }
            }
            &["away", "each", "ticket"]
        };
        query.finish(known)?;
        let payload = request_to(&format!("presence.{name}"), &options)?;
        if format == Format::Whole {
            let page = visitor.caller.request_response(payload).await?;
            return Ok(answer_json(page.unwrap_or_default().data));
        }
        if is_behind_end(request) {
            return Ok(HttpResponse::new(204, ""));
        }
        if request.method() == "HEAD" {
            return Ok(items::marked(HttpResponse::new(200, ""), format));
        }
        let encoder = Encoder { format, of: Of::Presence, has_envelope: true };
        let items = visitor.caller.request_stream(payload);
        items::answer(items, encoder, None, &self.0.drain, visitor).await
    }
}

/// A request with options.
fn request_to(route: &str, options: &Map<String, Value>) -> Result<Payload, Problem> {
    // Texts and numbers can be written as JSON.
    let options = serde_json::to_vec(options).unwrap_or_default();
    Ok(Payload::new(options).route(route)?)
}

/// The epoch and the offset of a position.
pub(super) fn position_of(text: &str) -> Result<(&str, u64), Problem> {
    let parts = text.split_once(':');
    let position = parts.and_then(|(epoch, offset)| Some((epoch, offset.parse().ok()?)));
    position.ok_or_else(|| {
        Problem::invalid(format_args!(
            "not a position: {text:?}; it is EPOCH:OFFSET, as 9f3c1a7be2d04411:42"
        ))
    })
}

/// The place behind a position.
pub(crate) fn behind(position: &str) -> Result<Value, Problem> {
    let (epoch, after) = position_of(position)?;
    Ok(json!({ "epoch": epoch, "after": after }))
}

/// The place that a parameter names.
pub(crate) fn beginning(text: &str) -> Result<Value, Problem> {
    let wrong = || {
        Problem::invalid(format_args!(
            "from: {text:?} is neither new, start, last:N nor since:TIME"
        ))
    };
    match text.split_once(':') {
        None if matches!(text, "new" | "start") => Ok(text.into()),
        Some(("last", count)) => {
            let count: u64 = count.parse().map_err(|_| wrong())?;
            Ok(json!({ "last": count }))
        }
        Some(("since", moment)) => Ok(json!({ "since": moment })),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_word_or_a_word_with_its_value() {
        for (text, expected) in [
            ("new", Some(json!("new"))),
            ("start", Some(json!("start"))),
            ("last:20", Some(json!({ "last": 20 }))),
            ("since:2026-11-30T00:00:00Z", Some(json!({ "since": "2026-11-30T00:00:00Z" }))),
            ("last", None),
            ("last:-1", None),
            ("end", None),
            ("", None),
        ] {
            assert_eq!(beginning(text).ok(), expected, "{text}");
        }
        assert_eq!(behind("9f3c:4").ok(), Some(json!({ "epoch": "9f3c", "after": 4 })));
        assert!(behind("9f3c").is_err() && behind("9f3c:x").is_err() && behind("").is_err());
    }
}
