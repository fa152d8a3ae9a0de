//! `routes`: what can be called here.

use rsock::{
    DataMimes, MethodRoute, Request,
    metadata::{Mime, WellKnownMime},
    request_response,
};

use crate::app::App;

pub(super) fn routes() -> MethodRoute<App> {
    request_response(async |app: App, (mimes, request): (DataMimes, Request)| {
        let [json, text] = [WellKnownMime::Json, WellKnownMime::TextPlain].map(Mime::from);
        // To whoever says nothing it is a table to read.
        match mimes.accepted().find(|mime| *mime == json || *mime == text) {
            Some(mime) if mime == json => mimes.answer(json, app.routes(&request, true)),
            Some(_) => mimes.answer(text, app.routes(&request, false)),
            None => Ok(app.routes(&request, false).into()),
        }
    })
    .about("this list; as JSON to who accepts that")
}
