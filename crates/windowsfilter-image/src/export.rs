//! Export: writes an image for other tools.
//!
//! All three formats are one OCI layout: a directory, a tar of it, or a tar of it with Docker's
//! `manifest.json` beside it, as `docker save` writes since Docker 25. The export has the same bytes as the
//! import: always the config, a layer's blob if it is kept or is the plain tar, and the manifest if all
//! layers' blobs are unchanged. Other layers are compressed again, and reported. Foreign layers stay
//! foreign, with their urls, unless the options say otherwise. Layers are checked against their diffIDs on
//! the way. The same image gives the same bytes.

mod compression;
mod index;
mod layers;
mod manifest;
mod sink;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use windowsfilter::{Digest, LayerId};

use crate::error::Error;
use crate::import::ImageProgress;
use crate::records::{ImageRecord, ImageStore};
pub use compression::Compression;
use sink::Sink;

/// Formats of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout directory.
    #[default]
    Oci,
    /// A tar of it.
    OciArchive,
    /// The same with a `manifest.json`, for `docker load`.
    DockerArchive,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" => Ok(Self::Oci),
            "oci-archive" => Ok(Self::OciArchive),
            "docker-archive" => Ok(Self::DockerArchive),
            _ => Err(format!("{text:?} is none of oci, oci-archive, docker-archive")),
        }
    }
}

/// What to write, and how.
pub struct ExportOptions<'a> {
    /// The form of the whole.
    pub format: Format,
    /// Compression of layers; `None`: as imported, and gzip for layers that came in no blob.
    pub compression: Option<Compression>,
    /// Turns foreign (nondistributable) layers into ordinary ones: loading the image then needs no
    /// download, and pushing it publishes these layers. Otherwise a foreign layer without a blob in the
    /// store is left out of an OCI layout, whose manifest says where to fetch it.
    pub include_nondistributable: bool,
    /// Receives progress.
    pub progress: &'a dyn ImageProgress,
}

impl Default for ExportOptions<'_> {
    fn default() -> Self {
        Self { format: Format::default(), compression: None, include_nondistributable: false, progress: &() }
    }
}

/// The result of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Its path.
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    pub path: PathBuf,
    /// Layers whose blob differs from the imported one, which is not kept or has another compression.
    pub recompressed: Vec<LayerId>,
    /// Foreign layers that the export names but does not contain.
    pub left_out: Vec<LayerId>,
}

impl ImageStore {
    /// Writes the image `text` to `path`, which must not exist; it appears there once it is complete.
    ///
    /// # Errors
    /// [`Error::Exists`]; a damaged layer; a full disk.
    pub fn export(&self, text: &str, path: &Path, options: &ExportOptions<'_>) -> Result<Exported, Error> {
        let record = self.lookup(text)?;
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let mut sink = Sink::create(path, options.format, self.layers.cancel())?;
        let exported = self.write_image(&mut sink, &record, options)?;
        sink.finish(path)?;
        Ok(Exported { path: path.to_owned(), ..exported })
    }

    /// Writes the image `text` as an archive to `out`. After an error the archive is unusable.
    ///
    /// # Errors
    /// [`Error::DirectoryFormat`]; a damaged layer; errors of `out`.
    pub fn export_to(
        &self,
        text: &str,
        out: &mut dyn Write,
        options: &ExportOptions<'_>,
    ) -> Result<Exported, Error> {
        if options.format == Format::Oci {
            return Err(Error::DirectoryFormat);
        }
        let record = self.lookup(text)?;
        let mut sink = Sink::stream(out, self.layers.cancel())?;
        let exported = self.write_image(&mut sink, &record, options)?;
        sink.finish(Path::new("-"))?;
        Ok(exported)
    }

    fn write_image(
        &self,
        sink: &mut Sink<'_>,
        record: &ImageRecord,
        options: &ExportOptions<'_>,
    ) -> Result<Exported, Error> {
        let (config, bytes) = self.config(record)?;
        let stored = self.stored_manifest(record)?;
        options.progress.layers(&record.layers);
        let mut layers = Vec::new();
        for (i, (id, diff_id)) in record.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
            let came = layers::Came::of(record, stored.as_ref(), i);
            layers.push(self.export_layer(sink, id, *diff_id, came, options)?);
        }
        let manifest = manifest::of_export(stored, &bytes, &layers, options)?;
        sink.document(&manifest.config_type, &bytes)?;
        let digest = index::write(sink, record, &config, &manifest, &layers, options.format)?;
        let ids = |has: fn(&layers::Outgoing) -> bool| {
            let having = record.layers.iter().zip(&layers).filter(|(_, layer)| has(layer));
            having.map(|(id, _)| id.clone()).collect()
        };
        Ok(Exported {
            digest,
            path: PathBuf::from("-"),
            recompressed: ids(|layer| layer.recompressed),
            left_out: ids(|layer| layer.file.is_none()),
        })
    }
}
