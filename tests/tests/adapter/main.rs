//! Code written for the crate rsocket_rust on this engine, as a peer sees it that is neither: its
//! responders on our server, and our requester behind its trait.

#[path = "../../../rsock/examples/moved_over/program.rs"]
mod program;

mod moved_over;
mod requester;
mod responder;

use rsocket_rust::prelude::Payload;

fn text(payload: &Payload) -> &str {
    payload.data_utf8().expect("text")
}

fn payload(text: &str) -> Payload {
    Payload::builder().set_data_utf8(text).build()
}
