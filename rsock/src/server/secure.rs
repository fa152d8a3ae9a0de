//! Connections that begin with TLS.

use std::{future::Future, io};

use crate::{
    connection::Newcomer,
    error::ConnectError,
    server::Service,
    transport::{
        address::{Layout, Security, Uri},
        socket::Socket,
        tls::kind_of,
    },
};

/// An address with TLS needs a certificate.
pub(super) fn check(uri: &Uri, has_tls: bool) -> Result<(), ConnectError> {
    if uri.security == Security::Clear || has_tls {
        return Ok(());
    }
    let problem = "it needs a certificate and its key: ServerBuilder::tls, or rsockd --tls-cert FILE \
                   --tls-key FILE";
    Err(ConnectError::Uri { uri: uri.to_string(), problem: problem.to_owned() })
}

impl Service {
    /// The socket with what protects it, if its address asks for that; none if that is not to be had.
    pub(super) async fn secured(
        &self,
        socket: Socket,
        peer: &str,
        uri: &Uri,
        newcomer: &Newcomer,
    ) -> Option<Socket> {
        let Some(tls) = self.builder.tls.as_ref().filter(|_| uri.security == Security::Tls) else {
            return Some(socket);
        };
        let (acceptor, is_web) = (tls.acceptor(), !matches!(uri.layout, Layout::Prefixed));
        // It is done with when the handshake is: it is not to be part of what comes after.
        Box::pin(self.shake_hands(acceptor.accept(socket, is_web), peer, newcomer)).await
    }

    /// Does this until its time is up, which began when the client came, or the client has to go for
    /// another.
    async fn shake_hands(
        &self,
        accepting: impl Future<Output = io::Result<Socket>>,
        peer: &str,
        newcomer: &Newcomer,
    ) -> Option<Socket> {
        let meter = &self.builder.settings.meter;
        let error = match self.in_time(newcomer, accepting).await? {
            Ok(socket) => {
                meter.tls_handshake();
                return Some(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                meter.tls_handshake_timeout();
                error
            }
            Err(error) => {
                meter.failed_tls_handshake(kind_of(&error).as_ref());
                error
            }
        };
        log_handshake(peer, &error);
        None
    }
}

/// Those who look for open ports end here as well: it is no warning.
#[cfg(feature = "tracing")]
fn log_handshake(peer: &str, error: &io::Error) {
    use crate::transport::tls::TlsErrorKind;

    match kind_of(error) {
        Some(TlsErrorKind::NotTls) => {
            tracing::debug!(
                peer,
                "the TLS handshake failed: the peer does not speak TLS, as with tcp:// or http://"
            );
        }
        _ => tracing::debug!(peer, "the TLS handshake failed: {error}"),
    }
}

#[cfg(not(feature = "tracing"))]
fn log_handshake(_: &str, _: &io::Error) {}
