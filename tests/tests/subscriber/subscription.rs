//! Subscriptions: nothing lost and nothing twice, whatever breaks.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use rsock::{
    Client, Error,
    topic::{Event, Lag, Meta, Position, Start, SubscriptionEvent, Topic},
};
use rsock_tests::script::PATIENCE;
use serde_json::json;

use crate::service::{Line, Service, next, next_data, nothing};

/// The words that observers and hooks were told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn add(&self, text: impl ToString) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_string());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn on_both(test: impl AsyncFn(Service, Line)) {
    for transport in 0..2 {
        let service = Service::new();
        let uris = service.serve().await;
        let line = Line::to(&uris[transport]).await;
        test(service, line).await;
    }
}

#[tokio::test]
async fn recovery_before_any_message_was_received() {
    on_both(async |service, line| {
        service.publish("before");
        let mut events = line.topic().subscribe().start();
        let position = events.started().await.expect("a subscription");
        assert_eq!((position.offset, events.position()), (1, Some(position)));
        line.cutter.refuse(true);
        line.cutter.cut();
        for n in 1..=3 {
            service.publish(n);
        }
        line.cutter.refuse(false);
        for n in 1..=3 {
            assert_eq!(next_data(&mut events).await, n.to_string());
        }
        let asked = service.asked();
        assert_eq!(asked[0]["from"], "new");
        assert_eq!(asked[1]["from"], json!({ "epoch": "0000000000000001", "after": 1 }));
        assert!(asked.iter().all(|asked| asked["start"] == true), "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn recovery_a_second_and_a_fiftieth_time_on_one_subscription() {
    on_both(async |service, line| {
        let mut events = line.topic().subscribe().start();
        events.started().await.expect("a subscription");
        for n in 1..=50 {
            line.cutter.cut();
            service.publish(n);
            assert_eq!(next_data(&mut events).await, n.to_string());
            assert_eq!(events.position().map(|position| position.offset), Some(n));
        }
        assert!(line.cutter.cuts() >= 49, "{}", line.cutter.cuts());
    })
    .await;
}

#[tokio::test]
async fn unsubscribing_and_subscribing_inside_the_message_callback_does_not_repeat_the_message() {
    on_both(async |service, line| {
        for n in 1..=20 {
            service.publish(n);
        }
        let mut events = line.topic().subscribe().from(Start::Oldest).start();
        for n in 1..=20 {
            // More of them have arrived, and are not given up with it.
            assert_eq!(next_data(&mut events).await, n.to_string());
            let position = events.position();
            drop(events);
            events = line.topic().subscribe().from(position).start();
        }
        service.publish(21);
        assert_eq!(next_data(&mut events).await, "21");
    })
    .await;
}

#[tokio::test]
async fn a_connection_replaced_while_recovered_messages_are_still_being_handled_each_once_position_never_back()
 {
    on_both(async |service, line| {
        let mut events = line.topic().subscribe().from(Start::Oldest).start();
        events.started().await.expect("a subscription");
        let (mut last, mut sent) = (0, 0);
        for round in 0..10 {
            while sent < (round + 1) * 30 {
                sent += 1;
                service.publish(sent);
            }
            // It is cut in the middle of what it is sent behind the last cut.
            for n in 0..20 {
                if n == 10 {
                    line.cutter.cut();
                }
                last += 1;
                assert_eq!(next_data(&mut events).await, last.to_string());
                assert_eq!(events.position().map(|position| position.offset), Some(last));
            }
        }
        while last < sent {
            last += 1;
            assert_eq!(next_data(&mut events).await, last.to_string());
        }
        nothing(&mut events);
    })
    .await;
}

#[tokio::test]
async fn state_invalidated_every_kind_of_subscription_begins_anew() {
    on_both(async |service, line| {
        service.publish("old");
        let topic = line.topic();
        let mut kinds = [
            topic.subscribe().start(),
            topic.subscribe().from(Start::Oldest).start(),
            topic.subscribe().from(Start::Last(1)).lag(Lag::Conflate).start(),
            topic.subscribe().from(Start::Oldest).meta(Meta::Offset).start(),
        ];
        for events in &mut kinds {
            events.started().await.expect("a subscription");
        }
        for events in &mut kinds[1..] {
            assert_eq!(next_data(events).await, "old");
        }
        service.begin_anew();
        line.cutter.cut();
        service.publish("new");
        for events in &mut kinds {
            match next(events).await {
                Event::Reset { before: Some(before), epoch, base: 1 } => {
                    assert_eq!((before.epoch.0, before.offset, epoch.0), (1, 1, 2));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(next_data(events).await, "new");
            let position = events.position().expect("it has one");
            assert_eq!((position.epoch.0, position.offset), (2, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn two_subscribes_race_one_stream_each() {
    on_both(async |service, line| {
        let topic = line.topic();
        let mut both = [topic.subscribe().start(), topic.subscribe().start()];
        let [first, second] = &mut both;
        let (one, other) = tokio::join!(first.started(), second.started());
        assert_eq!(one.expect("a subscription"), other.expect("a subscription"));
        service.publish("x");
        for events in &mut both {
            assert_eq!(next_data(events).await, "x");
        }
        let [mut first, second] = both;
        drop(second);
        service.publish("y");
        assert_eq!(next_data(&mut first).await, "y");
        assert_eq!(service.asked().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_stops_and_comes_back_goes_on() {
    on_both(async |service, line| {
        let window = rsock::Window::new(4);
        let mut events = line.topic().subscribe().window(window).start();
        events.started().await.expect("a subscription");
        for round in 0..3 {
            // Nobody polls it while all this happens, and while its connection is another.
            for n in 0..100 {
                service.publish(round * 100 + n);
            }
            line.cutter.cut();
            line.client.ping().await.ok();
            for n in 0..100 {
                assert_eq!(next_data(&mut events).await, (round * 100 + n).to_string());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_service_sends_again_is_not_told_again() {
    on_both(async |service, line| {
        let mut events = line.topic().subscribe().start();
        events.started().await.expect("a subscription");
        service.repeat(3);
        for n in 1..=10 {
            service.publish(n);
            assert_eq!(next_data(&mut events).await, n.to_string());
            assert_eq!(events.position().map(|position| position.offset), Some(n));
            line.cutter.cut();
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_is_told_exactly_and_the_position_goes_past_it() {
    on_both(async |service, line| {
        let mut events = line.topic().subscribe().start();
        events.started().await.expect("a subscription");
        service.publish(1);
        assert_eq!(next_data(&mut events).await, "1");
        line.cutter.refuse(true);
        line.cutter.cut();
        for n in 2..=10 {
            service.publish(n);
        }
        service.drop_before(8);
        line.cutter.refuse(false);
        // It is cut off again behind the first item, which says that it goes on at 8, and is no excuse.
        let window = rsock::Window::new(1).manual();
        let from = events.position();
        let mut again = line.topic().subscribe().from(from).window(window).start();
        again.started().await.expect("a subscription");
        assert_eq!(again.position(), from);
        line.cutter.cut();
        nothing(&mut again);
        assert_eq!(again.position(), from);
        let gap = next(&mut events).await;
        assert_eq!(gap, Event::Gap { from: 2, to: 7, exact: true });
        assert_eq!(events.position().map(|position| position.offset), Some(7));
        for n in 8..=10 {
            assert_eq!(next_data(&mut events).await, n.to_string());
        }
    })
    .await;
}

#[tokio::test]
async fn the_end_of_what_there_was_is_told_where_it_was_asked_for() {
    on_both(async |service, line| {
        service.publish("kept");
        let mut events = line.topic().subscribe().from(Start::Last(10)).live(true).start();
        assert_eq!(next_data(&mut events).await, "kept");
        assert_eq!(next(&mut events).await, Event::Live { offset: 1 });
        line.cutter.cut();
        service.publish("missed");
        assert_eq!(next_data(&mut events).await, "missed");
        assert_eq!(next(&mut events).await, Event::Live { offset: 2 });
        service.close();
        assert!(events.next().await.is_none());
        assert!(events.next().await.is_none(), "it stays over");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_may_pass_is_asked_again_after_growing_pauses_and_one_that_stands_is_told() {
    // Over memory: sockets know no paused clock.
    let service = Service::new();
    let (near, far) = rsock::memory(64 << 10);
    let router = service.clone();
    tokio::spawn(async move { router.serve_over(far).await });
    let client = Client::builder().connect_over(near).await.expect("a connection");
    let busy = || Error::rejected("100 topics, as many as allowed; none is made");
    service.refuse((0..5).map(|_| busy()));
    let told = Told::default();
    let observer = told.clone();
    let mut events = Topic::new(&client, "t")
        .subscribe()
        .observe(move |event| {
            observer.add(match event {
                SubscriptionEvent::Refused { error, .. } => error.to_string(),
                SubscriptionEvent::Started { .. } => "started".to_owned(),
                other => format!("{other:?}"),
            });
        })
        .start();
    events.started().await.expect("a subscription, at last");
    assert_eq!(service.asked().len(), 6);
    let mut expected = vec![busy().to_string(); 5];
    expected.push("started".to_owned());
    assert_eq!(told.take(), expected);
    drop(events);
    for refusal in [
        Error::rejected("not permitted: subscribe on topic \"t\""),
        Error::rejected("no topic \"t\", and none is made on use here"),
        Error::invalid("\"t t\" is not a topic's name"),
    ] {
        service.refuse([refusal.clone()]);
        let mut events = Topic::new(&client, "t").subscribe().start();
        assert_eq!(events.next().await, Some(Err(refusal)));
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn a_client_that_does_not_come_back_ends_its_subscriptions() {
    on_both(async |_, line| {
        let client = Client::connect(line.cutter.uri()).await.expect("a connection");
        let mut events = Topic::new(&client, "t").subscribe().start();
        events.started().await.expect("a subscription");
        line.cutter.cut();
        let told = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time");
        assert!(matches!(told, Some(Err(Error::Closed { .. }))), "{told:?}");
        assert!(events.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_state_is_loaded_at_first_and_behind_a_gap_and_a_reset_before_anything_is_told() {
    on_both(async |service, line| {
        service.publish("old");
        let told = Told::default();
        let (loads, loaded) = (told.clone(), service.clone());
        let mut events = line
            .topic()
            .subscribe()
            .on_reset(move |position: Position| {
                let (told, service) = (loads.clone(), loaded.clone());
                async move {
                    // What is published while it loads follows it.
                    service.publish("meanwhile");
                    told.add(format!("load at {}:{}", position.epoch.0, position.offset));
                    Ok(())
                }
            })
            .start();
        assert_eq!(next_data(&mut events).await, "meanwhile");
        assert_eq!(told.take(), ["load at 1:1"]);
        line.cutter.cut();
        let position = events.started().await.expect("it comes back");
        assert_eq!((position.offset, events.position()), (2, Some(position)));
        // Nothing is missing: nothing is loaded.
        line.cutter.cut();
        service.publish("x");
        assert_eq!(next_data(&mut events).await, "x");
        assert!(told.take().is_empty());
        line.cutter.refuse(true);
        line.cutter.cut();
        service.publish("lost");
        service.publish("kept");
        service.drop_before(5);
        line.cutter.refuse(false);
        assert_eq!(next(&mut events).await, Event::Gap { from: 4, to: 4, exact: true });
        assert_eq!(told.take(), ["load at 1:4"]);
        assert_eq!(events.position().map(|position| position.offset), Some(4));
        assert_eq!(next_data(&mut events).await, "kept");
        assert_eq!(next_data(&mut events).await, "meanwhile");
        service.begin_anew();
        line.cutter.cut();
        assert!(matches!(next(&mut events).await, Event::Reset { base: 1, .. }));
        assert_eq!(told.take(), ["load at 2:0"]);
        assert_eq!(next_data(&mut events).await, "meanwhile");
    })
    .await;
}

#[tokio::test]
async fn a_state_that_cannot_be_loaded_ends_it_where_it_was() {
    on_both(async |service, line| {
        for n in 1..=3 {
            service.publish(n);
        }
        let position = {
            let mut events = line.topic().subscribe().from(Start::Oldest).start();
            next_data(&mut events).await;
            events.position()
        };
        service.drop_before(3);
        let mut events = line
            .topic()
            .subscribe()
            .from(position)
            .on_reset(async |_| Err(Error::application("no database")))
            .start();
        assert_eq!(events.next().await, Some(Err(Error::application("no database"))));
        assert_eq!(events.position(), position);
        assert!(events.next().await.is_none());
        // Whoever comes back is told of the gap again.
        let mut events = line.topic().subscribe().from(position).start();
        assert_eq!(next(&mut events).await, Event::Gap { from: 2, to: 2, exact: true });
    })
    .await;
}

#[tokio::test]
async fn leaving_with_items_on_their_way_or_in_a_broken_recovery_moves_no_position() {
    on_both(async |service, line| {
        for n in 1..=100 {
            service.publish(n);
        }
        let mut position = None;
        let mut seen = 0;
        while seen < 100 {
            let from = position.map_or(Start::Oldest, Start::After);
            let mut events = line.topic().subscribe().from(from).start();
            // Some leave before they have anything.
            if seen % 3 == 1 {
                line.cutter.cut();
                nothing(&mut events);
                assert_eq!(events.position(), position);
                drop(events);
                seen += 1;
                let from = position.map_or(Start::Oldest, Start::After);
                let mut events = line.topic().subscribe().from(from).start();
                assert_eq!(next_data(&mut events).await, seen.to_string());
                position = events.position();
                continue;
            }
            for _ in 0..7.min(100 - seen) {
                seen += 1;
                assert_eq!(next_data(&mut events).await, seen.to_string());
            }
            position = events.position();
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_a_topic_is_told_from_one() {
    let service = Service::new();
    let uri = &service.serve().await[0];
    let client = Client::connect(uri).await.expect("a connection");
    // The items of presence are something else.
    let route = rsock::PayloadExt::route(rsock::Payload::new("{}"), "presence.t").expect("short");
    assert!(client.request_stream(route).next().await.is_some());
    let error = Topic::new(&client, "t").history().page().await.expect_err("there is none");
    assert!(matches!(error, Error::Rejected(_)), "{error}");
}
