//! From a request's route to the handler that answers it.

mod admission;
mod entries;
mod extract;
mod handler;
mod path;

use std::{fmt, future::Future, sync::Arc};

use futures_core::Stream;
use rsock_proto::{Interaction, Payload};

pub use self::admission::{Admission, ItemGuard};
use self::{
    admission::{Asking, Opening, guarded},
    handler::ResponseHandler,
    path::Paths,
};
pub use self::{
    entries::DataMimes,
    extract::{FromRequest, RouteName},
    handler::{
        MethodRoute, channel_feed, fire_and_forget, request_channel, request_response,
        request_stream, stream_feed,
    },
};
#[cfg(feature = "tracing")]
use crate::warnings::Kind;
use crate::{
    acceptor::Acceptor,
    connection::{
        feed::ItemSource,
        work::{Answer, Answering, Work, refused, work},
    },
    error::Error,
    meter::Meter,
    nearest::nearest,
    peer::Peer,
    request::Request,
    responder::{Failed, Responder},
    streams::Payloads,
};

/// Routes requests to handlers, with a state they share.
///
/// The route is the first tag of the routing metadata, whether that sits inside composite metadata
/// or is the connection's own metadata type (ROUTE-09). A request whose metadata cannot be read is
/// refused as invalid (CMETA-11), one for an unknown route as rejected.
///
/// ```
/// # use rsock::*;
/// # use futures_util::stream;
/// #[derive(Clone)]
/// struct App;
///
/// let app = Router::new(App)
///     .route("upper", request_response(async |_, Text(s): Text| Text(s.to_uppercase())))
///     .route("count.{to}", request_stream(|_, params: Params| {
///         let to = params.get("to").and_then(|to| to.parse().ok()).unwrap_or(0);
///         stream::iter((0..to).map(|n: u64| Text(n.to_string())))
///     }));
/// ```
#[derive(Clone)]
pub struct Router<S> {
    table: Arc<Table<S>>,
}

/// The function that decides whether a request is served at all.
type Admit<S> = dyn Fn(&S, &mut Request) -> Result<Admission, Error> + Send + Sync;

/// The function that tells what ends the items of a request.
type GuardOf<S> = dyn Fn(&S, &Request) -> Option<ItemGuard> + Send + Sync;

/// The function that decides whether a route may be named to who asked for another.
type MayName<S> = dyn Fn(&S, &Request, &str) -> bool + Send + Sync;

#[derive(Clone)]
struct Table<S> {
    state: S,
    paths: Paths<MethodRoute<S>>,
    default_route: Option<String>,
    admit: Option<Arc<Admit<S>>>,
    guard: Option<Arc<GuardOf<S>>>,
    hint: &'static str,
    suggests: Option<Arc<MayName<S>>>,
    meter: Arc<Meter>,
}

impl<S> Table<S> {
    fn add(&mut self, path: &str, handlers: MethodRoute<S>) -> Result<(), String> {
        let joined = self.paths.entry(path)?.join(handlers);
        joined.map_err(|both| format!("answers {} already", both.name()))
    }

    /// The number of the default route.
    fn default_number(&self) -> Option<u32> {
        self.paths.number(self.default_route.as_deref()?.as_bytes())
    }
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// A router without routes.
    pub fn new(state: S) -> Self {
        let table = Table {
            state,
            paths: Paths::default(),
            default_route: None,
            admit: None,
            guard: None,
            hint: "",
            suggests: None,
            meter: Arc::default(),
        };
        Self { table: Arc::new(table) }
    }

    /// Adds handlers to a route: a name, or a pattern of dot-separated tokens in which `{name}`
    /// stands for any one token and `{*name}`, at the end, for all that follow. Exact names come
    /// first; of patterns, token by token, one with a token that stands for itself before `{name}`, and
    /// that before `{*name}`.
    ///
    /// # Panics
    /// If the pattern is malformed or matches the same as one that was added with other names, and if
    /// the route answers one of these interactions already.
    #[must_use]
    #[track_caller]
    pub fn route(mut self, path: &str, handlers: MethodRoute<S>) -> Self {
        if let Err(problem) = Arc::make_mut(&mut self.table).add(path, handlers) {
            panic!("the route {path:?} {problem}");
        }
        self
    }

    /// Sets where requests go that name no route; without it they are rejected.
    #[must_use]
    pub fn default_route(self, path: &str) -> Self {
        self.change(|table| table.default_route = Some(path.to_owned()))
    }

    /// Sets what decides whether a request is served, before its route is looked up and any handler
    /// invoked (AUTH-08): for example by its credentials. Without it all are. What has to be waited for,
    /// and says who asks, is [`authorize_requests`](crate::AcceptorExt::authorize_requests).
    ///
    /// ```
    /// # use rsock::*;
    /// let app = Router::new("s3cr3t").authorize(|token, request| {
    ///     match request.authentication()? {
    ///         Some(credentials) if credentials.is_bearer(token) => Ok(()),
    ///         _ => Err(Error::rejected("the token is missing or wrong")),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn authorize(
        self,
        check: impl Fn(&S, &Request) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.admit(move |state, request| check(state, request).map(|()| Admission::Served))
    }

    /// Sets the same where it has to be found out first who sent some of the requests, because they have
    /// credentials of their own: the others do not wait, and cost no more. One after whose sender was asked
    /// is judged once more, and [says so](Request::is_identified).
    ///
    /// ```
    /// # use rsock::{*, metadata::Authentication};
    /// # async fn look_up(own: Authentication) -> Result<Identity, Error> { Ok(Identity::new("ann")) }
    /// let app = Router::new(()).admit(|(), request| match request.authentication()? {
    ///     Some(own) if !request.is_identified() => Ok(Admission::Ask(Box::pin(look_up(own)))),
    ///     _ if request.identity().is_some() => Ok(Admission::Served),
    ///     _ => Err(Error::rejected("not permitted")),
    /// });
    /// ```
    #[must_use]
    pub fn admit(
        self,
        check: impl Fn(&S, &mut Request) -> Result<Admission, Error> + Send + Sync + 'static,
    ) -> Self {
        self.change(|table| table.admit = Some(Arc::new(check)))
    }

    /// Sets what ends the items of a request-stream or channel while they run, once it may not go on: what it
    /// gives for a request that was admitted is asked before each item, or each time that a feed is asked for
    /// more. None of it for requests that it says nothing of.
    ///
    /// ```
    /// # use rsock::*;
    /// # fn may_still(who: &str) -> Result<(), Error> { Ok(()) }
    /// let app = Router::new(()).guard_items(|(), request| {
    ///     let who = request.identity()?.name().to_owned();
    ///     Some(Box::new(move || may_still(&who)))
    /// });
    /// ```
    #[must_use]
    pub fn guard_items(
        self,
        guard: impl Fn(&S, &Request) -> Option<ItemGuard> + Send + Sync + 'static,
    ) -> Self {
        self.change(|table| table.guard = Some(Arc::new(guard)))
    }

    /// Adds to the refusal of an unknown route, for example where to find the known ones.
    #[must_use]
    pub fn unknown_route_hint(self, hint: &'static str) -> Self {
        self.change(|table| table.hint = hint)
    }

    /// Sets which routes may be named to whoever asks for one that there is not, and spelled it nearly like
    /// them. Without it none is, so that a refusal tells nothing about what there is. Patterns are never
    /// named, and long names are not compared.
    ///
    /// ```
    /// # use rsock::*;
    /// let app = Router::new(()).suggest_routes(|(), request, route| {
    ///     !route.starts_with("admin.") || request.identity().is_some()
    /// });
    /// ```
    #[must_use]
    pub fn suggest_routes(
        self,
        may_name: impl Fn(&S, &Request, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.change(|table| table.suggests = Some(Arc::new(may_name)))
    }

    fn change(mut self, change: impl FnOnce(&mut Table<S>)) -> Self {
        change(Arc::make_mut(&mut self.table));
        self
    }

    /// Every route, in alphabetical order: its pattern, what it answers, and a line about it.
    pub fn routes(&self) -> Vec<(String, Vec<Interaction>, &'static str)> {
        self.table
            .paths
            .list()
            .into_iter()
            .map(|(path, route)| (path.to_owned(), route.interactions(), route.about))
            .collect()
    }

    /// Sets what counts fire-and-forget requests that fail, which their senders do not hear of: the
    /// server's own, so that they are among its figures, and in the log within its limits on warnings.
    #[must_use]
    pub fn meter(self, meter: Arc<Meter>) -> Self {
        self.change(|table| table.meter = meter)
    }

    /// Fire-and-forget requests that failed: unknown routes, unreadable data, errors of handlers.
    pub fn fire_and_forget_errors(&self) -> u64 {
        self.table.meter.read().failed_fire_and_forget
    }

    /// Whether a request is served; what to wait for first, if that is to be found out.
    #[inline]
    fn admits(&self, request: &mut Request) -> Result<Option<Asking>, Error> {
        let table = &*self.table;
        let Some(admit) = &table.admit else { return Ok(None) };
        let number = match request.find_route()? {
            Some(name) => table.paths.number(name),
            None => table.default_number(),
        };
        if number.is_none() {
            // Exact names are UTF-8.
            request.check_route()?;
        }
        request.set_route_number(number);
        match admit(&table.state, request)? {
            Admission::Served => Ok(None),
            Admission::Ask(who) => Ok(Some(who)),
        }
    }

    /// The guard of the items of a request.
    fn guard_of(&self, request: &Request) -> Option<ItemGuard> {
        self.table.guard.as_ref().and_then(|guard| guard(&self.table.state, request))
    }

    /// The answer of the handler that is picked of a request's route.
    fn answer(
        self: Arc<Self>,
        mut request: Request,
        interaction: Interaction,
        pick: fn(&MethodRoute<S>) -> Option<&ResponseHandler<S>>,
    ) -> Work {
        match self.admits(&mut request) {
            Ok(None) => self
                .dispatch(request, interaction, pick, |handler, state, request| {
                    handler(state, request)
                })
                .unwrap_or_else(refused),
            Ok(Some(who)) => work(move || async move {
                request.identify(who.await?);
                Answering::new(self.answer(request, interaction, pick)).await
            }),
            Err(error) => refused(error),
        }
    }

    /// Finds the route of a request, and has the handler that is picked of it answer.
    #[inline]
    fn dispatch<H, T>(
        &self,
        mut request: Request,
        interaction: Interaction,
        pick: impl FnOnce(&MethodRoute<S>) -> Option<&H>,
        handle: impl FnOnce(&H, S, Request) -> T,
    ) -> Result<T, Error> {
        let table = &*self.table;
        // It was found for whoever admitted the request, if anybody did.
        let number = table.admit.as_ref().and_then(|_| request.route_number());
        if let Some(route) = number.and_then(|number| table.paths.at(number)) {
            return match pick(route) {
                Some(handler) => Ok(handle(handler, table.state.clone(), request)),
                None => {
                    let name = request.route().or(table.default_route.as_deref());
                    Err(unanswered(name.unwrap_or_default(), interaction, route))
                }
            };
        }
        let own = request.find_route()?;
        let default = table.default_route.as_deref().filter(|_| own.is_none());
        let Some(name) = own.or_else(|| default.map(str::as_bytes)) else {
            return Err(Error::rejected("the request names no route, and there is no default one"));
        };
        let found = table.paths.find(name);
        // Exact names are UTF-8.
        if !matches!(found, Some((_, None))) && !name.is_ascii() {
            request.check_route()?;
        }
        let Some((route, pattern)) = found else {
            return Err(self.unknown(request.route().or(default).unwrap_or_default(), &request));
        };
        let Some(handler) = pick(route) else {
            let name = request.route().or(default).unwrap_or_default();
            return Err(unanswered(name, interaction, route));
        };
        if let Some(pattern) = pattern {
            request.set_pattern(Arc::clone(pattern), default);
        }
        Ok(handle(handler, table.state.clone(), request))
    }

    #[cold]
    fn unknown(&self, name: &str, request: &Request) -> Error {
        let table = &*self.table;
        let known = table.suggests.as_ref().and_then(|may_name| {
            nearest(name, table.paths.names(), |known| may_name(&table.state, request, known))
        });
        let suggestion = known.map_or(String::new(), |known| format!(" (did you mean {known:?}?)"));
        let hint = if table.hint.is_empty() { "" } else { "; " };
        Error::rejected(format_args!("no route {name:?}{suggestion}{hint}{}", table.hint))
    }
}

/// The items of a request whose sender is found out first.
#[cold]
fn asked(
    who: Asking,
    mut request: Request,
    answer: impl FnOnce(Request) -> ItemSource + Send + 'static,
) -> ItemSource {
    ItemSource::stream(Opening::new(Box::pin(async move {
        request.identify(who.await?);
        Ok(answer(request).into_stream())
    })))
}

#[cold]
fn unanswered<S>(name: &str, interaction: Interaction, route: &MethodRoute<S>) -> Error {
    let answers: Vec<_> = route.interactions().into_iter().map(Interaction::name).collect();
    Error::rejected(format_args!(
        "route {name:?} does not answer {}, only {}",
        interaction.name(),
        answers.join(", "),
    ))
}

impl<S: Clone + Send + Sync + 'static> Responder for Router<S> {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        let peer = request.peer().clone();
        let meter = Arc::clone(&self.table.meter);
        let interaction = Interaction::FireAndForget;
        let working = self.answer(request, interaction, |route| route.fire_and_forget.as_ref());
        if let Err(error) = Answering::new(working).await {
            meter.failed_fire_and_forget();
            log_fire_and_forget(&meter, &peer, &error);
        }
    }

    fn request_response(
        self: Arc<Self>,
        request: Request,
    ) -> impl Future<Output = Result<Payload, Error>> + Send {
        let answer = self.request_response_optional(request);
        async { answer.await.map(Option::unwrap_or_default) }
    }

    fn request_response_optional(
        self: Arc<Self>,
        request: Request,
    ) -> impl Future<Output = Answer> + Send {
        let interaction = Interaction::RequestResponse;
        Answering::new(self.answer(request, interaction, |route| route.request_response.as_ref()))
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        self.stream_items(request).into_stream()
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        self.channel_items(first, rest).into_stream()
    }

    fn stream_items(self: Arc<Self>, mut request: Request) -> ItemSource {
        match self.admits(&mut request) {
            Ok(None) => {}
            Ok(Some(who)) => return asked(who, request, |request| self.stream_items(request)),
            Err(error) => return ItemSource::stream(Failed::new(error)),
        }
        let guard = self.guard_of(&request);
        let found = self.dispatch(
            request,
            Interaction::RequestStream,
            |route| route.request_stream.as_ref(),
            |handler, state, request| handler(state, request),
        );
        guarded(found.unwrap_or_else(|error| ItemSource::stream(Failed::new(error))), guard)
    }

    fn channel_items(self: Arc<Self>, mut first: Request, rest: Payloads) -> ItemSource {
        match self.admits(&mut first) {
            Ok(None) => {}
            Ok(Some(who)) => return asked(who, first, |first| self.channel_items(first, rest)),
            Err(error) => return ItemSource::stream(Failed::new(error)),
        }
        let guard = self.guard_of(&first);
        let found = self.dispatch(
            first,
            Interaction::RequestChannel,
            |route| route.request_channel.as_ref(),
            |handler, state, request| handler(state, request, rest),
        );
        guarded(found.unwrap_or_else(|error| ItemSource::stream(Failed::new(error))), guard)
    }
}

impl<S: Clone + Send + Sync + 'static> Acceptor for Router<S> {
    type Responder = Self;

    fn accept(&self, _: Peer) -> impl Future<Output = Result<Self, Error>> + Send + 'static {
        std::future::ready(Ok(self.clone()))
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("paths", &self.table.paths).finish_non_exhaustive()
    }
}

#[cfg(feature = "tracing")]
fn log_fire_and_forget(meter: &Meter, of: &Peer, error: &Error) {
    let (conn, peer) = (of.connection_id(), of.address());
    let subject = of.identity().map(|identity| identity.name());
    if meter.admits_warning(Kind::Failed, peer, std::time::Instant::now()) {
        tracing::info!(conn, peer, subject, "a fire-and-forget request failed: {error}");
    } else {
        tracing::debug!(conn, peer, subject, "a fire-and-forget request failed: {error}");
    }
}

#[cfg(not(feature = "tracing"))]
fn log_fire_and_forget(_: &Meter, _: &Peer, _: &Error) {}

#[cfg(test)]
mod tests {
    use std::{
        panic::{self, AssertUnwindSafe, catch_unwind},
        sync::Mutex,
        task::{Context, Poll, Waker},
    };

    use bytes::Bytes;
    use rsock_proto::metadata::{CompositeBuilder, WellKnownMime};

    use super::*;
    use crate::{payload::PayloadExt, request::Params};

    fn ask(router: &Router<()>, payload: Payload) -> Result<Bytes, Error> {
        let request = Request::new(payload, Peer::local());
        let mut answer = std::pin::pin!(Arc::new(router.clone()).request_response(request));
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.map(|answer| answer.data),
            Poll::Pending => panic!("the handlers here answer at once"),
        }
    }

    fn to(route: &str) -> Payload {
        Payload::new("data").route(route).expect("a short route")
    }

    #[test]
    fn parameters_are_those_of_the_route_that_was_found() {
        let shown = async |(), (params, name): (Params, RouteName)| {
            format!("{}={}", name.0, params.get("id").unwrap_or("-"))
        };
        let router = Router::new(()).route("a.{id}", request_response(shown));
        let router = router.route("a.7", request_response(shown)).default_route("a.8");
        assert_eq!(ask(&router, to("a.9")).unwrap(), "a.9=9");
        assert_eq!(ask(&router, to("a.7")).unwrap(), "a.7=-");
        assert_eq!(ask(&router, Payload::default()).unwrap(), "=8");
        let refused = ask(&router, to("b")).unwrap_err().to_string();
        assert!(refused.contains("no route \"b\""), "{refused}");
    }

    /// Whoever admits requests may keep what it has found by these numbers.
    #[test]
    fn a_route_has_a_number_for_whoever_admits_requests_to_it_and_to_no_other_router() {
        let said = |text: &'static str| request_response(move |(), ()| std::future::ready(text));
        let inner = Router::new(()).route("b", said("inner b")).route("a", said("inner a"));
        let inner = inner.admit(|(), _| Ok(Admission::Served));
        let plain = Router::new(()).route("c", said("plain c")).route("a", said("plain a"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let numbers = Arc::clone(&seen);
        let nested = move |router: &Router<()>| {
            let router = Arc::new(router.clone());
            request_response(move |_, request: Request| {
                Arc::clone(&router).request_response(request)
            })
        };
        let router = Router::new(())
            .route("a", nested(&inner))
            .route("b", nested(&plain))
            .route("d", said("d"))
            .route("p.{x}", said("p"))
            .default_route("d")
            .admit(move |(), request| {
                numbers.lock().expect("nobody panics with it").push(request.route_number());
                if request.data() == "to d" {
                    request.set_payload(to("d"));
                }
                Ok(Admission::Served)
            });
        assert_eq!(ask(&router, to("a")).unwrap(), "inner a");
        let refused = ask(&router, to("b")).unwrap_err().to_string();
        assert_eq!(refused, "REJECTED: no route \"b\"");
        assert_eq!(ask(&router, Payload::default()).unwrap(), "d");
        assert_eq!(ask(&router, to("p.x")).unwrap(), "p");
        assert_eq!(ask(&router, Payload { data: "to d".into(), ..to("a") }).unwrap(), "d");
        assert!(ask(&router, to("x")).is_err());
        let numbers = seen.lock().expect("nobody panics with it").clone();
        assert_eq!(numbers, [Some(0), Some(1), Some(2), None, Some(0), None]);
    }

    #[test]
    fn a_route_is_suggested_to_who_may_know_of_it() {
        let echo = || request_response(async |(), data: Bytes| data);
        let router = Router::new(()).route("orders", echo()).route("secret", echo());
        let refused = |router: &Router<()>, name| ask(router, to(name)).unwrap_err().to_string();
        assert_eq!(refused(&router, "ordres"), "REJECTED: no route \"ordres\"");
        let router = router
            .suggest_routes(|(), request, route| route != "secret" || request.data() == "sesame");
        let suggested = "REJECTED: no route \"ordres\" (did you mean \"orders\"?)";
        assert_eq!(refused(&router, "ordres"), suggested);
        assert_eq!(refused(&router, "sceret"), "REJECTED: no route \"sceret\"");
        let router = router.unknown_route_hint("ask for help");
        assert_eq!(refused(&router, "ordres"), format!("{suggested}; ask for help"));
        assert_eq!(refused(&router, "other"), "REJECTED: no route \"other\"; ask for help");
    }

    /// ROUTE-07: whatever it would lead to.
    #[test]
    fn a_route_that_is_not_utf8_is_invalid() {
        let mut metadata = CompositeBuilder::new();
        metadata.push(WellKnownMime::Routing, [3, b'a', b'.', 0xff]).unwrap();
        let payload = Payload { metadata: Some(metadata.finish()), ..Payload::default() };
        let echo = || request_response(async |(), data: Bytes| data);
        let router = Router::new(()).route("echo", echo());
        for router in [
            router.clone(),
            router.clone().route("a.{id}", echo()),
            router.clone().route("{*all}", echo()),
            router.default_route("echo").authorize(|(), _| Err(Error::rejected("too late"))),
        ] {
            let refused = ask(&router, payload.clone());
            assert!(matches!(&refused, Err(Error::Invalid(_))), "{refused:?}");
        }
    }

    /// The message of the panic, and the line that it names.
    fn refusal(add: impl FnOnce() -> Router<()>) -> (String, u32) {
        static PLACE: Mutex<u32> = Mutex::new(0);
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|info| {
            // Other tests have panics of their own.
            if let Some(place) = info.location().filter(|place| place.file() == file!())
                && let Ok(mut line) = PLACE.lock()
            {
                *line = place.line();
            }
        }));
        let refused = catch_unwind(AssertUnwindSafe(add));
        panic::set_hook(hook);
        let message = refused.expect_err("it is refused").downcast::<String>();
        (*message.expect("it has words"), *PLACE.lock().expect("nobody panics with it"))
    }

    #[test]
    fn what_cannot_be_a_route_is_refused_with_the_place_of_who_adds_it() {
        let echo = || request_response(async |(), data: Bytes| data);
        let router = Router::new(()).route("a.{x}", echo());
        // Another interaction of the same route is welcome.
        let router = router.route("a.{x}", fire_and_forget(async |(), ()| ()));
        for (path, problem) in [
            ("a.{x}", "the route \"a.{x}\" answers request-response already"),
            ("a.{y}", "the route \"a.{y}\" matches what \"a.{x}\" matches"),
            ("a.{x", "has a brace inside a token"),
        ] {
            let router = router.clone();
            let (message, line) = refusal(|| router.route(path, echo()));
            assert!(message.contains(problem), "{message}");
            assert_eq!(line, line!() - 2);
        }
    }
}
