//! The socket that containerd connects to: inherited from systemd, or created here.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::error::{Error, IoContext};

/// Longest socket path, bytes (`sun_path` of unix(7) without its terminator).
const MAX_PATH: usize = 107;
/// Connections that may wait for accept.
const BACKLOG: i32 = 128;

/// The socket that systemd opened for this process (sd_listen_fds(3)), if any.
///
/// # Errors
/// If the inherited descriptor is not a listening unix socket.
pub(crate) fn inherited() -> Result<Option<UnixListener>, Error> {
    let mut sockets = listenfd::ListenFd::from_env();
    if sockets.len() == 0 {
        return Ok(None);
    }
    sockets.take_unix_listener(0).at("listen on", "the socket of LISTEN_FDS")
}

/// Listens on `path`, accessible to the owner only. Replaces the stale socket of an ended server.
///
/// # Errors
/// [`Error::Listening`], [`Error::NotASocket`], [`Error::SocketPath`]; a directory that cannot be created.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, Error> {
    if path.as_os_str().len() > MAX_PATH {
        return Err(Error::SocketPath { path: path.to_owned() });
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir).at("create directory", dir)?;
    }
    remove_stale(path)?;
    listen(path).at("listen on", path)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux the file gets the socket's mode (unix_bind), so others cannot connect even for a moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

fn remove_stale(path: &Path) -> Result<(), Error> {
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.at("look at", path)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::Listening { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).at("remove", path)
        }
        Err(error) => Err(error).at("connect to", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/windowsfilter.sock");
        let first = bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path), Err(Error::Listening { .. })));
        drop(first);
        let _second = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let path = Path::new("/tmp").join("x".repeat(110));
        assert!(matches!(bind(&path), Err(Error::SocketPath { .. })));
    }
}
