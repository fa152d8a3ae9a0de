//! TLS, as the options ask for it.

use std::{env, path::PathBuf};

use clap::Args;
use rsock::tls::{ClientTls, Roots, TlsVersion};

/// How `tls://` and `wss://` are connected to.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Trust the authorities in this file (PEM), and not those that the system trusts
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this certificate to servers that ask for one: a file with its chain, and its key unless that is
    /// elsewhere (PEM)
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The file of its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
    /// Take any certificate: whoever is on the way can read and change everything
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Ask for the certificate of this name (SNI), in place of the host's
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The oldest version of TLS that is spoken: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value_t)]
    tls_min: TlsVersion,
    /// An application protocol to offer (ALPN); repeatable
    #[arg(long, value_name = "NAME")]
    alpn: Vec<String>,
}

impl TlsArgs {
    /// The TLS of the library.
    pub(crate) fn client(&self) -> ClientTls {
        let roots = match &self.ca {
            Some(file) => Roots::Pem(file.as_path().into()),
            None if self.insecure => Roots::Insecure,
            None => Roots::Platform,
        };
        let mut tls = ClientTls::new()
            .roots(roots)
            .min_version(self.tls_min)
            .log_keys(env::var_os("SSLKEYLOGFILE").is_some());
        if let Some(chain) = &self.cert {
            let key = self.cert_key.as_ref().unwrap_or(chain);
            tls = tls.certificate(chain.as_path(), key.as_path());
        }
        if let Some(name) = &self.sni {
            tls = tls.server_name(name);
        }
        if !self.alpn.is_empty() {
            tls = tls.alpn(&self.alpn);
        }
        tls
    }

    /// Whether the certificate of the server is not looked at.
    pub(crate) fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// An option that is given, which says nothing without TLS.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            (self.ca.is_some(), "--ca"),
            (self.cert.is_some(), "--cert"),
            (self.insecure, "--insecure"),
            (self.sni.is_some(), "--sni"),
            (!self.alpn.is_empty(), "--alpn"),
        ]
        .into_iter()
        .find_map(|(is_given, option)| is_given.then_some(option))
    }
}

/// Whether a URI asks for TLS.
pub(crate) fn is_asked_for(uri: &str) -> bool {
    let scheme = uri.split(':').next().unwrap_or_default();
    ["tls", "tcps", "tcp+tls", "wss", "ws+tls"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls))
}
