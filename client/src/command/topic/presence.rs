//! The members that are present.

use rsock::{
    Client,
    topic::{Member, PresenceEvent, Topic},
};
use rsock_cli::Count;
use serde_json::{Value, json};

use super::shown::Shown;
use crate::{connect, exit::Failure, progress::Transfer, render::say, topic_args::PresenceArgs};

/// Members of a page.
const PAGE: u32 = 1_000;

pub(crate) async fn run(args: PresenceArgs) -> Result<(), Failure> {
    let PresenceArgs { connection, topic, follow, away, output } = args;
    let connection = super::connection(connection)?;
    let mut shown = Shown::new(output, false)?;
    let work = async |client: &Client| {
        let topic = Topic::new(client, topic);
        let told = if follow {
            watch(&topic, away, &mut shown).await
        } else {
            list(&topic, &mut shown).await
        };
        shown.end(told).await
    };
    connect::session(&connection, Transfer::of_items(&output.into()), work).await.map(drop)
}

/// All members there are, page by page.
async fn list(topic: &Topic, shown: &mut Shown) -> Result<(), Failure> {
    let mut question = topic.presence().limit(PAGE);
    loop {
        let page = question.members().await?;
        for member in &page.members {
            if shown.is_json() {
                shown.line(&of_member(member)).await?;
            } else {
                shown.data(described(member)).await?;
            }
        }
        match page.next {
            Some(name) => question = topic.presence().limit(PAGE).after(name),
            None => return Ok(()),
        }
    }
}

async fn watch(topic: &Topic, away: bool, shown: &mut Shown) -> Result<(), Failure> {
    let mut events = topic.presence().away(away).watch();
    while let Some(event) = shown.next(&mut events).await? {
        if shown.is_json() {
            shown.line(&of_event(&event)).await?;
            continue;
        }
        match event {
            PresenceEvent::Anew => {
                shown.pause().await?;
                say("rsock: it was broken off: who is there is told anew");
            }
            event => match line(&event) {
                Some(line) => shown.data(line).await?,
                None => continue,
            },
        }
    }
    Ok(())
}

/// An event in words; none that says nothing by itself.
pub(super) fn line(event: &PresenceEvent) -> Option<String> {
    Some(match event {
        PresenceEvent::Here(member) => format!("{} is here", described(member)),
        PresenceEvent::All { total } => format!("{} in all", Count(*total, "member")),
        PresenceEvent::Join(member) => format!("{} joins", member.name),
        PresenceEvent::Leave { name, is_node_lost: false } => format!("{name} leaves"),
        PresenceEvent::Leave { name, .. } => format!("{name} is gone, with a node of the service"),
        PresenceEvent::Update(member) => format!("{} says {}", member.name, info(member)),
        PresenceEvent::Away { name } => format!("{name} is away"),
        PresenceEvent::Back { name } => format!("{name} is back"),
        _ => return None,
    })
}

fn described(member: &Member) -> String {
    let mut text = member.name.clone();
    if member.sessions > 1 {
        text.push_str(&format!(" ({} sessions)", member.sessions));
    }
    if member.away {
        text.push_str(" (away)");
    }
    text
}

fn info(member: &Member) -> String {
    member.info.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string)
}

fn of_member(member: &Member) -> Value {
    let mut line = json!({ "name": member.name, "sessions": member.sessions });
    if member.since > 0 {
        line["since"] = member.since.into();
    }
    if let Some(info) = &member.info {
        line["info"] = info.clone();
    }
    if member.away {
        line["away"] = true.into();
    }
    line
}

/// An event in the form of the wire.
pub(super) fn of_event(event: &PresenceEvent) -> Value {
    let of = |name: &str, member: &Member| {
        let mut line = of_member(member);
        line["event"] = name.into();
        line
    };
    match event {
        PresenceEvent::Anew => json!({ "event": "anew" }),
        PresenceEvent::Here(member) => of("here", member),
        PresenceEvent::All { total } => json!({ "event": "all", "total": total }),
        PresenceEvent::Join(member) => of("join", member),
        PresenceEvent::Leave { name, is_node_lost: false } => {
            json!({ "event": "leave", "name": name })
        }
        PresenceEvent::Leave { name, .. } => {
            json!({ "event": "leave", "name": name, "node": true })
        }
        PresenceEvent::Update(member) => of("update", member),
        PresenceEvent::Away { name } => json!({ "event": "away", "name": name }),
        PresenceEvent::Back { name } => json!({ "event": "back", "name": name }),
        _ => Value::Null,
    }
}
