//! A request that has no answer.

use crate::{args::FnfArgs, connect, exit::Failure, render::say};

pub(crate) async fn run(args: FnfArgs) -> Result<(), Failure> {
    let FnfArgs { connection, metadata, data } = args;
    let payload = super::payload(&connection, &metadata, &data)?;
    let size = payload.data.len();
    let work = async |client: &rsock::Client| {
        client.fire_and_forget(payload).await?;
        super::arrived(client).await
    };
    super::sent(connect::session(&connection, work).await?)?;
    if connection.verbose > 0 {
        say(format_args!("rsock: {size} bytes sent"));
    }
    Ok(())
}
