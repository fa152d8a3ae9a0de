//! Routes: asked once, told, or asked for items.

use std::time::Duration;

use rsock::{
    BoxStream, Error, HttpRequest, HttpResponse, Payload, PayloadExt, metadata::WellKnownMime,
};

use super::{
    Gateway,
    format::{END, Encoder, Format, Of},
    items, metadata,
    problem::Problem,
    target::Query,
};
use crate::visitors::{TICKET_SECONDS, Visitor};

/// The longest that one may wait for an answer, where one says how long.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

impl Gateway {
    /// `POST /ticket`: who one is, for an address.
    pub(super) fn give_ticket(
        &self,
        visitor: &Visitor,
        query: Query,
    ) -> Result<HttpResponse, Problem> {
        query.finish(&[])?;
        let ticket = self.0.visitors.ticket(visitor)?;
        // It has letters, digits, - and _ alone.
        Ok(json(format!("{{\"ticket\":\"{ticket}\",\"expires_in\":{TICKET_SECONDS}}}\n")))
    }

    /// `POST /request/{route}`
    pub(super) async fn request(
        &self,
        mut request: HttpRequest,
        query: Query,
        visitor: &Visitor,
        route: &str,
    ) -> Result<HttpResponse, Problem> {
        query.finish(&[])?;
        let limit = timeout(&request)?;
        let data = take_body(&mut request).await?;
        let payload = metadata::payload(&request, route, data)?;
        let answer = within(limit, visitor.caller.request_response(payload)).await?;
        Ok(metadata::answer(answer))
    }

    /// `POST /fnf/{route}`
    pub(super) async fn forget(
        &self,
        mut request: HttpRequest,
        query: Query,
        visitor: Visitor,
        route: &str,
    ) -> Result<HttpResponse, Problem> {
        query.finish(&[])?;
        let data = take_body(&mut request).await?;
        let payload = metadata::payload(&request, route, data)?;
        // Whoever has sent it may go: it is not called back, and counts for the visitor until it is done.
        tokio::spawn(async move {
            visitor.caller.fire_and_forget(payload).await;
            drop(visitor);
        });
        Ok(HttpResponse::new(202, ""))
    }

    /// `GET|POST /stream/{route}`
    pub(super) async fn stream(
        &self,
        mut request: HttpRequest,
        mut query: Query,
        visitor: Visitor,
        route: &str,
    ) -> Result<HttpResponse, Problem> {
        let offered = [Format::Lines, Format::Events, Format::Octets];
        let format = Format::accepted(request.header("accept"), &offered)?;
        let has_envelope = has_envelope(&mut query, false)?;
        let take = query.number("take", 1..=u64::MAX)?;
        let in_query = query.take("data");
        query.finish(&["data", "take", "envelope", "ticket"])?;
        if is_behind_end(&request) {
            return Ok(HttpResponse::new(204, ""));
        }
        if request.method() == "HEAD" {
            return Ok(items::marked(HttpResponse::new(200, ""), format));
        }
        let limit = timeout(&request)?;
        let data = match in_query {
            Some(data) => data.into(),
            None => take_body(&mut request).await?,
        };
        let payload = metadata::payload(&request, route, data)?;
        let encoder = Encoder { format, of: Of::Route, has_envelope };
        let items = until(limit, visitor.caller.request_stream(payload));
        items::answer(items, encoder, take, &self.0.drain, visitor).await
    }

    /// `GET /routes`, `/status`, `/topics`: the answer of the route of this name as JSON, or its stream.
    pub(super) async fn list(
        &self,
        request: &HttpRequest,
        mut query: Query,
        visitor: Visitor,
        route: &'static str,
    ) -> Result<HttpResponse, Problem> {
        let offered: &[Format] = match route {
            "routes" => &[Format::Whole],
            _ => &[Format::Whole, Format::Events, Format::Lines],
        };
        let format = Format::accepted(request.header("accept"), offered)?;
        let (options, known): (_, &[&str]) = match route {
            "topics" => {
                let prefix = query.take("prefix");
                let options = prefix.map(|prefix| serde_json::json!({ "prefix": prefix }));
                (options, &["prefix", "ticket"])
            }
            "status" if format != Format::Whole => {
                let every = query.number("interval_ms", 1..=u32::MAX.into())?;
                let options = every.map(|every| serde_json::json!({ "interval_ms": every }));
                (options, &["interval_ms", "ticket"])
            }
            _ => (None, &["ticket"]),
        };
        query.finish(known)?;
        let data = options.map(|options| options.to_string()).unwrap_or_default();
        let payload = Payload::new(data).route(route)?.accept(&[WellKnownMime::Json.into()])?;
        if format == Format::Whole {
            let answer = visitor.caller.request_response(payload).await?;
            return Ok(json(answer.unwrap_or_default().data));
        }
        if is_behind_end(request) {
            return Ok(HttpResponse::new(204, ""));
        }
        let encoder = Encoder { format, of: Of::Route, has_envelope: false };
        let items = visitor.caller.request_stream(payload);
        items::answer(items, encoder, None, &self.0.drain, visitor).await
    }
}

pub(super) fn json(body: impl Into<bytes::Bytes>) -> HttpResponse {
    HttpResponse::new(200, body)
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
}

/// The whole body of a request; the rest of it stays.
async fn take_body(request: &mut HttpRequest) -> Result<bytes::Bytes, Problem> {
    Ok(request.take_body().bytes().await?)
}

/// Whether each item is to have what is said beside its data.
pub(super) fn has_envelope(query: &mut Query, default: bool) -> Result<bool, Problem> {
    match query.take("envelope").as_deref() {
        None => Ok(default),
        Some("json") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => {
            Err(Problem::invalid(format_args!("envelope: {other:?} is neither json nor none")))
        }
    }
}

/// Whether a client of events asks again for a stream that it has had to its end.
pub(super) fn is_behind_end(request: &HttpRequest) -> bool {
    request.header("last-event-id") == Some(END)
}

/// The time within which an answer is wanted.
fn timeout(request: &HttpRequest) -> Result<Option<Duration>, Problem> {
    let Some(text) = request.header("rsock-timeout") else { return Ok(None) };
    let limit = rsock_cli::some_time(text)
        .map_err(|wrong| Problem::invalid(format_args!("Rsock-Timeout: {text:?}: {wrong}")))?;
    Ok(Some(limit.min(MAX_TIMEOUT)))
}

async fn within<T>(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Problem> {
    match limit {
        None => Ok(answer.await?),
        Some(limit) => match tokio::time::timeout(limit, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Problem::too_late(limit)),
        },
    }
}

/// The same items, which end with an error when it is time.
fn until(
    limit: Option<Duration>,
    items: BoxStream<Result<Payload, Error>>,
) -> BoxStream<Result<Payload, Error>> {
    use futures_util::{StreamExt, future::Either, stream};
    let Some(limit) = limit else { return items };
    let over = tokio::time::sleep(limit);
    let state = (items, Box::pin(over), false);
    Box::pin(stream::unfold(state, move |(mut items, mut over, is_over)| async move {
        if is_over {
            return None;
        }
        let next = futures_util::future::select(over.as_mut(), items.next()).await;
        match next {
            Either::Left(((), _)) => {
                let error = Error::Canceled(format!("Rsock-Timeout is over, {limit:?}").into());
                Some((Err(error), (items, over, true)))
            }
            Either::Right((item, _)) => item.map(|item| (item, (items, over, false))),
        }
    }))
}
