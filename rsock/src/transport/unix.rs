//! Unix sockets: their names, the files they leave, and who is at the other end.

use std::{
    fmt,
    fs::{self, Metadata, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Bytes of the longest name that all systems of a kind take.
const MAX_NAME_BYTES: usize = if HAS_ABSTRACT_NAMES { 107 } else { 103 };

/// Names without files are Linux's own.
const HAS_ABSTRACT_NAMES: bool = cfg!(any(target_os = "android", target_os = "linux"));

/// How long to wait where the listener's queue is full, which no event tells the end of.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// The name of a Unix socket: an absolute path, or `@` and a name that is no file (Linux).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnixName(String);

impl UnixName {
    /// Reads what stands behind `unix:`.
    pub(super) fn read(name: &str) -> Result<Self, String> {
        // `unix:///path` is the long way to write it, with an authority that is empty.
        let name = name.strip_prefix("//").unwrap_or(name);
        match name.as_bytes() {
            [] | [b'/' | b'@'] => {
                return Err("it names no socket; expected unix:/PATH or unix:@NAME".into());
            }
            [b'@', ..] if !HAS_ABSTRACT_NAMES => {
                return Err("names without files, as unix:@NAME, exist on Linux alone".into());
            }
            [b'/' | b'@', ..] => {}
            _ => {
                return Err("the path of a Unix socket begins with /, a name without a file with \
                            @, as in unix:/run/rsockd.sock"
                    .into());
            }
        }
        if name.contains('\0') {
            return Err("there is a zero byte in the name of its socket".into());
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(format!(
                "the name of its socket has {} bytes, and this system takes at most \
                 {MAX_NAME_BYTES}",
                name.len()
            ));
        }
        Ok(Self(name.to_owned()))
    }

    fn is_abstract(&self) -> bool {
        self.0.starts_with('@')
    }

    /// As the system has it: names without files begin with a zero byte.
    fn path(&self) -> PathBuf {
        match self.0.strip_prefix('@') {
            Some(name) => format!("\0{name}").into(),
            None => (&self.0).into(),
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.0)
    }
}

/// Connects, however long the listener's queue is full.
pub(super) async fn connect(name: &UnixName) -> io::Result<UnixStream> {
    let path = name.path();
    loop {
        match UnixStream::connect(&path).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_QUEUE_PAUSE).await;
            }
            Err(error) => return Err(error),
            Ok(stream) => {
                prepare(&stream)?;
                return Ok(stream);
            }
        }
    }
}

/// A socket that has its name, and does not listen yet.
pub(super) struct Bound {
    socket: UnixSocket,
    file: Option<SocketFile>,
}

impl Bound {
    /// Listens, woken by the runtime that this is called on. The file goes with what is returned beside
    /// the listener.
    pub(super) fn listen(self, backlog: u32) -> io::Result<(UnixListener, Option<SocketFile>)> {
        Ok((self.socket.listen(backlog)?, self.file))
    }
}

/// The owner of a listener's file, and its mode; what is not said is left to the system and the
/// process's umask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Access {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) mode: Option<u32>,
}

impl Access {
    fn give(self, path: &Path) -> io::Result<()> {
        let Self { user, group, mode } = self;
        if user.is_some() || group.is_some() {
            lchown(path, user, group).map_err(|error| {
                let of = |kind, id: Option<u32>| id.map(|id| format!("{kind} {id}"));
                let owner = [of("user", user), of("group", group)];
                let owner = owner.into_iter().flatten().collect::<Vec<_>>().join(" and ");
                let problem = format!("its file cannot be given to {owner}: {error}");
                io::Error::new(error.kind(), problem)
            })?;
        }
        match mode {
            Some(mode) => fs::set_permissions(path, Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }
}

/// Takes a name. A file that is left of a listener which has ended is replaced; one that is listened on,
/// or that is no socket, stays. Nobody can connect before the file has this owner and mode.
pub(super) async fn bind(name: &UnixName, access: Access) -> io::Result<Bound> {
    let path = name.path();
    let socket = UnixSocket::new_stream()?;
    if name.is_abstract() {
        socket.bind(&path)?;
        return Ok(Bound { socket, file: None });
    }
    if let Err(error) = socket.bind(&path) {
        if error.kind() != ErrorKind::AddrInUse {
            return Err(error);
        }
        remove_stale(&path).await?;
        socket.bind(&path)?;
    }
    let file = SocketFile::new(path)?;
    access.give(&file.path)?;
    Ok(Bound { socket, file: Some(file) })
}

/// Removes the file of a listener that has ended.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        let problem = "there is a file of that name which is not a socket; remove it, or choose \
                       another name";
        return Err(io::Error::new(ErrorKind::AlreadyExists, problem));
    }
    let in_use = || io::Error::new(ErrorKind::AddrInUse, "already in use: somebody listens on it");
    match UnixStream::connect(path).await {
        Ok(_) => Err(in_use()),
        // Its queue is full.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(in_use()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            // Whoever was quicker has another there by now.
            if is_same(&found, path) { fs::remove_file(path) } else { Err(in_use()) }
        }
        Err(error) => {
            let problem = format!("it cannot be told whether somebody listens on it: {error}");
            Err(io::Error::new(error.kind(), problem))
        }
    }
}

fn is_same(file: &Metadata, path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// The file of a listener, removed with it unless another has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    made: Metadata,
}

impl SocketFile {
    fn new(path: PathBuf) -> io::Result<Self> {
        let made = fs::symlink_metadata(&path)?;
        Ok(Self { path, made })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if is_same(&self.made, &self.path) {
            // One that cannot be removed is found to be stale by the next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The process at the other end of a Unix socket, for which the system vouches: who it was when it
/// connected, or began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixUser {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its number, where the system tells it. It may be another's by now.
    pub pid: Option<i32>,
}

/// The user at the other end.
pub(super) fn user(stream: &UnixStream) -> Option<UnixUser> {
    let user = stream.peer_cred().ok()?;
    Some(UnixUser { uid: user.uid(), gid: user.gid(), pid: user.pid() })
}

/// Bytes that may wait in a socket, with what the system adds to each piece: about twice as much counts
/// as used. What waits there can no longer be overtaken, as in [`tcp`](super::tcp); only, the room is
/// all that can be set.
#[cfg(any(target_os = "android", target_os = "linux"))]
const MAX_UNSENT_BYTES: usize = 64 << 10;

/// Sets what every Unix socket of ours is set to.
pub(super) fn prepare(stream: &UnixStream) -> io::Result<()> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket2::SockRef::from(stream).set_send_buffer_size(MAX_UNSENT_BYTES)?;
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = stream;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    /// A folder of a test's own, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rsock-{test}-{}", process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn name(&self) -> UnixName {
            let path = self.0.join("a.sock");
            UnixName::read(path.to_str().expect("UTF-8")).expect("a name")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn listen(name: &UnixName) -> io::Result<(UnixListener, Option<SocketFile>)> {
        bind(name, Access::default()).await?.listen(8)
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced_and_one_in_use_is_not() {
        let folder = Folder::new("stale");
        let name = folder.name();
        let (listener, file) = listen(&name).await.expect("a new name");
        let error = listen(&name).await.map(drop).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        connect(&name).await.expect("it is listened on still");
        // As a process leaves it that is killed.
        let kept = file.map(std::mem::ManuallyDrop::new);
        drop(listener);
        assert!(kept.is_some() && name.path().exists());
        let (_listener, file) = listen(&name).await.expect("nobody listens");
        connect(&name).await.expect("it is listened on");
        drop(file);
        assert!(!name.path().exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_removed() {
        let folder = Folder::new("no-socket");
        let name = folder.name();
        fs::write(name.path(), "precious").expect("a file");
        let link = UnixName::read(folder.0.join("link").to_str().expect("UTF-8")).expect("a name");
        std::os::unix::fs::symlink(name.path(), link.path()).expect("a link");
        for name in [&name, &link] {
            let error = listen(name).await.map(drop).expect_err("a file is there");
            assert!(error.to_string().contains("not a socket; remove it"), "{error}");
        }
        assert_eq!(fs::read(name.path()).expect("it is there"), b"precious");
    }

    #[tokio::test]
    async fn at_the_end_the_file_of_another_stays() {
        let folder = Folder::new("another");
        let name = folder.name();
        let (_first, first_file) = listen(&name).await.expect("a new name");
        fs::remove_file(name.path()).expect("somebody tidies up");
        let (_second, second_file) = listen(&name).await.expect("the name is free");
        drop(first_file);
        connect(&name).await.expect("the second is reached");
        drop(second_file);
        assert!(!name.path().exists());
    }

    #[tokio::test]
    async fn the_file_has_its_mode_before_anyone_can_connect() {
        let folder = Folder::new("mode");
        for mode in [0o600, 0o660, 0o666] {
            let bound = bind(&folder.name(), Access { mode: Some(mode), ..Access::default() })
                .await
                .expect("a free name");
            let file = fs::metadata(folder.name().path()).expect("a file");
            assert_eq!(file.permissions().mode() & 0o777, mode);
            let early = UnixStream::connect(folder.name().path()).await.map(drop);
            assert_eq!(early.map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
            drop(bound);
        }
    }

    /// Only root can give a file away; everybody else is told so, and nothing is left of the file.
    #[tokio::test]
    async fn the_file_has_its_owner_before_anyone_can_connect() {
        let folder = Folder::new("owner");
        let own = fs::metadata(&folder.0).expect("a folder");
        let (user, group) = (own.uid(), own.gid());
        for (user, group) in [(Some(user), None), (None, Some(group)), (Some(user), Some(group))] {
            let access = Access { user, group, mode: Some(0o660) };
            let bound = bind(&folder.name(), access).await.expect("it is ours");
            let file = fs::metadata(folder.name().path()).expect("a file");
            assert_eq!(file.permissions().mode() & 0o777, 0o660);
            drop(bound);
        }
        let access = Access { user: Some(12_345), group: Some(54_321), mode: None };
        match bind(&folder.name(), access).await {
            Ok(bound) => {
                assert_eq!(user, 0, "only root can");
                let file = fs::metadata(folder.name().path()).expect("a file");
                assert_eq!((file.uid(), file.gid()), (12_345, 54_321));
                drop(bound);
            }
            Err(error) => {
                assert_ne!(user, 0, "root can");
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                let told = "its file cannot be given to user 12345 and group 54321: ";
                assert!(error.to_string().starts_with(told), "{error}");
                assert!(!folder.name().path().exists());
            }
        }
    }

    #[cfg(any(target_os = "android", target_os = "linux"))]
    #[tokio::test]
    async fn a_name_without_a_file_is_taken_by_one_at_a_time() {
        let name = UnixName::read(&format!("@rsock-test-{}", process::id())).expect("a name");
        let (listener, file) = listen(&name).await.expect("a new name");
        assert!(file.is_none());
        let error = listen(&name).await.map(drop).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        connect(&name).await.expect("it is listened on");
        drop(listener);
        listen(&name).await.expect("it is free again");
    }

    #[cfg(any(target_os = "android", target_os = "linux"))]
    #[tokio::test(start_paused = true)]
    async fn who_finds_the_queue_full_waits_for_room() {
        let folder = Folder::new("full");
        let name = folder.name();
        let (listener, _file) =
            bind(&name, Access::default()).await.and_then(|it| it.listen(0)).expect("free");
        let mut taken = Vec::new();
        let refused = loop {
            match UnixStream::connect(name.path()).await {
                Ok(stream) => taken.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        let error = listen(&name).await.map(drop).expect_err("in use, though the queue is full");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        let accepting = async {
            tokio::time::sleep(FULL_QUEUE_PAUSE * 3).await;
            listener.accept().await.expect("somebody waits")
        };
        let (connected, _) = tokio::join!(connect(&name), accepting);
        connected.expect("there is room by then");
    }

    #[cfg(any(target_os = "android", target_os = "linux"))]
    #[tokio::test]
    async fn little_waits_unsent_in_a_socket() {
        let folder = Folder::new("unsent");
        let (listener, _file) = listen(&folder.name()).await.expect("a new name");
        let near = connect(&folder.name()).await.expect("it is listened on");
        let (far, _) = listener.accept().await.expect("a connection");
        prepare(&far).expect("it can be set");
        for stream in [&near, &far] {
            let mut unsent = 0;
            stream.writable().await.expect("it is open");
            while let Ok(count) = stream.try_write(&[0; 4 << 10]) {
                unsent += count;
            }
            assert!((32 << 10..=128 << 10).contains(&unsent), "{unsent}");
        }
    }
}
