//! The application that is served: the routes, and the state they share.

use std::sync::{
    Arc, OnceLock,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{self, Relaxed},
    },
};

use bytes::Bytes;
use rsock::{MemoryBudget, Meter, Router, Runtimes, frame::Interaction};
use rsock_topics::{Service, Settings};
use serde::Serialize;
use tokio::time::Instant;

use crate::{api, metrics::Requests, topics::LocalAdmin};

/// The state the routes share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<State>);

#[derive(Debug)]
struct State {
    meter: Arc<Meter>,
    memory: Arc<MemoryBudget>,
    runtimes: Option<Runtimes>,
    topics: Service,
    started: Instant,
    fire_and_forget: AtomicU64,
    observed: Requests,
    draining: AtomicBool,
    /// Set once all routes are known.
    routes: OnceLock<RouteList>,
}

/// The list of routes, in both of its forms.
#[derive(Debug)]
struct RouteList {
    text: Bytes,
    json: Bytes,
}

/// All routes of `rsockd`, without a default one. `meter` is what `status` tells of: give the same
/// one to the server, and no memory of its own.
pub fn app(meter: Arc<Meter>) -> Router<App> {
    let topics = Service::with_permit(Settings::default(), LocalAdmin);
    app_on(meter, MemoryBudget::of_process(), None, &topics).1
}

/// The same on several runtimes, whose connections `status` tells of; with the state that they share.
pub(crate) fn app_on(
    meter: Arc<Meter>,
    memory: Arc<MemoryBudget>,
    runtimes: Option<Runtimes>,
    topics: &Service,
) -> (App, Router<App>) {
    let app = App(Arc::new(State {
        meter: Arc::clone(&meter),
        memory,
        runtimes,
        topics: topics.clone(),
        started: Instant::now(),
        fire_and_forget: AtomicU64::new(0),
        observed: Requests::default(),
        draining: AtomicBool::new(false),
        routes: OnceLock::new(),
    }));
    let router = topics
        .add_to(api::add_to(Router::new(app.clone())))
        .meter(meter)
        .unknown_route_hint("request the route \"routes\" for the list")
        // Whoever may ask for anything may ask for the list.
        .suggest_routes(|_, _, _| true);
    // Set here and nowhere else.
    let _ = app.0.routes.set(RouteList { text: list(&router).into(), json: json(&router).into() });
    (app, router)
}

/// A line for each route: its name, what it answers, and what it is for.
fn list(router: &Router<App>) -> String {
    let rows: Vec<_> = router
        .routes()
        .into_iter()
        .map(|(name, interactions, about)| {
            let answers: Vec<_> = interactions.into_iter().map(Interaction::name).collect();
            (name, answers.join(", "), about)
        })
        .collect();
    let names = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    let answers = rows.iter().map(|(_, answers, _)| answers.len()).max().unwrap_or_default();
    let lines: Vec<_> = rows
        .iter()
        .map(|(name, interactions, about)| {
            format!("{name:names$}  {interactions:answers$}  {about}")
        })
        .collect();
    lines.join("\n")
}

/// A route, as a program reads of it.
#[derive(Serialize)]
struct Described {
    route: String,
    answers: Vec<&'static str>,
    about: &'static str,
}

/// An array with an object for each route.
fn json(router: &Router<App>) -> Vec<u8> {
    let described = |(route, interactions, about): (_, Vec<Interaction>, _)| {
        let answers = interactions.into_iter().map(Interaction::name).collect();
        Described { route, answers, about }
    };
    let routes: Vec<_> = router.routes().into_iter().map(described).collect();
    // Strings in a list can always be written as JSON.
    serde_json::to_vec(&routes).unwrap_or_default()
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

    /// The list of routes, as text.
    pub(crate) fn routes(&self) -> Bytes {
        self.0.routes.get().map(|list| list.text.clone()).unwrap_or_default()
    }

    /// The same as JSON.
    pub(crate) fn routes_as_json(&self) -> Bytes {
        self.0.routes.get().map(|list| list.json.clone()).unwrap_or_default()
    }

    /// The requests of clients, where they are observed.
    pub(crate) fn requests(&self) -> &Requests {
        &self.0.observed
    }

    /// From now on the service is not ready.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
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
        let lines = list(&app(Arc::default()));
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
