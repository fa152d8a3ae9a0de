//! Topics of the newest by key, as boards and states are.

use futures_util::TryStreamExt;
use rsock::topic::{Event, NewMessage, Start};
use rsock_topics::{Kind, Limits, Service, Settings, TopicSettings};

use crate::World;

/// The next event: `a 3`, `b -`.
async fn next(board: &mut rsock::topic::Subscription) -> String {
    match board.try_next().await.expect("no failure").expect("it goes on") {
        Event::Message(message) => {
            let key = message.key.as_deref().unwrap_or_default();
            let data = String::from_utf8_lossy(&message.data);
            if message.deleted { format!("{key} -") } else { format!("{key} {data}") }
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_board_shows_the_newest_of_each_key_and_what_is_deleted() {
    let of_board = TopicSettings { kind: Kind::Latest, max_keys: 2, ..TopicSettings::default() };
    let settings = Settings::new(Limits::default(), [("board.*", of_board)]).expect("valid");
    let world = World::of(Service::new(settings)).await;
    let board = world.topic("board.1");
    for (key, data) in [("a", "1"), ("b", "2"), ("a", "3")] {
        board.publish(NewMessage::new(data).key(key)).await.expect("room");
    }
    let mut reader = board.subscribe().from(Start::Oldest).start();
    assert_eq!([next(&mut reader).await, next(&mut reader).await], ["b 2", "a 3"]);
    let full = board.publish(NewMessage::new("4").key("c")).await.expect_err("there are two");
    assert!(full.to_string().contains("too many keys: "), "{full}");
    let none = board.publish("5").await.expect_err("it has no key");
    assert!(none.to_string().contains("no key: "), "{none}");
    let stale = NewMessage::new("6").key("a").expect_offset(1);
    let stale = board.publish(stale).await.expect_err("it was replaced");
    assert!(stale.to_string().contains("the last offset of key \"a\" is 3, not 1"), "{stale}");
    board.publish(NewMessage::tombstone("b")).await.expect("room");
    board.publish(NewMessage::new("7").key("a").expect_offset(3)).await.expect("it is the last");
    assert_eq!([next(&mut reader).await, next(&mut reader).await], ["b -", "a 7"]);
}
