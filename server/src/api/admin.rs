//! `/api/admin/…` over HTTP: for those who may administer the service.

mod connections;
mod operations;
mod revoke;

use rsock::{HttpBodyError, HttpRequest, HttpResponse};
use rsock_access::{Action, Principal};

use super::answers;
use crate::{app::App, doors::is_of_host, topics::LocalAdmin};

/// The paths of it, all of them.
pub(crate) const PREFIX: &str = "/api/admin/";
/// Bytes of a request's body.
const MAX_BODY: usize = 4 << 10;
/// All that there is, for who asks for something else.
const PATHS: &str = "There is GET connections, connections/ID and config, and POST close/ID, reload, drain and revoke, \
                     below /api/admin/.";

/// Somebody who may administer the service.
pub(crate) struct Administrator {
    address: String,
    /// None where nobody is asked.
    principal: Option<Principal>,
}

/// The things to do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act<'a> {
    Connections,
    Connection(&'a str),
    Config,
    Close(&'a str),
    Reload,
    Drain,
    Revoke,
}

impl<'a> Act<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path.strip_prefix(PREFIX)? {
            "connections" => Self::Connections,
            "config" => Self::Config,
            "reload" => Self::Reload,
            "drain" => Self::Drain,
            "revoke" => Self::Revoke,
            path => match path.split_once('/')? {
                ("connections", id) => Self::Connection(id),
                ("close", id) => Self::Close(id),
                _ => return None,
            },
        })
    }

    fn is_read(self) -> bool {
        matches!(self, Self::Connections | Self::Connection(_) | Self::Config)
    }
}

/// Answers a request to a path that begins with [`PREFIX`]. Where nobody is asked who they are, `local` says who may.
pub(crate) async fn answer(app: &App, local: LocalAdmin, request: HttpRequest) -> HttpResponse {
    // Who may not is told nothing of what there is.
    let by = match admit(app, local, &request).await {
        Ok(by) => by,
        Err(status) => return answers::refusal(&request, status, Action::Admin.as_str()),
    };
    let (path, query) = (request.path().to_owned(), request.query().map(str::to_owned));
    let query = query.as_deref().unwrap_or_default();
    let Some(act) = Act::of(&path) else {
        return answers::error(404, "NOT_FOUND", PATHS);
    };
    match (act.is_read(), request.method().as_str()) {
        (true, "GET" | "HEAD") | (false, "POST") => {}
        (true, _) => return answers::wrong_method("GET, HEAD"),
        (false, _) => return answers::wrong_method("POST"),
    }
    let body = if act.is_read() {
        Vec::new()
    } else {
        match read(request, act == Act::Revoke).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        }
    };
    match act {
        Act::Connections => connections::list(app, query).await,
        Act::Connection(id) => connections::one(app, id, query).await,
        Act::Config => operations::config(app).await,
        Act::Close(id) => connections::close(app, &by, id, query).await,
        Act::Reload => operations::reload(app, &by).await,
        Act::Drain => operations::drain(app, &by),
        Act::Revoke => revoke::revoke(app, &by, &body),
    }
}

/// # Errors
/// The status to answer with.
async fn admit(app: &App, local: LocalAdmin, request: &HttpRequest) -> Result<Administrator, u16> {
    let principal = match app.access() {
        Some(access) => Some(access.may_over_http(request, Action::Admin).await?),
        None if local.may(request) => None,
        None => return Err(403),
    };
    Ok(Administrator { address: request.address().to_owned(), principal })
}

/// Reads the body of a request that changes something.
///
/// # Errors
/// The answer to one that may be of a page elsewhere, or whose body cannot be had.
async fn read(request: HttpRequest, needs_body: bool) -> Result<Vec<u8>, HttpResponse> {
    // Pages that are let in by their origin may use topics and routes, and not this.
    let is_own = |origin| is_of_host(origin, request.header("host"), request.scheme() == "https");
    if !request.header("origin").is_none_or(is_own) {
        let told = "the page is not the service's own";
        return Err(answers::error(403, "REJECTED", told));
    }
    // Forms of pages elsewhere cannot say it, and a browser asks before it lets their scripts.
    let kind =
        request.header("content-type").map(|kind| kind.split(';').next().unwrap_or_default());
    let is_json = kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    let is_bare = kind.is_none() && !needs_body;
    if !is_json && !is_bare {
        return Err(answers::error(415, "INVALID", "It takes application/json."));
    }
    let body = request.into_body().at_most(MAX_BODY).bytes().await;
    body.map(Into::into).map_err(|error: HttpBodyError| {
        let status = HttpResponse::from(error.clone()).status();
        answers::error(status, "INVALID", &error.to_string()).header("connection", "close")
    })
}

impl Administrator {
    /// Writes down what they did.
    fn did(&self, app: &App, action: &'static str, object: Option<&str>) {
        match (&self.principal, app.access()) {
            (Some(principal), Some(access)) => {
                access.administered(&self.address, principal, action, object);
            }
            _ => tracing::info!(
                peer = self.address,
                "admin: {action} {}",
                object.unwrap_or_default()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_acts() {
        for (path, act) in [
            ("connections", Some(Act::Connections)),
            ("connections/7", Some(Act::Connection("7"))),
            ("connections/", Some(Act::Connection(""))),
            ("close/7", Some(Act::Close("7"))),
            ("reload", Some(Act::Reload)),
            ("close", None),
            ("reload/", None),
            ("", None),
        ] {
            assert_eq!(Act::of(&format!("{PREFIX}{path}")), act, "{path}");
        }
    }
}
