//! A sandbox and a view shared by a real smbd, with the `streams_xattr` of Debian's Samba: alternate streams
//! are the same on both sides, byte for byte.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{Store, small_layer};
use wclayer::tar::Reader;

/// What Windows puts into `Zone.Identifier`: without the last byte it is another file.
const ZONE: &[u8] = b"[ZoneTransfer]\r\nZoneId=3\r\n";
/// Ends as Samba's own attributes end.
const ENDS_IN_NUL: &[u8] = b"one\0two\0";
const STREAMS: [(&str, &[u8]); 3] = [("Zone.Identifier", ZONE), ("nul", ENDS_IN_NUL), ("empty", b"")];

/// How often something is tried that another process has yet to make possible; each time runs a program.
const TRIES: usize = 600;

/// A server with one volume, on a port of its own, that ends with its value.
struct Smbd {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Smbd {
    fn serve(volume: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "[global]\nserver role = standalone server\ninterfaces = 127.0.0.1/8\nbind interfaces only = yes\n\
             smb ports = {port}\ndisable netbios = yes\nmap to guest = Bad User\nload printers = no\nprinting = bsd\n\
             printcap name = /dev/null\ndisable spoolss = yes\n"
        );
        for option in ["lock directory", "state directory", "cache directory", "private dir", "pid directory"]
        {
            let place = dir.path().join(option.replace(' ', "-"));
            fs::create_dir(&place).unwrap();
            config += &format!("{option} = {}\n", place.display());
        }
        config += &format!(
            "ncalrpc dir = {}/ncalrpc\nlog file = {}/log\n",
            dir.path().display(),
            dir.path().display()
        );
        config += &format!(
            "[volume]\npath = {}\nread only = no\nguest ok = yes\nforce user = root\nvfs objects = streams_xattr\n",
            volume.display()
        );
        fs::write(dir.path().join("smb.conf"), config).unwrap();
        let mut command = Command::new("/usr/sbin/smbd");
        command.arg("--foreground").arg(format!("--configfile={}/smb.conf", dir.path().display()));
        let child = command.stdin(Stdio::null()).spawn().expect("smbd, of the package samba");
        let server = Self { child, dir, port };
        let is_there = |_: &usize| server.client("ls").status.success();
        assert!((0..TRIES).any(|number| is_there(&number)), "{}", said(&server.client("ls")));
        server
    }

    fn client(&self, commands: &str) -> Output {
        let mut command = Command::new("smbclient");
        command.args([
            "//127.0.0.1/volume",
            "-N",
            "-m",
            "SMB3",
            "-p",
            &self.port.to_string(),
            "-c",
            commands,
        ]);
        command.current_dir(self.dir.path()).output().expect("smbclient, of the package of this name")
    }

    fn get(&self, name: &str) -> Vec<u8> {
        let got = self.client(&format!("get \"{name}\" got"));
        assert!(got.status.success(), "{name}: {}", said(&got));
        fs::read(self.dir.path().join("got")).unwrap()
    }

    fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.dir.path().join("given"), content).unwrap();
        let put = self.client(&format!("put given \"{name}\""));
        assert!(put.status.success(), "{name}: {}", said(&put));
    }
}

impl Drop for Smbd {
    fn drop(&mut self) {
        // Asked to end, it ends the processes of its connections, too.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A layer of one file with all the streams.
fn base() -> Vec<u8> {
    let file = small_layer().dir("Files").file("Files/old.txt", b"old");
    STREAMS.iter().fold(file, |layer, (name, content)| layer.stream(name, content)).tar()
}

fn apply(store: &Store, id: &str, parent: &[&str], tar: &[u8]) {
    let path = store.path(&format!("{id}.tar"));
    fs::write(&path, tar).unwrap();
    store.text(&[&["layer", "apply", id, path.to_str().unwrap()], parent].concat());
}

/// Unmounts what a server that is ending may still use for a moment.
fn umount(store: &Store, id: &str) {
    let ended = (0..TRIES).any(|_| store.run(&["umount", id]).status.success());
    assert!(ended, "{}", said(&store.run(&["umount", id])));
}

#[test]
fn streams_are_the_same_over_smb_and_in_the_layer_both_ways() {
    let store = Store::new();
    apply(&store, "base", &[], &base());
    store.text(&["create", "base", "--name", "box", "--size", "64MB"]);
    let volume = store.text(&["mount", "box"]);
    let server = Smbd::serve(Path::new(volume.trim()));
    server.put("new.txt", b"new");
    for (name, content) in STREAMS {
        assert_eq!(server.get(&format!("old.txt:{name}")), content, "{name}");
        server.put(&format!("new.txt:{name}"), content);
    }
    server.put("old.txt:added", ENDS_IN_NUL);
    drop(server);
    umount(&store, "box");

    let diff = store.run(&["layer", "diff", "box", "-o", "-"]);
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stderr));
    let mut streams = Vec::new();
    let mut reader = Reader::new(&diff.stdout[..]);
    while let Some(header) = reader.next().unwrap() {
        let name = String::from_utf8(header.name.clone()).unwrap();
        let mut content = Vec::new();
        reader.data().read_to_end(&mut content).unwrap();
        if name.contains(':') {
            streams.push((name, content));
        }
    }
    streams.sort();
    let of = |file: &str| STREAMS.map(|(name, content)| (format!("Files/{file}:{name}"), content.to_vec()));
    let added = ("Files/old.txt:added".to_owned(), ENDS_IN_NUL.to_vec());
    let mut expected = [&of("new.txt")[..], &of("old.txt"), &[added]].concat();
    expected.sort();
    assert_eq!(streams, expected);

    // What was committed is read over SMB again, as it was given.
    apply(&store, "top", &["--parent", "base"], &diff.stdout);
    let volume = store.text(&["mount", "top"]);
    let server = Smbd::serve(Path::new(volume.trim()));
    for (name, content) in STREAMS {
        assert_eq!(server.get(&format!("new.txt:{name}")), content, "{name}");
        assert_eq!(server.get(&format!("old.txt:{name}")), content, "{name}");
    }
    assert_eq!(server.get("old.txt:added"), ENDS_IN_NUL);
    drop(server);
    umount(&store, "top");
}

#[test]
fn a_plain_sandbox_has_the_bytes_of_its_streams_in_attributes() {
    let attribute = |volume: &str, form: &str| {
        let mut getfattr = Command::new("getfattr");
        getfattr.args(["--only-values", "-n", "user.DosStream.nul:$DATA"]);
        let output = getfattr.arg(Path::new(volume.trim()).join("old.txt")).output().unwrap();
        assert!(output.status.success(), "{form}: {}", said(&output));
        output.stdout
    };
    let store = Store::new();
    apply(&store, "base", &[], &base());
    for (form, shown) in [("plain", ENDS_IN_NUL.to_vec()), ("samba", [ENDS_IN_NUL, b"\0"].concat())] {
        store.text(&["create", "base", "--name", form, "--size", "64MB", "--streams", form]);
        let volume = store.text(&["mount", form]);
        assert_eq!(attribute(&volume, form), shown, "{form}");
        fs::write(Path::new(volume.trim()).join("new.txt"), "").unwrap();
        let mut setfattr = Command::new("setfattr");
        setfattr.args(["-n", "user.DosStream.s:$DATA", "-v", "0x7800"]);
        assert!(setfattr.arg(Path::new(volume.trim()).join("new.txt")).status().unwrap().success());
        store.text(&["umount", form]);
        let volume = store.text(&["mount", "base", "--streams", form]);
        assert_eq!(attribute(&volume, form), shown, "{form}");
        store.text(&["umount", "base"]);
        let diff = store.run(&["layer", "diff", form, "-o", "-"]).stdout;
        let mut reader = Reader::new(&diff[..]);
        let header = loop {
            let header = reader.next().unwrap().unwrap();
            if header.name == b"Files/new.txt:s" {
                break header;
            }
        };
        assert_eq!(header.size, if form == "plain" { 2 } else { 1 }, "{form}");
    }
    let stat = store.json(&["stat", "base:old.txt"]);
    assert_eq!(stat["streams"].as_array().map(Vec::len), Some(STREAMS.len()), "{stat}");
}
