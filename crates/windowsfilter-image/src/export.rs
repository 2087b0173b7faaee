//! Export: an image as other tools load it.
//!
//! All three formats are one OCI layout: a directory, a tar of it, or a tar of it with Docker's
//! `manifest.json` beside, as `docker save` writes since Docker 25. What goes out is what came in: the config
//! always, a layer's blob where it is kept or is the tar itself, and the manifest where that is true of all
//! of them. Other layers are compressed anew, which is told. Foreign layers stay foreign, with their urls,
//! unless ordinary ones are asked for. Layers are checked against their diffIDs on the way. The same image
//! gives the same bytes.

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

/// What an export looks like.
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

/// What to write and how.
pub struct ExportOptions<'a> {
    /// The form of the whole.
    pub format: Format,
    /// How layers are compressed; `None`: as they came, and gzip where they came in no blob.
    pub compression: Option<Compression>,
    /// Makes ordinary layers of foreign (nondistributable) ones, so that whoever loads the image need not
    /// fetch them, and whoever pushes it publishes them. Without it a foreign layer whose blob is not here is
    /// left out of an OCI layout, which says where it can be fetched.
    pub include_nondistributable: bool,
    /// Who is told how far it is.
    pub progress: &'a dyn ImageProgress,
}

impl Default for ExportOptions<'_> {
    fn default() -> Self {
        Self { format: Format::default(), compression: None, include_nondistributable: false, progress: &() }
    }
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Where it is.
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    pub path: PathBuf,
    /// Layers that came in one blob and went out in another, since the first is not kept or another
    /// compression was asked for.
    pub recompressed: Vec<LayerId>,
    /// Foreign layers that the export names and does not have.
    pub left_out: Vec<LayerId>,
}

impl ImageStore {
    /// Writes the image that `text` means to `path`, which must not exist; it appears there when it is
    /// complete.
    ///
    /// # Errors
    /// [`Error::Exists`]; a layer that is damaged; a full disk.
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

    /// Writes an archive of the image that `text` means to `out`. After an error, what was written is none.
    ///
    /// # Errors
    /// [`Error::DirectoryFormat`]; a layer that is damaged; what `out` meets.
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
