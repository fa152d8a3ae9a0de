//! Tokens that somebody would like to be right, by every way in.

use std::fs;

use aws_lc_rs::{
    encoding::AsDer,
    hmac, rand,
    rsa::{KeyPair, KeySize},
    signature::{self, KeyPair as _},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use rsock::{Client, PayloadExt, metadata::Authentication};
use serde_json::{Value, json};

use crate::support::{Directory, Running, SECRET, now, to, within};

const OTHER: &str = "another secret of thirty-two bytes or more, for tests";

fn part(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn hs(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

/// A token of these texts.
fn made(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn ann() -> Value {
    json!({ "sub": "ann", "exp": now() + 600, "roles": ["chat"] })
}

/// A service that takes tokens by an RSA key and two secrets, and nothing else.
async fn service(directory: &Directory, public: &str) -> Running {
    fs::write(directory.0.join("rsa.pem"), public).unwrap();
    directory.change("anonymous = [\"guest\"]", "");
    directory.change(
        &format!("keys = [{{ alg = \"HS256\", secret = \"{SECRET}\" }}]\nleeway = \"0s\""),
        &format!(
            "keys = [{{ alg = \"RS256\", file = \"rsa.pem\", kid = \"r\" }},\n\
             {{ alg = \"HS256\", secret = \"{SECRET}\", kid = \"one\" }},\n\
             {{ alg = \"HS256\", secret = \"{OTHER}\", kid = \"two\" }}]\nleeway = \"5s\""
        ),
    );
    Running::of(directory).await
}

#[expect(clippy::too_many_lines, reason = "a list of attacks")]
#[tokio::test]
async fn no_token_gets_in_that_is_not_right_by_any_way() {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der.as_ref())
    );
    let rs = |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = rand::SystemRandom::new();
        pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
        signature
    };
    let none = |_: &[u8]| Vec::new();
    let directory = Directory::new("attack-tokens");
    let service = service(&directory, &pem).await;
    let claims = ann().to_string();
    let one = r#"{"alg":"HS256","kid":"one"}"#;
    let with = |changes: Value| {
        let mut claims = ann();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        made(one, &claims.to_string(), hs(SECRET.as_bytes()))
    };
    let right = made(one, &claims, hs(SECRET.as_bytes()));
    let rights = [
        right.clone(),
        made(r#"{"alg":"RS256","kid":"r"}"#, &claims, rs),
        made(r#"{"alg":"RS256"}"#, &claims, rs),
        made(r#"{"alg":"HS256","kid":"two"}"#, &claims, hs(OTHER.as_bytes())),
        // Which of the two it is, it does not say.
        made(r#"{"alg":"HS256","typ":"at+jwt"}"#, &claims, hs(OTHER.as_bytes())),
        with(json!({ "exp": now() - 2 })),
        with(json!({ "nbf": now() + 3 })),
        // Of two the last counts, as RFC 7519 has it: whoever signs may say what they like.
        made(
            one,
            &format!(r#"{{"sub":"bob","sub":"ann","exp":{},"roles":["chat"]}}"#, now() + 60),
            hs(SECRET.as_bytes()),
        ),
    ];
    let deep = format!("{}1{}", "[".repeat(6_000), "]".repeat(6_000));
    let signed = |header: &str| made(header, &claims, hs(SECRET.as_bytes()));
    let mut wrong = vec![
        // The algorithm is the key's.
        made(r#"{"alg":"none"}"#, &claims, none),
        made(r#"{"alg":"nOnE","kid":"one"}"#, &claims, hs(SECRET.as_bytes())),
        made(r#"{"alg":"HS256","alg":"none","kid":"one"}"#, &claims, none),
        made(r#"{"alg":"","kid":"r"}"#, &claims, rs),
        made(r#"{"kid":"r"}"#, &claims, rs),
        made(r#"{"alg":null,"kid":"r"}"#, &claims, rs),
        made(r#"{"alg":["RS256"],"kid":"r"}"#, &claims, rs),
        made(r#"{"alg":"HS384","kid":"one"}"#, &claims, hs(SECRET.as_bytes())),
        made(r#"{"alg":"PS256","kid":"r"}"#, &claims, rs),
        // The public key as a secret, in each of its forms.
        made(r#"{"alg":"HS256","kid":"r"}"#, &claims, hs(pem.as_bytes())),
        made(r#"{"alg":"HS256","kid":"r"}"#, &claims, hs(pem.trim().as_bytes())),
        made(r#"{"alg":"HS256","kid":"r"}"#, &claims, hs(der.as_ref())),
        made(r#"{"alg":"HS256"}"#, &claims, hs(pem.as_bytes())),
        made(r#"{"alg":"HS256"}"#, &claims, hs(b"")),
        // The key is the one that it names, and one that is configured.
        made(r#"{"alg":"HS256","kid":"two"}"#, &claims, hs(SECRET.as_bytes())),
        made(r#"{"alg":"HS256","kid":"three"}"#, &claims, hs(SECRET.as_bytes())),
        made(r#"{"alg":"HS256","kid":"../../../dev/null"}"#, &claims, hs(b"")),
        made(r#"{"alg":"HS256","kid":""}"#, &claims, hs(b"")),
        made(r#"{"alg":"HS256","kid":7}"#, &claims, hs(SECRET.as_bytes())),
        made(
            &format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, part("mine")),
            &claims,
            hs(b"mine"),
        ),
        made(r#"{"alg":"RS256","jku":"https://evil.example/keys"}"#, &claims, hs(b"mine")),
        // What it asks for, and what it is for.
        signed(r#"{"alg":"HS256","kid":"one","crit":["exp"]}"#),
        signed(r#"{"alg":"HS256","kid":"one","crit":[],"b64":false}"#),
        signed(r#"{"alg":"HS256","kid":"one","typ":"rsock-topic+jwt"}"#),
        signed(r#"{"alg":"HS256","kid":"one","typ":"Application/RSOCK-TOPIC+jwt"}"#),
        signed(r#"{"alg":"HS256","kid":"one","typ":"rsock-topic+jwt; v=1"}"#),
        signed(r#"{"alg":"HS256","kid":"one","typ":7}"#),
        signed(&format!(r#"{{"alg":"HS256","kid":"one","x":{deep}}}"#)),
        signed(r#"["HS256"]"#),
        // Times, and names.
        with(json!({ "exp": now() - 6 })),
        with(json!({ "exp": 0 })),
        with(json!({ "exp": (now() + 60).to_string() })),
        with(json!({ "exp": null })),
        with(json!({ "exp": [now() + 60] })),
        with(json!({ "nbf": now() + 60 })),
        with(json!({ "sub": "~ann" })),
        with(json!({ "sub": "" })),
        with(json!({ "sub": ["ann"] })),
        with(json!({ "sub": "ann\u{0}" })),
        with(json!({ "sub": "ann " })),
        with(json!({ "sub": "ann\u{200b}" })),
        with(json!({ "sub": "ann\u{3164}" })),
        with(json!({ "sub": null })),
        with(json!({ "roles": { "chat": true } })),
        with(json!({ "roles": ["chat", 7] })),
        with(json!({ "roles": vec!["x"; 65] })),
        with(json!({ "rsock": { "routes": [">", "a..b"] } })),
        made(one, &format!(r#"{{"sub":"ann","exp":1e999,"x":{deep}}}"#), hs(SECRET.as_bytes())),
        made(
            one,
            &format!(r#"{{"sub":"ann","exp":{},"x":{deep}}}"#, now() + 60),
            hs(SECRET.as_bytes()),
        ),
        made(one, "7", hs(SECRET.as_bytes())),
        made(one, &format!("{claims}{claims}"), hs(SECRET.as_bytes())),
        // Its form.
        format!("{right} "),
        format!("\n{right}"),
        format!("{right}\u{0}"),
        format!("{right}."),
        format!("{right}.{right}"),
        format!("{right}="),
        format!("{}==.{}", part(one), right.split_once('.').unwrap().1),
        right.replace('.', ".."),
        right.to_uppercase(),
        "x".repeat(40_000),
        format!("{}.", right.rsplit_once('.').unwrap().0),
        String::new(),
    ];
    // The same bytes, written otherwise.
    let last = right.chars().last().unwrap();
    let other = if last == 'A' { 'B' } else { char::from(last as u8 ^ 1) };
    wrong.push(format!("{}{other}", &right[..right.len() - 1]));
    let signature = BASE64_URL_SAFE_NO_PAD.decode(right.rsplit_once('.').unwrap().1).unwrap();
    wrong.push(format!(
        "{}.{}",
        right.rsplit_once('.').unwrap().0,
        BASE64_URL_SAFE.encode(signature)
    ));

    for token in &rights {
        let client = service.try_as(Some(Authentication::bearer(token))).await;
        let client = client.unwrap_or_else(|error| panic!("{token}: {error}"));
        within(client.request_response(to("clock"))).await.unwrap();
    }
    let inside = service.try_as(Some(Authentication::bearer(&right))).await.unwrap();
    for token in &wrong {
        let shown: String = token.chars().take(200).collect();
        let own = Authentication::bearer(token);
        let told = service.try_as(Some(own.clone())).await.err();
        let told = told.unwrap_or_else(|| panic!("{shown} came in"));
        assert!(told.contains("authentication failed"), "{shown}: {told}");
        // In a request, and as if it were a fresh one for the connection.
        for route in ["clock", "auth"] {
            let asked = inside.request_response(to(route).authentication(&own).unwrap());
            let told = within(asked).await.unwrap_err().to_string();
            assert!(told.ends_with("REJECTED: authentication failed"), "{shown}: {told}");
        }
        // In the header of a WebSocket's handshake, where it can be there.
        if token.bytes().all(|byte| byte.is_ascii_graphic()) && token.len() < 8_000 {
            let builder = Client::builder().wait_until_accepted(true);
            let builder = builder.header("authorization", format!("Bearer {token}"));
            let connected = within(builder.connect(&service.addresses[1])).await;
            assert!(connected.is_err(), "{shown} came in");
        }
    }
    // None of it was remembered as right, and whoever is in is in.
    within(inside.request_response(to("clock"))).await.unwrap();
    service.end().await;
}
