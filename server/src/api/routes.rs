//! `routes`: what can be called here.

use rsock::{
    DataMimes, MethodRoute,
    metadata::{Mime, WellKnownMime},
    request_response,
};

use crate::app::App;

pub(super) fn routes() -> MethodRoute<App> {
    request_response(async |app: App, mimes: DataMimes| {
        let [json, text] = [WellKnownMime::Json, WellKnownMime::TextPlain].map(Mime::from);
        // To whoever says nothing it is a table to read.
        match mimes.accepted().find(|mime| *mime == json || *mime == text) {
            Some(mime) if mime == json => mimes.answer(json, app.routes_as_json()),
            Some(_) => mimes.answer(text, app.routes()),
            None => Ok(app.routes().into()),
        }
    })
    .about("this list; as JSON to who accepts that")
}
