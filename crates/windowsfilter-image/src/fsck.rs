//! Invariants of images: every record, and the documents and layers that it names. The layer store checks
//! the layers themselves.

use std::collections::HashMap;

use serde::Serialize;
use windowsfilter::fsck::Invariant;
use windowsfilter::{DiffId, Digest, LayerId};

use crate::error::Error;
use crate::json;
use crate::oci::Manifest;
use crate::records::{ImageRecord, ImageStore, damaged};

/// A problem with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The violated invariant.
    pub invariant: Invariant,
    /// The image, or its record's file; `None` if it belongs to no image.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// A description.
    pub problem: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

impl ImageStore {
    /// Checks that every image has its documents and layers, and that every document is unchanged. With
    /// `repair`, removes damaged documents that no image uses; everything else has to be imported again.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn fsck(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        // A record is written after its layers and removed before them; without the lock, an image in
        // between would look broken.
        let _lock = self.lock()?;
        let mut findings = Vec::new();
        let mut records = Vec::new();
        for name in self.record_names()? {
            match self.read_record(&name) {
                Ok(record) => {
                    findings.extend(self.violations(&record).into_iter().map(|(invariant, error)| {
                        Finding::new(invariant, Some(record.reference.clone()), &error)
                    }));
                    records.push(record);
                }
                Err(error) => findings.push(Finding::new(Invariant::ImageRecord, Some(name), &error)),
            }
        }
        findings.extend(self.check_layer_blobs(&records, repair)?);
        // An unreadable record may use any document.
        let may_remove = repair && !findings.iter().any(|found| found.invariant == Invariant::ImageRecord);
        findings.extend(self.sandboxes_without_config(&records)?);
        for digest in self.unneeded_blobs(&records)? {
            findings.extend(self.check_spare(&digest, may_remove)?);
        }
        Ok(findings)
    }

    /// Sandboxes that cannot be committed, because their image's config is missing or damaged. If the image
    /// exists, that is its own finding.
    fn sandboxes_without_config(&self, records: &[ImageRecord]) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        for id in self.layers.layers()? {
            // Damage to a sandbox is its own finding.
            let Ok(Some(image)) = self.layers.record(&id).map(|record| record.image) else { continue };
            if records.iter().any(|record| record.image_id == image) {
                continue;
            }
            if let Err(error) = self.blob(&image) {
                findings.push(Finding::new(Invariant::ImageConfig, Some(format!("sandbox {id}")), &error));
            }
        }
        Ok(findings)
    }

    fn violations(&self, record: &ImageRecord) -> Vec<(Invariant, Error)> {
        let mut found = Vec::new();
        if let Some(manifest) = &record.manifest
            && let Err(error) = self.check_manifest(record, manifest)
        {
            found.push((Invariant::ImageManifest, error));
        }
        match self.config(record) {
            Err(error) => found.push((Invariant::ImageConfig, error)),
            Ok((config, _)) => {
                for (number, (id, diff_id)) in record.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
                    let parents: Vec<LayerId> = record.layers[..number].iter().rev().cloned().collect();
                    if let Err(error) = self.check_layer(record, id, *diff_id, &parents) {
                        found.push((Invariant::ImageLayers, error));
                    }
                }
            }
        }
        found
    }

    fn check_manifest(&self, record: &ImageRecord, digest: &Digest) -> Result<(), Error> {
        let manifest: Manifest = json::parse("the image's manifest", &self.blob(digest)?)?;
        if manifest.config.digest == record.image_id {
            return Ok(());
        }
        Err(damaged(&record.reference, "its manifest is another image's"))
    }

    /// Damage to a layer is its own finding.
    fn check_layer(
        &self,
        record: &ImageRecord,
        id: &LayerId,
        diff_id: DiffId,
        parents: &[LayerId],
    ) -> Result<(), Error> {
        let wrong = |reason: String| Err(damaged(&record.reference, &reason));
        match self.layers.record(id) {
            Err(error @ windowsfilter::Error::NoSuchLayer { .. }) => wrong(error.to_string()),
            Ok(layer) if layer.diff_id != Some(diff_id) => wrong(format!("layer {id} is not {diff_id}")),
            _ => match self.layers.chain_ids(id) {
                Ok(chain) if chain != parents => {
                    wrong(format!("layer {id} stands on other layers than those below it in the image"))
                }
                _ => Ok(()),
            },
        }
    }

    /// Kept blobs whose length has changed. Losing a damaged one is no loss for exports: the tar is there.
    fn check_layer_blobs(&self, records: &[ImageRecord], repair: bool) -> Result<Vec<Finding>, Error> {
        let sources = records.iter().flat_map(|record| &record.sources);
        let sizes: HashMap<Digest, u64> =
            sources.filter_map(|source| Some((source.digest?, source.size))).collect();
        let mut findings = Vec::new();
        for (digest, actual) in self.layer_blobs()? {
            let Some(&expected) = sizes.get(&digest).filter(|size| **size != actual) else { continue };
            let error = Error::SizeMismatch { what: format!("blob {digest}"), expected, actual };
            findings.push(self.damaged_layer_blob(&digest, &error, repair)?);
        }
        Ok(findings)
    }

    /// Reads all kept blobs of layers. With `repair`, removes damaged ones.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn verify_layer_blobs(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        let damaged = self.damaged_layer_blobs()?;
        damaged.iter().map(|(digest, error)| self.damaged_layer_blob(digest, error, repair)).collect()
    }

    fn damaged_layer_blob(&self, digest: &Digest, error: &Error, remove: bool) -> Result<Finding, Error> {
        if remove {
            self.delete_layer_blob(digest)?;
        }
        Ok(Finding { repaired: remove, ..Finding::new(Invariant::LayerBlob, None, error) })
    }

    fn check_spare(&self, digest: &Digest, remove: bool) -> Result<Option<Finding>, Error> {
        let Err(error) = self.blob(digest) else { return Ok(None) };
        if remove {
            self.delete_blob(digest)?;
        }
        Ok(Some(Finding { repaired: remove, ..Finding::new(Invariant::SpareDocument, None, &error) }))
    }
}

impl Finding {
    fn new(invariant: Invariant, reference: Option<String>, error: &Error) -> Self {
        let mut problem = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            problem += &format!(": {cause}");
            source = cause.source();
        }
        Self { invariant, reference, problem, repaired: false }
    }
}
