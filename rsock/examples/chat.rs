//! A chat in a room of `rsockd`: lines that are typed are published, and those of others shown. Stop the service
//! meanwhile and start it again: what was typed then is sent once.
//!
//! ```text
//! cargo run -p rsock --example chat -- tcp://127.0.0.1:7878 room.lobby ann
//! ```

use std::{error::Error, io, thread};

use futures_util::TryStreamExt;
use rsock::{
    Client, Reconnect, ReconnectEvent,
    topic::{Event, Joined, PresenceEvent, Start, Topic},
};
use tokio::sync::mpsc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Lines of stdin, read in a thread of their own.
fn typed() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn tell(event: &ReconnectEvent) {
    match event {
        ReconnectEvent::Lost(reason) => println!("* the connection is lost: {reason}"),
        ReconnectEvent::Connected { .. } => println!("* connected again"),
        _ => {}
    }
}

fn show(event: Event) {
    match event {
        Event::Message(message) => {
            let from = message.from.as_deref().unwrap_or("somebody");
            println!("{from}: {}", String::from_utf8_lossy(&message.data));
        }
        Event::Gap { from, to, .. } => println!("* messages {from} to {to} are not kept any more"),
        Event::Reset { .. } => println!("* the room began anew"),
        _ => {}
    }
}

/// Talks until the input ends; what was typed last is sent before this leaves.
async fn talk(topic: &Topic, mut room: Joined) -> Outcome<()> {
    let mut lines = typed();
    let mut members = topic.presence().watch();
    loop {
        tokio::select! {
            event = room.try_next() => match event? {
                Some(event) => show(event),
                None => break,
            },
            told = members.try_next() => match told? {
                Some(PresenceEvent::Here(member)) => println!("* {} is here", member.name),
                Some(PresenceEvent::Join(member)) => println!("* {} joins", member.name),
                Some(PresenceEvent::Leave { name, .. }) => println!("* {name} leaves"),
                _ => {}
            },
            line = lines.recv() => match line {
                // It has a place in the outbox, whether there is a connection or not.
                Some(line) => drop(room.try_publish(line)?),
                None => break,
            },
        }
    }
    room.publisher().flush().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [uri, room, name] = &arguments[..] else {
        return Err("expected URI ROOM NAME, as in tcp://127.0.0.1:7878 room.lobby ann".into());
    };
    let reconnect = Reconnect::new().observe(tell);
    let client = Client::builder().reconnect(reconnect).connect(uri).await?;
    let topic = Topic::new(&client, room.as_str());
    let mut joined = topic.join(name).from(Start::Last(10)).start();
    joined.started().await?;
    println!("* Ctrl-D leaves");
    talk(&topic, joined).await?;
    client.close().await;
    Ok(())
}
