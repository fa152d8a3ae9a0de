//! The extensions' metadata, byte by byte, against a router and against a client: `[s]` and `[c]`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::StreamExt;
use rsock::{
    Acceptor, CheckCredentials, Client, DataMimes, Error, Payload, PayloadExt, Payloads, Request,
    Router, Server,
    metadata::{
        Authentication, Mime, Sampling, TraceContext, TraceId, TraceParent, WellKnownMime, Zipkin,
        ZipkinSpan, mime,
    },
    request_channel, request_response, request_stream,
};
use rsock_tests::{
    record::limit_time,
    script::{Peer, PeerListener},
    wire::{
        C, Frame, N, REQUESTS, ROUTE, entry, err, hex, named, p, rc, request, rn, route, rr, setup,
        setup_of,
    },
};

const INVALID: u32 = 0x204;
const REJECTED: u32 = 0x202;
const REJECTED_SETUP: u32 = 0x003;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Well-known types, as heads of entries.
const MIME: u8 = 0xfa;
const ACCEPT: u8 = 0xfb;
const AUTH: u8 = 0xfc;
const ZIPKIN: u8 = 0xfd;

/// The types of a request that handlers saw: `data < accepted, accepted`.
fn types(mimes: &DataMimes) -> String {
    let accepted: Vec<_> = mimes.accepted().map(|mime| mime.to_string()).collect();
    format!("{} < {}", mimes.data(), accepted.join(", "))
}

fn shown(trace: Option<TraceContext>) -> String {
    match trace {
        Some(TraceContext::Zipkin(zipkin)) => zipkin.to_string(),
        Some(TraceContext::TraceParent(parent)) => parent.to_string(),
        None => "no trace".to_owned(),
    }
}

/// How often a handler behind credentials ran.
type Runs = Arc<AtomicUsize>;

fn app(runs: Runs) -> Router<Runs> {
    Router::new(runs)
        .default_route("echo")
        .route("echo", request_response(async |_, payload: Payload| payload.data))
        .route(
            "whoami",
            request_response(async |runs: Runs, credentials: Authentication| {
                runs.fetch_add(1, Relaxed);
                format!("{credentials:?}")
            }),
        )
        .route(
            "maybe",
            request_response(async |_, credentials: Option<Authentication>| {
                format!("{credentials:?}")
            }),
        )
        .route("types", request_response(async |_, mimes: DataMimes| types(&mimes)))
        .route(
            "cbor",
            request_response(async |_, mimes: DataMimes| mimes.answer(WellKnownMime::Cbor, "x")),
        )
        .route(
            "known",
            request_response(async |_, mimes: DataMimes| match mimes.data() {
                Mime::Reserved(id) => Err(Error::rejected(format_args!("what is {id:#x}?"))),
                known => Ok(known.to_string()),
            }),
        )
        .route("trace", request_response(async |_, trace| shown(trace)))
        .route(
            "trace",
            request_stream(|_, trace: Option<TraceContext>| {
                futures_util::stream::iter([shown(trace)])
            }),
        )
        // Says what each payload says, the first and the others.
        .route(
            "each",
            request_channel(|_, first: Request, rest: Payloads| {
                let said = format!("{:?} {}", first.authentication(), first.data_mime());
                futures_util::stream::iter([Ok(said)])
                    .chain(rest.map(|item| Ok::<_, Error>(shown(item?.extensions()?.trace()))))
            }),
        )
}

/// A server of `acceptor`, and where it listens.
async fn serve(acceptor: impl Acceptor) -> String {
    limit_time();
    let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(acceptor).into_future());
    uri
}

async fn peer(runs: &Runs) -> Peer {
    Peer::established(&serve(app(Arc::clone(runs))).await).await
}

/// The answer to a request with this metadata.
async fn answer(peer: &mut Peer, metadata: impl AsRef<[u8]>) -> Frame {
    peer.send(rr(1, "d").metadata(metadata)).await;
    let answer = peer.next().await;
    peer.fence().await;
    answer
}

/// Each is answered with this error and no other, and the connection lives on.
async fn refused(peer: &mut Peer, code: u32, metadata: impl IntoIterator<Item = Vec<u8>>) {
    for metadata in metadata {
        let answer = answer(peer, &metadata).await;
        assert!(
            answer.code() == Some(code) && answer.stream == 1,
            "{metadata:02x?} is answered with {answer}, not with {code:#x}"
        );
    }
}

/// CMETA-11, H132: on its own, and behind a route that is known by then.
#[tokio::test]
async fn composite_metadata_cut_short_is_an_invalid_request() {
    let mut peer = peer(&Runs::default()).await;
    for broken in [
        "00",
        "fe",
        "fe 00",
        "fe 0000",
        "fe 000010 0161",
        "fe ffffff",
        "7f 78",
        "02 782f79 000001",
        "ab 000001",
        "85 000000 00",
    ] {
        let behind = [route("echo"), hex(broken)].concat();
        refused(&mut peer, INVALID, [hex(broken), behind]).await;
    }
    // What is whole and unknown is passed over (CMETA-07, -08, -10, H135).
    let unknown = hex("ab 000001 00 · 00 ff 000001 00 · 85 000000");
    let whole = [unknown, route("echo")].concat();
    assert_eq!(answer(&mut peer, whole).await, p(1, N | C, "d"));
    assert_eq!(answer(&mut peer, "").await, p(1, N | C, "d"));
}

/// CMETA-15, H133, H134: as long as the metadata and no longer, and nothing looks inside.
#[tokio::test]
async fn metadata_of_many_entries_are_one_long_request() {
    let mut peer = peer(&Runs::default()).await;
    let many = [entry(0xab, "").repeat(4_000_000), route("types")].concat();
    let seen = p(1, N | C, "application/octet-stream < ");
    assert_eq!(answer(&mut peer, many).await, seen);
    let many = [entry(ACCEPT, vec![0xab; 16_000_000]), route("types")].concat();
    assert_eq!(answer(&mut peer, many).await, seen);
    let nested = (0..1_000).fold(route("nowhere"), |inner, _| entry(0xff, inner));
    assert_eq!(answer(&mut peer, [nested, route("echo")].concat()).await, p(1, N | C, "d"));
}

/// CMETA-11 of the other interactions: those with an answer say so, the other is dropped.
#[tokio::test]
async fn every_interaction_is_refused_alone() {
    let mut peer = peer(&Runs::default()).await;
    for kind in REQUESTS {
        peer.send(request(kind, 1, 1, "d").metadata(hex("fe 000010 0161"))).await;
        let others = peer.fence_collecting().await;
        match kind {
            0x05 => assert!(others.is_empty(), "{others:?}"),
            _ => assert_eq!(others[0].code(), Some(INVALID)),
        }
    }
}

/// ROUTE-06, ROUTE-07, H136.
#[tokio::test]
async fn routing_that_cannot_be_read_is_an_invalid_request() {
    let mut peer = peer(&Runs::default()).await;
    let broken = ["ff 61", "01", "04 6563686f 05 61", "02 fffe", "01 80"];
    refused(&mut peer, INVALID, broken.map(|tags| entry(ROUTE, hex(tags)))).await;
    // Tags behind the first need not be text: they may be ignored (ROUTE-03).
    let tags = entry(ROUTE, hex("04 6563686f 02 fffe 00"));
    assert_eq!(answer(&mut peer, tags).await, p(1, N | C, "d"));
    let many = [hex("04 6563686f"), vec![0; 65_536]].concat();
    assert_eq!(answer(&mut peer, entry(ROUTE, many)).await, p(1, N | C, "d"));
}

/// ROUTE-09: metadata that are routing and nothing else; AUTH-08 has no place there.
#[tokio::test]
async fn routing_may_be_all_there_is() {
    let uri = serve(app(Runs::default())).await;
    let mut peer = Peer::connect(&uri).await;
    peer.send(setup_of((1, 0), 20_000, 90_000, mime::ROUTING.as_bytes(), b"a/b")).await;
    assert_eq!(answer(&mut peer, "\x05types").await, p(1, N | C, "a/b < "));
    refused(&mut peer, INVALID, [hex("ff 61"), hex("02 fffe")]).await;
    refused(&mut peer, REJECTED, [b"\x06whoami".to_vec(), b"\x04cbor".to_vec()]).await;
}

/// AUTH-05, AUTH-08, H137: no credentials, or such as cannot be read; the handler does not run.
#[tokio::test]
async fn a_request_without_credentials_is_rejected_and_not_handled() {
    let runs = Runs::default();
    let mut peer = peer(&runs).await;
    refused(&mut peer, REJECTED, [route("whoami")]).await;
    let malformed = ["", "80", "80 00", "80 00ff 75", "80 ffff", "00", "04 746f6b"];
    for content in malformed {
        let auth = entry(AUTH, hex(content));
        for route in ["whoami", "maybe"] {
            refused(&mut peer, REJECTED, [[self::route(route), auth.clone()].concat()]).await;
        }
        // Who does not ask for credentials is not bothered with them.
        let echo = [route("echo"), auth].concat();
        assert_eq!(answer(&mut peer, echo).await, p(1, N | C, "d"));
    }
    assert_eq!(runs.load(Relaxed), 0);
    assert_eq!(answer(&mut peer, route("maybe")).await, p(1, N | C, "None"));
}

/// AUTH-07, AUTH-09: what a type stands for, and whether it is enough, is for the application.
#[tokio::test]
async fn credentials_of_any_type_reach_the_handler() {
    let mut peer = peer(&Runs::default()).await;
    for (content, seen) in [
        ("80 0001 75 7077", "Simple { .. }"),
        ("80 0000", "Simple { .. }"),
        ("81 746f6b", "Bearer { .. }"),
        ("81", "Bearer { .. }"),
        ("ff 00", "Reserved { id: 127, .. }"),
        ("04 746f6b656e 00", "Custom { name: b\"token\", .. }"),
    ] {
        let metadata = [route("whoami"), entry(AUTH, hex(content))].concat();
        assert_eq!(answer(&mut peer, metadata).await, p(1, N | C, seen), "{content}");
    }
}

/// Only `ann` with her password, or the token, may ask anything.
fn guarded(runs: Runs) -> Router<Runs> {
    app(runs).authorize(|_, request| match request.authentication()? {
        Some(it) if it.is_simple("ann", "pw") || it.is_bearer("tok") => Ok(()),
        _ => Err(Error::rejected("who are you?")),
    })
}

fn ann() -> Vec<u8> {
    entry(AUTH, hex("80 0003 616e6e 7077"))
}

/// AUTH-08, AUTH-09, AUTH-11: wrong ones, for each request anew, and of several the first.
#[tokio::test]
async fn credentials_hold_for_their_request_and_the_first_counts() {
    let runs = Runs::default();
    let mut peer = Peer::established(&serve(guarded(Arc::clone(&runs))).await).await;
    let bob = entry(AUTH, hex("80 0003 626f62 7077"));
    let whoami = |parts: &[&[u8]]| [&route("whoami"), parts.concat().as_slice()].concat();
    let ask = async |peer: &mut Peer, metadata: Vec<u8>| {
        peer.send(rr(1, "d").metadata(metadata)).await;
        peer.next().await
    };
    let no = err(1, REJECTED, "who are you?");
    let yes = p(1, N | C, "Simple { .. }");
    assert_eq!(ask(&mut peer, whoami(&[])).await, no);
    assert_eq!(ask(&mut peer, whoami(&[&ann()])).await, yes);
    // What the request before had is of no use to this one.
    assert_eq!(ask(&mut peer, whoami(&[])).await, no);
    assert_eq!(ask(&mut peer, whoami(&[&bob])).await, no);
    assert_eq!(ask(&mut peer, whoami(&[&bob, &ann()])).await, no);
    assert_eq!(ask(&mut peer, whoami(&[&ann(), &bob])).await, yes);
    let unknown = [entry(AUTH, hex("ff 746f6b")), entry(AUTH, hex("02 746f6b 746f6b"))];
    for unknown in unknown {
        assert_eq!(ask(&mut peer, whoami(&[&unknown])).await, no);
    }
    assert_eq!(runs.load(Relaxed), 2);
    // Who may not ask learns nothing of the routes there are.
    assert_eq!(ask(&mut peer, route("nowhere")).await, no);
    let alive = [ann(), route("echo")].concat();
    assert_eq!(ask(&mut peer, alive).await, p(1, N | C, "d"));
}

/// AUTH-03, MIME-03, TRACE-06: in PAYLOAD, traces mean something and the others nothing.
#[tokio::test]
async fn payloads_of_a_channel_have_no_credentials_and_no_types() {
    let mut peer = peer(&Runs::default()).await;
    let first = [route("each"), entry(AUTH, hex("81 746f6b"))].concat();
    peer.send(rc(1, 9, "d").metadata(first)).await;
    let said = "Ok(Some(Bearer { .. })) application/octet-stream";
    peer.expect(p(1, N, said)).await;
    let grant = peer.next().await;
    assert_eq!((grant.stream, grant.kind), (1, rn(1, 1).kind));
    for (metadata, said) in [
        (entry(AUTH, hex("80 00ff 75")), "no trace"),
        (entry(MIME, ""), "no trace"),
        (entry(ZIPKIN, [0x20]), "sampled"),
    ] {
        peer.send(p(1, N, "d").metadata(metadata)).await;
        peer.expect(p(1, N, said)).await;
    }
    // Credentials that come late are no credentials.
    peer.send(rc(3, 9, "d").metadata(route("each"))).await;
    peer.expect(p(3, N, "Ok(None) application/octet-stream")).await;
}

/// CMETA-09, AUTH-03, AUTH-08: credentials in SETUP, right and wrong and malformed.
#[tokio::test]
async fn setup_is_accepted_or_rejected_by_its_credentials() {
    let acceptor = |peer: rsock::Peer| async move {
        match peer.setup().authentication()? {
            Some(it) if it.is_simple("ann", "pw") => app(Runs::default()).accept(peer).await,
            _ => Err(Error::rejected("who are you?")),
        }
    };
    let uri = serve(acceptor).await;
    let with = |metadata: Vec<u8>| setup().metadata(metadata);
    let custom = named(b"\x02x/y", hex("0102"));
    for good in [ann(), [custom, ann()].concat()] {
        let mut peer = Peer::connect(&uri).await;
        peer.send(with(good)).await;
        peer.fence().await;
    }
    let auth = mime::AUTHENTICATION.as_bytes();
    let mut peer = Peer::connect(&uri).await;
    let bare = setup_of((1, 0), 20_000, 90_000, auth, b"a/b");
    peer.send(bare.metadata(hex("80 0003 616e6e 7077"))).await;
    // No metadata of such a connection name a route.
    peer.fence().await;

    for bad in [
        setup(),
        with(entry(AUTH, hex("80 0003 616e6e 7078"))),
        with(entry(AUTH, hex("80 00ff 75"))),
        with(entry(AUTH, "")),
        with(entry(AUTH, hex("81"))),
        with(entry(AUTH, hex("ff 00"))),
        with(hex("fc 000009 80")),
        with([entry(AUTH, hex("81 746f6b")), ann()].concat()),
        setup().data("80 0003 616e6e 7077"),
    ] {
        let mut peer = Peer::connect(&uri).await;
        peer.send(bad).await;
        peer.expect_refusal(REJECTED_SETUP).await;
    }
}

/// CMETA-09, AUTH-01, AUTH-03: what our client puts into SETUP and into a request.
#[tokio::test]
async fn a_client_sends_credentials_where_they_belong() {
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let builder = Client::builder().authentication(Authentication::simple("u", "pw"));
    let (client, mut peer) = tokio::join!(builder.connect(&uri), listener.accept());
    let client = client.expect("a connection");
    let setup = peer.next().await;
    let expected = entry(AUTH, hex("80 0001 75 7077"));
    assert_eq!(setup.metadata.as_deref(), Some(expected.as_slice()));

    let asked = Payload::new("d").route("a").unwrap();
    let asked = asked.authentication(&Authentication::bearer("tok")).unwrap();
    let call = tokio::spawn(client.request_response(asked).into_future());
    let expected = [route("a"), entry(AUTH, hex("81 746f6b"))].concat();
    peer.expect(rr(1, "d").metadata(expected)).await;
    peer.send(p(1, N | C, "ok")).await;
    assert_eq!(call.await.unwrap().unwrap().data, "ok");
    // The next request has none.
    let call = tokio::spawn(client.request_response("e").into_future());
    peer.expect(rr(3, "e")).await;
    peer.send(p(3, N | C, "ok")).await;
    assert!(call.await.unwrap().is_ok());
}

/// MIME-01, MIME-02, MIME-07, MIME-10, H139.
#[tokio::test]
async fn a_handler_sees_the_types_of_data_and_answer() {
    let mut peer = peer(&Runs::default()).await;
    let (json, octets) = ("application/json", "application/octet-stream");
    for (said, seen) in [
        (vec![], format!("{octets} < ")),
        (vec![(MIME, "85")], format!("{json} < ")),
        (vec![(MIME, "02 782f79")], "x/y < ".to_owned()),
        // Of several the first.
        (vec![(MIME, "85"), (MIME, "81")], format!("{json} < ")),
        (vec![(ACCEPT, "85 81 02 782f79")], format!("{octets} < {json}, application/cbor, x/y")),
        (vec![(ACCEPT, "ab 85")], format!("{octets} < {json}")),
        (vec![(ACCEPT, "ab ac f9")], format!("{octets} < ")),
        (vec![(MIME, "ab")], "reserved MIME id 0x2b < ".to_owned()),
    ] {
        let entries = said.iter().flat_map(|(head, content)| entry(*head, hex(content)));
        let metadata = [route("types"), entries.collect()].concat();
        assert_eq!(answer(&mut peer, metadata).await, p(1, N | C, seen));
    }
    let reserved = [route("known"), entry(MIME, hex("ab"))].concat();
    assert_eq!(answer(&mut peer, reserved).await, err(1, REJECTED, "what is 0x2b?"));
}

/// MIME-09, H139: whether or not the handler looks at them.
#[tokio::test]
async fn types_that_cannot_be_read_are_an_invalid_request() {
    let mut peer = peer(&Runs::default()).await;
    for name in ["types", "echo"] {
        let broken =
            [(MIME, ""), (MIME, "05 61"), (MIME, "00"), (ACCEPT, ""), (ACCEPT, "85 05 61")];
        let broken =
            broken.map(|(head, content)| [route(name), entry(head, hex(content))].concat());
        refused(&mut peer, INVALID, broken).await;
    }
}

/// MIME-04: an answer of another type says so, and one of the request's own says nothing.
#[tokio::test]
async fn an_answer_of_another_type_says_so() {
    let mut peer = peer(&Runs::default()).await;
    let accepts = [route("cbor"), entry(ACCEPT, hex("81"))].concat();
    let cbor = p(1, N | C, "x").metadata(entry(MIME, hex("81")));
    assert_eq!(answer(&mut peer, accepts).await, cbor);
    let is_cbor = [route("cbor"), entry(MIME, hex("81"))].concat();
    assert_eq!(answer(&mut peer, is_cbor).await, p(1, N | C, "x"));
}

/// MIME-03, MIME-04, MIME-06: our client says its types in requests, sees that of the answer, and
/// what a responder accepts changes nothing.
#[tokio::test]
async fn a_client_sees_the_type_of_an_answer_and_no_list_of_a_responder() {
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let (client, mut peer) = tokio::join!(Client::builder().connect(&uri), listener.accept_setup());
    let client = client.expect("a connection");
    let accepted = [Mime::from(WellKnownMime::Cbor), "x/y".parse().unwrap()];
    let ask = || Payload::new("{}").data_mime(WellKnownMime::Json).unwrap().accept(&accepted);
    let asked = [entry(MIME, hex("85")), entry(ACCEPT, hex("81 02 782f79"))].concat();
    for (id, said, seen) in [
        (1, entry(MIME, hex("81")), Ok(Some(WellKnownMime::Cbor.into()))),
        (3, entry(ACCEPT, hex("85")), Ok(None)),
        (5, entry(ACCEPT, hex("05 61")), Ok(None)),
        (7, Vec::new(), Ok(None)),
    ] {
        let call = tokio::spawn(client.request_response(ask().unwrap()).into_future());
        // The same, whatever the answer before said.
        peer.expect(rr(id, "{}").metadata(&asked)).await;
        peer.send(p(id, N | C, "x").metadata(said)).await;
        let reply = call.await.unwrap().unwrap();
        assert_eq!(reply.data, "x");
        assert_eq!(reply.extensions().unwrap().data_mime(), seen);
    }
}

/// TRACE-01 to TRACE-05, TRACE-07 to TRACE-09, H138: read where it can be, and never in the way.
#[tokio::test]
async fn a_trace_reaches_the_handler_or_is_ignored() {
    let mut peer = peer(&Runs::default()).await;
    let (one, two, three) = ("0000000000000001", "0000000000000002", "0000000000000003");
    let traceparent = named(b"\x0atraceparent", PARENT);
    for (content, seen) in [
        ("10".to_owned(), "not sampled".to_owned()),
        ("70".to_owned(), "debug".to_owned()),
        ("30".to_owned(), "sampled".to_owned()),
        ("0c".to_owned(), "undecided".to_owned()),
        (format!("80 {one} {two}"), format!("trace={one} span={two} undecided")),
        (format!("83 {one} {two} ff"), format!("trace={one} span={two} undecided")),
        (
            format!("a4 {one} {two} {three}"),
            format!("trace={one} span={two} parent={three} sampled"),
        ),
        (format!("88 {three}{one} {two}"), format!("trace={three}{one} span={two} undecided")),
        (
            format!("cc {three}{one} {two} {three}"),
            format!("trace={three}{one} span={two} parent={three} debug"),
        ),
        (String::new(), "no trace".to_owned()),
        ("a0 00".to_owned(), "no trace".to_owned()),
        ("ff".to_owned(), "no trace".to_owned()),
    ] {
        let zipkin = entry(ZIPKIN, hex(&content));
        let metadata = [route("trace"), zipkin.clone()].concat();
        assert_eq!(answer(&mut peer, metadata).await, p(1, N | C, &seen), "{content}");
        // The other way of saying it counts where this one says nothing.
        let metadata = [route("trace"), traceparent.clone(), zipkin].concat();
        let seen = if seen == "no trace" { PARENT.to_owned() } else { seen };
        assert_eq!(answer(&mut peer, metadata).await, p(1, N | C, &seen), "{content}");
    }
    for text in ["", "00-", &PARENT.to_uppercase(), &PARENT.replace("00-", "ff-")] {
        let metadata = [route("trace"), named(b"\x0atraceparent", text)].concat();
        assert_eq!(answer(&mut peer, metadata).await, p(1, N | C, "no trace"), "{text}");
    }
}

/// TRACE-06: what our client says in its requests.
#[tokio::test]
async fn a_client_s_trace_is_written_by_the_letter() {
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let (client, mut peer) = tokio::join!(Client::builder().connect(&uri), listener.accept_setup());
    let client = client.expect("a connection");
    let span = ZipkinSpan { trace_id: TraceId::Short(1), span_id: 2, parent_id: Some(3) };
    let zipkin = Zipkin { sampling: Sampling::Sampled, span: Some(span) };
    let parent: TraceParent = PARENT.parse().unwrap();
    let asked = Payload::new("d").zipkin(&zipkin).unwrap().traceparent(&parent).unwrap();
    let content = hex("a4 0000000000000001 0000000000000002 0000000000000003");
    let metadata = [entry(ZIPKIN, content), named(b"\x0atraceparent", PARENT)].concat();
    client.fire_and_forget(asked.clone()).await.unwrap();
    let got = peer.next().await;
    assert_eq!(got.metadata.as_deref(), Some(metadata.as_slice()));
    let mut items = client.request_stream(asked.clone());
    let call = tokio::spawn(async move { items.next().await });
    assert_eq!(peer.next().await.metadata.as_deref(), Some(metadata.as_slice()));
    peer.send(p(3, C, "")).await;
    assert!(call.await.unwrap().is_none());
}
