//! Many payloads, many answers, each side under the other's credit.

use std::sync::Arc;

use rsock_cli::Count;

use crate::{
    args::ChannelArgs,
    command::items::Items,
    connect,
    exit::Failure,
    input::{self, Outgoing, Progress},
    progress::Transfer,
    render::say,
};

pub(crate) async fn run(args: ChannelArgs) -> Result<(), Failure> {
    let ChannelArgs { connection, mut metadata, data, flow, output } = args;
    super::ask_for_form(&connection, &mut metadata, output.out);
    let metadata = super::request_metadata(&connection, &metadata)?;
    if flow.step && input::is_typed(&data) {
        return Err(Failure::usage(
            "--step and the channel's payloads cannot both be typed here: give the payloads with -d \
             or through a pipe",
        ));
    }
    let outgoing = Outgoing::new(&data, metadata)?;
    let transfer = Transfer::of_items(&output);
    let items = Items::new(&connection, flow, &output)?;
    let told = Told { progress: outgoing.progress(), verbose: connection.verbose > 0 };
    let work = async |client: &rsock::Client| {
        // Told at its end, also where that is Ctrl-C.
        let told = told;
        let consumed = items.consume(client.request_channel(outgoing)).await;
        if let Some(failure) = told.progress.failure() {
            return Err(failure);
        }
        consumed?;
        if told.progress.sent() == 0 {
            say("rsock: the input was empty: no channel was opened");
        }
        // Closing waits for our half of the channel: to its end, or to the peer's CANCEL.
        Ok(())
    };
    connect::session(&connection, transfer, work).await.map(drop)
}

/// Says at its end, if it is to, how much was sent.
struct Told {
    progress: Arc<Progress>,
    verbose: bool,
}

impl Drop for Told {
    fn drop(&mut self) {
        match self.progress.sent() {
            sent @ 1.. if self.verbose => {
                say(format_args!("rsock: {} sent", Count(sent, "payload")))
            }
            _ => {}
        }
    }
}
