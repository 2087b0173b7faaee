//! Layers, images and stores for tests of the command.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries, of which each uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sample_images::SmallLayer;
use serde_json::{Value, json};
use wclayer::filetime::FileTime;
use windowsfilter::Digest;

/// Nothing yet; everything in it is made at the time that the tests expect.
pub fn small_layer() -> SmallLayer {
    SmallLayer::new().at(FileTime(132_434_736_000_000_001))
}

/// A layer of files in `C:\`, each with this content.
pub fn layer(names: &[&str], content: &[u8]) -> Vec<u8> {
    let files: Vec<_> = names.iter().map(|name| (*name, content)).collect();
    small_layer().files(&files).tar()
}

/// A layer with a file that has streams, one whose name is no text for every byte of `odd`, a directory with
/// a stream, and an area beside `Files`.
pub fn rich_layer(odd: &[u8]) -> Vec<u8> {
    let streams = small_layer()
        .dir("Files")
        .dir("Files/dir")
        .stream("note", b"of a directory")
        .file("Files/dir/file.txt", b"content")
        .stream("Zone.Identifier", b"ZoneId=3\r\n")
        .stream("more", &[7; 100_000]);
    let odd =
        odd.iter().fold(streams, |layer, byte| layer.file([b"Files/dir/odd", &[*byte][..]].concat(), b"x"));
    odd.dir("Hives").file("Hives/Software_Delta", b"hive").tar()
}

/// Writes an image with these layers as an OCI layout.
pub fn write_image(dir: &Path, tars: &[Vec<u8>]) {
    write_image_with(dir, tars, json!({}));
}

/// The same, with more in the image's config.
pub fn write_image_with(dir: &Path, tars: &[Vec<u8>], more: Value) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, data: &[u8]| {
        let digest = Digest::of(data);
        fs::write(blobs.join(digest.hex()), data).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": data.len() })
    };
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let mut config = json!({
        "os": "windows",
        "os.version": "10.0.20348.1",
        "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers: Vec<Value> =
        tars.iter().map(|tar| blob("application/vnd.oci.image.layer.v1.tar", tar)).collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
    let manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string();
    fs::write(dir.join("index.json"), index).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A store in a directory of its own.
pub struct Store {
    pub dir: tempfile::TempDir,
}

impl Store {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path of a layer's file.
    pub fn layer_file(&self, id: &str, name: &str) -> PathBuf {
        self.path("store/layers").join(id).join(name)
    }

    /// Imports an image of two layers that no other image has; the answer is their IDs, base first.
    pub fn import(&self, reference: &str) -> Vec<String> {
        let dir = self.path(&format!("image-{}", reference.replace(':', "-")));
        let tars = ["base", "top"].map(|name| layer(&[name], format!("{name} of {reference}").as_bytes()));
        write_image(&dir, &tars);
        let imported = self.json(&["image", "import", dir.to_str().unwrap(), "--ref", reference]);
        let ids = imported["layers"].as_array().unwrap();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Applies a layer of one file without parents.
    pub fn apply(&self, id: &str) {
        let tar = self.path(&format!("{id}.tar"));
        fs::write(&tar, layer(&["file.txt"], &[7; 100_000])).unwrap();
        self.text(&["layer", "apply", id, tar.to_str().unwrap()]);
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
        command.arg("--root").arg(self.path("store")).args(args).current_dir(self.dir.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let args = [&["--json"], args].concat();
        serde_json::from_str(&self.text(&args)).unwrap()
    }

    /// The exit code of a command, and what it said.
    pub fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// The references of all images.
    pub fn images(&self) -> Vec<String> {
        let images = self.json(&["image", "ls"]);
        let names = images.as_array().unwrap().iter().map(|image| image["ref"].as_str().unwrap().to_owned());
        names.collect()
    }
}
