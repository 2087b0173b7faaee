//! The image store: names, and the documents behind them.
//!
//! A record ties a reference to a config, a manifest and a chain of layers. Records change under the image
//! store's lock, which is also held from the moment an import's layers become visible until its record is
//! there, so that nobody takes them for layers that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use windowsfilter::support::{StoreLock, sealed};
use windowsfilter::{Digest, LayerId, LayerStore};

use crate::error::{Error, IoContext};
use crate::oci::{Config, MAX_JSON, chain_ids};
use crate::reference::Reference;

/// Version of the records that this code writes and reads.
const VERSION: u32 = 2;
/// Fewest characters of an ID that stand for it.
const MIN_PREFIX: usize = 4;

/// The images of a layer store. As cheap to clone as that.
#[derive(Clone, Debug)]
pub struct ImageStore {
    pub(crate) layers: LayerStore,
    dir: PathBuf,
}

/// What is kept of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What it is called, as it was given.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of its config.
    pub image_id: Digest,
    /// Digest of the manifest it came with; images from `docker save` have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// `os.version` of its config.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
    /// What the manifest said of each layer.
    #[serde(default)]
    pub sources: Vec<SourceLayer>,
}

/// What a manifest said of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLayer {
    /// Its media type, if there was a manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The digest of the blob that it came as, whether that is kept or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The blob's bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Where else it can be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ImageRecord {
    pub(crate) fn new(
        reference: &Reference,
        image_id: Digest,
        manifest: Option<Digest>,
        config: &Config,
        sources: Vec<SourceLayer>,
    ) -> Result<Self, Error> {
        Ok(Self {
            reference: reference.as_str().to_owned(),
            image_id,
            manifest,
            os_version: config.platform.os_version.clone(),
            layers: chain_ids(&config.rootfs.diff_ids)?,
            sources,
        })
    }

    /// Whether it came with the manifest `digest` and is in the repository of `reference`, whose tag says
    /// nothing beside a digest.
    fn is_manifest_of(&self, reference: &Reference, digest: &Digest) -> bool {
        self.manifest.as_ref() == Some(digest)
            && Reference::of_record(&self.reference)
                .is_ok_and(|own| own.repository() == reference.repository())
    }

    /// The topmost layer.
    pub fn top(&self) -> Option<&LayerId> {
        self.layers.last()
    }
}

/// An image that was imported or committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// What it is called: the first of its names.
    #[serde(rename = "ref")]
    pub reference: String,
    /// All names that it was given.
    #[serde(rename = "refs")]
    pub references: Vec<String>,
    /// Digest of its config.
    pub image_id: Digest,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
    /// The topmost of them.
    pub top: LayerId,
    /// What the views do not show of layers that came into the store with it.
    pub notes: Vec<String>,
}

impl ImageStore {
    /// Opens the images of `layers`; creates its directories where they are missing. A store that cannot be
    /// written has no images then.
    ///
    /// # Errors
    /// When they cannot be created.
    pub fn open(layers: LayerStore) -> Result<Self, Error> {
        let store = Self { dir: layers.files().images_dir(), layers };
        for dir in [store.blobs_dir(), store.refs_dir()] {
            match fs::create_dir_all(&dir) {
                Err(e) if cannot_write(&e) => {}
                other => other.at("create directory", &dir)?,
            }
        }
        Ok(store)
    }

    pub(crate) fn blobs_dir(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn refs_dir(&self) -> PathBuf {
        self.dir.join("refs")
    }

    /// Held while records, or layers that records may need, change. Layers' own locks come after it.
    pub(crate) fn lock(&self) -> Result<StoreLock, Error> {
        Ok(self.layers.files().lock_file(&self.dir.join("lock"), "the images")?)
    }

    /// Held while an import reads layers; taken before any other lock.
    pub(crate) fn import_lock(&self) -> Result<StoreLock, Error> {
        Ok(self.layers.files().lock_file(&self.dir.join("import.lock"), "an import")?)
    }

    /// All records, by reference.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn records(&self) -> Result<Vec<ImageRecord>, Error> {
        let names = self.record_names()?;
        let mut records = Vec::new();
        for name in &names {
            match self.read_record(name) {
                Ok(record) => records.push(record),
                // Somebody removed it since the names were listed.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        records.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(records)
    }

    /// The record of `reference`.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], a damaged record.
    pub fn get(&self, reference: &Reference) -> Result<ImageRecord, Error> {
        for name in reference.file_names() {
            match self.read_record(&name) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Err(Error::NoSuchImage { text: reference.to_string() })
    }

    /// The image that `text` means: a reference, a name with the digest of the manifest it came with, or the
    /// first 4 or more digits of an image ID.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousImage`].
    pub fn lookup(&self, text: &str) -> Result<ImageRecord, Error> {
        Ok(self.names_of(text)?.swap_remove(0))
    }

    /// As [`Self::lookup`], for what is done to a name and not to the image: an ID of several names means
    /// none of them.
    pub(crate) fn only_name(&self, text: &str) -> Result<ImageRecord, Error> {
        let mut records = self.names_of(text)?;
        if records.len() > 1 {
            let names = records.into_iter().map(|record| record.reference).collect();
            return Err(Error::SeveralNames { text: text.to_owned(), names });
        }
        Ok(records.swap_remove(0))
    }

    /// The one record of a reference, or those of all names of an image ID; at least one.
    fn names_of(&self, text: &str) -> Result<Vec<ImageRecord>, Error> {
        if let Ok(reference) = Reference::of_record(text) {
            match self.get(&reference) {
                Err(Error::NoSuchImage { .. }) => {}
                result => return Ok(vec![result?]),
            }
        }
        let missing = || Error::NoSuchImage { text: text.to_owned() };
        if let Ok(reference) = Reference::of_record(text)
            && let Some(digest) = reference.digest()
        {
            let mut matches = self.records()?;
            matches.retain(|record| record.is_manifest_of(&reference, &digest));
            return if matches.is_empty() { Err(missing()) } else { Ok(matches) };
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() < MIN_PREFIX {
            return Err(missing());
        }
        let mut matches = self.records()?;
        matches.retain(|record| record.image_id.hex().starts_with(digits));
        let ids: BTreeSet<String> = matches.iter().map(|record| record.image_id.hex()).collect();
        match ids.len() {
            0 => Err(missing()),
            1 => Ok(matches),
            _ => Err(Error::AmbiguousImage { prefix: text.to_owned(), matches: ids.into_iter().collect() }),
        }
    }

    /// The topmost layer of the image, or the layer or sandbox, that `text` means.
    ///
    /// # Errors
    /// Nothing, or several things, are called so.
    pub fn resolve(&self, text: &str) -> Result<LayerId, Error> {
        match self.lookup(text) {
            Ok(record) => record.top().cloned().ok_or_else(|| damaged(&record.reference, "it has no layers")),
            Err(Error::NoSuchImage { .. }) => self.layers.find(text).map_err(|error| match error {
                windowsfilter::Error::NoSuchLayer { .. } | windowsfilter::Error::InvalidId { .. } => {
                    Error::Nothing { text: text.to_owned() }
                }
                other => other.into(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Gives the image `text` another name as well. A name in use moves.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn tag(&self, text: &str, new: &Reference) -> Result<(), Error> {
        let _lock = self.lock()?;
        let record = self.lookup(text)?;
        self.write_record(new, &ImageRecord { reference: new.as_str().to_owned(), ..record })
    }

    /// The config of an image: read, and as it came.
    pub(crate) fn config(&self, record: &ImageRecord) -> Result<(Config, Vec<u8>), Error> {
        let bytes = self.blob(&record.image_id)?;
        let config = Config::parse(&bytes)?;
        if chain_ids(&config.rootfs.diff_ids)? != record.layers {
            return Err(damaged(&record.reference, "its layers are not those of its config"));
        }
        Ok((config, bytes))
    }

    /// A config or manifest.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.blobs_dir().join(digest.hex());
        let bytes = fs::read(&path).at("read", &path)?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::DigestMismatch {
                what: path.display().to_string(),
                expected: *digest,
                actual,
            });
        }
        Ok(bytes)
    }

    pub(crate) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.layers.files().write(&self.blobs_dir().join(digest.hex()), bytes)?)
    }

    /// Writes a config that was made here, and returns its digest.
    pub(crate) fn write_config(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let actual = bytes.len() as u64;
        if actual > MAX_JSON {
            let what = "the new image's config".to_owned();
            return Err(Error::TooLong { what, actual, limit: MAX_JSON });
        }
        let digest = Digest::of(bytes);
        self.write_blob(&digest, bytes)?;
        Ok(digest)
    }

    pub(crate) fn delete_blob(&self, digest: &Digest) -> Result<(), Error> {
        Ok(self.layers.files().remove(&self.blobs_dir().join(digest.hex()))?)
    }

    pub(crate) fn write_record(&self, reference: &Reference, record: &ImageRecord) -> Result<(), Error> {
        let text = sealed::seal(VERSION, record).expect("a record has string keys and finite numbers");
        let own = reference.file_name();
        self.layers.files().write(&self.refs_dir().join(&own), &text)?;
        self.forget_other_spellings(reference, &own);
        Ok(())
    }

    /// Writes the records of one image's names: all of them or none.
    pub(crate) fn write_records(&self, records: &[ImageRecord]) -> Result<(), Error> {
        let mut written = Vec::new();
        for record in records {
            let reference = Reference::of_record(&record.reference)?;
            let before = match self.get(&reference) {
                Ok(before) => Some(before),
                Err(Error::NoSuchImage { .. }) => None,
                // A damaged one is replaced, and cannot be put back.
                Err(_) => None,
            };
            if let Err(error) = self.write_record(&reference, record) {
                self.put_back(written);
                return Err(error);
            }
            written.push((reference, record, before));
        }
        Ok(())
    }

    fn put_back(&self, written: Vec<(Reference, &ImageRecord, Option<ImageRecord>)>) {
        for (reference, record, before) in written {
            let undone = match before {
                Some(before) => self.write_record(&reference, &before),
                None => self.delete_record(record),
            };
            if let Err(error) = undone {
                tracing::warn!("the record of {reference} stays as it is now: {error}");
            }
        }
    }

    /// The name moves from whatever an earlier version recorded under another spelling of it. Its record is
    /// written by now: that an old one stays takes nothing back, and must not have the layers of the new one
    /// removed.
    fn forget_other_spellings(&self, reference: &Reference, own: &str) {
        for name in reference.file_names().iter().filter(|name| *name != own) {
            let path = self.refs_dir().join(name);
            if path.exists()
                && let Err(error) = self.layers.files().remove(&path)
            {
                tracing::warn!("an earlier record of {reference} stays: {error}");
            }
        }
    }

    pub(crate) fn delete_record(&self, record: &ImageRecord) -> Result<(), Error> {
        for name in Reference::of_record(&record.reference)?.file_names() {
            if self.read_record(&name).is_ok_and(|found| found == *record) {
                self.layers.files().remove(&self.refs_dir().join(name))?;
            }
        }
        Ok(())
    }

    pub(crate) fn record_names(&self) -> Result<Vec<String>, Error> {
        let dir = self.refs_dir();
        let mut names = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(names),
            other => other.at("list", &dir)?,
        };
        for entry in entries {
            let name = entry.at("list", &dir)?.file_name().to_string_lossy().into_owned();
            // Others are not ours.
            if name.ends_with(".json") && !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn read_record(&self, name: &str) -> Result<ImageRecord, Error> {
        let path = self.refs_dir().join(name);
        let bytes = fs::read(&path).at("read", &path)?;
        let record: ImageRecord =
            sealed::unseal(VERSION, &bytes).map_err(|e| damaged(name, &e.to_string()))?;
        if !Reference::of_record(&record.reference)?.file_names().iter().any(|own| own == name) {
            return Err(damaged(name, "it is another image's"));
        }
        Ok(record)
    }
}

/// Whether somebody who only wants to read can still do so.
fn cannot_write(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied)
}

pub(crate) fn damaged(reference: &str, reason: &str) -> Error {
    Error::DamagedRecord { reference: reference.to_owned(), reason: reason.to_owned() }
}
