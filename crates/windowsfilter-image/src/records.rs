//! The image store: names, and the documents they refer to.
//!
//! A record maps a reference to a config, a manifest and a chain of layers. The image store's lock protects
//! records, and an import holds it from publishing its layers until the record is written, so that no other
//! process removes these layers as unneeded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use windowsfilter::support::{StoreLock, sealed};
use windowsfilter::{Digest, LayerId, LayerStore};

use crate::error::{Error, IoContext};
use crate::oci::{Config, chain_ids};
use crate::reference::Reference;

/// Version of the record format.
const VERSION: u32 = 2;
/// Fewest digits that abbreviate an ID.
const MIN_PREFIX: usize = 4;

/// The images of a layer store. As cheap to clone as a [`LayerStore`].
#[derive(Clone, Debug)]
pub struct ImageStore {
    pub(crate) layers: LayerStore,
    dir: PathBuf,
}

/// The record of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its name, as the user wrote it.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of its config.
    pub image_id: Digest,
    /// Digest of the manifest it was imported with; images from `docker save` have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// `os.version` of its config.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
    /// Each layer's descriptor in the manifest.
    #[serde(default)]
    pub sources: Vec<SourceLayer>,
}

/// A layer's descriptor in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLayer {
    /// Its media type, if there was a manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Digest of the imported blob, kept or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The blob's bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Other places to download it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Other annotations.
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

    /// Whether the image was imported with the manifest `digest` and is in the repository of `reference`,
    /// whose tag does not matter beside a digest.
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

/// An imported or committed image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Its first name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// All its names.
    #[serde(rename = "refs")]
    pub references: Vec<String>,
    /// Digest of its config.
    pub image_id: Digest,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
    /// The topmost of them.
    pub top: LayerId,
    /// Notes for the user: what views do not show of new layers, attributes that a commit left out, what is
    /// odd about an edited config.
    pub notes: Vec<String>,
}

impl ImageStore {
    /// Opens the images of `layers`; creates missing directories. A read-only store without them has no
    /// images.
    ///
    /// # Errors
    /// The directories cannot be created.
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

    /// Protects records, and the layers that records may need. Taken before any layer's lock.
    pub(crate) fn lock(&self) -> Result<StoreLock, Error> {
        Ok(self.layers.files().lock_file(&self.dir.join("lock"), "the images")?)
    }

    /// Held while an import reads layers; taken before all other locks.
    pub(crate) fn import_lock(&self) -> Result<StoreLock, Error> {
        Ok(self.layers.files().lock_file(&self.dir.join("import.lock"), "an import")?)
    }

    /// All records, by reference.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn records(&self) -> Result<Vec<ImageRecord>, Error> {
        let names = self.record_names()?;
        let mut records = Vec::new();
        for name in &names {
            match self.read_record(name) {
                Ok(record) => records.push(record),
                // Removed since the names were listed.
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
    /// [`Error::NoSuchImage`]; a damaged record.
    pub fn get(&self, reference: &Reference) -> Result<ImageRecord, Error> {
        for name in reference.file_names() {
            match self.read_record(&name) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Err(Error::NoSuchImage { text: reference.to_string() })
    }

    /// Finds the image `text`: a reference, a name with the digest of its manifest, or at least 4 leading
    /// digits of an image ID.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousImage`].
    pub fn lookup(&self, text: &str) -> Result<ImageRecord, Error> {
        Ok(self.names_of(text)?.swap_remove(0))
    }

    /// Like [`Self::lookup`], for operations on a name, not on the image: an ID with several names is an
    /// error.
    pub(crate) fn only_name(&self, text: &str) -> Result<ImageRecord, Error> {
        let mut records = self.names_of(text)?;
        if records.len() > 1 {
            let names = records.into_iter().map(|record| record.reference).collect();
            return Err(Error::SeveralNames { text: text.to_owned(), names });
        }
        Ok(records.swap_remove(0))
    }

    /// The record of a reference, or the records of all names of an image ID; at least one.
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

    /// The topmost layer of the image `text`, or the layer or sandbox `text`.
    ///
    /// # Errors
    /// No match, or several.
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

    /// Gives the image `text` an additional name. A name in use moves to it.
    ///
    /// # Errors
    /// [`Error::DigestReference`]; those of [`Self::lookup`].
    pub fn tag(&self, text: &str, new: &Reference) -> Result<(), Error> {
        new.check_new()?;
        let _lock = self.lock()?;
        let record = self.lookup(text)?;
        self.write_record(new, &ImageRecord { reference: new.as_str().to_owned(), ..record })
    }

    /// An image's config, parsed and as bytes.
    pub(crate) fn config(&self, record: &ImageRecord) -> Result<(Config, Vec<u8>), Error> {
        let bytes = self.blob(&record.image_id)?;
        let config = Config::parse(&bytes)?;
        if chain_ids(&config.rootfs.diff_ids)? != record.layers {
            return Err(damaged(&record.reference, "its layers are not those of its config"));
        }
        Ok((config, bytes))
    }

    /// Reads a config or manifest.
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

    /// Writes the records of an image's names: all or none.
    pub(crate) fn write_records(&self, records: &[ImageRecord]) -> Result<(), Error> {
        let mut written = Vec::new();
        for record in records {
            let reference = Reference::of_record(&record.reference)?;
            let before = match self.get(&reference) {
                Ok(before) => Some(before),
                Err(Error::NoSuchImage { .. }) => None,
                // A damaged record is replaced; it cannot be restored on failure.
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

    /// Removes records of this name that an earlier version wrote under other spellings. The new record is
    /// written by now, so a failure here must not undo the import, which would remove its layers.
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
            // Skip foreign files.
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

/// Whether the error only prevents writing, not reading.
fn cannot_write(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied)
}

pub(crate) fn damaged(reference: &str, reason: &str) -> Error {
    Error::DamagedRecord { reference: reference.to_owned(), reason: reason.to_owned() }
}
