//! Revocations over HTTP.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use rsock::{CloseReason, PayloadExt, metadata::Authentication};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Directory, Running, now, password_of, to, token, within};

/// A request of HTTP, as it is; the answer.
async fn ask(service: &Running, method: &str, path: &str, headers: &str, body: &str) -> String {
    let authority = service.addresses[1].strip_prefix("ws://").unwrap();
    ask_at(authority.strip_suffix("/rsocket").unwrap(), method, path, headers, body).await
}

async fn ask_at(authority: &str, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(authority).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    answer
}

fn as_user(name: &str) -> String {
    let own = BASE64_STANDARD.encode(format!("{name}:{name}'s password"));
    format!("Authorization: Basic {own}\r\nContent-Type: application/json\r\n")
}

const REVOKE: &str = "/api/admin/revoke";

async fn status_of(service: &Running, headers: &str, body: &str) -> (u16, String) {
    let answer = ask(service, "POST", REVOKE, headers, body).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.trim_end().to_owned())
}

async fn service(directory: &Directory) -> Running {
    directory.change("[[deny]]", "[[grant]]\nroles = [\"ops\"]\nallow = [\"admin\"]\n[[deny]]");
    Running::of(directory).await
}

#[tokio::test]
async fn what_is_revoked_counts_no_more_at_once_and_after_a_reload() {
    let directory = Directory::new("revoked");
    let service = service(&directory).await;
    let own = |subject: &str, id: &str| {
        token(&json!({
            "sub": subject, "jti": id, "iat": now() - 100, "exp": now() + 600, "roles": ["chat"],
        }))
    };
    let (ann, other) = (own("ann", "1"), own("bob", "2"));
    let inside = service.try_as(Some(ann.clone())).await.unwrap();
    let bob = service.try_as(Some(other.clone())).await.unwrap();
    let guest = service.try_as(None).await.unwrap();
    let with = |own: &Authentication, route| to(route).authentication(own).unwrap();
    let mut topic = guest.request_stream(with(&ann, "topic.room.1"));
    // It is asked for by then.
    let _ = tokio::time::timeout(Duration::from_millis(100), topic.next()).await;
    within(guest.request_response(with(&ann, "clock"))).await.unwrap();
    let (status, body) = status_of(&service, &as_user("ops"), r#"{"subject":"ann"}"#).await;
    assert_eq!((status, &*body), (200, r#"{"ended":2}"#));
    let reason = within(inside.closed()).await;
    assert!(
        matches!(&reason, CloseReason::Error { message, .. } if message.contains("counts no more")),
        "{reason:?}"
    );
    let error = within(topic.next()).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("permission ended: subscribe"), "{error}");
    within(bob.request_response(to("clock"))).await.unwrap();
    let id = r#"{"jti":"2"}"#;
    assert_eq!(status_of(&service, &as_user("ops"), id).await, (200, r#"{"ended":1}"#.to_owned()));
    within(bob.closed()).await;
    for _ in 0..2 {
        for own in [&ann, &other] {
            assert!(service.try_as(Some(own.clone())).await.is_err());
            let asked = within(guest.request_response(with(own, "clock"))).await;
            assert!(asked.unwrap_err().to_string().contains("authentication failed"));
        }
        service.live.apply(&service.options).unwrap();
    }
    // Whoever is given another comes in, and so does who has a password: that is changed in its file.
    let fresh = token(&json!({ "sub": "ann", "jti": "3", "iat": now() + 2, "exp": now() + 600 }));
    assert!(service.try_as(Some(fresh)).await.is_ok());
    within(async { while service.try_as(Some(password_of("ann"))).await.is_err() {} }).await;
    service.end().await;
}

#[tokio::test]
async fn nobody_revokes_who_may_not() {
    let directory = Directory::new("revoked-by");
    let service = service(&directory).await;
    let ann = service.client("ann").await;
    let body = r#"{"subject":"ann"}"#;
    let json = "Content-Type: application/json\r\n";
    for (headers, body, expected) in [
        (json.to_owned(), body, 401),
        (as_user("ann"), body, 403),
        (as_user("nil"), body, 403),
        (format!("Authorization: Basic bm9ib2R5Og==\r\n{json}"), body, 401),
        (format!("Authorization: Bearer x\r\n{json}"), body, 401),
        (as_user("ops").replace("application/json", "text/plain"), body, 415),
        (
            as_user("ops").replace("application/json", "application/x-www-form-urlencoded"),
            body,
            415,
        ),
        (as_user("ops").replace("Content-Type: application/json\r\n", ""), body, 415),
        (as_user("ops"), "{}", 400),
        (as_user("ops"), r#"{"subject":"ann","jti":"1"}"#, 400),
        (as_user("ops"), &" ".repeat(5_000), 413),
    ] {
        assert_eq!(status_of(&service, &headers, body).await.0, expected, "{headers}{body:.50}");
    }
    for (method, path, expected) in [
        ("GET", REVOKE, "405"),
        ("POST", "/api/admin/", "404"),
        ("POST", "/api/admin/revoke/", "404"),
        ("POST", "/api/admin/%72evoke", "404"),
        ("POST", "//api/admin/revoke", "404"),
        ("POST", "/api/./admin/revoke", "404"),
    ] {
        let answer = ask(&service, method, path, &as_user("ops"), body).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{method} {path}: {answer}");
    }
    within(ann.request_response(to("clock"))).await.unwrap();
    service.end().await;
}

/// Where there is an address for it, it is there alone.
#[tokio::test]
async fn the_service_is_administered_where_that_is_meant_to_be() {
    let directory = Directory::new("revoked-at");
    directory.change("[[deny]]", "[[grant]]\nroles = [\"ops\"]\nallow = [\"admin\"]\n[[deny]]");
    let service = rsock_server::Service::bind(rsock_server::Options {
        listen: vec!["ws://127.0.0.1:0/rsocket".to_owned()],
        admin_listen: vec!["http://127.0.0.1:0".to_owned()],
        access: Some(directory.settings().into()),
        ..Default::default()
    });
    let service = service.await.unwrap();
    let authority = |address: &str| {
        let rest = address.split_once("://").unwrap().1;
        rest.split('/').next().unwrap().to_owned()
    };
    let all = authority(&service.addresses()[0]);
    let admin = authority(&service.admin_addresses()[0]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(service.run(async move {
        let _ = stopped.await;
    }));
    let body = r#"{"subject":"ann"}"#;
    for (authority, headers, expected) in [
        (&all, as_user("ops"), "404"),
        (&admin, as_user("ann"), "403"),
        (&admin, "Content-Type: application/json\r\n".to_owned(), "401"),
        (&admin, as_user("ops"), "200"),
    ] {
        let answer = ask_at(authority, "POST", REVOKE, &headers, body).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{authority} {headers}{answer}");
    }
    drop(stop);
    within(serving).await.unwrap();
}
