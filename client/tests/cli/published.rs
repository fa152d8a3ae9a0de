//! Command lines that the README of making/rsc and tutorials publish for `rsc`: all that it runs itself
//! run as they are, but for the address.

use std::{process::Command, sync::Arc};

use futures_util::{Stream, StreamExt, stream};
use rsock::{Error, Payload, Payloads, Peer, Request, Responder, Server};
use tokio::runtime::Runtime;

/// One to a line; `{` and `}` are those of JSON.
const LINES: &str = r#"
rsc --request --route=uppercase --data=Foo --debug tcp://localhost:7001
rsc --stream --route=hello --debug --take=30 ws://localhost:8080/rsocket
rsc --request --route=hello --load=./hello.txt --debug tcp://localhost:8080
rsc --request --route=hello --load=$PWD/hello.txt --debug tcp://localhost:8080
rsc --completion bash
rsc --completion zsh
rsc --completion fish
rsc --completion powershell
rsc --route=add --data='{"x":10, "y":20}' tcp://localhost:7001
rsc --route=add --data='{"x":10, "y":20}' --log --quiet tcp://localhost:7001
rsc --route=add --data='{"x":10, "y":20}' --debug --quiet tcp://localhost:7001
rsc --route=add --data='{"x":10, "y":20}' --wiretap --quiet tcp://localhost:7001
rsc --setupData=foo --setupMetadata='{"value":"metadata"}' --setupMetadataMimeType=application/json --route=add --data='{"x":10, "y":20}' tcp://localhost:7001
rsc --metadataMimeType=text/plain --metadata=hello --metadataMimeType=application/json --metadata='{"hello":"world"}' --data='{"x":10, "y":20}' --wiretap --quiet tcp://localhost:7001
rsc --metadataMimeType=text/plain --metadata=hello --metadataMimeType=application/json --metadata='{"hello":"world"}' --route=add --data='{"x":10, "y":20}' --wiretap --quiet tcp://localhost:7001
rsc -r functionRouter --mmt application/json -m '{"function":"uppercase"}' -d 'RSocket' tcp://localhost:8080
rsc --stream --delayElements=100 --log --route=uppercase.stream --data=rsocket tcp://localhost:7001
rsc --stream --delayElements=100 --limitRate=8 --log --route=uppercase.stream --data=rsocket tcp://localhost:7001
rsc tcp://localhost:8888 --authSimple user:password -r hello -d World
rsc tcp://localhost:8888 -u user:password -r hello -d World
rsc tcp://localhost:8888 --sm simple:user:password --smmt message/x.rsocket.authentication.v0 -r hello -d World
rsc tcp://localhost:8888 --sm simple:user:password --smmt MESSAGE_RSOCKET_AUTHENTICATION -r hello -d World
rsc tcp://localhost:8888 --authBearer MY_TOKEN -r hello -d World
rsc tcp://localhost:8888 --ab MY_TOKEN -r hello -d World
rsc tcp://localhost:8888 --authBasic user:password -r hello -d World
rsc tcp://localhost:8888 --sm user:password --smmt message/x.rsocket.authentication.basic.v0 -r hello -d World
rsc tcp://localhost:8888 --sm user:password --smmt AUTHENTICATION_BASIC -r hello -d World
rsc ws://localhost:8080/rsocket -r rr --trace --printB3 --zipkinUrl http://localhost:9411
rsc -v
rsc --showSystemProperties
rsc --fnf -r uppercase.fnf -d hello -q --debug tcp://localhost:7001
rsc --stream -r uppercase.stream -d hello --limitRate 3 --take 3 -q --debug tcp://localhost:7001
printf 'abc\ndef\n' | rsc --channel -r uppercase.channel -d - tcp://localhost:7001
printf 'abc\ndef\n' | rsc --channel -r uppercase.channel -d - -q --debug tcp://localhost:7001
rsc --debug --request --data "{\"message\":\"Hello\"}" --route request-response --stacktrace tcp://localhost:7000
rsc --debug --fnf --data "{\"message\":\"Hello\"}" --route fire-and-forget --stacktrace tcp://localhost:7000
rsc --debug --stream --data "{\"message\":\"Hello\"}" --route stream --stacktrace tcp://localhost:7000
rsc --debug --channel --data 2 --route channel-get-member-by-id --stacktrace tcp://localhost:7000
rsc --stream --route=orders.all --debug ws://localhost:8070/server/rsocket
rsc tcp://localhost:7000 --stream --route greetings --log --debug -d "{\"name\":\"x\"}"
rsc tcp://localhost:7000 --route geocode -d'{"zipcode":"12345"}'
rsc --request --route=/request-response --authBearer=$TOKEN --data="my sample input" tcp://localhost:7000
rsc --fnf -m TID_1 --mmt message/x.rsocket.trace.id.v0 --data "{\"input\":5}" --route math.print tcp://localhost:7000
rsc --request --route=graphql --dataMimeType="application/graphql+json" --data='{"query":"{ greeting }" }' --debug tcp://localhost:8079
rsc --im REQUEST_RESPONSE --route hello ws://localhost:7000 --data "haha"
rsc --resume 600 --stream -r hello tcp://localhost:7000
rsc tcp://localhost:7000 --sm '{"name":"app"}' --smmt APP_INFO -r hello -d World
"#;

/// Answers whatever it is asked, by whatever route.
struct Anything;

fn five(request: Request) -> impl Stream<Item = Result<Payload, Error>> + Send {
    stream::repeat(Ok(Payload::new(request.data().clone()))).take(5)
}

impl Responder for Anything {
    async fn fire_and_forget(self: Arc<Self>, _: Request) {}

    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        Ok(Payload::new(request.data().clone()))
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        five(request)
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        stream::once(async move { Ok(Payload::new(first.data().clone())) }).chain(rest)
    }
}

/// The line with another address in place of the first of this scheme.
fn at(line: &str, scheme: &str, address: &str) -> String {
    let Some(start) = line.find(scheme) else { return line.to_owned() };
    let end = line[start..].find(' ').map_or(line.len(), |length| start + length);
    format!("{}{address}{}", &line[..start], &line[end..])
}

#[cfg(unix)]
#[test]
fn all_that_rsc_runs_runs() {
    let runtime = Runtime::new().unwrap();
    let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"];
    let server = Server::builder().resume(rsock::ResumeLimits::default(), 10);
    let server = runtime.block_on(server.bind(&uris)).unwrap();
    let addresses = server.addresses();
    runtime.spawn(server.serve(async |_: Peer| Ok(Anything)).into_future());
    let folder = std::env::temp_dir().join(format!("rsock-published-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hello.txt"), "hello").unwrap();
    let lines: Vec<_> = LINES.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() >= 35, "{}", lines.len());
    for line in lines {
        let line = at(&at(line, "tcp://", &addresses[0]), "ws://", &addresses[1]);
        let script = format!("rsc() {{ \"$RSOCK\" \"$@\"; }}\n{line}");
        let done = Command::new("sh")
            .args(["-c", &script])
            .env("RSOCK", env!("CARGO_BIN_EXE_rsock"))
            .env("TOKEN", "MY_TOKEN")
            .current_dir(&folder)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{line}: {said}");
        // What is quiet or has no answer shows nothing, and all else something.
        let is_silent = ["--quiet", " -q", "--fnf"].iter().any(|option| line.contains(option));
        assert_eq!(done.stdout.is_empty(), is_silent, "{line}: {said}");
        let is_observed =
            ["--debug", "--log", "--wiretap"].iter().any(|option| line.contains(option));
        assert_eq!(said.contains("→ SETUP"), is_observed, "{line}: {said}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
