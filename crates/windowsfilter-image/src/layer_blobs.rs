//! The imported blobs of layers, kept beside the tars on request.
//!
//! The store's layers are tars; a blob is a compressed form that only the program that made it can make
//! again byte for byte. `images/layer-blobs/<hex>` are the blobs that layers were imported from; images
//! with the same blob share it. A record names its layers' blobs whether they are kept or not. The next
//! removal or `prune` deletes blobs that no record names.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use windowsfilter::Digest;
use windowsfilter::support::{Hashed, NewFile};

use crate::error::{Error, IoContext};
use crate::oci::Descriptor;
use crate::records::{ImageRecord, ImageStore};
use crate::source::{Container, FoundImage};

/// Blobs copied into the store, still without a name there.
#[derive(Default)]
pub(crate) struct NewBlobs {
    files: Vec<(Digest, NewFile)>,
    /// Notes about blobs that could not be kept.
    pub(crate) notes: Vec<String>,
}

impl ImageStore {
    pub(crate) fn layer_blobs_dir(&self) -> PathBuf {
        self.layers.files().images_dir().join("layer-blobs")
    }

    fn layer_blob_path(&self, digest: &Digest) -> PathBuf {
        self.layer_blobs_dir().join(digest.hex())
    }

    /// The kept blobs, with their sizes.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn layer_blobs(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let dir = self.layer_blobs_dir();
        let mut blobs = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(blobs),
            entries => entries.at("list", &dir)?,
        };
        for entry in entries {
            let entry = entry.at("list", &dir)?;
            let name = entry.file_name();
            // Skip names that are not digests.
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse() else { continue };
            match entry.metadata() {
                Ok(metadata) => blobs.push((digest, metadata.len())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).at("read", &entry.path()),
            }
        }
        blobs.sort();
        Ok(blobs)
    }

    /// Opens a kept blob; `None` if it is not kept, or has another size.
    pub(crate) fn open_layer_blob(&self, digest: &Digest, size: u64) -> Result<Option<File>, Error> {
        let path = self.layer_blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).at("open", &path),
        };
        let actual = file.metadata().at("read", &path)?.len();
        Ok((actual == size).then_some(file))
    }

    /// Whether a kept blob has its digest and size.
    fn is_intact(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let Some(file) = self.open_layer_blob(digest, size)? else { return Ok(false) };
        let (actual, _) =
            Digest::of_reader(self.layers.cancel().reader(file)).at("read", &self.layer_blob_path(digest))?;
        Ok(actual == *digest)
    }

    /// Copies the blobs of an image's layers into the store, except those already there. A blob that is the
    /// plain tar is there with the layer.
    pub(crate) fn copy_layer_blobs(
        &self,
        container: &Container,
        image: &FoundImage,
    ) -> Result<NewBlobs, Error> {
        let mut new = NewBlobs::default();
        let mut seen: HashSet<Digest> = image.diff_ids.iter().map(|diff_id| diff_id.0).collect();
        for layer in &image.layers {
            let Some(descriptor) = &layer.descriptor else { continue };
            if !seen.insert(descriptor.digest) || self.is_intact(&descriptor.digest, descriptor.size)? {
                continue;
            }
            let blob = if layer.is_blob { container.file(&layer.file)? } else { None };
            match blob {
                Some(mut blob) => {
                    new.files.push((descriptor.digest, self.copy(container, descriptor, &mut blob)?));
                }
                None => new.notes.push(format!(
                    "blob {} is not in {}, so it is not kept",
                    descriptor.digest,
                    container.label()
                )),
            }
        }
        Ok(new)
    }

    fn copy(
        &self,
        container: &Container,
        descriptor: &Descriptor,
        blob: &mut impl Read,
    ) -> Result<NewFile, Error> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        self.layers.limits().check_archive(&format!("blob {digest}"), size, size)?;
        let broken = |source| Error::Archive { path: container.label(), source };
        let mut file = self.layers.files().create()?;
        let blob = self.layers.cancel().reader(blob.take(size.saturating_add(1)));
        let mut blob = Hashed::new(blob);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match blob.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => file.write_all(&buffer[..count]).at("write a file in", self.layers.root())?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(broken(e)),
            }
        }
        match blob.finish() {
            (actual, length) if length == size && actual == digest => Ok(file),
            (actual, _) => Err(Error::DamagedBlob { path: container.label(), digest, actual, source: None }),
        }
    }

    /// Gives new blobs their names. The caller holds the images' lock, so that no other process removes
    /// them as unneeded. Returns those that were new.
    pub(crate) fn publish_layer_blobs(&self, new: NewBlobs) -> Result<Vec<Digest>, Error> {
        let mut published = Vec::new();
        if !new.files.is_empty() {
            let dir = self.layer_blobs_dir();
            fs::create_dir_all(&dir).at("create directory", &dir)?;
        }
        for (digest, file) in new.files {
            if let Err(error) = file.persist(&self.layer_blob_path(&digest)) {
                self.give_up_layer_blobs(&published);
                return Err(error.into());
            }
            published.push(digest);
        }
        Ok(published)
    }

    /// Removes the blobs that a failed import has published; what fails here is left to the next `prune`.
    pub(crate) fn give_up_layer_blobs(&self, published: &[Digest]) {
        for digest in published {
            if let Err(error) = self.delete_layer_blob(digest) {
                tracing::warn!("{error}");
            }
        }
    }

    pub(crate) fn delete_layer_blob(&self, digest: &Digest) -> Result<(), Error> {
        Ok(self.layers.files().remove(&self.layer_blob_path(digest))?)
    }

    /// Kept blobs that none of `records` names, with their sizes.
    pub(crate) fn unneeded_layer_blobs(&self, records: &[ImageRecord]) -> Result<Vec<(Digest, u64)>, Error> {
        let sources = records.iter().flat_map(|record| &record.sources);
        let needed: HashSet<Digest> = sources.filter_map(|source| source.digest).collect();
        let mut blobs = self.layer_blobs()?;
        blobs.retain(|(digest, _)| !needed.contains(digest));
        Ok(blobs)
    }

    /// Reads all kept blobs. Returns the damaged ones.
    pub(crate) fn damaged_layer_blobs(&self) -> Result<Vec<(Digest, Error)>, Error> {
        let mut damaged = Vec::new();
        for (digest, size) in self.layer_blobs()? {
            let path = self.layer_blob_path(&digest);
            let Some(file) = self.open_layer_blob(&digest, size)? else { continue };
            let (actual, _) = Digest::of_reader(self.layers.cancel().reader(file)).at("read", &path)?;
            if actual != digest {
                let what = path.display().to_string();
                damaged.push((digest, Error::DigestMismatch { what, expected: digest, actual }));
            }
        }
        Ok(damaged)
    }
}
