//! One request, one answer.

use std::time::Instant;

use crate::{
    args::RequestArgs,
    connect,
    exit::Failure,
    metadata,
    render::{Output, say},
};

pub(crate) async fn run(args: RequestArgs) -> Result<(), Failure> {
    let RequestArgs { connection, metadata, data, output } = args;
    let payload = super::payload(&connection, &metadata, &data)?;
    let mut output = Output::new(&output, metadata::mime_name(&connection.metadata_mime)?)?;
    let work = async |client: &rsock::Client| {
        let started = Instant::now();
        let reply = client.request_response(payload).optional().await?;
        if connection.verbose > 0 {
            let elapsed = started.elapsed();
            match &reply {
                Some(reply) => {
                    say(format_args!("rsock: {} bytes in {elapsed:.1?}", reply.data.len()))
                }
                None => say(format_args!("rsock: completed without an answer in {elapsed:.1?}")),
            }
        }
        if let Some(reply) = reply {
            output.write(&reply).await?;
        }
        output.flush().await
    };
    connect::session(&connection, work).await.map(drop)
}
