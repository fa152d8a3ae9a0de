//! Plain HTTP on the WebSocket ports.

use std::{
    future::ready,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use rsock::{HttpHandler, HttpRequest, HttpResponse};

use crate::service::try_it;

/// Answers plain HTTP: health and readiness, and a short introduction for browsers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front(Arc<State>);

#[derive(Debug, Default)]
struct State {
    draining: AtomicBool,
    /// Known once all listeners are open.
    site: OnceLock<Site>,
}

#[derive(Debug)]
struct Site {
    about: Bytes,
    websocket_paths: Vec<String>,
}

impl Front {
    /// Tells it where the service listens.
    pub(crate) fn set_addresses(&self, addresses: &[String]) {
        let about = format!(
            "rsockd {}, an RSocket service. It listens on {}.\n\n{}\n\
             Its health is at /healthz, whether it takes connections at /readyz.\n",
            env!("CARGO_PKG_VERSION"),
            addresses.join(" and "),
            try_it(addresses),
        );
        let websocket_paths = addresses.iter().filter_map(|uri| websocket_path(uri)).collect();
        // Set here and nowhere else, once.
        let _ = self.0.site.set(Site { about: about.into(), websocket_paths });
    }

    /// From now on it is not ready.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }
}

/// The path of a WebSocket's URI, without its query.
fn websocket_path(uri: &str) -> Option<String> {
    let (_, path) = uri.strip_prefix("ws://")?.split_once('/')?;
    let path = path.split('?').next().unwrap_or_default();
    Some(format!("/{path}"))
}

impl HttpHandler for Front {
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send + 'static {
        ready(match request.method().as_str() {
            "OPTIONS" => HttpResponse::new(204, "").header("allow", "GET, HEAD, OPTIONS"),
            _ => self.answer(request.path()),
        })
    }
}

impl Front {
    fn answer(&self, path: &str) -> HttpResponse {
        let site = self.0.site.get();
        match path {
            "/healthz" => HttpResponse::text(200, "ok\n"),
            "/readyz" if self.0.draining.load(Ordering::Acquire) => {
                HttpResponse::text(503, "draining\n")
            }
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
                    "" => "There is /, /healthz and /readyz.\n".to_owned(),
                    paths => format!(
                        "There is /, /healthz and /readyz, and RSocket over WebSocket at {paths}.\n"
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
    use super::*;

    fn front(websocket: &str) -> Front {
        let front = Front::default();
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
            ("/rsocket", 426),
            ("/rsocket/", 426),
            ("/healthz/", 404),
            ("", 404),
        ] {
            assert_eq!(front.answer(path).status(), status, "{path}");
        }
    }

    #[test]
    fn the_root_tells_how_to_try_it() {
        let answer = front("ws://127.0.0.1:2/rsocket").answer("/");
        let text = String::from_utf8(answer.body().unwrap().to_vec()).unwrap();
        assert!(text.contains("rsock request tcp://127.0.0.1:1 "), "{text}");
    }

    #[test]
    fn a_websocket_may_be_at_the_root() {
        let front = front("ws://127.0.0.1:2/");
        assert_eq!(front.answer("/").status(), 426);
    }

    #[test]
    fn it_is_healthy_and_not_ready_while_draining() {
        let front = front("ws://127.0.0.1:2/rsocket");
        front.drain();
        assert_eq!(front.answer("/readyz").status(), 503);
        assert_eq!(front.answer("/healthz").status(), 200);
    }
}
