//! Receiving messages.

use rsock::{
    Client, Window,
    topic::{Event, Topic},
};
use rsock_cli::Count;

use super::{kept::Kept, shown::Shown};
use crate::{connect, exit::Failure, progress::Transfer, render::say, topic_args::SubArgs};

pub(crate) async fn run(args: SubArgs) -> Result<(), Failure> {
    let SubArgs { connection, topic, receive, meta, echo, live, take, output } = args;
    let connection = super::connection(connection)?;
    let transfer = Transfer::of_items(&output.into());
    let mut shown = Shown::new(output, receive.fail_on_gap)?;
    let (mut kept, from) = Kept::read(receive.position, receive.from)?;
    let is_verbose = connection.verbose > 0;
    let work = async |client: &Client| {
        let mut subscribe = Topic::new(client, topic)
            .subscribe()
            .from(from)
            .lag(receive.lag.into())
            .meta(meta.into())
            .echo(echo)
            .live(live)
            .observe(super::tell);
        if let Some(messages) = receive.max_lag {
            subscribe = subscribe.max_lag(messages);
        }
        if let Some(few) = take.and_then(|take| u32::try_from(take).ok()).filter(|take| *take < 64)
        {
            // One more for the place it begins at.
            subscribe = subscribe.window(Window::new(few + 1));
        }
        let mut events = subscribe.start();
        let mut received = 0;
        let taken = async {
            if kept.is_kept() {
                let position = events.started().await?;
                kept.write(Some(position), &mut shown).await?;
            }
            while take.is_none_or(|take| received < take) {
                let Some(event) = shown.next(&mut events).await? else { break };
                received += u64::from(matches!(event, Event::Message(_)));
                shown.event(&event).await?;
                kept.write(events.position(), &mut shown).await?;
            }
            Ok(())
        };
        let taken = taken.await;
        if is_verbose {
            let received = Count(received, "message");
            match events.position() {
                Some(position) => say(format_args!("rsock: {received}, up to {position}")),
                None => say(format_args!("rsock: {received}")),
            }
        }
        shown.end(taken).await
    };
    connect::session(&connection, transfer, work).await.map(drop)
}
