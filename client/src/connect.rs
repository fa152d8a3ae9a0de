//! One connection for one command: made, used, and ended so that nothing sent is lost.

use std::{
    future,
    sync::Arc,
    time::{Duration, Instant},
};

use rsock::{
    Client, CloseReason, Config, Meter, Payload, Reconnect, ReconnectEvent, Resume, SessionEvent,
    SharedLease,
    metadata::{Features, mime::is_composite},
};
use rsock_cli::Rounded;
use tokio::time;

use crate::{
    args::ConnectionArgs, credentials, exit::Failure, frame_log, metadata, progress::Transfer,
    render::say, timekeeper::Timekeeper, tls,
};

/// How long the peer's goodbye is waited for once the command has failed.
const PARTING: Duration = Duration::from_millis(500);

/// Connects, does `work`, and waits until all that was sent has left. Whatever `work` holds when it
/// is interrupted or out of time is dropped, which cancels it.
pub(crate) async fn session(
    args: &ConnectionArgs,
    transfer: Transfer,
    work: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<CloseReason, Failure> {
    let timekeeper = Timekeeper::start()?;
    let meter = Arc::<Meter>::default();
    let started = Instant::now();
    let client = tokio::select! {
        biased;
        failure = timekeeper.interrupted() => return Err(failure),
        client = open(args, &meter) => client?,
    };
    if args.verbose > 0 {
        let uri = credentials::without_credentials(&args.uri);
        say(format_args!("rsock: connected to {uri} in {}", Rounded(started.elapsed())));
    }
    if let Some(limit) = args.timeout {
        timekeeper.limit(limit);
    }
    let complete = async {
        work(&client).await?;
        Ok(client.close().await)
    };
    let outcome = tokio::select! {
        biased;
        failure = timekeeper.interrupted() => Err(failure),
        failure = expired(args.timeout) => Err(failure),
        outcome = complete => outcome.map_err(|failure: Failure| failure.after(meter.read().stats.frames_in)),
        never = transfer.watch(args, &meter) => match never {},
    };
    if outcome.is_err() && time::timeout(PARTING, client.close()).await.is_err() {
        client.abort().await;
    }
    outcome
}

async fn open(args: &ConnectionArgs, meter: &Arc<Meter>) -> Result<Client, Failure> {
    refuse_headers_without_http(args)?;
    refuse_tls_without_tls(args)?;
    let metadata_mime = metadata::mime_name(&args.metadata_mime)?;
    let (interval, lifetime) = args.keepalive;
    let mut config = Config::default();
    config.fragment_bytes = usize::try_from(args.mtu).ok();
    let mut builder = Client::builder()
        .config(config)
        .meter(Arc::clone(meter))
        .data_mime(metadata::mime_name(&args.data_mime)?)
        .metadata_mime(metadata_mime.clone())
        .keepalive(interval, lifetime)
        .connect_timeout(args.connect_timeout)
        .tls(args.tls.client())
        // A server says what it thinks of our certificate when its own part is over.
        .wait_until_accepted(tls::is_asked_for(&args.uri));
    if args.tls.is_insecure() {
        say(format_args!(
            "rsock: warning: --insecure: whoever is on the way can read and change everything"
        ));
    }
    let mut setup = Payload::default();
    if let Some(source) = &args.setup_data {
        credentials::refuse_stdin("--setup-data", source)?;
        setup.data = source.read()?;
    }
    setup.metadata = metadata::of_setup(&args.setup_metadata, &metadata_mime)?;
    builder = builder.setup(setup);
    if is_composite(metadata_mime.as_bytes()) {
        // A command ends by itself, or goes on by --reconnect: so it is served for longer when a server stops.
        builder = builder.heed(Features::DRAIN, |_| {});
    }
    if args.auth.auth_in.is_in_setup()
        && let Some(credentials) = credentials::given(&args.auth)?
    {
        builder = builder.authentication(credentials);
    }
    if let Some(window) = args.resume {
        builder = builder.resume(Resume::new().window(window).renew(false).observe(tell));
    }
    if args.reconnect {
        // What waits for a connection is limited by --timeout.
        let reconnect = Reconnect::new().wait(Duration::MAX).observe(tell_of_reconnecting);
        builder = builder.reconnect(reconnect);
    }
    if args.lease {
        builder = builder.lease(SharedLease::default());
    }
    for (name, value) in &args.headers {
        builder = builder.header(name, value);
    }
    if args.verbose > 1 {
        builder = builder.tap(frame_log::tap(metadata_mime, args.verbose > 2));
    }
    Ok(builder.connect(&args.uri).await?)
}

/// Refuses what would be left out in silence: there is no HTTP that a header could go with.
fn refuse_headers_without_http(args: &ConnectionArgs) -> Result<(), Failure> {
    let scheme = args.uri.split(':').next().unwrap_or_default();
    let has_no_http = ["tcp", "tls", "tcps", "tcp+tls", "unix"]
        .iter()
        .any(|other| scheme.eq_ignore_ascii_case(other));
    match args.headers.first() {
        Some((name, _)) if has_no_http => Err(Failure::usage(format_args!(
            "-H {name}: only the handshake of a WebSocket has headers, and {scheme}: has none"
        ))),
        _ => Ok(()),
    }
}

/// Refuses what would be taken for protection where there is none.
fn refuse_tls_without_tls(args: &ConnectionArgs) -> Result<(), Failure> {
    match args.tls.given() {
        Some(option) if !tls::is_asked_for(&args.uri) => Err(Failure::usage(format_args!(
            "{option} is for TLS, and {} has none; tls:// and wss:// have it",
            credentials::without_credentials(&args.uri)
        ))),
        _ => Ok(()),
    }
}

/// The events of a session that is to be resumed: worth a line to whoever watches.
fn tell(event: &SessionEvent) {
    match event {
        SessionEvent::Suspended => say(format_args!("rsock: the connection is lost, resuming")),
        SessionEvent::AttemptFailed(error) => say(format_args!("rsock: not yet: {error}")),
        SessionEvent::Resumed => say(format_args!("rsock: resumed")),
        _ => {}
    }
}

/// The events of a connection that is followed by another.
fn tell_of_reconnecting(event: &ReconnectEvent) {
    match event {
        ReconnectEvent::Lost(reason) => {
            say(format_args!("rsock: the connection is lost, connecting anew: {reason}"));
        }
        ReconnectEvent::AttemptFailed { error, pause, .. } => {
            say(format_args!("rsock: not yet: {error}; trying again in {}", Rounded(*pause)));
        }
        ReconnectEvent::Connected { .. } => say(format_args!("rsock: connected anew")),
        _ => {}
    }
}

async fn expired(limit: Option<Duration>) -> Failure {
    match limit {
        Some(limit) => {
            time::sleep(limit).await;
            Failure::Timeout(limit)
        }
        None => future::pending().await,
    }
}
