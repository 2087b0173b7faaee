//! A synthetic home of Docker's `windowsfilter`: small versions of the files that moby's `windows.go` and
//! `layer/filestore.go` write.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use programs::error::{Error, IoContext as _, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Docker's data root.
#[derive(Debug)]
pub struct Home {
    /// Its path.
    pub root: PathBuf,
    repositories: Value,
}

/// 64 hex digits derived from a word: an ID of a layer, a container or a diff.
#[must_use]
pub fn id(word: &str) -> String {
    hex::encode(Sha256::digest(word.as_bytes()))
}

/// The hex digits of these diffs' chain IDs, base first.
#[must_use]
pub fn chain(diffs: &[&str]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff in diffs {
        let next = match chain.last() {
            None => id(diff),
            Some(below) => id(&format!("sha256:{below} sha256:{}", id(diff))),
        };
        chain.push(next);
    }
    chain
}

/// Writes [`Home::sample`].
///
/// # Errors
/// If it exists or cannot be written.
pub fn write(out: &Path) -> Result<()> {
    if out.exists() {
        return Err(Error::Unexpected(format!("{} is there already", out.display())));
    }
    Home::sample(out).map(drop).at(out)
}

fn put(path: PathBuf, content: impl AsRef<[u8]>) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(path, content)
}

impl Home {
    /// Creates an empty one in `root`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(root: &Path) -> io::Result<Self> {
        let home = Self { root: root.to_owned(), repositories: json!({}) };
        for dir in ["layerdb/sha256", "layerdb/mounts", "imagedb/content/sha256"] {
            fs::create_dir_all(home.image_dir().join(dir))?;
        }
        fs::create_dir_all(root.join("windowsfilter"))?;
        Ok(home)
    }

    /// The directory of Docker's images and layerdb.
    #[must_use]
    pub fn image_dir(&self) -> PathBuf {
        self.root.join("image/windowsfilter")
    }

    /// The directory of the layer or sandbox `name`.
    #[must_use]
    pub fn dir(&self, name: &str) -> PathBuf {
        self.root.join("windowsfilter").join(name)
    }

    /// `layerchain.json`: absolute paths of the parents on the machine that wrote it, nearest first.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn parents(&self, name: &str, parents: &[&str]) -> io::Result<()> {
        let path = |parent: &&str| format!(r"C:\ProgramData\docker\windowsfilter\{parent}");
        let chain: Vec<String> = parents.iter().map(path).collect();
        put(self.dir(name).join("layerchain.json"), wclayer::layer_chain::write(&chain))
    }

    /// A layer with one file of `bytes` bytes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn layer(&self, name: &str, parents: &[&str], bytes: usize) -> io::Result<()> {
        put(self.dir(name).join("Files/data.bin"), vec![1; bytes])?;
        self.parents(name, parents)
    }

    /// A container's layer, with a disk of `bytes` bytes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn sandbox(&self, name: &str, parents: &[&str], bytes: usize) -> io::Result<()> {
        put(self.dir(name).join("sandbox.vhdx"), vec![1; bytes])?;
        self.parents(name, parents)
    }

    /// An entry of layerdb; `name` is its chain ID, with the suffix that Docker adds while it removes it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&self, name: &str, cache_id: &str, parent: Option<&str>) -> io::Result<()> {
        let dir = self.image_dir().join("layerdb/sha256").join(name);
        put(dir.join("cache-id"), cache_id)?;
        match parent {
            None => Ok(()),
            Some(parent) => put(dir.join("parent"), format!("sha256:{parent}")),
        }
    }

    /// An image of these diffs, base first, with an entry of layerdb for each; directories have the names
    /// of the diffs.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn image(&mut self, name: Option<&str>, diffs: &[&str]) -> io::Result<String> {
        let chain = chain(diffs);
        for (i, diff) in diffs.iter().enumerate() {
            let parent = i.checked_sub(1).map(|below| chain[below].as_str());
            self.record(&chain[i], &id(&format!("dir {diff}")), parent)?;
        }
        let diff_ids: Vec<String> = diffs.iter().map(|diff| format!("sha256:{}", id(diff))).collect();
        let config =
            json!({ "os": "windows", "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
        let image = id(&config);
        put(self.image_dir().join("imagedb/content/sha256").join(&image), &config)?;
        if let Some(name) = name {
            let repository = name.split([':', '@']).next().unwrap_or(name);
            self.repositories[repository][name] = json!(format!("sha256:{image}"));
            let text = json!({ "Repositories": self.repositories }).to_string();
            put(self.image_dir().join("repositories.json"), text)?;
        }
        Ok(image)
    }

    /// A container's entry of layerdb.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn mount(&self, container: &str, mount_id: &str, parent: &str) -> io::Result<()> {
        let dir = self.image_dir().join("layerdb/mounts").join(container);
        put(dir.join("mount-id"), mount_id)?;
        put(dir.join("parent"), format!("sha256:{parent}"))
    }

    /// An image of two layers with a container, and one of every kind of leftover that Docker is known for.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn sample(root: &Path) -> io::Result<Self> {
        let mut home = Self::new(root)?;
        let dir = |word: &str| id(&format!("dir {word}"));
        let (base, app) = (dir("base"), dir("app"));
        home.layer(&base, &[], 900_000)?;
        home.layer(&app, &[&base], 70_000)?;
        home.image(Some("app:1.0"), &["base", "app"])?;
        home.sandbox(&dir("box"), &[&app, &base], 300_000)?;
        home.mount(&id("container"), &dir("box"), &chain(&["base", "app"])[1])?;
        // An abandoned build, with a layer on top of it.
        home.layer(&dir("build"), &[&base], 200_000)?;
        home.layer(&dir("build on build"), &[&dir("build"), &base], 100_000)?;
        // A removed image that left an entry of layerdb.
        home.layer(&dir("old"), &[], 400_000)?;
        home.record(&id("old"), &dir("old"), None)?;
        // Half-removed layers.
        home.layer(&format!("{}-removing", dir("gone")), &[&base], 150_000)?;
        put(home.dir(&dir("cut")).join("Files/data.bin"), vec![1; 50_000])?;
        home.record(&id("lost"), &dir("lost"), None)?;
        Ok(home)
    }
}
