//! Tokens: those that are right, and those that somebody would like to be.

#![cfg(feature = "jwt")]
#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

use aws_lc_rs::{
    encoding::AsDer,
    hmac, rand,
    rsa::{KeyPair, KeySize},
    signature::{self, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rsock_access::{Action, Claims, Key, Keys, Kind, TokenError, Verifier};
use serde_json::{Value, json};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn by_secret(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

fn by_rsa(key: &KeyPair) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |message| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&signature::RSA_PKCS1_SHA256, &rand::SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    }
}

fn hs256(claims: &Value) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims, by_secret(SECRET))
}

fn ann() -> Value {
    json!({ "sub": "ann", "exp": NOW + 60, "roles": ["chat"] })
}

fn with(changes: Value) -> Value {
    let mut claims = ann();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn verifier(keys: Vec<Key>) -> Verifier {
    Verifier { keys: Keys::new(keys).unwrap(), leeway: 30, ..Verifier::default() }
}

fn secret(id: Option<&str>) -> Key {
    Key::secret("HS256", SECRET, id).unwrap()
}

fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der)
    )
}

fn rsa() -> (KeyPair, String) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let text = pem(pair.public_key().as_der().unwrap().as_ref());
    (pair, text)
}

#[test]
fn who_a_token_speaks_of_is_known() {
    let verifier = verifier(vec![secret(None)]);
    let claims = with(json!({ "jti": "7", "iat": NOW - 5, "exp": NOW as f64 + 60.5 }));
    let principal = verifier.verify(&hs256(&claims), NOW).unwrap();
    assert_eq!(principal.subject.as_deref(), Some("ann"));
    assert_eq!(principal.roles.iter().map(|role| &**role).collect::<Vec<_>>(), ["chat"]);
    assert_eq!((principal.expires, principal.issued), (Some(NOW + 60), Some(NOW - 5)));
    assert_eq!(principal.token_id.as_deref(), Some("7"));
    assert!(principal.grants.is_none());
}

#[test]
fn times_count_with_as_much_leeway_as_there_is() {
    let verifier = verifier(vec![secret(None)]);
    let token = hs256(&with(json!({ "exp": NOW, "nbf": NOW - 100 })));
    for (now, expected) in [
        (NOW + 29, None),
        (NOW + 30, Some(TokenError::Expired)),
        (NOW + 31, Some(TokenError::Expired)),
        (NOW - 130, None),
        (NOW - 131, Some(TokenError::NotYet)),
    ] {
        assert_eq!(verifier.verify(&token, now).err(), expected, "{now}");
    }
    for (wrong, said) in [
        (json!({ "exp": null }), "exp is missing"),
        (json!({ "exp": "tomorrow" }), "exp is not a number"),
        (json!({ "exp": -1 }), "exp is not a number"),
        (json!({ "nbf": [] }), "nbf is not a number"),
        (json!({ "sub": null }), "sub is missing"),
        (json!({ "sub": "~ann" }), "sub begins with ~"),
        (json!({ "sub": "a\nb" }), "sub has control"),
        (json!({ "roles": 7 }), "roles are neither"),
        (json!({ "roles": vec!["x"; 65] }), "roles are more than 64"),
    ] {
        let error = verifier.verify(&hs256(&with(wrong)), NOW).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    // No sum overflows.
    let forever = hs256(&with(json!({ "exp": u64::MAX, "nbf": 0 })));
    assert!(verifier.verify(&forever, u64::MAX - 1).is_ok());
}

#[test]
fn a_token_does_not_choose_how_it_is_looked_at() {
    let (pair, public) = rsa();
    let verifier = verifier(vec![Key::pem("RS256", &public, Some("r")).unwrap()]);
    let header = |alg: &str| json!({ "alg": alg, "kid": "r" });
    let right = signed(&header("RS256"), &ann(), by_rsa(&pair));
    assert!(verifier.verify(&right, NOW).is_ok());
    // Signed with the public key as if it were a secret, in each of its forms.
    let der = pair.public_key().as_der().unwrap();
    for forged_by in [public.as_bytes(), public.trim().as_bytes(), der.as_ref()] {
        let forged = signed(&header("HS256"), &ann(), by_secret(forged_by));
        assert_eq!(verifier.verify(&forged, NOW).unwrap_err(), TokenError::NoKey);
    }
    for alg in ["none", "None", "NONE", "", "RS384", "RS512", "PS256", "ES256", "rs256", "RS256 "] {
        for sign in [true, false] {
            let forged = if sign {
                signed(&header(alg), &ann(), by_rsa(&pair))
            } else {
                signed(&header(alg), &ann(), |_| Vec::new())
            };
            assert_eq!(verifier.verify(&forged, NOW).unwrap_err(), TokenError::NoKey, "{alg:?}");
        }
    }
    let unsigned = format!("{}.{}.", part(&header("RS256")), part(&ann()));
    assert_eq!(verifier.verify(&unsigned, NOW).unwrap_err(), TokenError::Signature);
    let (other, _) = rsa();
    let strange = signed(&header("RS256"), &ann(), by_rsa(&other));
    assert_eq!(verifier.verify(&strange, NOW).unwrap_err(), TokenError::Signature);
}

#[test]
fn what_is_signed_is_what_is_read() {
    let verifier = verifier(vec![secret(None)]);
    let token = hs256(&ann());
    let parts: Vec<_> = token.split('.').collect();
    let admin = part(&with(json!({ "roles": ["admin"] })));
    let changed = format!("{}.{admin}.{}", parts[0], parts[2]);
    assert_eq!(verifier.verify(&changed, NOW).unwrap_err(), TokenError::Signature);
    // Each byte of it counts.
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verifier.verify(&changed, NOW).is_err(), "{at}");
        assert!(verifier.verify(&token[..at], NOW).is_err(), "{at}");
    }
    for wrong in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        &format!("{token}."),
        &format!("{token}="),
        &"x".repeat(20_000),
    ] {
        assert!(verifier.verify(wrong, NOW).is_err(), "{wrong}");
    }
    let asking = signed(&json!({ "alg": "HS256", "crit": ["b64"] }), &ann(), by_secret(SECRET));
    assert!(verifier.verify(&asking, NOW).is_err());
    for kind in ["rsock-topic+jwt", "application/RSOCK-Topic+JWT"] {
        let of_topic = signed(&json!({ "alg": "HS256", "typ": kind }), &ann(), by_secret(SECRET));
        assert_eq!(verifier.verify(&of_topic, NOW).unwrap_err(), TokenError::OfTopic);
    }
}

#[test]
fn a_key_is_found_by_its_name_and_without_one_all_are_tried() {
    let other: &[u8] = b"another secret of thirty-two bytes or more";
    let key = |id| Key::secret("HS256", other, id).unwrap();
    let of = |kid: Option<&str>, by: &[u8]| {
        let header = kid
            .map_or_else(|| json!({ "alg": "HS256" }), |kid| json!({ "alg": "HS256", "kid": kid }));
        signed(&header, &ann(), by_secret(by))
    };
    let two = verifier(vec![key(Some("old")), secret(Some("new"))]);
    assert!(two.verify(&of(Some("new"), SECRET), NOW).is_ok());
    assert!(two.verify(&of(Some("old"), other), NOW).is_ok());
    assert_eq!(two.verify(&of(Some("old"), SECRET), NOW).unwrap_err(), TokenError::Signature);
    assert_eq!(two.verify(&of(Some("strange"), SECRET), NOW).unwrap_err(), TokenError::NoKey);
    assert!(
        two.verify(&of(None, SECRET), NOW).is_ok() && two.verify(&of(None, other), NOW).is_ok()
    );
    // Keys without a name may be meant by any, and where one has it none of them is.
    let mixed = verifier(vec![key(None), secret(Some("new"))]);
    assert!(mixed.verify(&of(Some("strange"), other), NOW).is_ok());
    assert_eq!(mixed.verify(&of(Some("new"), other), NOW).unwrap_err(), TokenError::Signature);
    // Not more than eight are tried.
    let many = (0..9).map(|_| key(None)).chain([secret(None)]).collect();
    assert_eq!(verifier(many).verify(&of(None, SECRET), NOW).unwrap_err(), TokenError::Signature);
}

#[test]
fn it_is_from_and_for_whom_it_has_to_be() {
    let mut verifier = verifier(vec![secret(None)]);
    verifier.issuer = Some("https://id.example".to_owned());
    verifier.audience = vec!["rsock".to_owned(), "chat".to_owned()];
    let of = |iss: Value, aud: Value| hs256(&with(json!({ "iss": iss, "aud": aud })));
    let iss = "https://id.example";
    assert!(verifier.verify(&of(json!(iss), json!("rsock")), NOW).is_ok());
    assert!(verifier.verify(&of(json!(iss), json!(["x", "chat"])), NOW).is_ok());
    for (iss, aud, expected) in [
        (json!("https://id.example/"), json!("rsock"), TokenError::Issuer),
        (json!(null), json!("rsock"), TokenError::Issuer),
        (json!([iss]), json!("rsock"), TokenError::Issuer),
        (json!(iss), json!("other"), TokenError::Audience),
        (json!(iss), json!(null), TokenError::Audience),
        (json!(iss), json!([]), TokenError::Audience),
    ] {
        assert_eq!(verifier.verify(&of(iss, aud), NOW).unwrap_err(), expected);
    }
}

#[test]
fn roles_and_grants_are_where_the_settings_say() {
    let mut verifier = verifier(vec![secret(None)]);
    verifier.claims = Claims { roles: "realm_access.roles".to_owned(), grants: "caps".to_owned() };
    let claims = with(json!({
        "realm_access": { "roles": ["a", "b"] },
        "caps": {
            "topics": [{ "t": "room.42", "do": ["join", "subscribe"] }, { "t": "room.*", "do": ["history"] }],
            "deny": [{ "t": "room.7", "do": ["history"] }],
            "routes": ["echo"],
        },
    }));
    let principal = verifier.verify(&hs256(&claims), NOW).unwrap();
    assert_eq!(principal.roles.len(), 2);
    let grants = principal.grants.unwrap();
    let may = |topic, action| grants.permit(Kind::Topic, topic, Some("ann"), action);
    assert!(may("room.42", Action::Join) && may("room.42", Action::History));
    assert!(!may("room.42", Action::Publish) && !may("room.43", Action::Join));
    assert!(!may("room.7", Action::History));
    assert!(grants.permit(Kind::Route, "echo", None, Action::Request));
    verifier.claims = Claims::default();
    let spaced = verifier.verify(&hs256(&with(json!({ "roles": "a b  c" }))), NOW).unwrap();
    assert_eq!(spaced.roles.len(), 3);
    // What is not understood grants nothing, and is told.
    for wrong in [
        json!([]),
        json!({ "topic": [] }),
        json!({ "topics": {} }),
        json!({ "topics": [{ "t": "a" }] }),
        json!({ "topics": [{ "t": "a", "do": ["fly"] }] }),
        json!({ "topics": [{ "t": "a..b", "do": ["join"] }] }),
        json!({ "topics": [{ "t": "a", "do": ["join"], "x": 1 }] }),
        json!({ "routes": vec!["echo"; 65] }),
    ] {
        let error = verifier.verify(&hs256(&with(json!({ "rsock": wrong }))), NOW).unwrap_err();
        assert!(error.to_string().contains("grants: "), "{error}");
    }
}

#[test]
fn secrets_are_long_and_keys_are_what_they_are_said_to_be() {
    for (alg, len, least) in [("HS256", 31, 32), ("HS384", 47, 48), ("HS512", 63, 64)] {
        let error = Key::secret(alg, &[7; 64][..len], None).unwrap_err();
        assert!(error.contains(&format!("takes {least} or more")), "{error}");
        assert!(Key::secret(alg, &[7; 64][..least], None).is_ok());
    }
    let (pair, public) = rsa();
    for (alg, text, said) in [
        ("HS256", public.as_str(), "takes a secret"),
        ("ES256", &public, "not a valid key for ES256"),
        ("RS256", "nonsense", "there is no PUBLIC KEY"),
        ("RS256", "-----BEGIN PRIVATE KEY-----\n", "it is a private key"),
        ("RS1", &public, "is not an algorithm"),
    ] {
        let error = Key::pem(alg, text, None).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert!(Key::secret("RS256", SECRET, None).unwrap_err().contains("takes a public key"));
    assert!(pair.public_modulus_len() == 256);
}

#[test]
fn one_odd_key_does_not_spoil_a_set() {
    let (pair, _) = rsa();
    // SEQUENCE { INTEGER 0, 256 bytes; INTEGER 65537 }
    let modulus = &pair.public_key().as_ref()[9..][..256];
    let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let curves = [
        ("P-256", "ES256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", "ES384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", "ES512", &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    let pairs = curves.map(|(curve, alg, of)| (curve, alg, EcdsaKeyPair::generate(of).unwrap()));
    let mut keys = vec![
        json!({ "kty": "RSA", "kid": "rsa", "n": number(modulus), "e": "AQAB" }),
        json!({ "kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB" }),
        json!({ "kty": "RSA", "alg": "RS256", "use": "enc", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "AQAB" }),
        json!({ "kty": "oct", "k": "AQAB" }),
        json!({ "kty": "EC", "crv": "P-256", "x": number(&[7; 32]), "y": number(&[7; 32]) }),
        json!({ "kty": "RSA", "alg": "HS256", "n": number(modulus), "e": "AQAB" }),
        json!({ "kty": "RSA", "d": "AQAB", "n": number(modulus), "e": "AQAB" }),
        json!("nonsense"),
    ];
    for (curve, alg, pair) in &pairs {
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        keys.push(json!({ "kty": "EC", "kid": alg, "crv": curve, "x": number(x), "y": number(y) }));
    }
    let set = json!({ "keys": keys }).to_string();
    let (keys, problems) = Keys::parse_set(&set).unwrap();
    assert_eq!((keys.len(), problems.len()), (4, 8), "{problems:?}");
    assert!(problems[0].starts_with("key 2 of the set: "), "{problems:?}");
    let verifier = verifier(keys);
    let token = signed(&json!({ "alg": "RS256", "kid": "rsa" }), &ann(), by_rsa(&pair));
    assert!(verifier.verify(&token, NOW).is_ok());
    for (_, alg, pair) in &pairs {
        let token = signed(&json!({ "alg": alg, "kid": alg }), &ann(), |message| {
            pair.sign(&rand::SystemRandom::new(), message).unwrap().as_ref().to_vec()
        });
        assert!(verifier.verify(&token, NOW).is_ok(), "{alg}");
    }
    for wrong in ["", "[]", "{}", r#"{"keys":{}}"#] {
        assert!(Keys::parse_set(wrong).is_err());
    }
}

/// Whatever comes instead of a token or a file, the answer is a refusal and no panic.
#[test]
fn nonsense_is_refused() {
    let verifier = verifier(vec![secret(None)]);
    let token = hs256(&ann());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize
    };
    let headers =
        [r#"{"alg":"#, r#""HS256""#, "}", "{", "[", "null", "1e999", r#""kid":"#, "\u{0}", "é"];
    for _ in 0..20_000 {
        let mut bytes = token.clone().into_bytes();
        for _ in 0..1 + next() % 6 {
            let at = next() % bytes.len();
            match next() % 3 {
                0 => bytes[at] = next() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b".-_=aZ0"[next() % 7]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(text == token || verifier.verify(&text, NOW).is_err());
        let header: String = (0..next() % 6).map(|_| headers[next() % headers.len()]).collect();
        let encoded = BASE64_URL_SAFE_NO_PAD.encode(&header);
        let rest = token.split_once('.').unwrap().1;
        assert!(verifier.verify(&format!("{encoded}.{rest}"), NOW).is_err());
        let _ = Keys::parse_set(&header);
    }
}
