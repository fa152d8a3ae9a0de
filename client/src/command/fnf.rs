//! A request that has no answer.

use rsock_cli::Count;

use crate::{args::FnfArgs, exit::Failure, render::say};

pub(crate) async fn run(args: FnfArgs) -> Result<(), Failure> {
    let FnfArgs { connection, metadata, data, report: _ } = args;
    let payload = super::payload(&connection, &metadata, &data)?;
    let size = payload.data.len();
    super::tell(&connection, size, async |client| client.fire_and_forget(payload).await).await?;
    if connection.verbose > 0 {
        say(format_args!("rsock: {} sent", Count(size as u64, "byte")));
    }
    Ok(())
}
