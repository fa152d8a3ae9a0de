//! Certificates: those that the settings name, and their exchange while the service runs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rsock::tls::{Certificate, ClientAuth, Reloaded, ServerTls, TlsError, TlsReloader};
use tokio::{task::JoinHandle, time};

use crate::settings::{ClientAuthKind, Options};

/// How long before its end a certificate is warned about, in seconds.
const WARNED: i64 = 14 * DAY;
const DAY: i64 = 86_400;

/// The TLS that settings ask for.
pub(crate) fn of(options: &Options) -> Result<Option<ServerTls>, String> {
    let (certificates, keys) = (&options.tls_cert, &options.tls_key);
    if certificates.len() != keys.len() {
        return Err(format!(
            "each --tls-cert needs its --tls-key, in the same order: there are {} and {}",
            certificates.len(),
            keys.len()
        ));
    }
    if options.tls_client_ca.is_none() && options.tls_client_crl.is_some() {
        return Err(
            "--tls-client-crl needs --tls-client-ca, whose certificates it revokes".to_owned()
        );
    }
    let mut pairs = certificates.iter().zip(keys);
    let Some((certificate, key)) = pairs.next() else {
        return match options.tls_client_ca {
            Some(_) => Err("--tls-client-ca needs a certificate of the service's own: --tls-cert \
                            and --tls-key"
                .to_owned()),
            None => Ok(None),
        };
    };
    let mut tls = ServerTls::new(&**certificate, &**key).min_version(options.tls_min);
    for (certificate, key) in pairs {
        tls = tls.also(&**certificate, &**key);
    }
    if let Some(authorities) = options.tls_client_ca.as_deref() {
        tls = tls.client_auth(match options.tls_client_auth {
            ClientAuthKind::Optional => ClientAuth::Optional(authorities.into()),
            ClientAuthKind::Required => ClientAuth::Required(authorities.into()),
        });
    }
    if let Some(lists) = options.tls_client_crl.as_deref() {
        tls = tls.revoked(lists);
    }
    if !options.tls_alpn.is_empty() {
        tls = tls.alpn(&options.tls_alpn);
    }
    Ok(Some(tls))
}

/// Looks whether the certificates that settings name can be used.
///
/// # Errors
/// What is wrong, as a sentence.
pub(crate) fn check(options: &Options) -> Result<(), String> {
    let Some(tls) = of(options)? else { return Ok(()) };
    tls.reloader().reload().map(drop).map_err(|error| error.to_string())
}

/// The certificates of a service that runs.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    reloader: TlsReloader,
    interval: Duration,
    /// The problem that was warned about last: a file that cannot be read is looked at again and again.
    told: Arc<Mutex<Option<TlsError>>>,
    reloads: Arc<Reloads>,
}

/// How often something was read anew, and how often it could not be.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
    has_failed: AtomicBool,
}

impl Reloads {
    /// Counts one.
    pub(crate) fn add(&self, is_done: bool) {
        if is_done { &self.done } else { &self.failed }.fetch_add(1, Relaxed);
        self.has_failed.store(!is_done, Relaxed);
    }

    /// Those that were done and those that failed, as labels have it.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        [("done", self.done.load(Relaxed)), ("failed", self.failed.load(Relaxed))]
    }

    /// Whether the last was done.
    pub(crate) fn is_well(&self) -> bool {
        !self.has_failed.load(Relaxed)
    }
}

impl Certificates {
    pub(crate) fn of(tls: &ServerTls, options: &Options) -> Self {
        let interval = options.tls_check_interval;
        Self { reloader: tls.reloader(), interval, told: Arc::default(), reloads: Arc::default() }
    }

    /// Reads all files anew, and says what has come of it.
    ///
    /// # Errors
    /// If they cannot be used: those from before are kept.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        match self.reloader.reload() {
            Ok(reloaded) => {
                self.reloaded(&reloaded);
                Ok(())
            }
            Err(error) => {
                self.kept(error.clone(), true);
                Err(error)
            }
        }
    }

    fn reload_if_changed(&self) {
        match self.reloader.reload_if_changed() {
            Ok(None) => {}
            Ok(Some(reloaded)) => self.reloaded(&reloaded),
            Err(error) => self.kept(error, false),
        }
    }

    /// How often files were read anew.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// When each ends, in seconds since 1970, in the order of the settings.
    pub(crate) fn ends(&self) -> impl Iterator<Item = i64> {
        self.reloader.certificates().into_iter().map(|certificate| certificate.not_after())
    }

    fn reloaded(&self, reloaded: &Reloaded) {
        self.reloads.add(true);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for certificate in reloaded.certificates() {
            tracing::info!("certificates were reloaded: {}", described(certificate));
        }
        self.warn();
    }

    fn kept(&self, error: TlsError, is_asked: bool) {
        self.reloads.add(false);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if is_asked || told.as_ref() != Some(&error) {
            tracing::warn!("certificates were not reloaded, those from before are kept: {error}");
        }
        *told = Some(error);
    }

    /// Warns about what will not be good for long, or is not kept as it should be.
    fn warn(&self) {
        for certificate in self.reloader.certificates() {
            let left = certificate.seconds_left();
            if left < 0 {
                tracing::warn!("the certificate has expired: {}", described(&certificate));
            } else if left < WARNED {
                let days = left / DAY;
                tracing::warn!(
                    "the certificate expires in {days} days: {}",
                    described(&certificate)
                );
            }
        }
        for key in self.reloader.exposed_keys() {
            let key = key.display();
            tracing::warn!("{key}: everyone on this machine can read the key: chmod o= {key}");
        }
    }

    /// Looks after them for as long as what is returned is kept.
    pub(crate) fn watch(self) -> Watching {
        let looking = tokio::spawn(async move {
            let mut warned = Instant::now();
            self.warn();
            // Where nothing is looked for, what expires is warned about all the same.
            let day = Duration::from_secs(DAY.unsigned_abs());
            let pause = if self.interval.is_zero() { day } else { self.interval };
            loop {
                time::sleep(pause).await;
                let (this, is_due) = (self.clone(), warned.elapsed() >= day);
                if is_due {
                    warned = Instant::now();
                }
                // It reads files. A panic of it is in the log, and changes nothing.
                let looked = tokio::task::spawn_blocking(move || {
                    if !this.interval.is_zero() {
                        this.reload_if_changed();
                    }
                    if is_due {
                        this.warn();
                    }
                });
                let _ = looked.await;
            }
        });
        Watching(looking)
    }
}

/// Somebody who looks after certificates, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Its file, its names and how long it is good for.
fn described(certificate: &Certificate) -> String {
    let days = certificate.seconds_left() / DAY;
    let names = certificate.names().join(", ");
    let file = certificate.path().map_or_else(String::new, |path| format!("{}: ", path.display()));
    format!("{file}for {names}, {days} days left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_together_is_said() {
        let problem = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            of(&options).map(|tls| tls.is_some())
        };
        assert_eq!(problem(|_| {}), Ok(false));
        let one = |options: &mut Options| {
            options.tls_cert = vec!["a.pem".into()];
            options.tls_key = vec!["a-key.pem".into()];
        };
        assert_eq!(problem(one), Ok(true));
        let said = problem(|options| options.tls_cert = vec!["a.pem".into()]);
        assert!(said.is_err_and(|said| said.contains("there are 1 and 0")));
        let said = problem(|options| options.tls_client_ca = Some("ca.pem".into()));
        assert!(said.is_err_and(|said| said.contains("--tls-cert and --tls-key")));
        let said = problem(|options| options.tls_client_crl = Some("crl.pem".into()));
        assert!(said.is_err_and(|said| said.contains("needs --tls-client-ca")));
    }
}
