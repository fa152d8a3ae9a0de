//! Plain HTTP on the WebSocket ports.

mod door;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rsock::{HttpHandler, HttpRequest, HttpResponse};
use rsock_access::Action;

use crate::{
    api::{
        admin, answers,
        console::{self, Here},
    },
    app::App,
    gateway::{self, Gateway},
    metrics::{self, Format},
    plain::Plain,
    service::try_it,
    topics::LocalAdmin,
    web,
};

pub(crate) use door::{WebDoor, WebRules, is_forwarding};

/// Answers plain HTTP: health, readiness and metrics, and a short introduction for browsers.
#[derive(Clone, Debug)]
pub(crate) struct Front(Arc<State>);

#[derive(Debug)]
struct State {
    app: App,
    has_metrics: bool,
    /// The service is administered here, where nobody is asked by these.
    admin: Option<LocalAdmin>,
    /// None where nothing but the service's health is told.
    gateway: Option<Gateway>,
    plain: Option<Plain>,
    /// Known once all listeners are open.
    site: OnceLock<Site>,
}

#[derive(Debug)]
struct Site {
    about: Bytes,
    websockets: Vec<WebSocket>,
    has_console: bool,
}

/// An address of RSocket over WebSocket.
#[derive(Debug)]
struct WebSocket {
    /// Sockets that were passed on have none that is known.
    port: Option<u16>,
    path: String,
}

impl Front {
    /// One that tells of this service, and has metrics or not, and what administers it.
    pub(crate) fn new(
        app: App,
        has_metrics: bool,
        admin: Option<LocalAdmin>,
        gateway: Option<Gateway>,
        plain: Option<Plain>,
    ) -> Self {
        let site = OnceLock::new();
        Self(Arc::new(State { app, has_metrics, admin, gateway, plain, site }))
    }

    /// Tells it where the service listens, and whether there is a console.
    pub(crate) fn set_addresses(&self, addresses: &[String], has_console: bool) {
        let about = format!(
            "rsockd {}, an RSocket service. It listens on {}.\n\n{}\n\
             Its health is at /healthz, whether it takes connections at /readyz, its figures at /metrics.{}\n",
            env!("CARGO_PKG_VERSION"),
            addresses.join(" and "),
            try_it(addresses),
            if has_console { " Its console is at /console." } else { "" },
        );
        let websockets = addresses.iter().filter_map(|uri| websocket(uri)).collect();
        // Set here and nowhere else, once.
        let _ = self.0.site.set(Site { about: about.into(), websockets, has_console });
    }
}

/// The port and the path of a WebSocket's URI, without its query.
fn websocket(uri: &str) -> Option<WebSocket> {
    let (authority, path) =
        uri.strip_prefix("ws://").or_else(|| uri.strip_prefix("wss://"))?.split_once('/')?;
    let path = path.split('?').next().unwrap_or_default();
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    Some(WebSocket { port, path: format!("/{path}") })
}

/// First parts of paths at which something else is.
const TAKEN: [&str; 7] = ["api", "console", "echo", "healthz", "metrics", "readyz", "ws"];

/// Looks whether RSocket would be where something else is.
///
/// # Errors
/// The address that is to be another, as a sentence.
pub(crate) fn check_paths(listen: &[String]) -> Result<(), String> {
    for address in listen {
        let (scheme, rest) = address.split_once(':').unwrap_or_default();
        if !matches!(scheme, "ws" | "wss" | "ws+systemd" | "wss+systemd") {
            continue;
        }
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (_, path) = rest.split_once('/').unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let first = path.split('/').next().unwrap_or_default();
        let is_file = web::PUBLIC.iter().any(|known| is_same(known, &format!("/{path}")));
        if TAKEN.contains(&first) || is_file {
            return Err(format!(
                "--listen {address}: /{first} is taken by something else that is spoken there; RSocket may \
                 be at any path but /{} and the files of rsocket.mjs, as at /rsocket",
                TAKEN.join(", /")
            ));
        }
    }
    Ok(())
}

impl HttpHandler for Front {
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send + 'static {
        let front = self.clone();
        async move {
            if let Some(gateway) = front.gateway_for(request.path()) {
                return gateway.answer(request).await;
            }
            if let Some(plain) = &front.0.plain
                && Plain::is_at(request.path())
            {
                return plain.clone().answer(request).await;
            }
            if request.method().as_str() == "OPTIONS" {
                return HttpResponse::new(204, "").header("allow", "GET, HEAD, OPTIONS");
            }
            // Where people are asked who they are, figures are for those who may have them.
            if request.path() == "/metrics"
                && let Some(access) = front.0.app.access()
            {
                let metrics = Action::Metrics;
                if let Err(status) = access.may_over_http(&request, metrics).await {
                    return answers::refusal(&request, status, metrics.as_str());
                }
            }
            if let Some(local) = front.0.admin
                && request.path().starts_with(admin::PREFIX)
            {
                return admin::answer(&front.0.app, local, request).await;
            }
            if request.path() == console::PATH && front.has_console() {
                return console::answer(&front.0.app, &request, front.here(&request)).await;
            }
            front.answer(&request)
        }
    }
}

impl Front {
    fn has_console(&self) -> bool {
        self.0.site.get().is_some_and(|site| site.has_console)
    }

    /// The gateway, if this is one of its paths.
    fn gateway_for(&self, path: &str) -> Option<Gateway> {
        let is_of_others = path.starts_with(admin::PREFIX) || path == console::PATH;
        let is_its = path.starts_with(gateway::PREFIX) && !is_of_others;
        self.0.gateway.clone().filter(|_| is_its)
    }

    /// All that is to be had at the address that was asked.
    fn here(&self, request: &HttpRequest) -> Here<'_> {
        let websockets = self.0.site.get().map(|site| &site.websockets[..]).unwrap_or_default();
        let port = request.local_address().map(|address| address.port());
        let of_port = websockets.iter().filter(|known| known.port == port);
        let mut paths: Vec<_> = of_port.map(|known| &*known.path).collect();
        if paths.is_empty() {
            // A Unix socket has no port.
            paths = websockets.iter().map(|known| &*known.path).collect();
        }
        Here { websockets: paths, has_metrics: self.0.has_metrics, admin: self.0.admin.as_ref() }
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let (site, path) = (self.0.site.get(), request.path());
        let has_console = self.has_console();
        let is_websocket =
            site.is_some_and(|site| site.websockets.iter().any(|known| is_same(&known.path, path)));
        if !is_websocket
            && let Some(answer) =
                web::answer(request.method(), path, request.headers(), has_console)
        {
            return answer;
        }
        match path {
            "/healthz" => HttpResponse::text(200, "ok\n"),
            "/metrics" if self.0.has_metrics => {
                let format = Format::accepted(request.header("accept"));
                let text = metrics::text(&self.0.app, format);
                HttpResponse::new(200, text).header("content-type", format.mime())
            }
            "/readyz" if self.0.app.is_draining() => HttpResponse::text(503, "draining\n"),
            "/readyz" => HttpResponse::text(200, "ready\n"),
            _ if is_websocket => HttpResponse::text(
                426,
                "RSocket is spoken here, over WebSocket: connect with an RSocket client.\n",
            ),
            "/" => {
                let about = site.map_or_else(Bytes::new, |site| site.about.clone());
                let about = HttpResponse::text(200, about);
                if has_console { about.header("vary", "accept") } else { about }
            }
            _ => {
                let all = site.map(|site| &site.websockets[..]).unwrap_or_default();
                let paths: Vec<_> = all.iter().map(|known| &*known.path).collect();
                let websockets = match paths.as_slice() {
                    [] => String::new(),
                    paths => format!(", and RSocket over WebSocket at {}", paths.join(" and ")),
                };
                let console = if has_console { "/console, " } else { "" };
                let gateway = if self.0.gateway.is_some() { "/api, /echo, /ws, " } else { "" };
                let text = format!(
                    "There is /, {console}{gateway}/healthz, /readyz and /metrics{websockets}.\n"
                );
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
    use rsock::{
        MemoryBudget,
        http::{HeaderValue, Method, Uri},
    };
    use rsock_topics::{Service, Settings};

    use super::*;
    use crate::app::app_on;

    fn front(websocket: &str) -> Front {
        let topics = Service::with_permit(Settings::default(), LocalAdmin::default());
        let (app, _) = app_on(Arc::default(), MemoryBudget::of_process(), None, &topics, None);
        let front = Front::new(app, true, Some(LocalAdmin::default()), None, None);
        front.set_addresses(&["tcp://127.0.0.1:1".to_owned(), websocket.to_owned()], true);
        front
    }

    fn get(front: &Front, path: &'static str, accept: &'static str) -> HttpResponse {
        let mut request = HttpRequest::local(Method::GET, Uri::from_static(path), "");
        request.headers_mut().insert("accept", HeaderValue::from_static(accept));
        front.answer(&request)
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
            ("/console", 200),
            ("/console/", 200),
            ("/console/nothing", 404),
            ("/healthz/", 404),
        ] {
            assert_eq!(get(&front, path, "*/*").status(), status, "{path}");
        }
    }

    #[test]
    fn the_root_tells_how_to_try_it() {
        let answer = get(&front("ws://127.0.0.1:2/rsocket"), "/", "*/*");
        let text = String::from_utf8(answer.body().unwrap().to_vec()).unwrap();
        assert!(text.contains("rsock request tcp://127.0.0.1:1 "), "{text}");
    }

    #[test]
    fn rsocket_is_not_where_something_else_is() {
        let check = |address: &str| check_paths(&[address.to_owned()]);
        for free in [
            "tcp://127.0.0.1:1",
            "unix:/echo",
            "ws://127.0.0.1:2",
            "ws://127.0.0.1:2/",
            "ws://127.0.0.1:2/rsocket",
            "wss://echo:2/wss",
            "ws+systemd:echo/rsocket",
        ] {
            assert_eq!(check(free), Ok(()), "{free}");
        }
        for taken in [
            "ws://127.0.0.1:2/echo",
            "ws://127.0.0.1:2/ws?a=b",
            "wss://127.0.0.1:2/ws/topics/a",
            "ws://[::1]:2/api/",
            "ws://127.0.0.1:2/console",
            "ws://127.0.0.1:2/metrics/",
            "ws://127.0.0.1:2/rsocket.mjs",
            "ws+systemd:name/healthz",
        ] {
            let problem = check(taken).expect_err(taken);
            assert!(problem.contains(taken) && problem.contains("as at /rsocket"), "{problem}");
        }
    }

    #[test]
    fn a_websocket_may_be_at_the_root() {
        let front = front("ws://127.0.0.1:2/");
        assert_eq!(get(&front, "/", "text/html").status(), 426);
        // Then the console is beside it.
        assert_eq!(get(&front, "/console", "text/html").status(), 200);
    }

    #[test]
    fn it_is_healthy_and_not_ready_while_draining() {
        let front = front("ws://127.0.0.1:2/rsocket");
        front.0.app.drain();
        assert_eq!(get(&front, "/readyz", "*/*").status(), 503);
        assert_eq!(get(&front, "/healthz", "*/*").status(), 200);
    }
}
