//! Keys of tokens that another server has (`jwks_url`): fetched, and fetched again.

use std::{
    fmt,
    net::IpAddr,
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rsock::tls::{ClientTls, Pem, Roots, rustls};
use rsock_access::{JwtSettings, Keys, TokenError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::policy::Policy;

/// Bytes of a set of keys.
const MAX_BYTES: usize = 256 << 10;
/// The time that fetching it may take, and that a token waits for it whose key is not known.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// The time between two attempts.
const PAUSE: Duration = Duration::from_secs(30);

/// Keys that another server has, as they were when it was last heard.
pub(crate) struct RemoteKeys {
    shared: Arc<Shared>,
    /// Once they are fetched.
    fetching: OnceLock<AbortHandle>,
}

/// The settings that say where they are, and how often they are fetched.
#[derive(Clone, PartialEq, Eq)]
struct Settings {
    url: String,
    /// The text of the file with the authorities, if there is one.
    authorities: Option<String>,
    refresh: Duration,
    /// The time between two attempts for tokens whose keys are not known, and the longest behind one that has failed.
    pause: Duration,
}

impl Settings {
    /// The place as the log may have it: there may be a secret in the query.
    fn shown(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }
}

struct Shared {
    settings: Settings,
    place: Place,
    keys: RwLock<Arc<Keys>>,
    /// A token has come whose key is not known.
    wanted: Notify,
    /// When the last attempt ended.
    attempted: watch::Sender<Option<Instant>>,
}

/// The server that has them.
struct Place {
    uri: Uri,
    host: String,
    port: u16,
    /// None in clear.
    tls: Option<(TlsConnector, rustls::pki_types::ServerName<'static>)>,
}

impl RemoteKeys {
    /// Those that these settings name, if they do. Nothing is fetched yet.
    ///
    /// # Errors
    /// What is wrong with the settings, as a sentence.
    pub(super) fn of(
        settings: &JwtSettings,
        directory: &Path,
    ) -> Result<Option<Arc<Self>>, String> {
        Self::with_pause(settings, directory, PAUSE)
    }

    fn with_pause(
        settings: &JwtSettings,
        directory: &Path,
        pause: Duration,
    ) -> Result<Option<Arc<Self>>, String> {
        let Some(url) = &settings.jwks_url else {
            return match settings.jwks_ca {
                Some(_) => Err("auth.jwt.jwks_ca goes with jwks_url".to_owned()),
                None => Ok(None),
            };
        };
        let authorities = settings.jwks_ca.as_ref();
        let authorities = authorities.map(|file| super::policy::read_file(&directory.join(file)));
        let refresh = settings.jwks_refresh.max(pause);
        let own =
            Settings { url: url.clone(), authorities: authorities.transpose()?, refresh, pause };
        let place = Place::new(&own).map_err(|problem| format!("auth.jwt.jwks_url: {problem}"))?;
        let shared = Shared {
            settings: own,
            place,
            keys: RwLock::default(),
            wanted: Notify::new(),
            attempted: watch::Sender::new(None),
        };
        Ok(Some(Arc::new(Self { shared: Arc::new(shared), fetching: OnceLock::new() })))
    }

    /// Whether the others are of the same place, and fetched as often.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.shared.settings == other.shared.settings
    }

    /// Has them fetched from now on, on the runtime that this is called in.
    pub(super) fn start(&self) {
        self.fetching
            .get_or_init(|| tokio::spawn(Arc::clone(&self.shared).fetch_on()).abort_handle());
    }

    /// The keys.
    pub(super) fn keys(&self) -> Arc<Keys> {
        // It is changed by an assignment alone.
        Arc::clone(&self.shared.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has them fetched for a token whose key is not among them, soon or when that may be. Whether the time for it
    /// has come.
    pub(super) fn want(&self) -> bool {
        self.shared.wanted.notify_one();
        self.shared
            .attempted
            .borrow()
            .is_some_and(|ended| ended.elapsed() >= self.shared.settings.pause)
    }

    /// The same, and waits for them. Whether they may be others.
    async fn fetched(&self) -> bool {
        let mut attempted = self.shared.attempted.subscribe();
        self.want() && timeout(FETCH_LIMIT, attempted.changed()).await.is_ok()
    }
}

impl Drop for RemoteKeys {
    fn drop(&mut self) {
        if let Some(fetching) = self.fetching.get() {
            fetching.abort();
        }
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys")
            .field("url", &self.shared.settings.shown())
            .finish_non_exhaustive()
    }
}

/// Looks at a token by the keys of another server as well: by those that it has now, where its key is not known.
pub(super) async fn verify<T>(
    policy: &Policy,
    verify: impl Fn(&Keys) -> Result<T, TokenError>,
) -> Result<T, TokenError> {
    let Some(remote) = &policy.remote else { return verify(&Keys::default()) };
    match verify(&remote.keys()) {
        Err(TokenError::NoKey) if remote.fetched().await => verify(&remote.keys()),
        verified => verified,
    }
}

impl Shared {
    /// Fetches them, again and again.
    async fn fetch_on(self: Arc<Self>) {
        let settings = &self.settings;
        let mut failures = 0;
        loop {
            let fetched = timeout(FETCH_LIMIT, self.place.fetch()).await;
            let fetched = fetched.unwrap_or_else(|_| Err("it takes too long".to_owned()));
            match fetched.and_then(|text| self.take(settings.shown(), &text)) {
                Ok(()) => failures = 0,
                Err(problem) => {
                    failures += 1;
                    tracing::warn!(
                        "the keys at {}: {problem}; they are as they were",
                        settings.shown()
                    );
                }
            }
            self.attempted.send_replace(Some(Instant::now()));
            let pause = match failures {
                0 => settings.refresh,
                failures => Duration::from_secs(1 << failures.min(5)).min(settings.pause),
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = async { sleep(settings.pause).await; self.wanted.notified().await } => {}
            }
        }
    }

    fn take(&self, url: &str, text: &str) -> Result<(), String> {
        let (keys, odd) = Keys::parse_set(text)?;
        for problem in odd {
            tracing::warn!("the keys at {url}: {problem}; it is left out");
        }
        if keys.is_empty() {
            return Err("there is none that can be used".to_owned());
        }
        let keys = Arc::new(Keys::new(keys)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

impl Place {
    fn new(settings: &Settings) -> Result<Self, String> {
        let url = &settings.url;
        // It is not shown: there may be a secret in it.
        let uri: Uri = url.parse().map_err(|error| format!("it is not a URL: {error}"))?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| {
            "it has no host, or a password in it, and is to be https://HOST/PATH".to_owned()
        })?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(connector(settings, &host)?), 443),
            Some("http") if is_here => (None, 80),
            _ => {
                return Err(
                    "it is neither https:// nor http:// on this machine: whoever is on the way \
                            could give keys of their own"
                        .to_owned(),
                );
            }
        };
        let port = authority.port_u16().unwrap_or(port);
        Ok(Self { host, port, uri, tls })
    }

    /// The text that is there.
    async fn fetch(&self) -> Result<String, String> {
        let told = |error: std::io::Error| format!("cannot connect: {error}");
        let socket = TcpStream::connect((&*self.host, self.port)).await.map_err(told)?;
        match &self.tls {
            None => self.ask(socket).await,
            Some((connector, name)) => {
                self.ask(connector.connect(name.clone(), socket).await.map_err(told)?).await
            }
        }
    }

    async fn ask(
        &self,
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<String, String> {
        let told = |error: hyper::Error| error.to_string();
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(told)?;
        let driving = async {
            // Whether it came to its end in order, the answer tells.
            let _ = connection.await;
            std::future::pending().await
        };
        let asked = async {
            let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
            let authority = self.uri.authority().map_or("", |authority| authority.as_str());
            let request = Request::get(path)
                .header("host", authority)
                .header("accept", "application/jwk-set+json, application/json")
                .header("connection", "close")
                .body(Empty::<Bytes>::new())
                .map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(told)?;
            if response.status() != StatusCode::OK {
                return Err(format!("the answer is {}", response.status()));
            }
            let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
            let body = body.map_err(|error| format!("{error} ({MAX_BYTES} bytes at most)"))?;
            String::from_utf8(body.to_bytes().into()).map_err(|_| "it is not text".to_owned())
        };
        tokio::select! {
            text = asked => text,
            text = driving => text,
        }
    }
}

fn connector(
    settings: &Settings,
    host: &str,
) -> Result<(TlsConnector, rustls::pki_types::ServerName<'static>), String> {
    let tls = match &settings.authorities {
        None => ClientTls::new(),
        Some(text) => ClientTls::new().roots(Roots::Pem(Pem::text(text.as_bytes()))),
    };
    let config = tls.to_config().map_err(|error| error.to_string())?;
    let name =
        host.to_owned().try_into().map_err(|_| format!("{host:?} is not a valid host name"))?;
    Ok((TlsConnector::from(config), name))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A server that gives this, and counts how often.
    struct Server {
        answer: Mutex<String>,
        asked: AtomicUsize,
    }

    impl Server {
        async fn start(answer: &str) -> (Arc<Self>, u16) {
            let server = Arc::new(Self {
                answer: Mutex::new(answer.to_owned()),
                asked: AtomicUsize::new(0),
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            let own = Arc::clone(&server);
            tokio::spawn(async move {
                loop {
                    let (mut socket, _) = listener.accept().await.expect("it is open");
                    let mut head = [0; 4_096];
                    // A head of that kind comes in one piece.
                    let _ = socket.read(&mut head).await;
                    own.asked.fetch_add(1, Relaxed);
                    let answer = own.answer.lock().expect("nobody panics with it").clone();
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
            (server, port)
        }

        fn set(&self, answer: String) {
            *self.answer.lock().expect("nobody panics with it") = answer;
        }
    }

    fn answer(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    /// Keys of these names; the point is the generator of P-256.
    fn set(names: &[&str]) -> String {
        const POINT: &str = r#""kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU""#;
        let keys: Vec<_> =
            names.iter().map(|name| format!(r#"{{"kid":"{name}",{POINT}}}"#)).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    fn keys(port: u16, pause: Duration) -> Arc<RemoteKeys> {
        let url = format!("http://127.0.0.1:{port}/keys");
        let settings = JwtSettings { jwks_url: Some(url), ..JwtSettings::default() };
        let keys = RemoteKeys::with_pause(&settings, Path::new(""), pause).expect("valid");
        let keys = keys.expect("it has a URL");
        keys.start();
        keys
    }

    async fn until(is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), waiting).await.expect("it is so in the end");
    }

    #[tokio::test]
    async fn a_set_is_fetched_for_keys_that_are_not_known_and_the_last_good_one_stays() {
        let (server, port) = Server::start(&answer(&set(&["a"]))).await;
        let pause = Duration::from_millis(200);
        let keys = keys(port, pause);
        until(|| keys.keys().len() == 1).await;
        // Not before its time, and then once for all who want it.
        server.set(answer(&set(&["a", "b"])));
        let began = Instant::now();
        let asked = server.asked.load(Relaxed);
        while keys.keys().len() == 1 {
            keys.want();
            tokio::task::yield_now().await;
        }
        assert!(server.asked.load(Relaxed) <= asked + 2, "it is asked too often");
        assert!(began.elapsed() < Duration::from_secs(30));
        // What cannot be used changes nothing, and the server is asked again.
        let large = format!("{}{}", set(&["a"]), " ".repeat(MAX_BYTES));
        for wrong in [
            answer("{}"),
            answer(r#"{"keys":[]}"#),
            answer("nonsense"),
            answer(&large),
            "HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "nonsense\r\n\r\n".to_owned(),
            String::new(),
        ] {
            server.set(wrong);
            let before = server.asked.load(Relaxed);
            until(|| {
                keys.want();
                server.asked.load(Relaxed) >= before + 2
            })
            .await;
            assert_eq!(keys.keys().len(), 2);
        }
        server.set(answer(&set(&["c"])));
        until(|| {
            keys.want();
            keys.keys().len() == 1
        })
        .await;
    }

    /// Who wants keys that nobody has costs the other server one request each half minute.
    #[tokio::test]
    async fn strangers_do_not_have_the_other_server_asked() {
        let (server, port) = Server::start(&answer(&set(&["a"]))).await;
        let keys = keys(port, PAUSE);
        until(|| keys.keys().len() == 1).await;
        for _ in 0..10_000 {
            assert!(!keys.fetched().await);
        }
        assert_eq!(server.asked.load(Relaxed), 1);
    }
}
