//! Many payloads, many answers, each side under the other's credit.

use rsock_cli::Count;

use crate::{
    args::ChannelArgs,
    command::items::Items,
    connect,
    exit::Failure,
    input::{self, Outgoing},
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
    let progress = outgoing.progress();
    let items = Items::new(&connection, flow, &output)?;
    let verbose = connection.verbose > 0;
    let work = async |client: &rsock::Client| {
        let consumed = items.consume(client.request_channel(outgoing)).await;
        if let Some(failure) = progress.failure() {
            return Err(failure);
        }
        consumed?;
        match progress.sent() {
            0 => say("rsock: the input was empty: no channel was opened"),
            // Closing waits for our half of the channel: to its end, or to the peer's CANCEL.
            sent if verbose => say(format_args!("rsock: {} sent", Count(sent, "payload"))),
            _ => {}
        }
        Ok(())
    };
    connect::session(&connection, work).await.map(drop)
}
