//! An authority of the tests' own, and what it issues.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, string::Ia5String,
};
use rsock::tls::{Pem, ServerTls};
use rsock_tests::link::free_path;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<_> = STANDARD
        .encode(der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "An authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The certificate of the authority itself.
    pub(crate) fn pem(&self) -> Pem {
        Pem::text(self.text())
    }

    pub(crate) fn text(&self) -> String {
        pem("CERTIFICATE", self.certificate.der())
    }

    fn issue(&self, params: &CertificateParams, key: &KeyPair) -> Issued {
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        Issued {
            chain: pem("CERTIFICATE", certificate.der()),
            key: pem("PRIVATE KEY", key.serialized_der()),
        }
    }

    /// A certificate of a server with these names.
    pub(crate) fn server(&self, names: &[&str]) -> Issued {
        self.server_with(names, |_| {})
    }

    pub(crate) fn server_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        self.issue(&params, &KeyPair::generate().expect("random bytes"))
    }

    /// One that was valid until an hour ago.
    pub(crate) fn expired(&self, names: &[&str]) -> Issued {
        self.server_with(names, |params| {
            params.not_after = (SystemTime::now() - Duration::from_secs(3_600)).into();
        })
    }

    /// A certificate of a client with this common name, as a URI and a DNS name as well.
    pub(crate) fn client(&self, name: &str) -> Issued {
        self.client_numbered(name, 1, &KeyPair::generate().expect("random bytes"))
    }

    pub(crate) fn client_numbered(&self, name: &str, number: u8, key: &KeyPair) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let ascii = |text: String| Ia5String::try_from(text).expect("ASCII");
        params.subject_alt_names = vec![
            SanType::URI(ascii(format!("spiffe://example.org/{name}"))),
            SanType::DnsName(ascii(format!("{name}.example.org"))),
        ];
        params.serial_number = Some(SerialNumber::from(vec![number]));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params, key)
    }

    /// A list of one revoked certificate, by its number.
    pub(crate) fn revoking(&self, number: u8) -> Pem {
        let now = SystemTime::now().into();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(vec![number]),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: (SystemTime::now() + Duration::from_secs(86_400)).into(),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        Pem::text(pem("X509 CRL", list.der()))
    }
}

impl Issued {
    pub(crate) fn pair(&self) -> (Pem, Pem) {
        (Pem::text(self.chain.clone()), Pem::text(self.key.clone()))
    }

    pub(crate) fn server(&self) -> ServerTls {
        let (chain, key) = self.pair();
        ServerTls::new(chain, key)
    }
}

/// Files of a certificate and its key, removed with this.
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) fn new(issued: &Issued) -> Self {
        let files = Self { folder: free_path() };
        fs::create_dir_all(&files.folder).expect("a folder");
        files.write(issued);
        files
    }

    pub(crate) fn write(&self, issued: &Issued) {
        fs::write(self.chain(), &issued.chain).expect("a file");
        fs::write(self.key(), &issued.key).expect("a file");
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    pub(crate) fn server(&self) -> ServerTls {
        ServerTls::new(self.chain(), self.key())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left of it is in the folder of things that go.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
