//! The commands.

mod channel;
mod fnf;
mod items;
mod push;
mod request;
mod stream;

use std::time::Duration;

use bytes::Bytes;
use rsock::{CloseReason, Payload};
use tokio::time;

use crate::{
    args::{Command, ConnectionArgs, DataArgs, MetadataArgs},
    credentials,
    exit::Failure,
    metadata,
    render::say,
};

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Request(args) => request::run(args).await,
        Command::Stream(args) => stream::run(args).await,
        Command::Channel(args) => channel::run(args).await,
        Command::Fnf(args) => fnf::run(args).await,
        Command::Push(args) => push::run(args).await,
    }
}

/// The metadata that goes with a request.
fn request_metadata(
    connection: &ConnectionArgs,
    args: &MetadataArgs,
) -> Result<Option<Bytes>, Failure> {
    let credentials = if connection.auth.auth_in.is_in_request() {
        credentials::given(&connection.auth)?
    } else {
        None
    };
    let trace = args.trace.map(metadata::random_trace).transpose()?;
    if let Some(trace) = &trace
        && connection.verbose > 0
    {
        say(format_args!("rsock: {trace}"));
    }
    let metadata_mime = metadata::mime_name(&connection.metadata_mime)?;
    let built = metadata::of_request(args, credentials, trace, &metadata_mime)?;
    credentials::warn_if_in_clear(connection, args);
    Ok(built)
}

/// A request's one payload.
fn payload(
    connection: &ConnectionArgs,
    metadata: &MetadataArgs,
    data: &DataArgs,
) -> Result<Payload, Failure> {
    let metadata = request_metadata(connection, metadata)?;
    let data = data.data.as_ref().map_or_else(|| Ok(Bytes::new()), |source| source.read())?;
    Ok(Payload { metadata, data })
}

/// How long to wait for the KEEPALIVE behind a frame that has no answer.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(5);

/// Waits for a KEEPALIVE to come back behind what was sent: the peer has read it by then, and has
/// had the time to refuse the connection. A peer that answers no KEEPALIVE is not waited for.
async fn arrived(client: &rsock::Client) -> Result<(), Failure> {
    match time::timeout(ARRIVAL_LIMIT, client.ping()).await {
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// What has no answer has failed if the connection did not end of our own will.
fn sent(reason: CloseReason) -> Result<(), Failure> {
    match reason {
        CloseReason::Finished(_) => Ok(()),
        reason => Err(Failure::Error(reason.into())),
    }
}
