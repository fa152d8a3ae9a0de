//! What connections that do nothing take: resident memory of a server process, and of a client's.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};

use rsock::{Client, Server};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Result,
    scenario::{Counted, DATA},
};

/// Shows KiB a connection: as they are set up, and once each has been used.
pub(crate) fn show(scheme: &str, count: &str) -> Result<()> {
    let count: usize = count.parse()?;
    let (mut server, uri) = start(scheme)?;
    let shown = hold(&uri, count, server.id());
    // It may have ended by itself.
    let _ = server.kill();
    server.wait()?;
    shown
}

fn hold(uri: &str, count: usize, server: u32) -> Result<()> {
    let client = std::process::id();
    let runtime = runtime()?;
    // What is there once is not a connection's.
    let first = runtime.block_on(used(uri))?;
    let before = (resident_kib(client)?, resident_kib(server)?);
    let show = |what: &str| -> Result<()> {
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / count as f64;
        let client = each(resident_kib(client)?, before.0);
        let server = each(resident_kib(server)?, before.1);
        println!("{what}: client {client:.2} KiB, server {server:.2} KiB a connection");
        Ok(())
    };
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        // Confirmed, so that the server has done with it what it does.
        let builder = Client::builder().wait_until_accepted(true);
        let connected = async { builder.connect(uri).await };
        clients.push(runtime.block_on(connected)?);
    }
    show("set up")?;
    for client in &clients {
        runtime.block_on(client.request_response(&DATA[..]))?;
    }
    show("used once")?;
    drop(first);
    Ok(())
}

async fn used(uri: &str) -> Result<Client> {
    let client = Client::connect(uri).await?;
    client.request_response(&DATA[..]).await?;
    Ok(client)
}

fn start(scheme: &str) -> Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["idle-server", scheme])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut uri = String::new();
    let said = child.stdout.take().ok_or("the server has no stdout")?;
    BufReader::new(said).read_line(&mut uri)?;
    Ok((child, uri.trim().to_owned()))
}

/// The server, until its parent hangs up.
pub(crate) fn serve(scheme: &str) -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    runtime()?.block_on(async {
        let server = Server::bind(&format!("{scheme}://127.0.0.1:0")).await?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", server.addresses().remove(0))?;
        out.flush()?;
        server.serve(async |_, _| Ok(Counted)).await;
        Ok(())
    })
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.ok_or("no VmRSS in /proc/PID/status")?.trim().trim_end_matches(" kB").parse()?)
}
