//! A containerd with our server as its snapshotter and differ, on directories and sockets of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use programs::mounts::unmount_below;
use serde_json::Value;
use tempfile::TempDir;
use testbed::containerd::daemon::Daemon;
use testbed::containerd::{Installation, PLATFORM, SNAPSHOTTER};

use super::process::{Running, run};
use super::tools::Version;
use super::wait;

/// Both daemons and where they live. Dropping it ends them and unmounts what is left.
pub struct Rig {
    installation: Installation,
    _dir: TempDir,
    containerd: Option<Daemon>,
    server: Option<Daemon>,
    /// Further options of our server.
    options: &'static [&'static str],
}

impl Rig {
    /// Starts both, configured as our command says.
    pub fn start(version: Version) -> Self {
        Self::start_with(version, &[])
    }

    /// Starts both, our server with options.
    pub fn start_with(version: Version, options: &'static [&'static str]) -> Self {
        let mut rig = Self::new(version);
        rig.options = options;
        rig.installation.configure(&rig.installation.our_plugins().unwrap()).unwrap();
        rig.start_server();
        rig.start_containerd();
        rig
    }

    /// Starts both, without our differ: the mistake that would lose metadata if it went unnoticed.
    pub fn start_without_differ(version: Version) -> Self {
        let mut rig = Self::new(version);
        let plugins = format!(
            "version = 2\n[proxy_plugins.{SNAPSHOTTER}]\n  type = \"snapshot\"\n  address = {:?}\n",
            rig.installation.server_socket()
        );
        rig.installation.configure(&plugins).unwrap();
        rig.start_server();
        rig.start_containerd();
        rig
    }

    /// Starts both, our store on a file system of `bytes` bytes.
    pub fn start_on_a_small_disk(version: Version, bytes: u64) -> Self {
        let mut rig = Self::new(version);
        let (disk, store) = (rig.path("disk.img"), rig.store());
        fs::File::create(&disk).unwrap().set_len(bytes).unwrap();
        fs::create_dir(&store).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&disk)).success();
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(&store)).success();
        rig.installation.configure(&rig.installation.our_plugins().unwrap()).unwrap();
        rig.start_server();
        rig.start_containerd();
        rig
    }

    fn new(version: Version) -> Self {
        let dir = tempfile::Builder::new().prefix("wf-").tempdir().unwrap();
        let installation = Installation {
            dir: dir.path().to_owned(),
            programs: version.programs(),
            windowsfilter: env!("CARGO_BIN_EXE_windowsfilter").into(),
        };
        Self { installation, _dir: dir, containerd: None, server: None, options: &[] }
    }

    /// A path in the rig's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.installation.dir.join(name)
    }

    /// Where our store is.
    pub fn store(&self) -> PathBuf {
        self.installation.store()
    }

    pub fn start_server(&mut self) {
        self.server = Some(self.installation.start_server(self.options).unwrap());
    }

    pub fn start_containerd(&mut self) {
        self.containerd = Some(self.installation.start_containerd().unwrap());
    }

    pub fn stop_server(&mut self) {
        self.server.take().unwrap().stop().unwrap();
    }

    pub fn stop_containerd(&mut self) {
        self.containerd.take().unwrap().stop().unwrap();
    }

    pub fn kill_server(&mut self) {
        self.server.take().unwrap().kill().unwrap();
    }

    pub fn kill_containerd(&mut self) {
        self.containerd.take().unwrap().kill().unwrap();
    }

    /// containerd's socket.
    pub fn socket(&self) -> PathBuf {
        self.installation.socket()
    }

    /// `ctr` with these arguments.
    pub fn ctr(&self, args: &[&str]) -> Command {
        let mut command = self.installation.ctr();
        command.args(args);
        command
    }

    /// `ctr snapshots` with our snapshotter.
    pub fn ctr_snapshots(&self, args: &[&str]) -> Command {
        self.ctr(&[&["snapshots", "--snapshotter", SNAPSHOTTER], args].concat())
    }

    /// What `ctr` prints; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        String::from_utf8(run(&mut self.ctr(args)).success()).unwrap()
    }

    /// What `ctr snapshots` prints; it must succeed.
    pub fn snapshots(&self, args: &[&str]) -> String {
        String::from_utf8(run(&mut self.ctr_snapshots(args)).success()).unwrap()
    }

    /// Our command on the server's store.
    pub fn tool(&self, args: &[&str]) -> Command {
        tool(&self.store(), args)
    }

    /// What our command prints with `--json`; it must succeed.
    pub fn ask(&self, args: &[&str]) -> Value {
        ask(&self.store(), args)
    }

    /// Names of all snapshots that containerd has of ours.
    pub fn snapshot_names(&self) -> Vec<String> {
        let list = self.snapshots(&["ls"]);
        list.lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    }

    /// Mounts what a snapshot's key stands for as `ctr snapshots mounts` says, which prints a command.
    pub fn mount_key(&self, key: &str, dir: &Path) {
        let script = self.snapshots(&["mounts", &dir.to_string_lossy(), key]);
        fs::create_dir_all(dir).unwrap();
        run(Command::new("sh").args(["-euc", &script])).success();
    }

    /// Prepares a sandbox `key` on `parent` and mounts it at `dir`.
    pub fn prepare(&self, key: &str, parent: &str, dir: &Path) {
        self.snapshots(&["prepare", key, parent]);
        self.mount_key(key, dir);
    }

    /// Unmounts what a client mounted.
    pub fn unmount(&self, dir: &Path) {
        run(Command::new("umount").arg(dir)).success();
    }

    /// Imports an archive, unpacking it with our snapshotter; in the daemon or in the client.
    pub fn import(&self, archive: &Path, mode: Mode) -> Running {
        let mut args = vec!["images", "import", "--platform", PLATFORM, "--snapshotter", SNAPSHOTTER];
        args.push(mode.flag());
        let archive = archive.to_string_lossy();
        args.push(&archive);
        Running::start(&mut self.ctr(&args))
    }

    /// Mounts an image read-only at `dir`, as clients do to look into it.
    pub fn mount_image(&self, reference: &str, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        let dir = dir.to_string_lossy();
        self.ok(&["images", "mount", "--platform", PLATFORM, "--snapshotter", SNAPSHOTTER, reference, &dir]);
    }

    /// Unmounts it and removes its snapshot.
    pub fn unmount_image(&self, dir: &Path) {
        self.ok(&["images", "unmount", "--rm", "--snapshotter", SNAPSHOTTER, &dir.to_string_lossy()]);
    }

    /// The store is sound: every file is what its record says, and nothing is left over.
    ///
    /// # Panics
    /// When `fsck` finds anything.
    pub fn check_store(&self) {
        let ended = run(&mut self.tool(&["fsck"]));
        let text = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
        assert!(ended.status.success() && text.contains("no problems"), "fsck: {}\n{text}", ended.status);
    }

    /// Removes all images and waits until garbage collection has removed everything of ours, in containerd
    /// and in the store.
    pub fn remove_everything(&self) {
        for image in self.ok(&["images", "ls", "-q"]).lines() {
            self.ok(&["images", "rm", image]);
        }
        // Garbage collection, also if there was no image.
        self.ok(&["leases", "create", "--id", "collect"]);
        self.ok(&["leases", "rm", "--sync", "collect"]);
        wait::until("removal of all layers", || {
            let (names, layers) = (self.snapshot_names(), self.layers());
            if names.is_empty() && layers.is_empty() { Ok(()) } else { Err(format!("{names:?} {layers:?}")) }
        });
        self.check_store();
    }

    /// IDs of all layers and sandboxes in the store.
    pub fn layers(&self) -> Vec<String> {
        let list = self.ask(&["layer", "ls"]);
        list.as_array().unwrap().iter().map(|layer| layer["id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Rig {
    /// Prints what one looks at first when a test has failed.
    fn explain(&self) {
        for log in ["server.log", "containerd.log"] {
            let text = fs::read_to_string(self.path(log)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().filter(|line| !line.contains("loading plugin")).collect();
            let from = lines.len().saturating_sub(60);
            eprintln!("--- end of {log}\n{}", lines[from..].join("\n"));
        }
        let mounts =
            String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap_or_default()).into_owned();
        let dir = self.installation.dir.to_string_lossy();
        let mounts: Vec<&str> = mounts.lines().filter(|line| line.contains(&*dir)).collect();
        eprintln!("--- mounts\n{}", mounts.join("\n"));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        // containerd first: it may be calling our server.
        self.containerd = None;
        self.server = None;
        unmount_below(&self.installation.dir);
    }
}

/// Who unpacks an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The daemon's transfer service.
    Transfer,
    /// The client, through the daemon's content, snapshot and diff services.
    Client,
}

impl Mode {
    pub const BOTH: [Self; 2] = [Self::Transfer, Self::Client];

    /// Said in full: the default is another one in each version.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Transfer => "--local=false",
            Self::Client => "--local",
        }
    }
}

/// Our command on the store `root`.
pub fn tool(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
    command.arg("--root").arg(root).args(args);
    command
}

/// What our command prints with `--json`; it must succeed.
pub fn ask(root: &Path, args: &[&str]) -> Value {
    serde_json::from_slice(&run(tool(root, args).arg("--json")).success()).unwrap()
}
