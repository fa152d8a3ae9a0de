//! Metadata for the peer, outside of any request.

use rsock_cli::Count;

use crate::{args::PushArgs, exit::Failure, render::say};

pub(crate) async fn run(args: PushArgs) -> Result<(), Failure> {
    let PushArgs { connection, metadata, report: _ } = args;
    let is_of_requests = metadata.request_data_mime.is_some()
        || !metadata.accept.is_empty()
        || metadata.trace.is_some()
        || metadata.traceparent.is_some();
    if is_of_requests || connection.auth.auth_in.is_in_request() {
        return Err(Failure::usage(
            "push is not a request: --request-data-mime, --accept, --trace, --traceparent and --auth-in \
             request have no place in it",
        ));
    }
    let Some(metadata) = super::request_metadata(&connection, &metadata)? else {
        return Err(Failure::usage(
            "push sends metadata, and there is none: give it with -m or -r",
        ));
    };
    let size = metadata.len();
    super::tell(&connection, size, async |client| client.metadata_push(metadata).await).await?;
    if connection.verbose > 0 {
        say(format_args!("rsock: {} of metadata sent", Count(size as u64, "byte")));
    }
    Ok(())
}
