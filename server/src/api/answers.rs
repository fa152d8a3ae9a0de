//! Answers over HTTP, as JSON.

use rsock::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

/// An answer that nobody keeps.
pub(crate) fn json(status: u16, value: &Value) -> HttpResponse {
    HttpResponse::new(status, format!("{value}\n"))
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
        .header("x-content-type-options", "nosniff")
}

/// An answer that says what is wrong: with which error of RSocket, and as a sentence.
pub(crate) fn error(status: u16, code: &str, message: &str) -> HttpResponse {
    json(status, &json!({ "error": { "code": code, "message": message } }))
}

/// The answer to somebody who may not do this, by its status: 401, or 403.
pub(crate) fn refusal(request: &HttpRequest, status: u16, action: &str) -> HttpResponse {
    if status != 401 {
        return error(403, "REJECTED", &format!("not permitted: {action}"));
    }
    let answer = error(401, "REJECTED", "authentication failed");
    answer.header("www-authenticate", ways_to_sign_in(request))
}

/// The ways in which one may say who one is. A browser would ask its user for a password, where the script of a page
/// has asked.
pub(crate) fn ways_to_sign_in(request: &HttpRequest) -> &'static str {
    let is_script = request.header("sec-fetch-mode").is_some_and(|mode| mode != "navigate");
    if is_script { "Bearer" } else { "Basic realm=\"rsockd\", Bearer" }
}

/// The answer to another method than this.
pub(crate) fn wrong_method(method: &str) -> HttpResponse {
    error(405, "INVALID", &format!("It takes {method}.")).header("allow", method)
}
