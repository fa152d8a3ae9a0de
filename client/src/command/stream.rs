//! One request, many answers.

use crate::{args::StreamArgs, command::items::Items, connect, exit::Failure};

pub(crate) async fn run(args: StreamArgs) -> Result<(), Failure> {
    let StreamArgs { connection, metadata, data, flow, output } = args;
    let payload = super::payload(&connection, &metadata, &data)?;
    let items = Items::new(&connection, flow, &output)?;
    let work = async |client: &rsock::Client| {
        items.consume(client.request_stream(payload)).await.map(drop)
    };
    connect::session(&connection, work).await.map(drop)
}
