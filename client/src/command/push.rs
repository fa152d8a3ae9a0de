//! Metadata for the peer, outside of any request.

use crate::{args::PushArgs, connect, exit::Failure, render::say};

pub(crate) async fn run(args: PushArgs) -> Result<(), Failure> {
    let PushArgs { connection, metadata } = args;
    let Some(metadata) = super::request_metadata(&connection, &metadata)? else {
        return Err(Failure::usage(
            "push sends metadata, and there is none: give it with -m or -r",
        ));
    };
    let size = metadata.len();
    let work = async |client: &rsock::Client| {
        client.metadata_push(metadata).await?;
        super::arrived(client).await
    };
    super::sent(connect::session(&connection, work).await?)?;
    if connection.verbose > 0 {
        say(format_args!("rsock: {size} bytes of metadata sent"));
    }
    Ok(())
}
