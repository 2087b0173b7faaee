//! Small images made in code, and a store to put them into.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sample_images::SmallLayer;
use serde_json::{Value, json};
use wclayer::filetime::FileTime;
use windowsfilter::{Digest, Driver, LayerId, LayerStore, StorageOptions};
use windowsfilter_image::{Error, ImageStore, ImportOptions, Imported, Source};

pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer tar with `files` (Windows paths below `Files`).
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    SmallLayer::new().at(FileTime::from_unix(1_700_000_000, 0)).files(files).tar()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(data).unwrap();
    gzip.finish().unwrap()
}

pub fn config(os: &str, version: &str, tars: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
    // Spacing, order and an unknown field that must survive.
    format!(
        "{{\"os\": \"{os}\",\n \"os.version\":\"{version}\", \"architecture\":\"amd64\", \"x-vendor\": 1.50, \
         \"created\":\"2024-01-01T00:00:00Z\", \"config\":{{\"Cmd\":[\"cmd\"]}}, \
         \"history\":[{{\"created_by\":\"Apply image\"}}], \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":{}}}}}",
        json!(diff_ids)
    )
    .into_bytes()
}

/// Files of an OCI layout, by name.
#[derive(Clone, Default)]
pub struct Layout {
    pub files: BTreeMap<String, Vec<u8>>,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn blob(&mut self, media_type: &str, data: &[u8]) -> Value {
        let digest = Digest::of(data);
        self.files.insert(format!("blobs/sha256/{}", digest.hex()), data.to_vec());
        json!({ "mediaType": media_type, "digest": digest, "size": data.len() })
    }

    /// Adds an image; `edit` may change its manifest before it is written.
    pub fn image(&mut self, config: &[u8], blobs: &[Vec<u8>], edit: impl FnOnce(&mut Value)) -> &mut Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config);
        let layers: Vec<Value> = blobs.iter().map(|blob| self.blob(OCI_LAYER, blob)).collect();
        let mut manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        edit(&mut manifest);
        let manifest = manifest.to_string();
        let descriptor = self.blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        self.manifests.push(descriptor);
        self.manifests.last_mut().unwrap()
    }

    pub fn complete(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests }).to_string().into_bytes();
        files.insert("index.json".into(), index);
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }

    pub fn write(&self, dir: &Path) {
        for (name, data) in self.complete() {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
    }

    pub fn archive(&self) -> Vec<u8> {
        tar_of(&self.complete())
    }
}

pub fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &**data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Two layers and their config.
pub fn sample() -> (Vec<u8>, Vec<Vec<u8>>) {
    let tars = vec![layer(&[("a.txt", b"base"), ("b.txt", &[7; 70_000])]), layer(&[("A.TXT", b"top")])];
    (config("windows", "10.0.20348.1", &tars), tars)
}

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub store: LayerStore,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LayerStore::open(&dir.path().join("store"), StorageOptions::default()).unwrap();
        Self { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A sandbox of `size` bytes on the sample image, `win:1`, and its mount point.
    pub fn sandbox(&self, size: u64) -> (Imported, LayerId, PathBuf) {
        let (config, tars) = sample();
        let mut layout = Layout::default();
        layout.image(&config, &tars, |_| {});
        layout.write(&self.path("oci"));
        let image = self.import(&self.path("oci"), Some("win:1")).unwrap();
        let sandbox = LayerId::new("box").unwrap();
        let options = StorageOptions { size: Some(size) };
        self.store.create_read_write(&sandbox, Some(&image.top), options, "").unwrap();
        let view = self.store.mount(&sandbox, None).unwrap();
        (image, sandbox, view)
    }

    pub fn images(&self) -> ImageStore {
        ImageStore::open(self.store.clone()).unwrap()
    }

    pub fn import(&self, path: &Path, name: Option<&str>) -> Result<Imported, Error> {
        self.import_from(Source::Path(path.to_owned()), name, None, false)
    }

    /// Like [`Self::import`], with the image selected by `select`.
    pub fn select(&self, path: &Path, select: &str, name: Option<&str>) -> Result<Imported, Error> {
        self.images().import(ImportOptions {
            select: Some(select.into()),
            reference: name.map(|name| name.parse().unwrap()),
            ..ImportOptions::new(Source::Path(path.to_owned()))
        })
    }

    pub fn import_from(
        &self,
        path: Source<'_>,
        name: Option<&str>,
        platform: Option<&str>,
        force: bool,
    ) -> Result<Imported, Error> {
        self.images().import(ImportOptions {
            reference: name.map(|name| name.parse().unwrap()),
            platform: platform.map(|platform| platform.parse().unwrap()),
            force,
            ..ImportOptions::new(path)
        })
    }

    /// Imports a layout that must be refused, checks that nothing is left, and returns the error and its
    /// causes.
    pub fn refused(&self, layout: &Layout) -> String {
        let path = self.path("refused.tar");
        fs::write(&path, layout.archive()).unwrap();
        self.refused_at(&path)
    }

    pub fn refused_at(&self, path: &Path) -> String {
        let error = self.import(path, Some("refused")).unwrap_err();
        self.assert_empty();
        chain(&error)
    }

    pub fn assert_empty(&self) {
        assert!(self.store.layers().unwrap().is_empty());
        assert!(self.images().list().unwrap().is_empty());
        assert_eq!(fs::read_dir(self.store.root().join("layers")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(self.store.files().images_dir().join("blobs/sha256")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(self.store.root().join("tmp")).unwrap().count(), 0);
        assert_eq!(self.store.fsck(false).unwrap(), []);
    }
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
