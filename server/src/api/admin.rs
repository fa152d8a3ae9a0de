//! `/api/admin/…` over HTTP: for those who may administer the service.

use rsock::{HttpRequest, HttpResponse};
use rsock_access::Action;
use serde_json::json;

use super::answers;
use crate::{access::Revoke, app::App};

/// The paths of it, all of them.
pub(crate) const PREFIX: &str = "/api/admin/";
/// Bytes of a request's body.
const MAX_BODY: usize = 4 << 10;

/// Answers a request to a path that begins with [`PREFIX`].
pub(crate) async fn answer(app: &App, request: HttpRequest) -> HttpResponse {
    let Some(access) = app.access() else {
        return HttpResponse::text(404, "nobody is asked who they are here\n");
    };
    let address = request.address().to_owned();
    let own = request.header("authorization");
    // Who may not is told nothing of what there is.
    let by = match access.may_over_http(&address, own, Action::Admin).await {
        Ok(by) => by,
        Err(status) => return answers::refusal(&request, status, Action::Admin.as_str()),
    };
    if request.path() != "/api/admin/revoke" {
        return HttpResponse::text(404, "There is POST /api/admin/revoke.\n");
    }
    if request.method().as_str() != "POST" {
        return HttpResponse::text(405, "It takes POST.\n").header("allow", "POST");
    }
    // Forms of pages elsewhere cannot say it, and a browser asks before it lets their scripts.
    let kind = request.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return HttpResponse::text(415, "It takes application/json.\n");
    }
    let body = match request.into_body().at_most(MAX_BODY).bytes().await {
        Ok(body) => body,
        Err(error) => return error.into(),
    };
    let revoke = match Revoke::read(&body) {
        Ok(revoke) => revoke,
        Err(problem) => return HttpResponse::text(400, format!("{problem}\n")),
    };
    match access.revoke(&revoke, &address, &by) {
        Ok(ended) => HttpResponse::new(200, json!({ "ended": ended }).to_string())
            .header("content-type", "application/json"),
        Err(error) => HttpResponse::text(409, format!("{error}\n")),
    }
}
