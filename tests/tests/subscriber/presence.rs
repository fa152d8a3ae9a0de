//! Joining, and watching who is there.

use futures_util::StreamExt;
use rsock::topic::{Event, PresenceEvent, PresenceEvents};
use rsock_tests::script::PATIENCE;

use crate::service::{Line, Service};

async fn told(events: &mut PresenceEvents) -> String {
    let told = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time");
    match told.expect("it goes on").expect("no failure") {
        PresenceEvent::Anew => "anew".to_owned(),
        PresenceEvent::Here(member) => format!("here {}", member.name),
        PresenceEvent::All { total } => format!("all {total}"),
        PresenceEvent::Join(member) => format!("join {}", member.name),
        PresenceEvent::Leave { name, .. } => format!("leave {name}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_member_is_present_as_long_as_its_membership_and_again_behind_a_cut() {
    let service = Service::new();
    let [tcp, ws] = service.serve().await;
    let (line, watches) = (Line::to(&tcp).await, Line::to(&ws).await);
    let mut events = watches.topic().presence().watch();
    assert_eq!(told(&mut events).await, "all 0");
    let mut ann = line.topic().join("ann").info(serde_json::json!({ "avatar": 3 })).start();
    ann.started().await.expect("she joins");
    assert_eq!(told(&mut events).await, "join ann");
    let asked = &service.asked()[0];
    assert_eq!((&asked["name"], &asked["info"]["avatar"]), (&"ann".into(), &3.into()));
    assert_eq!((&asked["echo"], &asked["presence"]), (&false.into(), &true.into()));
    let members = line.topic().presence().members().await.expect("a page");
    assert_eq!((members.total, members.members[0].name.as_str()), (1, "ann"));
    assert_eq!(line.topic().presence().count().await, Ok(1));

    line.cutter.cut();
    assert_eq!(told(&mut events).await, "leave ann");
    service.publish("missed");
    // Being polled is what has her come back.
    let event = tokio::time::timeout(PATIENCE, ann.next()).await.expect("in time");
    match event {
        Some(Ok(Event::Message(message))) => assert_eq!(message.data, "missed"),
        other => panic!("{other:?}"),
    }
    assert_eq!(told(&mut events).await, "join ann");

    watches.cutter.cut();
    for expected in ["anew", "here ann", "all 1"] {
        assert_eq!(told(&mut events).await, expected);
    }
    drop(ann);
    assert_eq!(told(&mut events).await, "leave ann");
    service.wait_members(&[]).await;
}
