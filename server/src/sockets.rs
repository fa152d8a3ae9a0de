//! Listening sockets that systemd has opened, and passes on (socket activation).

#[cfg(unix)]
use std::env;

use rsock::OpenListener;

/// The beginning of addresses that stand for such sockets, behind what is spoken there.
const SYSTEMD: &str = "systemd:";

/// The addresses that are to be opened, and the sockets that are open, each with the URI of what is spoken
/// there.
pub(crate) type Sockets = (Vec<String>, Vec<(String, OpenListener)>);

/// The protocol at an address that stands for sockets of systemd, their name, and the path of WebSockets.
fn parts(address: &str) -> Option<(&str, &str, &str)> {
    let (before, named) = address.split_once(SYSTEMD)?;
    let scheme = match before {
        "" => "tcp",
        _ => before
            .strip_suffix('+')
            .filter(|scheme| ["tcp", "tls", "ws", "wss"].contains(scheme))?,
    };
    let end = named.find('/').unwrap_or(named.len());
    let (name, path) = named.split_at(end);
    Some((scheme, name, path))
}

/// Takes the sockets that these addresses stand for.
///
/// # Errors
/// If systemd has passed none of that name, or something else, as a sentence.
pub(crate) fn take(addresses: &[String]) -> Result<Sockets, String> {
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    let mut passed = None;
    for address in addresses {
        let Some((scheme, name, path)) = parts(address) else {
            closed.push(address.clone());
            continue;
        };
        let passed = passed.get_or_insert_with(Passed::take);
        let taken = passed.named(name)?;
        for socket in taken {
            let uri =
                uri(scheme, &socket, path).map_err(|problem| format!("{address}: {problem}"))?;
            open.push((uri, socket));
        }
    }
    Ok((closed, open))
}

/// The URI of what is spoken on a socket.
fn uri(scheme: &str, socket: &OpenListener, path: &str) -> Result<String, String> {
    let unknown = |error| format!("its address is not known: {error}");
    match socket {
        OpenListener::Tcp(socket) => {
            let address = socket.local_addr().map_err(unknown)?;
            Ok(format!("{scheme}://{address}{path}"))
        }
        #[cfg(unix)]
        OpenListener::Unix(socket) if scheme == "tcp" => {
            let address = socket.local_addr().map_err(unknown)?;
            match address.as_pathname() {
                Some(path) => Ok(format!("unix:{}", path.display())),
                // There is no other name of it that can be dialled.
                None => Ok("unix:@systemd".to_owned()),
            }
        }
        _ => Err(format!("{scheme} is spoken over TCP, and this is another socket")),
    }
}

/// There are none elsewhere.
#[cfg(not(unix))]
struct Passed;

#[cfg(not(unix))]
impl Passed {
    fn take() -> Self {
        Self
    }

    fn named(&mut self, _: &str) -> Result<Vec<OpenListener>, String> {
        Err("sockets of systemd need Linux or another Unix".to_owned())
    }
}

/// The sockets that were passed on, with their names.
#[cfg(unix)]
struct Passed {
    sockets: listenfd::ListenFd,
    names: Vec<String>,
}

#[cfg(unix)]
impl Passed {
    fn take() -> Self {
        let sockets = listenfd::ListenFd::from_env();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').map(str::to_owned).collect();
        Self { sockets, names }
    }

    /// All of this name.
    fn named(&mut self, name: &str) -> Result<Vec<OpenListener>, String> {
        let mut taken = Vec::new();
        for index in 0..self.sockets.len() {
            if self.names.get(index).is_some_and(|known| known == name) {
                taken.extend(self.socket(index).map_err(|problem| {
                    format!("the socket {name:?} of systemd is not one that listens: {problem}")
                })?);
            }
        }
        if taken.is_empty() {
            let known = self.names[..self.names.len().min(self.sockets.len())].join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            return Err(format!(
                "systemd has passed on no socket of the name {name:?} that is not taken yet, but \
                 {known}: FileDescriptorName= of the .socket unit says the name"
            ));
        }
        Ok(taken)
    }

    fn socket(&mut self, index: usize) -> std::io::Result<Option<OpenListener>> {
        // One that is of the other kind stays where it is.
        if let Ok(socket) = self.sockets.take_tcp_listener(index) {
            return Ok(socket.map(OpenListener::Tcp));
        }
        Ok(self.sockets.take_unix_listener(index)?.map(OpenListener::Unix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_is_spoken_on_a_socket_of_systemds() {
        for (address, expected) in [
            ("systemd:rsocket", Some(("tcp", "rsocket", ""))),
            ("tls+systemd:a.b", Some(("tls", "a.b", ""))),
            ("wss+systemd:web/rsocket", Some(("wss", "web", "/rsocket"))),
            ("http+systemd:web", None),
            ("tcp://127.0.0.1:1", None),
            ("unix:/run/systemd:x", None),
        ] {
            assert_eq!(parts(address), expected, "{address}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let problem = take(&["tcp://127.0.0.1:1".into(), "systemd:rsocket".into()]).unwrap_err();
        assert!(problem.contains("no socket of the name \"rsocket\""), "{problem}");
        let (closed, open) = take(&["tcp://127.0.0.1:1".into()]).unwrap();
        assert_eq!((closed.len(), open.len()), (1, 0));
    }
}
