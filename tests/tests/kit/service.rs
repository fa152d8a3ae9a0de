//! The service that a case needs.

use std::{collections::HashMap, sync::Arc};

use futures_util::{Stream, StreamExt, future, stream};
use rsock::{BoxStream, Error, Payload, Payloads, Request, Responder};
use rsock_tests::record::{Guard, Recorder};

use crate::case::{Case, End, Script, Step, word};

type Items = BoxStream<Result<Payload, Error>>;

/// Answers as the `serve` lines say, and notes what it saw.
#[derive(Clone, Default)]
pub(crate) struct Service {
    scripts: Arc<HashMap<(String, String), Script>>,
    pub(crate) saw: Arc<Recorder>,
}

/// The items of a script, made one by one: nothing is known of their number.
pub(crate) fn items(script: &Script) -> Items {
    let mut items = script.items.clone().into_iter();
    let listed = stream::poll_fn(move |_| items.next().map(Ok).into());
    match script.end.clone() {
        End::Complete | End::Echo => listed.boxed(),
        End::Error(text) => {
            listed.chain(stream::once(future::ready(Err(Error::application(text))))).boxed()
        }
        End::Silence => listed.chain(stream::pending()).boxed(),
    }
}

impl Service {
    pub(crate) fn new(case: &Case) -> Self {
        let mut scripts = HashMap::new();
        for (_, step) in &case.steps {
            if let Step::Serve { kind, request, script } = step {
                scripts.insert((kind.clone(), word(request)), script.clone());
            }
        }
        Self { scripts: Arc::new(scripts), saw: Arc::default() }
    }

    /// The script for a request, and what notes that its handler has gone.
    fn script(&self, kind: &str, request: &Payload) -> Result<(Script, Guard), Error> {
        let request = word(request);
        let name = format!("{kind} {request}");
        let script = self.scripts.get(&(kind.to_owned(), request)).cloned();
        let script =
            script.ok_or_else(|| Error::rejected(format_args!("nothing here serves {name}")))?;
        Ok((script, Guard::new(&self.saw, &name)))
    }
}

/// Items that hold something until they are dropped.
fn holding<T: Send + 'static>(mut items: Items, held: T) -> Items {
    stream::poll_fn(move |cx| {
        let _held = &held;
        items.poll_next_unpin(cx)
    })
    .boxed()
}

impl Responder for Service {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        let payload = request.into_payload();
        self.saw.note(format!("tell {}", word(&payload)));
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        let metadata = push.into_payload().metadata.unwrap_or_default();
        self.saw.note(format!("push {}", String::from_utf8_lossy(&metadata)));
    }

    async fn request_response_optional(
        self: Arc<Self>,
        request: Request,
    ) -> Result<Option<Payload>, Error> {
        let payload = request.into_payload();
        let (script, _guard) = self.script("ask", &payload)?;
        items(&script).next().await.transpose()
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        match self.script("stream", &payload) {
            Ok((script, guard)) => holding(items(&script), guard),
            Err(error) => stream::once(future::ready(Err(error))).boxed(),
        }
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let first = first.into_payload();
        let saw = Arc::clone(&self.saw);
        let listened = move |item: &Result<Payload, Error>| match item {
            Ok(item) => saw.note(format!("item {}", word(item))),
            Err(error) => saw.note(error.to_string()),
        };
        let rest = rest.inspect(listened);
        match self.script("channel", &first) {
            Ok((Script { end: End::Echo, .. }, guard)) => {
                let echo = stream::once(future::ready(Ok(first))).chain(rest);
                holding(echo.boxed(), guard)
            }
            Ok((script, guard)) => {
                let saw = Arc::clone(&self.saw);
                tokio::spawn(async move {
                    rest.for_each(|_| future::ready(())).await;
                    saw.note("the end of items");
                });
                holding(items(&script), guard)
            }
            Err(error) => stream::once(future::ready(Err(error))).boxed(),
        }
    }

    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        self.request_response_optional(request).await.map(Option::unwrap_or_default)
    }
}
