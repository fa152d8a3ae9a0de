//! One request, many answers.

use rsock::Client;

use crate::{args::StreamArgs, command::items::Items, connect, exit::Failure, progress::Transfer};

pub(crate) async fn run(args: StreamArgs) -> Result<(), Failure> {
    let StreamArgs { connection, mut metadata, data, flow, output } = args;
    super::ask_for_form(&connection, &mut metadata, output.out);
    let payload = super::payload(&connection, &metadata, &data)?;
    let transfer = Transfer::of_items(&output);
    let items = Items::new(&connection, flow, &output)?;
    let work = async |client: &Client| {
        if connection.reconnect {
            return items.consume_anew(client, payload).await;
        }
        items.consume(client.request_stream(payload)).await
    };
    connect::session(&connection, transfer, work).await.map(drop)
}
