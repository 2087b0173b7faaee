//! Images to feed to containerd, and images made of what containerd gives back.

use std::fs;
use std::path::{Path, PathBuf};

use sample_images::{Format, Spec, Summary};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Media types of a layer that is not compressed, and of the two compressions.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// An image as an OCI archive.
pub struct Image {
    pub reference: String,
    pub layout: PathBuf,
    pub archive: PathBuf,
    /// Digests of the layers' tars, base first.
    pub diff_ids: Vec<String>,
}

impl Image {
    /// A sample of about `entries` entries in `layers` layers. The same arguments give the same bytes.
    pub fn sample(dir: &Path, name: &str, entries: usize, layers: usize) -> Self {
        let layout = dir.join(name);
        let spec = Spec {
            entries,
            bytes: entries as u64 * 4000,
            layers,
            format: Format::Oci,
            reference: reference(name),
            ..Spec::default()
        };
        let Summary { layers, .. } = sample_images::write(&spec, &layout).unwrap();
        Self::of_layout(layout, name, layers.into_iter().map(|layer| layer.digests.diff_id).collect())
    }

    fn of_layout(layout: PathBuf, name: &str, diff_ids: Vec<String>) -> Self {
        let archive = layout.with_extension("tar");
        archive_of(&layout, &archive);
        Self { reference: reference(name), layout, archive, diff_ids }
    }

    /// A Linux image of one layer with one file.
    pub fn linux(dir: &Path, name: &str) -> Self {
        let layout = dir.join(name);
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let layer = one_file_layer("file.txt", b"linux");
        let diff_id = digest(&layer);
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let config = put(&layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers = [put(&layout, TAR, &layer)];
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        let mut manifest = put(&layout, "application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": reference(name)});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self::of_layout(layout, name, vec![diff_id])
    }

    /// This image and one layer more: what a client makes of a diff when it commits a container.
    pub fn with_layer(&self, name: &str, blob: &[u8], media_type: &str, diff_id: &str) -> Self {
        let layout = self.layout.with_file_name(name);
        copy_tree(&self.layout, &layout);
        let read = |digest: &str| json_of(&blob_path(&layout, digest));
        let mut index = json_of(&layout.join("index.json"));
        let mut manifest = read(index["manifests"][0]["digest"].as_str().unwrap());
        let mut config = read(manifest["config"]["digest"].as_str().unwrap());
        push(&mut rootfs(&mut config)["diff_ids"], json!(diff_id));
        push(&mut config["history"], json!({"created": "2024-01-01T00:00:00Z", "created_by": "test"}));
        let put = |media_type: &str, bytes: &[u8]| put(&layout, media_type, bytes);
        let media_type_of = |value: &Value| value["mediaType"].as_str().unwrap().to_owned();
        manifest["config"] = put(&media_type_of(&manifest["config"]), config.to_string().as_bytes());
        push(&mut manifest["layers"], put(media_type, blob));
        let descriptor = put(&media_type_of(&index["manifests"][0]), manifest.to_string().as_bytes());
        for field in ["digest", "size"] {
            index["manifests"][0][field] = descriptor[field].clone();
        }
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = json!(reference(name));
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        let diff_ids = [self.diff_ids.clone(), vec![diff_id.to_owned()]].concat();
        Self::of_layout(layout, name, diff_ids)
    }

    /// The names that containerd gives the layers' snapshots, base first. Source: OCI image specification,
    /// "Layer ChainID".
    pub fn chain_ids(&self) -> Vec<String> {
        let mut chain: Vec<String> = Vec::new();
        for diff_id in &self.diff_ids {
            let next = match chain.last() {
                None => diff_id.clone(),
                Some(below) => digest(format!("{below} {diff_id}").as_bytes()),
            };
            chain.push(next);
        }
        chain
    }

    /// The snapshot that stands for the whole image.
    pub fn top(&self) -> String {
        self.chain_ids().pop().unwrap()
    }
}

fn reference(name: &str) -> String {
    format!("registry.example/{name}:ltsc2022")
}

/// SHA-256 as registries write it.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

/// Writes a blob and returns its descriptor.
fn put(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    fs::write(blob_path(layout, &digest), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// A tar with one file and, for a Windows layer, nothing that says what Windows knows of it.
pub fn one_file_layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// One of the samples spells it `rootfS`, as Microsoft's base images do.
fn rootfs(config: &mut Value) -> &mut Value {
    let mut members = config.as_object_mut().unwrap().iter_mut();
    members.find(|(key, _)| key.eq_ignore_ascii_case("rootfs")).unwrap().1
}

fn push(list: &mut Value, value: Value) {
    list.as_array_mut().unwrap().push(value);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn archive_of(layout: &Path, archive: &Path) {
    let mut tar = tar::Builder::new(fs::File::create(archive).unwrap());
    tar.append_dir_all(".", layout).unwrap();
    tar.finish().unwrap();
}
