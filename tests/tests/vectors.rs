//! Frames other implementations really sent, captured by `tests/vectors/capture.py`: each says what
//! is written above it, and is written here as it was written there.

use std::{fs, path::Path};

use bytes::{Bytes, BytesMut};
use rsock::proto::frame::{Frame, Interaction, Setup, StreamId};

/// A captured frame.
struct Vector {
    /// The frame in words, without who sent it.
    words: String,
    /// Why encoding it gives other bytes.
    not_canonical: Option<String>,
    frame: Bytes,
}

/// All frames of a file; its first line says who wrote them.
fn vectors(text: &str) -> Vec<Vector> {
    let (writer, blocks) = text.split_once("\n\n").expect("a comment, an empty line, frames");
    assert!(writer.starts_with("# Written by "), "{writer}");
    blocks.split("\n\n").map(vector).collect()
}

fn vector(block: &str) -> Vector {
    let mut lines = block.trim_end().lines().peekable();
    let words = lines.next().expect("words");
    let (role, words) = words.split_once(": ").expect("who sent it, and what it says");
    assert!(["client", "server"].contains(&role), "{role}");
    let not_canonical = lines.next_if(|line| line.starts_with("not canonical: "));
    let digits: String = lines.collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect(block);
    Vector {
        words: words.to_owned(),
        not_canonical: not_canonical.map(str::to_owned),
        frame: (0..digits.len()).step_by(2).map(byte).collect(),
    }
}

/// Bytes in words: text where all of it is printable, hexadecimal digits otherwise.
fn value(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) => format!("{text:?}"),
        _ => bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    }
}

/// The frame, in the words of the files.
fn describe(frame: &Frame) -> String {
    let mut said = Vec::new();
    let mut say = |words: String| said.push(words);
    let flag = |set: bool, name: &str| if set { format!("; {name}") } else { String::new() };
    let on = |name: &str, stream: Option<StreamId>| {
        format!("{name} on stream {}", stream.map_or(0, StreamId::get))
    };
    let (mut metadata, mut data) = (None, Bytes::new());
    match frame.clone() {
        Frame::Setup(setup) => {
            say(on("SETUP", None) + &setup_words(&setup));
            (metadata, data) = (setup.payload.metadata, setup.payload.data);
        }
        Frame::Lease(lease) => {
            say(on("LEASE", None));
            say(format!("ttl {} ms", lease.ttl_ms));
            say(format!("requests {}", lease.requests));
            metadata = lease.metadata;
        }
        Frame::KeepAlive(keepalive) => {
            say(on("KEEPALIVE", None) + &flag(keepalive.respond, "respond"));
            say(format!("position {}", keepalive.position));
            data = keepalive.data;
        }
        Frame::Request(request) => {
            let name = match request.interaction {
                Interaction::RequestResponse => "REQUEST_RESPONSE",
                Interaction::FireAndForget => "REQUEST_FNF",
                Interaction::RequestStream => "REQUEST_STREAM",
                Interaction::RequestChannel => "REQUEST_CHANNEL",
            };
            let flags = flag(request.follows, "follows") + &flag(request.complete, "complete");
            say(on(name, Some(request.stream)) + &flags);
            if request.interaction.has_initial_n() {
                say(format!("initial n {}", request.initial_n));
            }
            (metadata, data) = (request.payload.metadata, request.payload.data);
        }
        Frame::Payload(payload) => {
            let flags = flag(payload.follows, "follows")
                + &flag(payload.next, "next")
                + &flag(payload.complete, "complete");
            say(on("PAYLOAD", Some(payload.stream)) + &flags);
            (metadata, data) = (payload.payload.metadata, payload.payload.data);
        }
        Frame::RequestN { stream, n } => say(on("REQUEST_N", Some(stream)) + &format!("; n {n}")),
        Frame::Cancel { stream } => say(on("CANCEL", Some(stream))),
        Frame::Error { stream, code, message } => {
            say(on("ERROR", stream));
            say(format!("code 0x{:08x}", code.0));
            if !message.is_empty() {
                say(format!("message {}", value(&message)));
            }
        }
        Frame::MetadataPush { metadata: pushed } => {
            say(on("METADATA_PUSH", None));
            metadata = Some(pushed);
        }
        Frame::Resume(resume) => {
            say(on("RESUME", None));
            say(format!("version {}.{}", resume.version.0, resume.version.1));
            say(format!("token {}", value(&resume.token)));
            say(format!("last received server position {}", resume.last_received_server_position));
            say(format!(
                "first available client position {}",
                resume.first_available_client_position
            ));
        }
        Frame::ResumeOk { last_received_client_position } => {
            say(on("RESUME_OK", None));
            say(format!("last received client position {last_received_client_position}"));
        }
        Frame::Misplaced { frame_type, stream_id } => {
            say(format!("{} on stream {stream_id}, where it has no meaning", frame_type.name()));
        }
        other => say(format!("{other:?}")),
    }
    if let Some(metadata) = metadata {
        say(format!("metadata {}", value(&metadata)));
    }
    if !data.is_empty() {
        say(format!("data {}", value(&data)));
    }
    said.join("; ")
}

fn setup_words(setup: &Setup) -> String {
    let token = setup.resume_token.as_ref();
    format!(
        "; version {}.{}; keepalive {} ms; lifetime {} ms{}{}; metadata MIME {}; data MIME {}",
        setup.version.0,
        setup.version.1,
        setup.keepalive_interval_ms,
        setup.max_lifetime_ms,
        token.map_or(String::new(), |token| format!("; resume token {}", value(token))),
        if setup.lease { "; lease" } else { "" },
        value(&setup.metadata_mime),
        value(&setup.data_mime),
    )
}

/// Calls `check` with every vector and the name of its file.
fn each_vector(check: impl Fn(&str, &Vector)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("the folder of frames") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            files += 1;
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).expect("a file of frames");
            vectors(&text).iter().for_each(|vector| check(&name, vector));
        }
    }
    assert!(files >= 6, "only {files} files of frames");
}

#[test]
fn frames_of_other_implementations_say_what_they_said() {
    each_vector(|file, vector| {
        let frame = Frame::decode(vector.frame.clone()).unwrap();
        assert_eq!(describe(&frame), vector.words, "{file}");
    });
}

#[test]
fn frames_are_encoded_as_other_implementations_encode_them() {
    each_vector(|file, vector| {
        let mut encoded = BytesMut::new();
        Frame::decode(vector.frame.clone()).unwrap().encode(&mut encoded);
        let is_same = encoded == vector.frame;
        let reason = vector.not_canonical.as_deref();
        assert_eq!(is_same, reason.is_none(), "{file}: {}, {reason:?}", vector.words);
    });
}
