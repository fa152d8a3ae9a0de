//! `routes`: what can be called here.

use rsock::{MethodRoute, request_response};

use crate::app::App;

pub(super) fn routes() -> MethodRoute<App> {
    request_response(async |app: App, (): ()| app.routes()).about("this list")
}
