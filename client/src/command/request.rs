//! One request, one answer.

use std::time::Instant;

use rsock_cli::{Count, Rounded};

use crate::{
    args::RequestArgs,
    connect,
    exit::Failure,
    metadata,
    progress::Transfer,
    render::{Output, say},
};

pub(crate) async fn run(args: RequestArgs) -> Result<(), Failure> {
    let RequestArgs { connection, mut metadata, data, output } = args;
    super::ask_for_form(&connection, &mut metadata, output.out);
    let payload = super::payload(&connection, &metadata, &data)?;
    let transfer = Transfer::of_payload(payload.data.len());
    let mut output = Output::new(&output, metadata::mime_name(&connection.metadata_mime)?)?;
    let work = async |client: &rsock::Client| {
        let started = Instant::now();
        let reply = client.request_response(payload).optional().await?;
        if connection.verbose > 0 {
            let elapsed = Rounded(started.elapsed());
            match &reply {
                Some(reply) => {
                    let size = Count(reply.data.len() as u64, "byte");
                    say(format_args!("rsock: {size} in {elapsed}"));
                }
                None => say(format_args!("rsock: completed without an answer in {elapsed}")),
            }
        }
        if let Some(reply) = reply {
            output.write(&reply).await?;
        }
        output.flush().await
    };
    connect::session(&connection, transfer, work).await.map(drop)
}
