//! `revoke`: what somebody came in with counts no more.

use rsock::HttpResponse;
use serde_json::json;

use super::{Administrator, answers};
use crate::{access::Revoke, app::App};

pub(super) fn revoke(app: &App, by: &Administrator, body: &[u8]) -> HttpResponse {
    let (Some(access), Some(principal)) = (app.access(), &by.principal) else {
        return answers::error(409, "REJECTED", "nobody is asked who they are here");
    };
    let revoke = match Revoke::read(body) {
        Ok(revoke) => revoke,
        Err(problem) => return answers::error(400, "INVALID", &problem),
    };
    match access.revoke(&revoke, &by.address, principal) {
        Ok(ended) => answers::json(200, &json!({ "ended": ended })),
        Err(error) => answers::error(409, "REJECTED", &error.to_string()),
    }
}
