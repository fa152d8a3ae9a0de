//! The messages that a topic has kept.

use rsock::{
    Client,
    topic::{Event, Topic},
};

use super::shown::Shown;
use crate::{connect, exit::Failure, progress::Transfer, render::say, topic_args::HistoryArgs};

pub(crate) async fn run(args: HistoryArgs) -> Result<(), Failure> {
    let HistoryArgs { connection, topic, after, before, limit, reverse, output } = args;
    let connection = super::connection(connection)?;
    let mut shown = Shown::new(output, false)?;
    let is_verbose = connection.verbose > 0;
    let work = async |client: &Client| {
        let mut question = Topic::new(client, topic).history().limit(limit).reverse(reverse);
        if let Some(position) = after {
            question = question.after(position);
        }
        if let Some(position) = before {
            question = question.before(position);
        }
        let page = question.page().await?;
        let told = async {
            if let Some((from, to)) = page.gap {
                shown.event(&Event::Gap { from, to, exact: true }).await?;
            }
            for message in &page.messages {
                shown.message(message).await?;
            }
            Ok(())
        };
        let told = told.await;
        if is_verbose {
            let (epoch, base, head) = (page.epoch, page.base, page.head);
            say(format_args!("rsock: of {epoch}, {base} to {head} are kept"));
        }
        shown.end(told).await
    };
    connect::session(&connection, Transfer::of_items(&output.into()), work).await.map(drop)
}
