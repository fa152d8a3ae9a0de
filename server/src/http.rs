//! Plain HTTP on the WebSocket ports.

mod door;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rsock::{HttpHandler, HttpRequest, HttpResponse};
use rsock_access::Action;

use crate::{
    api::admin,
    app::App,
    metrics::{self, Format},
    service::try_it,
};

pub(crate) use door::{WebDoor, WebRules, is_forwarding};

/// Answers plain HTTP: health, readiness and metrics, and a short introduction for browsers.
#[derive(Clone, Debug)]
pub(crate) struct Front(Arc<State>);

#[derive(Debug)]
struct State {
    app: App,
    has_metrics: bool,
    /// The service is administered here.
    has_admin: bool,
    /// Known once all listeners are open.
    site: OnceLock<Site>,
}

#[derive(Debug)]
struct Site {
    about: Bytes,
    websocket_paths: Vec<String>,
}

impl Front {
    /// One that tells of this service, and has metrics or not, and what administers it.
    pub(crate) fn new(app: App, has_metrics: bool, has_admin: bool) -> Self {
        Self(Arc::new(State { app, has_metrics, has_admin, site: OnceLock::new() }))
    }

    /// Tells it where the service listens.
    pub(crate) fn set_addresses(&self, addresses: &[String]) {
        let about = format!(
            "rsockd {}, an RSocket service. It listens on {}.\n\n{}\n\
             Its health is at /healthz, whether it takes connections at /readyz, its figures at /metrics.\n",
            env!("CARGO_PKG_VERSION"),
            addresses.join(" and "),
            try_it(addresses),
        );
        let websocket_paths = addresses.iter().filter_map(|uri| websocket_path(uri)).collect();
        // Set here and nowhere else, once.
        let _ = self.0.site.set(Site { about: about.into(), websocket_paths });
    }
}

/// The path of a WebSocket's URI, without its query.
fn websocket_path(uri: &str) -> Option<String> {
    let (_, path) =
        uri.strip_prefix("ws://").or_else(|| uri.strip_prefix("wss://"))?.split_once('/')?;
    let path = path.split('?').next().unwrap_or_default();
    Some(format!("/{path}"))
}

impl HttpHandler for Front {
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send + 'static {
        let front = self.clone();
        async move {
            if request.method().as_str() == "OPTIONS" {
                return HttpResponse::new(204, "").header("allow", "GET, HEAD, OPTIONS");
            }
            // Where people are asked who they are, figures are for those who may have them.
            if request.path() == "/metrics"
                && let Some(access) = front.0.app.access()
            {
                let own = request.header("authorization");
                match access.may_over_http(request.address(), own, Action::Metrics).await {
                    Ok(_) => {}
                    Err(403) => return HttpResponse::text(403, "not permitted: metrics\n"),
                    Err(_) => {
                        return HttpResponse::text(401, "authentication failed\n")
                            .header("www-authenticate", "Basic realm=\"rsockd\", Bearer");
                    }
                }
            }
            if front.0.has_admin && request.path().starts_with(admin::PREFIX) {
                return admin::answer(&front.0.app, request).await;
            }
            front.answer(request.path(), request.header("accept"))
        }
    }
}

impl Front {
    fn answer(&self, path: &str, accept: Option<&str>) -> HttpResponse {
        let site = self.0.site.get();
        match path {
            "/healthz" => HttpResponse::text(200, "ok\n"),
            "/metrics" if self.0.has_metrics => {
                let format = Format::accepted(accept);
                let text = metrics::text(&self.0.app, format);
                HttpResponse::new(200, text).header("content-type", format.mime())
            }
            "/readyz" if self.0.app.is_draining() => HttpResponse::text(503, "draining\n"),
            "/readyz" => HttpResponse::text(200, "ready\n"),
            _ if site.is_some_and(|site| {
                site.websocket_paths.iter().any(|known| is_same(known, path))
            }) =>
            {
                HttpResponse::text(
                    426,
                    "RSocket is spoken here, over WebSocket: connect with an RSocket client.\n",
                )
            }
            "/" => HttpResponse::text(200, site.map_or_else(Bytes::new, |site| site.about.clone())),
            _ => {
                let paths =
                    site.map_or_else(String::new, |site| site.websocket_paths.join(" and "));
                let text = match paths.as_str() {
                    "" => "There is /, /healthz, /readyz and /metrics.\n".to_owned(),
                    paths => format!(
                        "There is /, /healthz, /readyz and /metrics, and RSocket over WebSocket at {paths}.\n"
                    ),
                };
                HttpResponse::text(404, text)
            }
        }
    }
}

/// Whether the path is that of the WebSocket: a slash at the end makes no other.
fn is_same(known: &str, path: &str) -> bool {
    let without_slash = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
    without_slash(known) == without_slash(path)
}

#[cfg(test)]
mod tests {
    use rsock::MemoryBudget;
    use rsock_topics::{Service, Settings};

    use super::*;
    use crate::{app::app_on, topics::LocalAdmin};

    fn front(websocket: &str) -> Front {
        let topics = Service::with_permit(Settings::default(), LocalAdmin::default());
        let (app, _) = app_on(Arc::default(), MemoryBudget::of_process(), None, &topics, None);
        let front = Front::new(app, true, true);
        front.set_addresses(&["tcp://127.0.0.1:1".to_owned(), websocket.to_owned()]);
        front
    }

    #[test]
    fn every_path_has_its_answer() {
        let front = front("ws://127.0.0.1:2/rsocket?a=b");
        for (path, status) in [
            ("/", 200),
            ("/healthz", 200),
            ("/readyz", 200),
            ("/metrics", 200),
            ("/rsocket", 426),
            ("/rsocket/", 426),
            ("/healthz/", 404),
            ("", 404),
        ] {
            assert_eq!(front.answer(path, None).status(), status, "{path}");
        }
    }

    #[test]
    fn the_root_tells_how_to_try_it() {
        let answer = front("ws://127.0.0.1:2/rsocket").answer("/", None);
        let text = String::from_utf8(answer.body().unwrap().to_vec()).unwrap();
        assert!(text.contains("rsock request tcp://127.0.0.1:1 "), "{text}");
    }

    #[test]
    fn a_websocket_may_be_at_the_root() {
        let front = front("ws://127.0.0.1:2/");
        assert_eq!(front.answer("/", None).status(), 426);
    }

    #[test]
    fn it_is_healthy_and_not_ready_while_draining() {
        let front = front("ws://127.0.0.1:2/rsocket");
        front.0.app.drain();
        assert_eq!(front.answer("/readyz", None).status(), 503);
        assert_eq!(front.answer("/healthz", None).status(), 200);
    }
}
