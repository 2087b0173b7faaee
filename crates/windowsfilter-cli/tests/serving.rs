//! `serve` as systemd starts and stops it. What it serves is tested where it is made.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A server, and what systemd would hear of it.
struct Server {
    child: Child,
    notifications: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts `serve` with these arguments; with `socket`, on that, as systemd hands it over.
    fn start(arguments: &[&str], socket: Option<UnixListener>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let notify = dir.path().join("notify");
        let notifications = UnixDatagram::bind(&notify).unwrap();
        notifications.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The first socket is descriptor 3, and meant for the process that says LISTEN_PID.
        let script = if socket.is_some() {
            r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 0</dev/null"#
        } else {
            r#"exec "$0" "$@""#
        };
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_windowsfilter"), "--root"]);
        command.arg(dir.path().join("store")).arg("serve").args(arguments);
        command.arg("--address").arg(dir.path().join("run/own.sock"));
        command.env("NOTIFY_SOCKET", &notify).stderr(Stdio::piped());
        command.stdin(socket.map_or_else(Stdio::null, |socket| OwnedFd::from(socket).into()));
        let child = command.spawn().unwrap();
        let server = Self { child, notifications, dir };
        assert_eq!(server.heard(), "READY=1");
        server
    }

    fn heard(&self) -> String {
        let mut buffer = [0; 200];
        let length = self.notifications.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim().to_owned()
    }

    fn own_socket(&self) -> PathBuf {
        self.dir.path().join("run/own.sock")
    }

    /// Stops it as systemd does, and gives what it logged.
    fn stop(self) -> String {
        self.stop_with(Signal::TERM)
    }

    /// Stops it with this signal, and gives what it logged.
    fn stop_with(mut self, signal: Signal) -> String {
        let process = Pid::from_child(&self.child);
        kill_process(process, signal).unwrap();
        assert_eq!(self.heard(), "STOPPING=1");
        let mut logs = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
        assert!(self.child.wait().unwrap().success(), "{logs}");
        logs
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether an HTTP/2 server answers at the other end.
fn answers(mut stream: UnixStream) -> bool {
    const SETTINGS: u8 = 4;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    frame[3] == SETTINGS
}

#[test]
fn a_socket_of_its_own_is_for_its_owner_and_sigterm_stops_the_server() {
    let server = Server::start(&["--json"], None);
    let socket = server.own_socket();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(answers(UnixStream::connect(&socket).unwrap()));
    let logs = server.stop();
    for line in logs.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["timestamp"].is_string() && event["message"].is_string(), "{line}");
    }
    assert!(logs.contains("own.sock"), "{logs}");
}

#[test]
fn a_socket_of_systemd_is_used_instead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("systemd.sock");
    let containerd = dir.path().join("containerd.sock");
    let _containerd = UnixListener::bind(&containerd).unwrap();
    let arguments = ["--containerd", containerd.to_str().unwrap()];
    let server = Server::start(&arguments, Some(UnixListener::bind(&path).unwrap()));
    assert!(answers(UnixStream::connect(&path).unwrap()));
    assert!(!server.own_socket().exists());
    let logs = server.stop();
    // Plain lines, without the colours of a terminal.
    assert!(logs.lines().all(|line| line.starts_with("note: ")) && !logs.contains('\u{1b}'), "{logs}");
    // The socket is systemd's and stays.
    assert!(path.exists());
}

#[test]
fn sighup_ends_the_server_as_sigterm_does() {
    let server = Server::start(&[], None);
    let logs = server.stop_with(Signal::HUP);
    assert!(logs.contains("stopping after the calls that run"), "{logs}");
}

#[test]
fn a_containerd_that_is_not_there_is_missed_at_the_start() {
    let server = Server::start(&["--containerd", "/nowhere/containerd.sock"], None);
    let logs = server.stop();
    let warning = logs.lines().find(|line| line.starts_with("warning: "));
    assert!(warning.is_some_and(|line| line.contains("/nowhere/containerd.sock")), "{logs}");
}

#[test]
fn metrics_are_shown_to_prometheus() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = Server::start(&["--metrics", &address], None);
    let ask = |path: &str| -> Vec<String> {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        BufReader::new(stream).lines().map(Result::unwrap).collect()
    };
    let lines = ask("/metrics");
    for wanted in [
        "content-type: text/plain; version=0.0.4; charset=utf-8",
        "# TYPE windowsfilter_apply_bytes_total counter",
        "windowsfilter_mounts 0",
        "windowsfilter_snapshots{kind=\"sandbox\"} 0",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted} is not in {lines:?}");
    }
    let lines = ask("/other");
    assert!(lines[0].contains("404") && lines.iter().any(|line| line.contains("/metrics")), "{lines:?}");
    server.stop();
}

#[test]
fn a_second_server_for_the_same_snapshots_is_refused_and_says_what_to_do() {
    let server = Server::start(&[], None);
    let mut second = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
    second.arg("--root").arg(server.dir.path().join("store")).args(["serve", "--address"]);
    let output = second.arg(server.dir.path().join("second.sock")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("snapshots.redb") && said.contains("hint: stop the other server"), "{said}");
    server.stop();
}
