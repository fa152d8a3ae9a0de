//! `config`, `reload` and `drain`: the settings, and the end of the service.

use rsock::HttpResponse;
use serde_json::json;

use super::{Administrator, answers};
use crate::{
    app::App,
    settings::{Changes, effective_json},
};

/// The settings as they act, and all that is wrong with them as their sources have them now. Files are named, and
/// what is in them is not shown.
pub(super) async fn config(app: &App) -> HttpResponse {
    let app = app.clone();
    let described = tokio::task::spawn_blocking(move || {
        let operations = app.operations();
        let (known, problems) = operations.reloader().map(|reloader| reloader.look()).unzip();
        let file = known.as_ref().and_then(|known| known.newest.file());
        let file = file.map(|file| file.display().to_string());
        let acting = operations.options()?;
        Some(json!({
            "settings": effective_json(acting, known.as_ref()),
            "file": file,
            "problems": problems.unwrap_or_default(),
        }))
    });
    match described.await {
        Ok(Some(described)) => answers::json(200, &described),
        _ => answers::error(503, "REJECTED", "the service is not there yet"),
    }
}

pub(super) async fn reload(app: &App, by: &Administrator) -> HttpResponse {
    let Some(reloader) = app.operations().reloader().cloned() else {
        let told = "its settings are given by the program that it runs in";
        return answers::error(409, "REJECTED", told);
    };
    by.did(app, "reload", None);
    match tokio::task::spawn_blocking(move || reloader.reload()).await {
        Ok(Ok(Changes { live, new_connections, restart })) => answers::json(
            200,
            &json!({ "changed": { "live": live, "new_connections": new_connections, "restart": restart } }),
        ),
        Ok(Err(problem)) => {
            answers::error(409, "INVALID", &format!("nothing was changed: {problem}"))
        }
        // It has panicked, which is in the log.
        Err(_) => answers::error(500, "APPLICATION_ERROR", "nothing was changed"),
    }
}

/// Has the service end as SIGTERM does: gently, and wholly.
pub(super) fn drain(app: &App, by: &Administrator) -> HttpResponse {
    by.did(app, "drain", None);
    app.operations().ask_to_drain();
    answers::json(202, &json!({ "draining": true }))
}
