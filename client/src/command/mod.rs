//! The commands.

mod channel;
mod fnf;
mod items;
mod push;
mod request;
mod stream;

use bytes::Bytes;
use rsock::{CloseReason, Payload};

use crate::{
    args::{Command, ConnectionArgs, DataArgs, MetadataArgs},
    exit::Failure,
    metadata,
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
    metadata::build(args, &metadata::mime_name(&connection.metadata_mime)?)
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

/// What has no answer has failed if the connection did not end of our own will.
fn sent(reason: CloseReason) -> Result<(), Failure> {
    match reason {
        CloseReason::Finished(_) => Ok(()),
        reason => Err(Failure::Error(reason.into())),
    }
}
