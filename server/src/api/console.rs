//! `/api/console` over HTTP: who one is, what one may do with the service as a whole, and where RSocket is spoken.
//! The console asks it first.

use rsock::{HttpRequest, HttpResponse};
use rsock_access::Action;
use serde_json::json;

use super::answers;
use crate::{app::App, topics::LocalAdmin};

/// The path of it.
pub(crate) const PATH: &str = "/api/console";

/// The address that was asked: what is to be had there.
pub(crate) struct Here<'a> {
    /// The paths of WebSockets there.
    pub(crate) websockets: Vec<&'a str>,
    /// Figures are told there.
    pub(crate) has_metrics: bool,
    /// The service is administered there, where nobody is asked by these.
    pub(crate) admin: Option<&'a LocalAdmin>,
}

/// Answers a request to [`PATH`].
pub(crate) async fn answer(app: &App, request: &HttpRequest, here: Here<'_>) -> HttpResponse {
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return answers::wrong_method("GET");
    }
    let (mut subject, mut may) = (None, Vec::new());
    if let Some(access) = app.access() {
        let console = access.may_over_http(request, Action::Console).await;
        let principal = match console {
            Ok(principal) => principal,
            Err(status) => return answers::refusal(request, status, Action::Console.as_str()),
        };
        may.extend(
            [Action::Console, Action::Metrics, Action::Admin]
                .into_iter()
                .filter(|action| access.may(&principal, *action)),
        );
        subject = principal.subject;
    } else {
        may.extend([Action::Console, Action::Metrics]);
        if here.admin.is_some_and(|admin| admin.may(request)) {
            may.push(Action::Admin);
        }
    }
    // What is told elsewhere is not to be had here.
    may.retain(|action| match action {
        Action::Metrics => here.has_metrics,
        Action::Admin => here.admin.is_some(),
        _ => true,
    });
    let may: Vec<_> = may.into_iter().map(Action::as_str).collect();
    answers::json(
        200,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "asks": app.access().is_some(),
            "subject": subject.as_deref(),
            "may": may,
            "websockets": here.websockets,
            "draining": app.is_draining(),
        }),
    )
}
