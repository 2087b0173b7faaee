//! Information for `image ls` and `image inspect`.

use serde::Serialize;
use windowsfilter::{DiffId, Digest, LayerId};

use crate::error::Error;
use crate::json::Raw;
use crate::oci::History;
use crate::records::{ImageRecord, ImageStore};
use crate::reference::Reference;

/// One line of `image ls`.
#[derive(Clone, Debug, Serialize)]
pub struct ImageSummary {
    /// Its name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of its config.
    pub image_id: Digest,
    /// Version of Windows.
    pub os_version: Option<String>,
    /// Architecture, in Go's spelling.
    pub architecture: Option<String>,
    /// Time of creation, RFC 3339.
    pub created: Option<String>,
    /// Bytes of all layers' files, added up.
    pub size: Option<u64>,
    /// Number of layers.
    pub layers: usize,
    /// The topmost layer.
    pub top: Option<LayerId>,
    /// Why the other fields are missing: a damaged document or layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The output of `image inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageInfo {
    /// Its name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of its config.
    pub image_id: Digest,
    /// Digest of the manifest it was imported with.
    pub manifest: Option<Digest>,
    /// Operating system.
    pub os: String,
    /// Version of Windows.
    pub os_version: Option<String>,
    /// Architecture, in Go's spelling.
    pub architecture: String,
    /// Time of creation, RFC 3339.
    pub created: Option<String>,
    /// The author.
    pub author: Option<String>,
    /// Bytes of all layers' files, added up.
    pub size: u64,
    /// Base first.
    pub layers: Vec<LayerInfo>,
    /// The steps that made it, oldest first.
    pub history: Vec<History>,
    /// The config's `config`, in its own spelling: how to run a container of it. As plain text if Rust's
    /// numbers and strings cannot hold it.
    pub config: serde_json::Value,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerInfo {
    /// Its chain ID: its ID in the store.
    pub id: LayerId,
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of its tar.
    pub tar_size: u64,
    /// Entries of its tar.
    pub entries: u64,
    /// Media type in the manifest.
    pub media_type: Option<String>,
    /// Other places to download it from.
    pub urls: Vec<String>,
    /// Digest of the imported blob.
    pub blob: Option<Digest>,
    /// Whether that blob is kept.
    pub blob_kept: bool,
}

impl ImageStore {
    /// All images, by reference. One with a damaged document or layer is listed with its record's data, so
    /// that it does not hide the others.
    ///
    /// # Errors
    /// A damaged record.
    pub fn list(&self) -> Result<Vec<ImageSummary>, Error> {
        let summaries = self.records()?.into_iter().map(|record| self.summary_now(record));
        summaries.filter_map(Result::transpose).collect()
    }

    /// An image's summary, while others may remove it or import it again; `None` if it is gone.
    fn summary_now(&self, mut record: ImageRecord) -> Result<Option<ImageSummary>, Error> {
        loop {
            let error = match self.summary(&record) {
                Ok(summary) => return Ok(Some(summary)),
                Err(error) => error,
            };
            match self.get(&Reference::of_record(&record.reference)?) {
                Err(Error::NoSuchImage { .. }) => return Ok(None),
                Ok(newer) if newer != record => record = newer,
                _ => return Ok(Some(damaged_summary(record, &error))),
            }
        }
    }

    fn summary(&self, record: &ImageRecord) -> Result<ImageSummary, Error> {
        let (config, _) = self.config(record)?;
        let mut size = 0;
        for id in &record.layers {
            size += self.layers.record(id)?.size;
        }
        Ok(ImageSummary {
            reference: record.reference.clone(),
            image_id: record.image_id,
            os_version: config.platform.os_version,
            architecture: Some(config.platform.architecture),
            created: config.created,
            size: Some(size),
            layers: record.layers.len(),
            top: record.top().cloned(),
            problem: None,
        })
    }

    /// Everything about the image `text`.
    ///
    /// # Errors
    /// Those of [`Self::lookup`]; a damaged document or layer.
    pub fn inspect(&self, text: &str) -> Result<ImageInfo, Error> {
        let record = self.lookup(text)?;
        let (config, _) = self.config(&record)?;
        let layers = self.layer_infos(&record, &config.rootfs.diff_ids)?;
        Ok(ImageInfo {
            reference: record.reference,
            image_id: record.image_id,
            manifest: record.manifest,
            os: config.platform.os,
            os_version: config.platform.os_version,
            architecture: config.platform.architecture,
            created: config.created,
            author: config.author,
            size: layers.iter().map(|layer| layer.size).sum(),
            layers,
            history: config.history,
            config: config.config.as_ref().map(Raw::value).unwrap_or_default(),
        })
    }

    fn layer_infos(&self, record: &ImageRecord, diff_ids: &[DiffId]) -> Result<Vec<LayerInfo>, Error> {
        let mut layers = Vec::new();
        for (i, (id, diff_id)) in record.layers.iter().zip(diff_ids).enumerate() {
            let layer = self.layers.record(id)?;
            let source = record.sources.get(i).cloned().unwrap_or_default();
            layers.push(LayerInfo {
                id: id.clone(),
                diff_id: *diff_id,
                size: layer.size,
                tar_size: layer.tar_size,
                entries: layer.entries,
                media_type: Some(source.media_type).filter(|media_type| !media_type.is_empty()),
                urls: source.urls,
                blob: source.digest,
                blob_kept: match &source.digest {
                    Some(digest) => self.open_layer_blob(digest, source.size)?.is_some(),
                    None => false,
                },
            });
        }
        Ok(layers)
    }
}

/// The summary that an image's record alone allows.
fn damaged_summary(record: ImageRecord, error: &Error) -> ImageSummary {
    ImageSummary {
        top: record.top().cloned(),
        reference: record.reference,
        image_id: record.image_id,
        os_version: record.os_version,
        architecture: None,
        created: None,
        size: None,
        layers: record.layers.len(),
        problem: Some(error.to_string()),
    }
}
