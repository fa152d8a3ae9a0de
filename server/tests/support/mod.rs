//! A service with users, tokens and grants, for tests over real sockets.

#![allow(dead_code, reason = "each test binary needs some of it")]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{StreamExt, stream};
use rsock::{Client, Error, Payload, PayloadExt, metadata::Authentication};
use rsock_access::hash_password;
use rsock_server::{Live, Options, Service};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) const SECRET: &str = "a secret of thirty-two bytes or more, for tests";

pub(crate) const SETTINGS: &str = r#"
[auth]
anonymous = ["guest"]
[auth.users]
file = "users"
[auth.jwt]
keys = [{ alg = "HS256", secret = "a secret of thirty-two bytes or more, for tests" }]
leeway = "0s"
[[grant]]
roles = ["guest"]
routes = ["echo"]
[[grant]]
roles = ["chat"]
topics = ["room.*", "user.{name}.>"]
allow = ["subscribe", "publish", "join", "presence", "history"]
[[grant]]
roles = ["chat", "ops"]
routes = ["clock", "range"]
[[grant]]
roles = ["ops"]
routes = ["status"]
[[deny]]
roles = ["chat"]
topics = ["room.staff"]
"#;

/// A directory of one test, which goes with it.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rsock-access-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let hash = |password: &str| hash_password(password.as_bytes(), &[7; 16]).unwrap();
        let users = format!(
            "ann:{}:chat\nbob:{}:chat\nops:{}:ops\nnil:{}:\n",
            hash("ann's password"),
            hash("bob's password"),
            hash("ops's password"),
            hash("nil's password"),
        );
        fs::write(path.join("users"), users).unwrap();
        fs::write(path.join("access.toml"), SETTINGS).unwrap();
        Self(path)
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.0.join("access.toml")
    }

    pub(crate) fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.settings()).unwrap();
        assert!(text.contains(from));
        fs::write(self.settings(), text.replace(from, to)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Running {
    pub(crate) addresses: Vec<String>,
    pub(crate) live: Live,
    pub(crate) options: Options,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) served: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(options: Options) -> Self {
        let listen = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"].map(str::to_owned).into();
        // Streams that are open at its end are none of what is tested here.
        let drain_limit = Duration::from_millis(100);
        let options = Options { listen, drain_limit, drain_spread: drain_limit, ..options };
        let service = Service::bind(options.clone()).await.unwrap();
        let (addresses, live) = (service.addresses(), service.live());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(service.run(async move {
            // Dropping the sender stops it as well.
            let _ = stopped.await;
        }));
        Self { addresses, live, options, stop, served }
    }

    pub(crate) async fn of(directory: &Directory) -> Self {
        Self::start(Options { access: Some(directory.settings().into()), ..Options::default() })
            .await
    }

    pub(crate) async fn try_as(
        &self,
        credentials: Option<Authentication>,
    ) -> Result<Client, String> {
        let mut builder = Client::builder().wait_until_accepted(true);
        if let Some(credentials) = credentials {
            builder = builder.authentication(credentials);
        }
        within(builder.connect(&self.addresses[0])).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn client(&self, name: &str) -> Client {
        self.try_as(Some(password_of(name))).await.unwrap()
    }

    pub(crate) async fn end(self) {
        let _ = self.stop.send(());
        within(self.served).await.unwrap();
    }
}

pub(crate) fn password_of(name: &str) -> Authentication {
    Authentication::simple(name, &format!("{name}'s password"))
}

/// Fails a test that hangs.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it hangs")
}

pub(crate) fn to(route: &str) -> Payload {
    Payload::new("").route(route).unwrap()
}

pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

pub(crate) fn token(claims: &Value) -> Authentication {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": "HS256" })), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    Authentication::bearer(&format!("{message}.{signature}"))
}

/// The refusal of a request, by whatever interaction.
pub(crate) async fn refusals(client: &Client, route: &str) -> [Option<String>; 3] {
    let text = |error: Error| error.to_string();
    let response = within(client.request_response(to(route))).await.err().map(text);
    let first = within(client.request_stream(to(route)).next()).await;
    let channel = stream::iter([to(route)]).chain(stream::pending());
    let of_channel = within(client.request_channel(channel).next()).await;
    let failed = |item: Option<Result<Payload, Error>>| item.and_then(Result::err).map(text);
    [response, failed(first), failed(of_channel)]
}
