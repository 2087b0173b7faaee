//! Rows about Docker, if it is installed: it lists and reads a layer of ours, and runs a container on a
//! sandbox of ours.
//!
//! Docker's own images and containers are left alone: the check starts a daemon with its data in the
//! check's directory and a pipe of its own, and loads the base layer as an image. While that daemon is
//! stopped, the check replaces Docker's layer in Docker's home by its own under the same ID, and likewise a
//! container's sandbox. Docker compares the layer with the digest that it knows.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hcs::Host as _;
use serde_json::json;
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};

use super::check::{Check, Failure, NotAsked, SIZE, Verdict, expect, id};
use programs::process::{find, output};

/// The pipe of the check's daemon.
const PIPE: &str = "npipe:////./pipe/windowsfilter_host_check";
const IMAGE: &str = "windowsfilter-host-check:base";
const CONTAINER: &str = "windowsfilter-host-check";
/// Timeout for the daemon's start.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// Bytes of the daemon's log to show if it does not answer.
const LOG_SHOWN: usize = 2_000;

/// The check's own daemon, killed on drop.
struct Daemon {
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A daemon that is still running makes the next start fail.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn docker(arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("docker.exe");
    Ok(output(command.args(["-H", PIPE]).args(arguments))?)
}

impl Check {
    fn docker_dir(&self) -> PathBuf {
        self.dir.join("docker")
    }

    fn is_docker_here(&self) -> Result<PathBuf, Failure> {
        if find("docker.exe").is_none() {
            return Err(NotAsked("there is no docker.exe in PATH".into()).into());
        }
        let usual = PathBuf::from(r"C:\Program Files\Docker\dockerd.exe");
        let daemon = find("dockerd.exe").or_else(|| usual.is_file().then_some(usual));
        daemon.ok_or_else(|| NotAsked("there is no dockerd.exe in PATH".into()).into())
    }

    fn start_docker(&self, program: &Path) -> Result<Daemon, Failure> {
        let dir = self.docker_dir();
        fs::create_dir_all(&dir)?;
        // Ignore the machine's settings and containerd's own image store.
        let settings =
            json!({ "features": { "containerd-snapshotter": false }, "storage-driver": "windowsfilter" });
        let config = dir.join("daemon.json");
        fs::write(&config, settings.to_string())?;
        let log = dir.join("daemon.log");
        let child = Command::new(program)
            .arg("--config-file")
            .arg(&config)
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("daemon.pid"))
            .args(["--host", PIPE, "--bridge", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut daemon = Daemon { child };
        let start = Instant::now();
        while let Err(error) = docker(&["version"]) {
            let ended = daemon.child.try_wait()?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let text = fs::read(&log).unwrap_or_default();
                let text =
                    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_SHOWN)..]).into_owned();
                return Err(
                    format!("dockerd does not answer ({ended:?}): {error}; its log ends {text}").into()
                );
            }
            self.host.system.pause(BETWEEN_LOOKS);
        }
        Ok(daemon)
    }

    /// Docker's layers, opened by this program.
    fn dockers_store(&self) -> Result<LayerStore, Failure> {
        let home = self.docker_dir().join("data").join("windowsfilter");
        Ok(self.host.store_in(&home, self.host.import())?)
    }

    /// The base layer as `docker save` writes an image.
    fn write_image(&self, path: &Path) -> Result<(), Failure> {
        let diff_id =
            self.host.store()?.record(&id("base")?)?.diff_id.ok_or("the base layer has no digest")?;
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "windows",
            "config": { "Cmd": ["cmd.exe", "/c", "ver"] },
            "rootfs": { "type": "layers", "diff_ids": [diff_id.to_string()] },
        });
        let manifest =
            json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer/layer.tar"] }]);
        let mut tar = tar::Builder::new(File::create(path)?);
        for (name, content) in [("config.json", config), ("manifest.json", manifest)] {
            let content = content.to_string();
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content.as_bytes())?;
        }
        tar.append_path_with_name(&self.base, "layer/layer.tar")?;
        Ok(tar.into_inner()?.flush()?)
    }

    /// The only one of Docker's layers that is not in `known`.
    fn new_layer(&self, store: &LayerStore, known: &[LayerId]) -> Result<LayerId, Failure> {
        let new: Vec<LayerId> = store.layers()?.into_iter().filter(|layer| !known.contains(layer)).collect();
        match &new[..] {
            [layer] => Ok(layer.clone()),
            others => Err(format!("Docker made {} layers, not one", others.len()).into()),
        }
    }

    pub(super) fn docker_layer(&self) -> Verdict {
        let program = self.is_docker_here()?;
        let image = self.dir.join("image.tar");
        self.write_image(&image)?;
        let daemon = self.start_docker(&program)?;
        docker(&["load", "--quiet", "--input", &image.to_string_lossy()])?;
        drop(daemon);
        let store = self.dockers_store()?;
        let layer = self.new_layer(&store, &[])?;
        store.remove(&layer)?;
        store.apply_diff(&layer, None, &mut File::open(&self.base)?)?;
        let _daemon = self.start_docker(&program)?;
        let listed = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?;
        expect(listed.contains(IMAGE), format!("docker image ls shows {listed:?}"))?;
        let saved = self.dir.join("saved.tar");
        docker(&["save", "--output", &saved.to_string_lossy(), IMAGE])?;
        let version = docker(&["version", "--format", "{{.Server.Version}}"])?;
        Ok(format!("Docker {} lists it, and saves {} bytes", version.trim(), fs::metadata(saved)?.len()))
    }

    pub(super) fn docker_container(&self) -> Verdict {
        let program = self.is_docker_here()?;
        let known = self.dockers_store()?.layers()?;
        let [base] = &known[..] else {
            return Err("row \"docker layer\" has left no layer".into());
        };
        let daemon = self.start_docker(&program)?;
        docker(&["create", "--name", CONTAINER, "--network", "none", "--isolation", "process", IMAGE])?;
        drop(daemon);
        let store = self.dockers_store()?;
        let sandbox = self.new_layer(&store, &known)?;
        store.remove(&sandbox)?;
        store.create_read_write(&sandbox, Some(base), StorageOptions { size: Some(SIZE) }, "")?;
        let _daemon = self.start_docker(&program)?;
        let printed = docker(&["start", "--attach", CONTAINER])?;
        expect(printed.contains("Windows"), format!("the container prints {printed:?}"))?;
        // Docker makes a template VM from the layer's utility VM.
        let isolated = docker(&["run", "--rm", "--network", "none", "--isolation", "hyperv", IMAGE])
            .map_or_else(
                |error| format!("does not run: {error}"),
                |text| format!("prints {:?}", text.trim()),
            );
        docker(&["rm", CONTAINER])?;
        docker(&["image", "rm", IMAGE])?;
        let left = store.layers()?;
        expect(left.is_empty(), format!("Docker leaves {} layers of ours", left.len()))?;
        Ok(format!("prints {:?}; isolated by Hyper-V it {isolated}; Docker removes both", printed.trim()))
    }
}
