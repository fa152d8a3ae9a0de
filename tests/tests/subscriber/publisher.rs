//! Publishers: nothing lost, nothing twice, in order, and bounded.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rsock::{
    Client, Error,
    topic::{NewMessage, PublishError, Topic},
};
use serde_json::json;

use crate::service::{Line, Service};

#[tokio::test]
async fn messages_typed_while_offline_are_sent_after_reconnect_once() {
    for transport in 0..2 {
        let service = Service::new();
        let line = Line::to(&service.serve().await[transport]).await;
        let room = line.topic().join("ann").start();
        let first = room.publish("first").await.expect("published");
        assert_eq!((first.offset, first.duplicate, first.synced), (1, false, true));
        line.cutter.refuse(true);
        line.cutter.cut();
        let typed = ["one", "two", "three"];
        let receipts = typed.map(|line| room.try_publish(line).expect("a place"));
        line.cutter.refuse(false);
        for (receipt, offset) in receipts.into_iter().zip(2..) {
            assert_eq!(receipt.await.expect("published").offset, offset);
        }
        assert_eq!(service.data(), ["first", "one", "two", "three"]);
        assert!(service.beside().iter().all(|beside| beside["from"] == "ann"));
        let ids: std::collections::BTreeSet<_> =
            service.beside().iter().map(|beside| beside["id"].to_string()).collect();
        assert_eq!(ids.len(), 4);
        assert!(ids.iter().all(|id| id.len() == 34), "{ids:?}");
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_in_order_and_published_once() {
    for transport in 0..2 {
        let service = Service::new();
        let line = Line::to(&service.serve().await[transport]).await;
        let publisher = line.topic().publisher().start();
        service.lose_answers(10);
        let mut receipts = Vec::new();
        for n in 0..30 {
            receipts.push(publisher.send(n.to_string()).await.expect("a place"));
        }
        // All are there, and ten of the answers never come.
        service.wait(|service| service.data().len() == 30).await;
        line.cutter.cut();
        publisher.flush().await;
        for (receipt, offset) in receipts.into_iter().zip(1..) {
            let published = receipt.now_or_never().expect("it was flushed").expect("published");
            assert_eq!((published.offset, published.duplicate), (offset, true));
        }
        let expected: Vec<_> = (0..30).map(|n| n.to_string()).collect();
        assert_eq!(service.data(), expected);
        let counts = publisher.counts();
        assert_eq!((counts.waiting, counts.waiting_bytes, counts.failed), (0, 0, 0));
        assert_eq!((counts.published, counts.duplicates, counts.repeated), (30, 30, 30));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_over_many_cuts() {
    for transport in 0..2 {
        let service = Service::new();
        let line = Line::to(&service.serve().await[transport]).await;
        let publisher = line.topic().publisher().in_flight(8).start();
        for n in 0..500 {
            if n % 50 == 25 {
                line.cutter.cut();
            }
            drop(publisher.send(n.to_string()).await.expect("a place"));
        }
        publisher.flush().await;
        let expected: Vec<_> = (0..500).map(|n| n.to_string()).collect();
        assert_eq!(service.data(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_waits_for_a_bounded_time_and_refuses_at_once_where_that_is_asked() {
    let service = Service::new();
    let (near, far) = rsock::memory(64 << 10);
    let served = service.clone();
    tokio::spawn(async move { served.serve_over(far).await });
    let client = Client::builder().connect_over(near).await.expect("a connection");
    service.lose_answers(usize::MAX);
    let wait = Duration::from_secs(3);
    let publisher =
        Topic::new(&client, "t").publisher().max_messages(2).max_bytes(1_000).wait(wait).start();
    let first = publisher.send(vec![0; 700]).await.expect("a place");
    // There is a place for another message, and none for so many bytes.
    let full = |waited| Err(PublishError::Full { messages: 2, waited });
    assert_eq!(publisher.try_publish(vec![0; 700]).map(drop), full(Duration::ZERO));
    let _second = publisher.try_publish("x").expect("a place");
    assert_eq!(publisher.send("x").await.map(drop), full(wait));
    let counts = publisher.counts();
    assert_eq!(counts.waiting, 2);
    assert!((701..1_000).contains(&counts.waiting_bytes), "{counts:?}");
    let too_large = publisher.send(vec![0; 1_001]).await.map(drop);
    assert!(matches!(too_large, Err(PublishError::TooLarge { max_bytes: 1_000, .. })));
    client.abort().await;
    assert!(matches!(first.await, Err(Error::Closed { .. })));
    let closed = publisher.publish("x").await;
    assert!(matches!(closed, Err(PublishError::Failed(Error::Closed { .. }))), "{closed:?}");
    publisher.flush().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_may_pass_is_waited_out_and_one_that_stands_is_told() {
    let service = Service::new();
    let (near, far) = rsock::memory(64 << 10);
    let served = service.clone();
    tokio::spawn(async move { served.serve_over(far).await });
    let client = Client::builder().connect_over(near).await.expect("a connection");
    let publisher = Topic::new(&client, "t").publisher().in_flight(1).start();
    let too_fast = || Error::rejected("too fast: 50 messages/s allowed; again in 20 ms");
    let unknown = Error::application("outcome unknown: the disk; publish again with the same id");
    service.refuse_messages([too_fast(), too_fast(), unknown]);
    let receipts = ["a", "b", "c"].map(|data| publisher.try_publish(data).expect("a place"));
    for receipt in receipts {
        assert!(receipt.await.is_ok());
    }
    assert_eq!(service.data(), ["a", "b", "c"]);
    assert_eq!(publisher.counts().repeated, 3);
    let conflict = Error::rejected("conflict: the last offset is 3, not 2");
    service.refuse_messages([conflict.clone()]);
    let told = publisher.publish(NewMessage::new("d").expect_offset(2)).await;
    assert_eq!(told, Err(PublishError::Failed(conflict)));
    // It is not tried for ever.
    service.refuse_messages((0..1_000).map(|_| too_fast()));
    let told = publisher.publish("e").await;
    assert_eq!(told, Err(PublishError::Failed(too_fast())));
    assert_eq!(publisher.counts().failed, 2);
}

#[tokio::test]
async fn what_waits_is_sent_when_the_last_handle_is_gone() {
    let service = Service::new();
    let line = Line::to(&service.serve().await[0]).await;
    let publisher = line.topic().publisher().in_flight(2).start();
    for n in 0..20 {
        drop(publisher.try_publish(n.to_string()).expect("a place"));
    }
    drop(publisher);
    service.wait(|service| service.data().len() == 20).await;
}

#[tokio::test]
async fn what_is_said_beside_a_message_goes_with_it() {
    let service = Service::new();
    let line = Line::to(&service.serve().await[0]).await;
    let topic = line.topic();
    let message = NewMessage::new("{}").id("m-77").sender("ann").key("k").header("type", "text");
    let published = topic.publish(message.clone()).await.expect("published");
    assert_eq!((published.offset, published.duplicate), (1, false));
    let published = topic.publish(message).await.expect("published");
    assert_eq!((published.offset, published.duplicate), (1, true));
    topic.publish(NewMessage::tombstone("k")).await.expect("published");
    topic.signal(NewMessage::new("x").key("typing")).await.expect("taken");
    topic.publish(NewMessage::new("end").closing()).await.expect("published");
    let said = [
        json!({ "id": "m-77", "from": "ann", "key": "k", "headers": { "type": "text" } }),
        json!({ "key": "k", "delete": true }),
        json!({ "key": "typing", "ephemeral": true }),
        json!({ "close": true }),
    ];
    assert_eq!(service.beside(), said);
    let mut events = topic.subscribe().from(rsock::topic::Start::Oldest).start();
    match events.next().await {
        Some(Ok(rsock::topic::Event::Message(message))) => {
            assert_eq!(message.from.as_deref(), Some("ann"));
            assert_eq!(message.key.as_deref(), Some("k"));
            assert_eq!(message.headers["type"], "text");
            assert_eq!((message.time, &*message.topic), (7, "t"));
        }
        other => panic!("{other:?}"),
    }
}
