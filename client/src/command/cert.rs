//! Certificates to try TLS with: an authority, and what it signs.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::exit::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make an authority, and certificates of a server and of clients that it signs, for trying things out
    ///
    /// The key of the authority is not kept: nothing else can be made that those trust who trust it.
    Dev(DevArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// The directory that the files are put in, made if there is none
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// A name or an address of the server; repeatable
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    names: Vec<String>,
    /// Make a certificate of a client of this name as well; repeatable
    #[arg(long = "client", value_name = "NAME", value_parser = client_name)]
    clients: Vec<String>,
    /// For how many days they are valid
    #[arg(long, value_name = "N", default_value_t = 365)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// It is the name of files.
fn client_name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) && !["ca", "cert", "key"].contains(&text) {
        Ok(text.to_owned())
    } else {
        Err("the name of a client is of letters, digits, - and _, and not ca, cert or key"
            .to_owned())
    }
}

pub(crate) fn run(command: CertCommand) -> Result<(), Failure> {
    let CertCommand::Dev(args) = command;
    let text = make(&args)?;
    io::stdout().write_all(text.as_bytes()).map_err(Failure::Output)
}

/// Makes all files; what there is to say about them.
fn make(args: &DevArgs) -> Result<String, Failure> {
    let DevArgs { dir, names, clients, .. } = args;
    let authority = Authority::new(args.days).map_err(failed)?;
    let mut files = vec![File {
        name: "ca.pem".to_owned(),
        text: authority.certificate.clone(),
        is_secret: false,
    }];
    let mut add = |name: &str, key: &str, (certificate, secret): (String, String)| {
        files.push(File { name: name.to_owned(), text: certificate, is_secret: false });
        files.push(File { name: key.to_owned(), text: secret, is_secret: true });
    };
    let mut params = CertificateParams::new(names.clone()).map_err(|error| {
        Failure::usage(format_args!("--name: it is neither a name nor an address: {error}"))
    })?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    add("cert.pem", "key.pem", authority.sign(params, &names[0]).map_err(failed)?);
    for client in clients {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signed = authority.sign(params, client).map_err(failed)?;
        add(&format!("{client}.pem"), &format!("{client}-key.pem"), signed);
    }
    fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
    if !args.force
        && let Some(there) =
            files.iter().map(|file| dir.join(&file.name)).find(|path| path.exists())
    {
        let problem = "is there already; --force replaces it, and what trusts the authority before trusts \
                       this one no more";
        return Err(Failure::Local(format!("{} {problem}", there.display())));
    }
    for file in &files {
        file.write(dir)?;
    }
    Ok(told(dir, names, clients, args.days))
}

fn told(dir: &Path, names: &[String], clients: &[String], days: u32) -> String {
    let shown = dir.display();
    let host = names.iter().find(|name| name.parse::<std::net::IpAddr>().is_err());
    let host = host.or_else(|| names.first()).map_or("localhost", String::as_str);
    let mut text = format!(
        "{shown}/ca.pem    the authority, which clients trust; its key is not kept\n\
         {shown}/cert.pem  the server, for {}; {days} days\n\
         {shown}/key.pem   its key\n",
        names.join(", ")
    );
    for client in clients {
        text.push_str(&format!(
            "{shown}/{client}.pem, {shown}/{client}-key.pem  the client {client}, and its key\n"
        ));
    }
    let (server, client) = match clients.first() {
        Some(client) => (
            format!(" --tls-client-ca {shown}/ca.pem"),
            format!(" --cert {shown}/{client}.pem --cert-key {shown}/{client}-key.pem"),
        ),
        None => Default::default(),
    };
    text.push_str(&format!(
        "next:\n  \
         rsockd --listen tls://127.0.0.1:7878 --listen wss://127.0.0.1:7879/rsocket --tls-cert \
         {shown}/cert.pem --tls-key {shown}/key.pem{server}\n  \
         rsock request tls://{host}:7878 --ca {shown}/ca.pem{client} -r echo -d hello\n"
    ));
    text
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::Local(format!("cannot make a certificate: {error}"))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Local(format!("{}: it cannot be written: {error}", path.display()))
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    days: u32,
}

impl Authority {
    fn new(days: u32) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        limit(&mut params, days);
        // Each has a name of its own: of two of one name, a client may try the wrong one.
        let key = KeyPair::generate()?;
        let number: String =
            key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = named(&format!("rsock cert dev {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = pem("CERTIFICATE", params.self_signed(&key)?.der());
        Ok(Self { issuer: Issuer::new(params, key), certificate, days })
    }

    /// The certificate of somebody, and the key.
    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
    ) -> Result<(String, String), rcgen::Error> {
        limit(&mut params, self.days);
        params.distinguished_name = named(name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", key.serialized_der())))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn limit(params: &mut CertificateParams, days: u32) {
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    // Clocks differ.
    params.not_before = (now - Duration::from_secs(3_600)).into();
    params.not_after = (now + day * days).into();
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, character) in STANDARD.encode(der).chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text + &format!("\n-----END {label}-----\n")
}

struct File {
    name: String,
    text: String,
    is_secret: bool,
}

impl File {
    fn write(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(&self.name);
        let mut options = OpenOptions::new();
        // One that is replaced keeps the permissions that it had: it is made anew.
        let _ = fs::remove_file(&path);
        options.write(true).create_new(true);
        #[cfg(unix)]
        if self.is_secret {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        options
            .open(&path)
            .and_then(|mut file| file.write_all(self.text.as_bytes()))
            .map_err(|error| unwritable(&path, &error))
    }
}
