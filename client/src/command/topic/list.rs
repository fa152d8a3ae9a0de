//! The topics that there are.

use rsock::{
    Client,
    topic::{self, TopicInfo},
};
use rsock_cli::Count;
use serde_json::{Value, json};

use super::shown::Shown;
use crate::{
    connect,
    exit::Failure,
    progress::{Size, Transfer},
    topic_args::LsArgs,
};

pub(crate) async fn run(args: LsArgs) -> Result<(), Failure> {
    let LsArgs { connection, prefix, output } = args;
    let connection = super::connection(connection)?;
    let mut shown = Shown::new(output, false)?;
    let work = async |client: &Client| {
        let mut topics = topic::topics(client, &prefix);
        let told = async {
            while let Some(topic) = shown.next(&mut topics).await? {
                if shown.is_json() {
                    shown.line(&of_topic(&topic)).await?;
                } else {
                    shown.data(line(&topic)).await?;
                }
            }
            Ok(())
        };
        let told = told.await;
        shown.end(told).await
    };
    connect::session(&connection, Transfer::of_items(&output.into()), work).await.map(drop)
}

fn line(topic: &TopicInfo) -> String {
    let TopicInfo { topic: name, kind, base, head, bytes, .. } = topic;
    let kept = (head + 1).saturating_sub(*base);
    let mut line = format!("{name}  {kind}, {}", Count(kept, "message"));
    if kept > 0 {
        line.push_str(&format!(" ({base} to {head}), {}", Size(*bytes)));
    }
    for (count, thing) in [(topic.subscribers, "subscriber"), (topic.members, "member")] {
        if let Some(count) = count {
            line.push_str(&format!(", {}", Count(count, thing)));
        }
    }
    if let Some(behind) = topic.slowest.filter(|behind| *behind > 0) {
        line.push_str(&format!(", the slowest {} behind", Count(behind, "message")));
    }
    if topic.publishes_per_s > 0.0 {
        line.push_str(&format!(", {} publishes/s", topic.publishes_per_s));
    }
    line
}

fn of_topic(topic: &TopicInfo) -> Value {
    let mut line = json!({
        "topic": topic.topic, "kind": topic.kind, "epoch": topic.epoch, "base": topic.base,
        "head": topic.head, "bytes": topic.bytes, "publishes_per_s": topic.publishes_per_s,
    });
    for (name, count) in [("subscribers", topic.subscribers), ("members", topic.members)] {
        if let Some(count) = count {
            line[name] = count.into();
        }
    }
    if let Some(behind) = topic.slowest {
        line["slowest"] = json!({ "behind": behind });
    }
    line
}
