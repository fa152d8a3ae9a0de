//! The commands.

#[cfg(any(feature = "tls-aws-lc-rs", feature = "tls-ring"))]
pub(crate) mod cert;
mod channel;
mod completion;
mod fnf;
mod items;
mod push;
mod request;
mod stream;
mod topic;

use std::cell::Cell;

use bytes::Bytes;
use rsock::{Client, CloseReason, Error, Payload, metadata::WellKnownMime};
use tokio::time;

use crate::{
    args::{Command, ConnectionArgs, DataArgs, Format, MetadataArgs},
    connect, credentials,
    exit::Failure,
    metadata,
    progress::Transfer,
    render::{be_quiet, say},
};

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    if command.connection().is_some_and(|connection| connection.quiet) {
        be_quiet();
    }
    match command {
        Command::Request(args) => request::run(args).await,
        Command::Stream(args) => stream::run(args).await,
        Command::Channel(args) => channel::run(args).await,
        Command::Fnf(args) => fnf::run(args).await,
        Command::Push(args) => push::run(args).await,
        Command::Topic(command) => topic::run(command).await,
        #[cfg(any(feature = "tls-aws-lc-rs", feature = "tls-ring"))]
        Command::Cert(command) => cert::run(command),
        Command::Completion { shell } => completion::run(shell),
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

/// Says that the answer is to be JSON, where that is what is shown, and the metadata has room for it.
fn ask_for_form(connection: &ConnectionArgs, metadata: &mut MetadataArgs, format: Format) {
    let composite = WellKnownMime::CompositeMetadata.as_str();
    let is_composite = metadata::mime_name(&connection.metadata_mime)
        .is_ok_and(|mime| mime.eq_ignore_ascii_case(composite));
    if format == Format::Json && metadata.accept.is_empty() && is_composite {
        metadata.accept.push(WellKnownMime::Json.as_str().to_owned());
    }
}

/// A request's one payload.
fn payload(
    connection: &ConnectionArgs,
    metadata: &MetadataArgs,
    data: &DataArgs,
) -> Result<Payload, Failure> {
    let metadata = request_metadata(connection, metadata)?;
    let chomps = data.chomp;
    let mut data = data.data.as_ref().map_or_else(|| Ok(Bytes::new()), |source| source.read())?;
    if chomps && data.last() == Some(&b'\n') {
        data.truncate(data.len() - 1);
    }
    Ok(Payload { metadata, data })
}

/// Sends what has no answer, and waits for a KEEPALIVE to come back behind it: the peer has read it by
/// then, and has had the time to refuse the connection. It has as long as `--timeout` says, or as
/// connecting may take.
async fn tell(
    connection: &ConnectionArgs,
    size: usize,
    send: impl AsyncFnOnce(&Client) -> Result<(), Error>,
) -> Result<(), Failure> {
    let is_sent = Cell::new(false);
    let patience = connection.connect_timeout.max(connection.resume.unwrap_or_default());
    let limit = connection.timeout.unwrap_or(patience);
    let work = async |client: &Client| {
        send(client).await?;
        is_sent.set(true);
        match time::timeout(limit, client.ping()).await {
            Ok(answered) => Ok(answered.map(drop)?),
            Err(_) => Err(Failure::NoSign(limit)),
        }
    };
    match connect::session(connection, Transfer::of_payload(size), work).await {
        // What has no answer has failed if the connection did not end in good order.
        Ok(CloseReason::Finished(_)) => Ok(()),
        Ok(reason) => Err(Failure::Error(reason.into())),
        Err(Failure::Timeout(limit)) if is_sent.get() => Err(Failure::NoSign(limit)),
        Err(failure) => Err(failure),
    }
}
