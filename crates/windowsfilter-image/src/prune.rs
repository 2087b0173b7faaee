//! Removing images, and what no image or sandbox needs.

use std::collections::HashSet;
use std::fs;

use serde::Serialize;
use windowsfilter::{Digest, Driver, ErrorKind, LayerId, LayerKind, LayerRecord};

use crate::error::{Error, IoContext};
use crate::records::{ImageRecord, ImageStore};

/// What went with an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// What it was called.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Layers that nobody needed any more, topmost first.
    pub layers: Vec<LayerId>,
}

/// What nobody needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Layers, topmost first.
    pub layers: Vec<LayerId>,
    /// Configs and manifests.
    pub blobs: Vec<Digest>,
    /// Blobs of layers.
    pub layer_blobs: Vec<Digest>,
    /// Bytes of the layers' tars and of the blobs.
    pub bytes: u64,
}

/// What there is to see of a layer that was listed.
enum Look {
    /// Somebody removed it since: sandboxes and single layers go without our lock.
    Gone,
    /// Nobody knows what it is and what it stands on.
    Unreadable(windowsfilter::Error),
    /// Its record and chain.
    Read(LayerRecord, Vec<LayerId>),
}

impl ImageStore<'_> {
    /// Removes the image that `text` means, and those of its layers that no other image, no sandbox and no other layer needs.
    ///
    /// # Errors
    /// As [`Self::lookup`]; [`Error::SeveralNames`] of an ID; one of these layers is mounted. Then nothing is removed.
    pub fn remove(&self, text: &str) -> Result<Removed, Error> {
        let _lock = self.lock()?;
        let record = self.only_name(text)?;
        let others: Vec<ImageRecord> = self.records()?.into_iter().filter(|other| *other != record).collect();
        let mut unneeded = self.unneeded(&others)?;
        unneeded.retain(|id| record.layers.contains(id));
        // A layer of no image, put on top by hand, keeps what is below it.
        for id in self.layers.layers()?.iter().filter(|id| !record.layers.contains(id)) {
            if let Look::Read(_, chain) = self.look(id) {
                unneeded.retain(|id| !chain.contains(id));
            }
        }
        for id in &unneeded {
            self.layers.ensure_unused(id)?;
        }
        self.delete_record(&record)?;
        let mut removed = Vec::new();
        for id in unneeded {
            if self.remove_unless_needed(&id)? {
                removed.push(id);
            }
        }
        for digest in self.unneeded_blobs(&others)? {
            self.delete_blob(&digest)?;
        }
        for (digest, _) in self.unneeded_layer_blobs(&others)? {
            self.delete_layer_blob(&digest)?;
        }
        Ok(Removed { reference: record.reference, layers: removed })
    }

    /// Removes layers that no image and no sandbox needs, except mounted ones, and documents of no image.
    ///
    /// # Errors
    /// When the store cannot be read, or a layer not be removed.
    pub fn prune(&self, dry_run: bool) -> Result<Pruned, Error> {
        let _lock = self.lock()?;
        let records = self.records()?;
        let mut pruned = Pruned { blobs: self.unneeded_blobs(&records)?, ..Pruned::default() };
        // A mounted layer needs its parents.
        let mut in_use = HashSet::new();
        for id in self.unneeded(&records)? {
            self.layers.cancel().check().map_err(windowsfilter::Error::from)?;
            if in_use.contains(&id) || self.mounted_at(&id)?.is_some() {
                in_use.extend(self.layers.chain_ids(&id)?);
                continue;
            }
            let Look::Read(record, _) = self.look(&id) else { continue };
            if dry_run || self.remove_unless_needed(&id)? {
                pruned.bytes += record.tar_size;
                pruned.layers.push(id);
            }
        }
        for (digest, size) in self.unneeded_layer_blobs(&records)? {
            if !dry_run {
                self.delete_layer_blob(&digest)?;
            }
            pruned.bytes += size;
            pruned.layer_blobs.push(digest);
        }
        if !dry_run {
            for digest in &pruned.blobs {
                self.delete_blob(digest)?;
            }
        }
        Ok(pruned)
    }

    /// Layers that nobody owns and neither `records` nor a sandbox stands on; those with the longest chain first, so that each can be removed in turn.
    /// A layer that cannot be read stays, and so does whatever it may stand on.
    fn unneeded(&self, records: &[ImageRecord]) -> Result<Vec<LayerId>, Error> {
        let mut needed: HashSet<LayerId> =
            records.iter().flat_map(|record| record.layers.iter().cloned()).collect();
        let (mut layers, mut unreadable) = (Vec::new(), Vec::new());
        for id in self.layers.layers()? {
            match self.look(&id) {
                Look::Gone => {}
                Look::Unreadable(error) => unreadable.push((id, error)),
                Look::Read(record, chain)
                    if record.kind == LayerKind::Layer
                        && !needed.contains(&id)
                        // Owners that cannot be read are owners.
                        && self.layers.owners(&id).is_ok_and(|owners| owners.is_empty()) =>
                {
                    layers.push((chain, id));
                }
                Look::Read(_, chain) => needed.extend(chain),
            }
        }
        layers.retain(|(_, id)| !needed.contains(id));
        layers.sort_by_key(|(chain, _)| std::cmp::Reverse(chain.len()));
        for (damaged, error) in unreadable {
            let before = layers.len();
            // What stands on it is not below it.
            layers.retain(|(chain, _)| chain.contains(&damaged));
            let kept = before - layers.len();
            if kept > 0 {
                tracing::warn!(
                    "{error}; layers that it may stand on ({kept}) stay until it is put right or removed"
                );
            }
        }
        Ok(layers.into_iter().map(|(_, id)| id).collect())
    }

    fn look(&self, id: &LayerId) -> Look {
        match self.layers.record(id).and_then(|record| Ok((record, self.layers.chain_ids(id)?))) {
            Ok((record, chain)) => Look::Read(record, chain),
            Err(windowsfilter::Error::NoSuchLayer { .. }) => Look::Gone,
            Err(error) => Look::Unreadable(error),
        }
    }

    /// Whether the layer was removed: not if somebody has put a sandbox on it, mounted it or removed it since it was found unneeded.
    fn remove_unless_needed(&self, id: &LayerId) -> Result<bool, Error> {
        match self.layers.remove(id) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::InUse | ErrorKind::NotFound) => {
                tracing::info!("{error}");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn mounted_at(&self, id: &LayerId) -> Result<Option<std::path::PathBuf>, Error> {
        let state = self.layers.mounts(id)?;
        Ok((state.users() > 0).then(|| state.path.unwrap_or_default()))
    }

    pub(crate) fn unneeded_blobs(&self, records: &[ImageRecord]) -> Result<Vec<Digest>, Error> {
        let mut needed: HashSet<String> = records
            .iter()
            .flat_map(|r| [Some(r.image_id), r.manifest])
            .flatten()
            .map(|digest| digest.hex())
            .collect();
        for id in self.layers.layers()? {
            match self.layers.record(&id) {
                Ok(record) => needed.extend(record.image.map(|image| image.hex())),
                Err(windowsfilter::Error::NoSuchLayer { .. }) => {}
                // It may be a sandbox that needs any of them.
                Err(_) => return Ok(Vec::new()),
            }
        }
        let dir = self.blobs_dir();
        let mut blobs = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(blobs),
            other => other.at("list", &dir)?,
        };
        for entry in entries {
            let name = entry.at("list", &dir)?.file_name().to_string_lossy().into_owned();
            // What is no digest is not ours.
            if let (false, Ok(digest)) = (needed.contains(&name), format!("sha256:{name}").parse()) {
                blobs.push(digest);
            }
        }
        blobs.sort();
        Ok(blobs)
    }
}
