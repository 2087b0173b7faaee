//! A registry on the loopback interface, plain HTTP.

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::containerd::daemon::Daemon;

use super::images::Image;
use super::process::run;
use super::tools;

/// The registry. Dropping it ends it.
pub struct Registry {
    address: String,
    _daemon: Daemon,
}

impl Registry {
    /// Starts one that keeps its data below `dir`, on a port that is free.
    pub fn start(dir: &Path) -> Self {
        let data = dir.join("registry");
        fs::create_dir(&data).unwrap();
        let configuration = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}, fields: {{}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            data.display()
        );
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new(tools::registry());
        command.arg("serve").arg(&configuration);
        let mut daemon = Daemon::start("docker-registry", &mut command, &dir.join("registry.log")).unwrap();
        let address = daemon.wait_until(|log| {
            let port = log.split_once("listening on 127.0.0.1:")?.1;
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("127.0.0.1:{port}"))
        });
        let address = address.unwrap();
        Self { address, _daemon: daemon }
    }

    /// What an image is called here.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}:ltsc2022", self.address)
    }

    /// Puts an image here as `name`, with its index, without containerd.
    pub fn put(&self, image: &Image, name: &str) -> String {
        self.put_layout(&image.layout, &image.reference, name)
    }

    /// Puts the image that an OCI layout calls `reference` here as `name`.
    pub fn put_layout(&self, layout: &Path, reference: &str, name: &str) -> String {
        let name = self.name(name);
        let mut copy = Command::new("skopeo");
        copy.args(["--override-os", "windows", "copy", "--all", "--quiet", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:{reference}", layout.display())).arg(format!("docker://{name}"));
        run(&mut copy).success();
        name
    }
}
