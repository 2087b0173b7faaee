//! A containerd with our server as its snapshotter and differ, in directories and on sockets of its own:
//! for tests and benchmarks.
//!
//! It shares nothing with a containerd of the machine, and removing its directory removes everything.

pub mod daemon;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use programs::error::{Error, IoContext, Result};
use programs::process::output;

use daemon::Daemon;

/// Our snapshotter's name in containerd's configuration.
pub const SNAPSHOTTER: &str = "windowsfilter";
/// Its images' platform.
pub const PLATFORM: &str = "windows/amd64";

/// Plugins that need a network, a device mapper or a collector of traces.
const DISABLED: &[&str] = &[
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// Programs and directories of both daemons. Starts nothing by itself.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The directory of all their files. Its path must be short: a socket's path has at most 107 bytes.
    pub dir: PathBuf,
    /// Directory with `containerd` and `ctr`.
    pub programs: PathBuf,
    /// Our command.
    pub windowsfilter: PathBuf,
}

impl Installation {
    /// Our store's path.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Writes containerd's configuration: everything that separates it from others, and `plugins`, as an
    /// administrator would write it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn configure(&self, plugins: &str) -> Result<()> {
        let run = self.dir.join("run");
        fs::create_dir_all(&run).at(&run)?;
        // Both files need the same format version: not every containerd reads a mixture.
        let version = plugins.lines().find(|line| line.starts_with("version")).unwrap_or("version = 2");
        let disabled = DISABLED.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "{version}\nroot = {:?}\nstate = {:?}\nimports = [{:?}]\ndisabled_plugins = [{disabled}]\n\
             [grpc]\n  address = {:?}\n[ttrpc]\n  address = {:?}\n",
            self.dir.join("root"),
            self.dir.join("state"),
            self.dir.join("plugins.toml"),
            self.socket(),
            run.join("t.sock"),
        );
        let write = |name: &str, text: &str| {
            let path = self.dir.join(name);
            fs::write(&path, text).at(&path)
        };
        write("plugins.toml", plugins)?;
        write("containerd.toml", &text)
    }

    /// containerd's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/c.sock")
    }

    /// Our server's socket.
    #[must_use]
    pub fn server_socket(&self) -> PathBuf {
        self.dir.join("run/w.sock")
    }

    /// The plugin configuration that our command prints for this containerd.
    ///
    /// # Errors
    /// If it prints none.
    pub fn our_plugins(&self) -> Result<String> {
        let version = self.version()?;
        let mut print = Command::new(&self.windowsfilter);
        print.args(["serve", "--print-config", &version, "--address"]).arg(self.server_socket());
        output(&mut print)
    }

    /// containerd's version: `1.7.24`.
    ///
    /// # Errors
    /// If it does not print one.
    pub fn version(&self) -> Result<String> {
        let said = output(Command::new(self.programs.join("containerd")).arg("--version"))?;
        version_in(&said).ok_or_else(|| Error::Unexpected(format!("no version in {said:?}")))
    }

    /// Starts our server with further options of `serve`, and waits until it listens.
    ///
    /// # Errors
    /// If the server exits instead; the error has its log.
    pub fn start_server(&self, options: &[&str]) -> Result<Daemon> {
        let mut command = Command::new(&self.windowsfilter);
        command.arg("--root").arg(self.store()).args(["serve", "--address"]).arg(self.server_socket());
        command.arg("--containerd").arg(self.socket()).args(options);
        let mut server = Daemon::start("windowsfilter serve", &mut command, &self.dir.join("server.log"))?;
        let socket = self.server_socket();
        server.wait_until(|_| std::os::unix::net::UnixStream::connect(&socket).ok().map(drop))?;
        Ok(server)
    }

    /// Starts containerd and waits until it answers.
    ///
    /// # Errors
    /// If it exits instead; the error has its log.
    pub fn start_containerd(&self) -> Result<Daemon> {
        let mut command = Command::new(self.programs.join("containerd"));
        command.arg("--config").arg(self.dir.join("containerd.toml"));
        // containerd finds mkfs.erofs there.
        command.env("PATH", with_path(&self.programs));
        let mut containerd = Daemon::start("containerd", &mut command, &self.dir.join("containerd.log"))?;
        containerd.wait_until(|_| output(self.ctr().arg("version")).ok().map(drop))?;
        Ok(containerd)
    }

    /// `ctr`, without arguments.
    #[must_use]
    pub fn ctr(&self) -> Command {
        let mut command = Command::new(self.programs.join("ctr"));
        command.arg("--address").arg(self.socket());
        command
    }
}

/// `PATH` with a directory in front.
fn with_path(dir: &Path) -> String {
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default())
}

/// The first word that looks like a version, without `v`, build and distribution: `1.7.24~ds1` is `1.7.24`.
fn version_in(said: &str) -> Option<String> {
    said.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches('v');
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let version = &word[..end];
        (version.split('.').count() == 3 && version.split('.').all(|part| !part.is_empty()))
            .then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_each_build_prints() {
        let debian = "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1";
        assert_eq!(version_in(debian).as_deref(), Some("1.7.24"));
        let newer = "containerd github.com/containerd/containerd/v2 2.1.9+unknown \n";
        assert_eq!(version_in(newer).as_deref(), Some("2.1.9"));
        let upstream = "containerd github.com/containerd/containerd/v2 v2.3.4 0123abcd";
        assert_eq!(version_in(upstream).as_deref(), Some("2.3.4"));
        assert_eq!(version_in("containerd"), None);
    }
}
