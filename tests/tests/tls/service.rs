//! `rsockd` and `rsock` as they are run.

use std::fs;

use rsock_tests::process::{Process, rsock, rsockd};
use tokio::process::Command;

use crate::{Authority, authority::Files, client, trusting};

async fn started(files: &Files, flags: &[&str]) -> Process {
    let mut command = Command::new(rsockd());
    for uri in ["tls://localhost:0", "wss://localhost:0/rsocket"] {
        command.args(["--listen", uri]);
    }
    command.arg("--tls-cert").arg(files.chain()).arg("--tls-key").arg(files.key());
    command.args(flags);
    Process::start(command, 2).await
}

/// Sends a signal that asks for settings to be read anew.
async fn hang_up(process: &Process) {
    let id = process.id().to_string();
    Command::new("kill").args(["-HUP", &id]).status().await.expect("it is there");
}

#[tokio::test]
async fn certificates_are_exchanged_by_signal_and_broken_ones_are_not() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::new(&before.server(&["localhost"]));
    let server = started(&files, &["--tls-check-interval", "0s"]).await;
    client(trusting(&before)).connect(&server.uris[0]).await.expect("a connection");

    let issued = after.server(&["localhost"]);
    fs::write(files.chain(), &issued.chain).expect("a file");
    hang_up(&server).await;
    server
        .log
        .wait_containing("certificates were not reloaded, those from before are kept: ")
        .await;
    server.log.wait_containing("key.pem: the key does not belong to the first").await;
    client(trusting(&before)).connect(&server.uris[0]).await.expect("a connection");

    files.write(&issued);
    hang_up(&server).await;
    server.log.wait_containing("certificates were reloaded: ").await;
    client(trusting(&after)).connect(&server.uris[1]).await.expect("a connection");
}

#[tokio::test]
async fn files_that_change_are_noticed() {
    let (before, after) = (Authority::new(), Authority::new());
    let soon = before.server_with(&["localhost"], |params| {
        use std::time::{Duration, SystemTime};
        params.not_after = (SystemTime::now() + Duration::from_secs(86_400 * 3)).into();
    });
    let files = Files::new(&soon);
    let server = started(&files, &["--tls-check-interval", "100ms"]).await;
    server.log.wait_containing("the certificate expires in ").await;
    server.log.wait_containing("everyone on this machine can read the key").await;
    files.write(&after.server(&["localhost"]));
    server.log.wait_containing("certificates were reloaded: ").await;
    client(trusting(&after)).connect(&server.uris[0]).await.expect("a connection");
}

#[tokio::test]
async fn the_command_line_says_by_its_code_what_is_wrong() {
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority.server(&["localhost"]));
    let (ca, wrong) = (files.folder().join("ca.pem"), files.folder().join("wrong.pem"));
    fs::write(&ca, authority.text()).expect("a file");
    fs::write(&wrong, other.text()).expect("a file");
    let ann = Files::new(&authority.client("ann"));
    let trusted = ca.to_str().expect("UTF-8");
    let required = started(&files, &["--tls-client-ca", trusted]).await;
    let wrong = wrong.to_str().expect("UTF-8");
    let (chain, key) = (ann.chain(), ann.key());
    let (chain, key) = (chain.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    let shown = ["--cert", chain, "--cert-key", key];
    for uri in &required.uris {
        for (flags, code, said) in [
            (&["--ca", trusted, shown[0], chain, shown[2], key][..], 0, ""),
            (&["--insecure", shown[0], chain, shown[2], key], 0, "--insecure"),
            (&["--ca", trusted], 35, "asks for a certificate"),
            (&["--ca", wrong, shown[0], chain, shown[2], key], 60, "rsock --ca FILE"),
            (
                &["--ca", trusted, "--sni", "a.example"],
                60,
                "is not for a.example but for localhost",
            ),
            (&["--ca", trusted, "--cert", key], 2, "has no certificate"),
            (&["--ca", "/nowhere"], 2, "/nowhere: it cannot be read"),
        ] {
            let mut command = Command::new(rsock());
            command.args(["request", uri, "-r", "echo", "-d", "hello"]).args(flags);
            let output = command.output().await.expect("it runs");
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{flags:?}: {error}");
            assert!(error.contains(said), "{flags:?}: {error}");
            assert_eq!(output.stdout == b"hello\n" || output.stdout == b"hello", code == 0);
        }
    }
}

/// As the documentation has it, from nothing on.
#[tokio::test]
async fn what_rsock_makes_to_try_it_with_is_taken() {
    let folder = rsock_tests::link::free_path();
    let make = async |flags: &[&str]| {
        let mut command = Command::new(rsock());
        command.args(["cert", "dev", "--client", "ann", "--dir"]).arg(&folder).args(flags);
        command.output().await.expect("it runs")
    };
    let made = make(&[]).await;
    assert!(made.status.success(), "{made:?}");
    assert!(!make(&[]).await.status.success() && make(&["--force"]).await.status.success());
    let file = |name: &str| folder.join(name);
    let mut command = Command::new(rsockd());
    command.args(["--listen", "tls://localhost:0", "--tls-client-ca"]).arg(file("ca.pem"));
    command.arg("--tls-cert").arg(file("cert.pem")).arg("--tls-key").arg(file("key.pem"));
    let server = Process::start(command, 1).await;
    let tls = rsock::tls::ClientTls::new()
        .roots(rsock::tls::Roots::Pem(file("ca.pem").into()))
        .certificate(file("ann.pem"), file("ann-key.pem"));
    let asking = client(tls).connect(&server.uris[0]).await.expect("a connection");
    assert!(asking.request_response("x").await.is_ok());
    fs::remove_dir_all(&folder).expect("it is ours");
}

/// A certificate says who comes, where the settings of access take its names; roles are those of the name.
#[tokio::test]
async fn a_certificate_is_an_identity_with_roles() {
    let authority = Authority::new();
    let files = Files::new(&authority.server(&["localhost"]));
    let (ca, access) = (files.folder().join("ca.pem"), files.folder().join("access.toml"));
    fs::write(&ca, authority.text()).expect("a file");
    for (kind, name) in
        [("san-uri", "spiffe://example.org/ann"), ("san-dns", "ann.example.org"), ("cn", "ann")]
    {
        let settings = format!(
            "[auth.mtls]\nidentity = \"{kind}\"\nroles = {{ \"{name}\" = [\"chat\"] }}\n\
             [[grant]]\nroles = [\"chat\"]\nroutes = [\"echo\"]\n"
        );
        fs::write(&access, settings).expect("a file");
        let flags = [
            "--tls-client-auth=optional",
            "--tls-client-ca",
            ca.to_str().expect("UTF-8"),
            "--access",
            access.to_str().expect("UTF-8"),
        ];
        let server = started(&files, &flags).await;
        for (of, said) in [
            (Some("ann"), ""),
            (Some("bob"), "not permitted: request on route \"echo\""),
            (None, "authentication failed"),
        ] {
            for uri in &server.uris {
                let mut command = Command::new(rsock());
                command.args(["request", uri, "-r", "echo", "-d", "hello", "--ca"]).arg(&ca);
                let own = of.map(|name| Files::new(&authority.client(name)));
                if let Some(own) = &own {
                    command.arg("--cert").arg(own.chain()).arg("--cert-key").arg(own.key());
                }
                let output = command.output().await.expect("it runs");
                let error = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.success(), of == Some("ann"), "{kind} {of:?}: {error}");
                assert!(error.contains(said), "{kind} {of:?}: {error}");
            }
        }
    }
}
