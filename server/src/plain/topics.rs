//! `/ws/topics/{t}`: a topic as a WebSocket. What one sends is published, and what is published comes.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use rsock::{
    BoxStream, Error, HttpRequest, HttpResponse, Payload, PayloadExt, WebSocket, WebSocketMessage,
    WebSocketOptions,
};
use rsock_topics::TopicName;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{Plain, TOPICS, close, fail, input::Input};
use crate::{
    access::Access,
    gateway::{Problem, Query, beginning, behind, beside, decoded, drawn, envelope},
    visitors::Visitor,
};

/// The parameters that there are.
const PARAMETERS: [&str; 9] =
    ["name", "last", "after", "from", "echo", "envelope", "lag", "max_lag", "ticket"];
/// Messages that are passed on before others may run.
const PORTION: usize = 64;

/// The wishes of a client, as its address has them.
struct Asked {
    route: String,
    options: Map<String, Value>,
    form: Form,
}

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// As JSON with what is said beside.
    has_envelope: bool,
    /// Own ones as well.
    has_echo: bool,
    /// Missed messages are passed over, since the client has said that the newest is what it wants.
    skips: bool,
}

impl Plain {
    pub(super) async fn topic(self, request: &HttpRequest) -> HttpResponse {
        let begun = self.begin(request).await;
        HttpResponse::websocket(
            request,
            WebSocketOptions::default(),
            move |mut socket| async move {
                match begun {
                    Ok((asked, visitor)) => serve(socket, asked, visitor).await,
                    // A page is shown no status: it sees the code.
                    Err(problem) => close(&mut socket, &problem),
                }
            },
        )
    }

    async fn begin(&self, request: &HttpRequest) -> Result<(Asked, Visitor), Problem> {
        let mut query = Query::parse(request.query())?;
        // Before anything else, so that nobody is told of what there is.
        let visitor = self.let_in(request, &mut query).await?;
        Ok((asked(request.path(), query)?, visitor))
    }
}

fn asked(path: &str, mut query: Query) -> Result<Asked, Problem> {
    // Decoded once, and judged as it is then.
    let name = path.strip_prefix(TOPICS).unwrap_or_default();
    let name = decoded(name).ok_or_else(|| Problem::bad_path(name))?;
    if let Err(refusal) = TopicName::parse(&name) {
        return Err(Problem::invalid(refusal));
    }
    let mut options = Map::new();
    let named = query.take("name").filter(|name| !name.is_empty());
    options.extend(named.map(|name| ("name".to_owned(), name.into())));
    let (last, after) = (query.number("last", 0..=10_000)?, query.take("after"));
    let from = match (last, after, query.take("from")) {
        (None, None, None) => None,
        (Some(last), None, None) => Some(json!({ "last": last })),
        (None, Some(after), None) => Some(behind(&after)?),
        (None, None, Some(from)) => Some(beginning(&from)?),
        _ => return Err(Problem::invalid("one of last, after and from says where to begin")),
    };
    options.extend(from.map(|from| ("from".to_owned(), from)));
    let has_echo = query.flag("echo")?.unwrap_or(true);
    let has_envelope = match query.take("envelope").as_deref() {
        None => false,
        Some("json") => true,
        Some(other) => {
            return Err(Problem::invalid(format_args!("envelope: there is json, not {other:?}")));
        }
    };
    let lag = query.take("lag");
    let skips = matches!(lag.as_deref(), Some("latest" | "conflate"));
    options.extend(lag.map(|lag| ("lag".to_owned(), lag.into())));
    if let Some(max) = query.number("max_lag", 1..=u64::MAX)? {
        options.insert("max_lag".into(), max.into());
    }
    query.finish(&PARAMETERS)?;
    // Own messages stand for what became of them, in their order; refusals are told.
    options.insert("receive".into(), "both".into());
    options.insert("start".into(), has_envelope.into());
    let form = Form { has_envelope, has_echo, skips };
    Ok(Asked { route: format!("topic.{name}"), options, form })
}

/// The name of somebody who gives none.
fn guest() -> String {
    format!("guest-{:04x}", drawn(0..1 << 16))
}

async fn serve(mut socket: WebSocket, asked: Asked, visitor: Visitor) {
    let mut options = asked.options;
    // Who is known has a name.
    let is_known = visitor.caller.peer().identity().is_some_and(|it| Access::subject(it).is_some());
    if !is_known && !options.contains_key("name") {
        options.insert("name".into(), guest().into());
    }
    let first = match Payload::new(Value::from(options).to_string()).route(&asked.route) {
        Ok(first) => first,
        Err(error) => return fail(&mut socket, error),
    };
    let (input, taken) = Input::new();
    let items = visitor.caller.request_channel(first, taken);
    let mut talk = Talk { socket, items, input, form: asked.form, has_left: false };
    poll_fn(|cx| talk.poll(cx)).await;
}

struct Talk {
    socket: WebSocket,
    items: BoxStream<Result<Payload, Error>>,
    input: Input,
    form: Form,
    /// The client has closed. What it said before is still published.
    has_left: bool,
}

/// The part of what is said beside an item that counts here.
#[derive(Default, Deserialize)]
struct Beside<'a> {
    #[serde(borrow)]
    gap: Option<&'a RawValue>,
    #[serde(borrow)]
    start: Option<&'a RawValue>,
    #[serde(borrow)]
    live: Option<&'a RawValue>,
    #[serde(borrow)]
    ack: Option<&'a RawValue>,
    refused: Option<Refused>,
    #[serde(default)]
    own: bool,
    #[serde(default)]
    deleted: bool,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
    reason: String,
}

impl Talk {
    /// Ready when the WebSocket is to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..PORTION {
            // What cannot leave is not asked for, and nothing is read meanwhile.
            match self.socket.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => self.leave(),
                Poll::Ready(Ok(())) => {}
            }
            let has_item = match self.items.as_mut().poll_next(cx) {
                Poll::Pending => false,
                Poll::Ready(None) if self.has_left => return Poll::Ready(()),
                Poll::Ready(None) => {
                    self.socket.close(4010, "the topic has ended");
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Err(error))) => {
                    fail(&mut self.socket, error);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Ok(payload))) => {
                    if self.pass_on(&payload).is_break() {
                        return Poll::Ready(());
                    }
                    true
                }
            };
            if self.has_left && self.input.is_empty() {
                return Poll::Ready(());
            }
            let has_said = self.input.is_awaited() && self.poll_said(cx);
            if !has_item && !has_said {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The client says no more.
    fn leave(&mut self) {
        self.has_left = true;
        self.input.end();
    }

    /// Takes what the client says, if somebody asks for it: whether it said something.
    fn poll_said(&mut self, cx: &mut Context<'_>) -> bool {
        let data: bytes::Bytes = match self.socket.poll_receive(cx) {
            Poll::Pending => return false,
            Poll::Ready(None) => {
                self.leave();
                return true;
            }
            Poll::Ready(Some(WebSocketMessage::Text(text))) => text.into(),
            Poll::Ready(Some(WebSocketMessage::Binary(bytes))) => bytes,
        };
        self.input.give(Payload::new(data));
        true
    }

    /// Sends an item, or what it means for who has no envelope.
    fn pass_on(&mut self, payload: &Payload) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        if self.has_left {
            return Continue(());
        }
        let json = beside(payload).unwrap_or_default();
        let beside: Beside<'_> = serde_json::from_slice(&json).unwrap_or_default();
        let Form { has_envelope, has_echo, skips } = self.form;
        if beside.own && !has_echo {
            return Continue(());
        }
        let is_message = beside.gap.is_none()
            && beside.start.is_none()
            && beside.live.is_none()
            && beside.ack.is_none()
            && beside.refused.is_none();
        if has_envelope {
            let text = String::from_utf8_lossy(&envelope(payload)).into_owned();
            return self.send(text.into());
        }
        if let Some(Refused { code, reason }) = beside.refused {
            let error =
                if code == "INVALID" { Error::invalid(reason) } else { Error::rejected(reason) };
            fail(&mut self.socket, error);
            return Break(());
        }
        if let Some(gap) = beside.gap
            && !skips
        {
            self.socket.close(4009, &format!("missed messages: {}", gap.get()));
            return Break(());
        }
        if !is_message || beside.deleted {
            return Continue(());
        }
        match std::str::from_utf8(&payload.data) {
            Ok(text) => self.send(text.into()),
            Err(_) => self.send(payload.data.clone().into()),
        }
    }

    fn send(&mut self, message: WebSocketMessage) -> std::ops::ControlFlow<()> {
        if self.socket.start_send(message).is_err() {
            self.leave();
        }
        std::ops::ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, query: &str) -> Result<Asked, Problem> {
        asked(path, Query::parse(Some(query))?)
    }

    #[test]
    fn names_are_decoded_once_and_judged() {
        for (path, route) in
            [("/ws/topics/room.1", "topic.room.1"), ("/ws/topics/%73taff.x", "topic.staff.x")]
        {
            assert_eq!(parse(path, "").expect("a name").route, route);
        }
        for path in [
            "/ws/topics/",
            "/ws/topics/a/",
            "/ws/topics//a",
            "/ws/topics/a%2fb",
            "/ws/topics/a%00",
            "/ws/topics/a..b",
            "/ws/topics/%2573taff",
            "/ws/topics/%ff",
            "/ws/topics/../metrics",
            "/ws/topics/a%20b",
        ] {
            assert!(parse(path, "").is_err_and(|problem| problem.status() == 400), "{path}");
        }
    }

    #[test]
    fn an_address_says_what_is_asked_for() {
        let asked = parse("/ws/topics/a", "name=ann&last=50&echo=false&envelope=json&lag=latest");
        let asked = asked.expect("it is right");
        let expected = json!({
            "name": "ann", "from": { "last": 50 }, "lag": "latest", "receive": "both", "start": true,
        });
        assert_eq!(Value::from(asked.options), expected);
        assert_eq!(asked.form, Form { has_envelope: true, has_echo: false, skips: true });
        let asked = parse("/ws/topics/a", "after=9f3c:7").expect("it is right");
        assert_eq!(asked.options["from"], json!({ "epoch": "9f3c", "after": 7 }));
        assert!(!asked.options.contains_key("name") && guest().starts_with("guest-"));
        for wrong in [
            "nmae=ann",
            "last=x",
            "last=1&after=a:1",
            "envelope=xml",
            "echo=maybe",
            "access_token=secret",
            "name=a&name=b",
            "after=5",
        ] {
            assert!(parse("/ws/topics/a", wrong).is_err_and(|it| it.status() == 400), "{wrong}");
        }
    }
}
