//! Commands for a topic itself.

use rsock::{Client, Error, topic::Topic};

use crate::{connect, exit::Failure, progress::Transfer, render::say, topic_args::OneArgs};

pub(crate) async fn purge(args: OneArgs) -> Result<(), Failure> {
    act(args, "purged", async |topic: Topic| topic.purge().await).await
}

pub(crate) async fn delete(args: OneArgs) -> Result<(), Failure> {
    act(args, "deleted", async |topic: Topic| topic.delete().await).await
}

async fn act(
    args: OneArgs,
    done: &str,
    act: impl AsyncFnOnce(Topic) -> Result<(), Error>,
) -> Result<(), Failure> {
    let connection = super::connection(args.connection)?;
    let name = args.topic;
    let is_verbose = connection.verbose > 0;
    let work = async |client: &Client| {
        act(Topic::new(client, name.as_str())).await?;
        if is_verbose {
            say(format_args!("rsock: {name} is {done}"));
        }
        Ok(())
    };
    connect::session(&connection, Transfer::default(), work).await.map(drop)
}
