//! The application that is served: the routes, and the state they share.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use rsock::{MemoryBudget, Meter, Request, Router, Runtimes, frame::Interaction};
use rsock_topics::{Service, Settings};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use crate::{
    access::Access,
    api,
    metrics::Requests,
    operations::Operations,
    tls::{Certificates, Reloads},
    topics::LocalAdmin,
};

/// The state the routes share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<State>);

#[derive(Debug)]
struct State {
    meter: Arc<Meter>,
    memory: Arc<MemoryBudget>,
    runtimes: Option<Runtimes>,
    topics: Service,
    access: Option<Access>,
    started: Instant,
    fire_and_forget: AtomicU64,
    observed: Requests,
    draining: watch::Sender<bool>,
    /// The times that settings were read anew.
    reloads: Reloads,
    operations: Operations,
    /// There are some if anything is listened on over TLS.
    certificates: OnceLock<Certificates>,
    /// Set once all routes are known.
    routes: OnceLock<RouteList>,
}

/// The list of routes, in both of its forms.
#[derive(Debug)]
struct RouteList {
    text: Bytes,
    json: Bytes,
    routes: Vec<Described>,
}

/// All routes of `rsockd`, without a default one. `meter` is what `status` tells of: give the same
/// one to the server, and no memory of its own.
pub fn app(meter: Arc<Meter>) -> Router<App> {
    let topics = Service::with_permit(Settings::default(), LocalAdmin::default());
    app_on(meter, MemoryBudget::of_process(), None, &topics, None).1
}

/// The same on several runtimes, whose connections `status` tells of; with the state that they share.
pub(crate) fn app_on(
    meter: Arc<Meter>,
    memory: Arc<MemoryBudget>,
    runtimes: Option<Runtimes>,
    topics: &Service,
    access: Option<Access>,
) -> (App, Router<App>) {
    let app = App(Arc::new(State {
        meter: Arc::clone(&meter),
        memory,
        runtimes,
        topics: topics.clone(),
        access: access.clone(),
        started: Instant::now(),
        fire_and_forget: AtomicU64::new(0),
        observed: Requests::default(),
        draining: watch::Sender::new(false),
        reloads: Reloads::default(),
        operations: Operations::default(),
        certificates: OnceLock::new(),
        routes: OnceLock::new(),
    }));
    let mut router = api::add_to(Router::new(app.clone()));
    if access.is_some() {
        router = api::add_auth_to(router);
    }
    let router = topics
        .add_to(router)
        .meter(meter)
        .unknown_route_hint("request the route \"routes\" for the list")
        .suggest_routes(|app, request, route| app.may_request(request, route));
    let routes = described(&router);
    let (text, json) = (list(&routes).into(), json(&routes).into());
    // Set here and nowhere else.
    let _ = app.0.routes.set(RouteList { text, json, routes });
    (app, router)
}

/// A route, as a program reads of it.
#[derive(Clone, Debug, Serialize)]
struct Described {
    route: String,
    answers: Vec<&'static str>,
    about: &'static str,
}

/// All routes.
fn described(router: &Router<App>) -> Vec<Described> {
    let described = |(route, interactions, about): (_, Vec<Interaction>, _)| {
        let answers = interactions.into_iter().map(Interaction::name).collect();
        Described { route, answers, about }
    };
    router.routes().into_iter().map(described).collect()
}

/// A line for each route: its name, what it answers, and what it is for.
fn list(routes: &[Described]) -> String {
    let answers = |route: &Described| route.answers.join(", ");
    let names = routes.iter().map(|route| route.route.len()).max().unwrap_or_default();
    let width = routes.iter().map(|route| answers(route).len()).max().unwrap_or_default();
    let lines: Vec<_> = routes
        .iter()
        .map(|route| format!("{:names$}  {:width$}  {}", route.route, answers(route), route.about))
        .collect();
    lines.join("\n")
}

/// An array with an object for each route.
fn json(routes: &[Described]) -> Vec<u8> {
    // Strings in a list can always be written as JSON.
    serde_json::to_vec(routes).unwrap_or_default()
}

impl App {
    pub(crate) fn meter(&self) -> &Meter {
        &self.0.meter
    }

    pub(crate) fn memory(&self) -> &MemoryBudget {
        &self.0.memory
    }

    /// The topics, and their figures.
    pub(crate) fn topics(&self) -> &Service {
        &self.0.topics
    }

    /// For each runtime, if there are several, the connections it has and those it has had.
    pub(crate) fn connections_by_runtime(&self) -> Vec<(usize, usize)> {
        self.0.runtimes.as_ref().map(Runtimes::connections).unwrap_or_default()
    }

    pub(crate) fn uptime_seconds(&self) -> u64 {
        self.0.started.elapsed().as_secs()
    }

    /// The judge of who comes in, if anybody is asked.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.0.access.as_ref()
    }

    /// Whether whoever sent this request may call this route.
    pub(crate) fn may_request(&self, request: &Request, route: &str) -> bool {
        self.0.access.as_ref().is_none_or(|access| access.may_request(request, route))
    }

    /// The list of those routes that whoever sent this request may call, as text or as JSON.
    pub(crate) fn routes(&self, request: &Request, is_json: bool) -> Bytes {
        let Some(all) = self.0.routes.get() else { return Bytes::new() };
        if self.0.access.is_none() {
            return if is_json { all.json.clone() } else { all.text.clone() };
        }
        let permitted = all.routes.iter().filter(|known| self.may_request(request, &known.route));
        let permitted: Vec<_> = permitted.cloned().collect();
        if is_json { json(&permitted).into() } else { list(&permitted).into() }
    }

    /// The requests of clients, where they are observed.
    pub(crate) fn requests(&self) -> &Requests {
        &self.0.observed
    }

    /// All that who administers the service acts upon.
    pub(crate) fn operations(&self) -> &Operations {
        &self.0.operations
    }

    /// How often settings were read anew.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.0.reloads
    }

    /// The certificates of the service.
    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.0.certificates.get()
    }

    /// Says which they are, once.
    pub(crate) fn set_certificates(&self, certificates: Certificates) {
        // Others come with a restart alone.
        let _ = self.0.certificates.set(certificates);
    }

    /// From now on the service is not ready.
    pub(crate) fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Tells when it is not ready any more.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.0.draining.subscribe()
    }

    /// Counts a fire-and-forget request.
    pub(crate) fn take_fire_and_forget(&self) {
        self.0.fire_and_forget.fetch_add(1, Relaxed);
    }

    /// Fire-and-forget requests taken so far.
    pub(crate) fn fire_and_forget(&self) -> u64 {
        self.0.fire_and_forget.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_a_line_for_each_route() {
        let lines = list(&described(&app(Arc::default())));
        let names: Vec<_> =
            lines.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(
            names,
            [
                "clock",
                "echo",
                "history.{*name}",
                "presence.{*name}",
                "range",
                "routes",
                "status",
                "topic.{*name}",
                "topics",
            ]
        );
        assert!(lines.contains(
            "echo              request-response, fire-and-forget, request-stream, request-channel  what"
        ));
    }
}
