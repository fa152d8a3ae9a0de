//! Certificates of clients: asked for, refused, and who comes back to a session.

use rsock::{
    ResumeLimits, Server,
    tls::{ClientAuth, TlsErrorKind, TlsVersion},
};
use rsock_tests::wire::{C, N, p, resume, rr, setup_resumable};

use crate::{Authority, Issued, Running, client, next, raw, refusal, send, trusting, who};

const REJECTED_RESUME: u32 = 0x4;

fn shown(authority: &Authority, issued: &Issued) -> rsock::tls::ClientTls {
    let (chain, key) = issued.pair();
    trusting(authority).certificate(chain, key)
}

#[tokio::test]
async fn a_certificate_is_required_or_asked_for() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let issued = authority.server(&["localhost"]);
    let ann = clients.client("ann");
    let stranger = strangers.client("eve");

    let required = issued.server().client_auth(ClientAuth::Required(clients.pem()));
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = Running::of(required.clone().min_version(version)).await;
        let tls = shown(&authority, &ann);
        let asking = client(tls).connect(&server.uri()).await.expect("a connection");
        let ann = "ann [\"spiffe://example.org/ann\"] [\"ann.example.org\"]";
        assert_eq!(who(&asking).await, format!("tls 1.3 localhost - {ann}"));
        let (kind, text) = refusal(trusting(&authority), &server.uri()).await;
        assert_eq!(kind, TlsErrorKind::ClientCertificateRequired, "{text}");
        assert!(text.contains("rsock --cert FILE --cert-key FILE"), "{text}");
        let (kind, text) = refusal(shown(&authority, &stranger), &server.uri()).await;
        assert_eq!(kind, TlsErrorKind::ClientCertificateRefused, "{text}");
        // A server's is not for clients.
        let (kind, text) = refusal(shown(&authority, &issued), &server.uri()).await;
        assert_eq!(kind, TlsErrorKind::ClientCertificateRefused, "{text}");
        // Each is counted when its farewell was heard.
        while server.meter.read().failed_tls_handshakes < 3 {
            tokio::task::yield_now().await;
        }
    }

    let optional = issued.server().client_auth(ClientAuth::Optional(clients.pem()));
    let server = Running::of(optional).await;
    let asking = client(trusting(&authority)).connect(&server.uri()).await.expect("without");
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
    let asking = client(shown(&authority, &ann)).connect(&server.uri()).await.expect("with");
    assert!(who(&asking).await.contains("- ann "));
    let (kind, _) = refusal(shown(&authority, &stranger), &server.uri()).await;
    assert_eq!(kind, TlsErrorKind::ClientCertificateRefused);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let key = || rcgen::KeyPair::generate().expect("random bytes");
    let kept = clients.client_numbered("ann", 7, &key());
    let revoked = clients.client_numbered("bob", 8, &key());
    let tls = authority
        .server(&["localhost"])
        .server()
        .client_auth(ClientAuth::Required(clients.pem()))
        .revoked(clients.revoking(8));
    let server = Running::of(tls).await;
    client(shown(&authority, &kept)).connect(&server.uri()).await.expect("a connection");
    let (kind, _) = refusal(shown(&authority, &revoked), &server.uri()).await;
    assert_eq!(kind, TlsErrorKind::ClientCertificateRefused);
}

/// Whoever knows a token, and is somebody else, or nobody, does not get the session (RESUME-42).
#[tokio::test]
async fn resume_42_a_session_is_taken_up_by_whom_it_began_with() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let ann_key = rcgen::KeyPair::generate().expect("random bytes");
    let ann = clients.client_numbered("ann", 1, &ann_key);
    // The same key in a newer certificate is the same client.
    let renewed = clients.client_numbered("ann", 2, &ann_key);
    let eve = clients.client("eve");
    let tls = authority.server(&["localhost"]).server();
    let tls = tls.client_auth(ClientAuth::Optional(clients.pem()));
    let builder = Server::builder().tls(tls).resume(ResumeLimits::default(), 10);
    let server = Running::start(builder, &["tls://127.0.0.1:0"]).await;
    let uri = &server.uris[0];
    let token = b"0123456789abcdef";

    let mut began = raw(&authority, Some(&ann), uri).await;
    send(&mut began, &setup_resumable(token)).await;
    send(&mut began, &rr(1, "x")).await;
    assert_eq!(next(&mut began).await, p(1, N | C, "x"));
    drop(began);
    for shown in [Some(&eve), None] {
        let mut other = raw(&authority, shown, uri).await;
        send(&mut other, &resume(token)).await;
        let refused = next(&mut other).await;
        assert_eq!(refused.code(), Some(REJECTED_RESUME), "{refused}");
    }
    let mut back = raw(&authority, Some(&renewed), uri).await;
    send(&mut back, &resume(token)).await;
    let answer = next(&mut back).await;
    assert!(answer.to_string().starts_with("RESUME_OK"), "{answer}");
}
