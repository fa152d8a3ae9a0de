//! Access: files of users, tokens, sets of keys, patterns. Another reader of JSON, and a matcher of another kind,
//! have to agree.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rsock_access::{Key, Keys, Kind, Pattern, Users, Verifier, check_name, is_token};
use serde_json::{Map, Value};

const SECRET: &[u8] = b"a secret of thirty-two bytes or more, for fuzzing";
const NOW: u64 = 1_800_000_000;

/// Reads a file, a token, a set of keys or a pattern, as the first byte says.
pub fn access(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match kind % 5 {
        0 => users(&text),
        1 => assert!(verifier().verify(&text, NOW).is_err(), "nobody has signed it"),
        2 => signed(data),
        3 => {
            if let Ok((keys, problems)) = Keys::parse_set(&text) {
                assert!(keys.len() + problems.len() <= 100);
            }
        }
        _ => pattern(&text),
    }
}

fn verifier() -> Verifier {
    let key = Key::secret("HS256", SECRET, Some("a")).expect("it is long");
    Verifier { keys: Keys::new(vec![key]).expect("it is one"), leeway: 30, ..Verifier::default() }
}

fn users(text: &str) {
    match Users::parse(text) {
        Ok(users) => {
            for (name, user) in users.list() {
                assert_eq!(check_name(name), Ok(()));
                assert!(user.roles().iter().all(|role| check_name(role).is_ok()));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|problem| problem.starts_with("line ")));
        }
    }
}

/// A token whose header and claims, with a zero between them, somebody has signed who may.
fn signed(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (header, claims) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let token = format!("{message}.{}", part(hmac::sign(&key, message.as_bytes()).as_ref()));
    let read = |bytes: &[u8]| serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    let login = verifier().verify(&token, NOW);
    let of_topic = verifier().verify_topic(&Keys::default(), &token, NOW);
    assert!(login.is_err() || of_topic.is_err(), "it is one of them");
    let of_topic = of_topic.map(|token| (token.principal, Some(token.topic)));
    for (principal, topic) in login.map(|principal| (principal, None)).into_iter().chain(of_topic) {
        let (header, claims) = (read(header).expect("an object"), read(claims).expect("an object"));
        assert_eq!(header.get("alg").and_then(Value::as_str), Some("HS256"));
        assert!(!header.contains_key("crit"));
        assert!(matches!(header.get("kid").map(|kid| kid == "a"), None | Some(true)));
        let subject = claims.get("sub").and_then(Value::as_str).expect("it has one");
        assert_eq!((principal.subject.as_deref(), check_name(subject)), (Some(subject), Ok(())));
        let exp = claims.get("exp").and_then(Value::as_f64).expect("it is a number");
        assert!(exp + 31.0 > NOW as f64, "{exp}");
        assert!(principal.roles.len() <= 64);
        assert_eq!(
            claims.get("topic").and_then(Value::as_str).filter(|_| topic.is_some()),
            topic.as_deref()
        );
        if let Some(topic) = topic {
            assert!(topic.split('.').all(is_token) && principal.roles.is_empty());
        }
    }
}

/// A pattern, a name and who asks, a line each.
fn pattern(text: &str) {
    let mut lines = text.split('\n');
    let (first, name, own) = (lines.next().unwrap_or_default(), lines.next(), lines.next());
    let name = name.unwrap_or_default();
    for kind in [Kind::Topic, Kind::Route] {
        let Ok(pattern) = Pattern::parse(first, kind) else { continue };
        let (tokens, names): (Vec<_>, Vec<_>) =
            (first.split('.').collect(), name.split('.').collect());
        let expected = !names.contains(&"") && covers(&tokens, &names, own);
        assert_eq!(pattern.covers(name, own), expected, "{first:?} {name:?} {own:?}");
    }
}

fn covers(pattern: &[&str], name: &[&str], own: Option<&str>) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        ([first, pattern @ ..], [token, name @ ..]) => {
            let fits = match *first {
                "*" => true,
                "{name}" | "{user}" => own.is_some_and(|own| is_token(own) && own == *token),
                literal => literal == *token,
            };
            fits && covers(pattern, name, own)
        }
        _ => false,
    }
}
