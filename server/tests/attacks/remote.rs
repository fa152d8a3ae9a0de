//! Keys of tokens that another server has.

use std::fs;

use aws_lc_rs::{
    rand,
    signature::{self, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rsock::{
    HttpHandler, HttpRequest, HttpResponse, Router, Server,
    metadata::Authentication,
    tls::{Pem, ServerTls},
};
use serde_json::{Value, json};

use crate::support::{Directory, Running, SECRET, now, to, within};

struct Set(String);

impl HttpHandler for Set {
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send + 'static {
        let answer = match request.path() {
            "/keys" => HttpResponse::new(200, self.0.clone()),
            "/moved" => HttpResponse::new(302, "").header("location", "/keys"),
            _ => HttpResponse::text(404, "nothing\n"),
        };
        async { answer }
    }
}

fn signed(pair: &EcdsaKeyPair, kid: &str) -> Authentication {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "sub": "ann", "exp": now() + 600, "roles": ["chat"] });
    let message = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": kid })), part(&claims));
    let signature = pair.sign(&rand::SystemRandom::new(), message.as_bytes()).unwrap();
    Authentication::bearer(&format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// Over HTTPS, by an authority of one's own; and whom that does not vouch for has no keys.
#[tokio::test]
async fn tokens_are_taken_by_the_keys_of_a_server_that_is_the_one_that_was_meant() {
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let set = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "remote", "x": number(x), "y": number(y) },
        { "kty": "oct", "kid": "odd", "k": "AQAB" },
    ] });
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let tls = ServerTls::new(Pem::text(chain.as_bytes()), Pem::text(key.as_bytes()));
    let server = Server::builder().tls(tls).http(Set(set.to_string()));
    let server = server.bind(&["wss://127.0.0.1:0/"]).await.unwrap();
    let address = server.addresses().remove(0);
    let port = address.trim_end_matches('/').rsplit_once(':').unwrap().1.to_owned();
    let serving = tokio::spawn(async move { server.serve(Router::new(())).await });

    let directory = Directory::new("remote");
    fs::write(directory.0.join("ca.pem"), &chain).unwrap();
    let keys = format!("keys = [{{ alg = \"HS256\", secret = \"{SECRET}\" }}]");
    let from = |path: &str| {
        format!("jwks_url = \"https://localhost:{port}/{path}\"\njwks_ca = \"ca.pem\"")
    };
    directory.change(&keys, &from("keys"));
    let service = Running::of(&directory).await;
    let own = signed(&pair, "remote");
    // It is fetched when the service starts, and takes its time.
    let client = within(async {
        loop {
            if let Ok(client) = service.try_as(Some(own.clone())).await {
                return client;
            }
        }
    })
    .await;
    within(client.request_response(to("clock"))).await.unwrap();
    for (pair, kid) in [
        (&pair, "strange"),
        (&EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), "remote"),
    ] {
        assert!(service.try_as(Some(signed(pair, kid))).await.is_err());
    }
    // What was fetched stays, and whoever is in is in.
    service.live.apply(&service.options).unwrap();
    within(client.request_response(to("clock"))).await.unwrap();
    assert!(service.try_as(Some(own.clone())).await.is_ok());
    service.end().await;

    // A server without a name that is vouched for, one that is elsewhere, one that has nothing.
    for (before, after) in [
        (from("keys"), format!("jwks_url = \"https://localhost:{port}/keys\"")),
        (
            format!("jwks_url = \"https://localhost:{port}/keys\""),
            from("keys").replace("localhost", "127.0.0.1"),
        ),
        (from("keys").replace("localhost", "127.0.0.1"), from("moved")),
        (from("moved"), from("nothing")),
    ] {
        directory.change(&before, &after);
        let service = Running::of(&directory).await;
        assert!(service.try_as(Some(own.clone())).await.is_err(), "{after}");
        // It serves meanwhile.
        within(service.client("ann").await.request_response(to("clock"))).await.unwrap();
        assert!(service.try_as(Some(own.clone())).await.is_err(), "{after}");
        service.end().await;
    }
    serving.abort();
}

#[tokio::test]
async fn a_place_where_somebody_else_could_answer_is_refused() {
    let keys = format!("keys = [{{ alg = \"HS256\", secret = \"{SECRET}\" }}]");
    for (settings, told) in [
        ("jwks_url = \"http://id.example/keys\"", "neither https:// nor http:// on this machine"),
        ("jwks_url = \"file:///etc/passwd\"", "is not a URL"),
        ("jwks_url = \"file://localhost/etc/passwd\"", "neither https://"),
        ("jwks_url = \"ftp://localhost/keys\"", "neither https://"),
        ("jwks_url = \"https://a:b@id.example/keys\"", "a password in it"),
        ("jwks_url = \"keys\"", "neither https://"),
        ("jwks_ca = \"ca.pem\"", "goes with jwks_url"),
        ("jwks_url = \"https://id.example/\"\njwks_ca = \"nowhere.pem\"", "cannot read"),
    ] {
        let directory = Directory::new("remote-place");
        directory.change(&keys, settings);
        let listen = vec!["tcp://127.0.0.1:0".to_owned()];
        let options = rsock_server::Options {
            listen,
            access: Some(directory.settings().into()),
            ..Default::default()
        };
        let text = rsock_server::Service::bind(options).await.map(drop).unwrap_err().to_string();
        assert!(text.contains(told), "{settings}: {text}");
    }
}
