//! `auth`: a connection goes on with a fresh token.

use rsock::{Error, Json, MethodRoute, Request, request_response};
use serde::Serialize;

use crate::app::App;

#[derive(Serialize)]
struct Authenticated {
    subject: String,
    /// Seconds; without it, it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
}

pub(super) fn auth() -> MethodRoute<App> {
    request_response(async |app: App, request: Request| {
        let access = app.access().ok_or_else(|| Error::rejected("nobody is asked here"))?;
        let (subject, expires_in) = access.refresh(&request).await?;
        Ok::<_, Error>(Json(Authenticated { subject, expires_in }))
    })
    .about("go on with the fresh token of this request's credentials")
}
