//! Removes images, and everything that no image or sandbox needs.

use std::collections::{HashMap, HashSet};
use std::fs;

use serde::Serialize;
use windowsfilter::support::Chains;
use windowsfilter::{Digest, ErrorKind, LayerId, LayerKind};

use crate::error::{Error, IoContext};
use crate::records::{ImageRecord, ImageStore};

/// What was removed with an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Its name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Layers that were not needed any more, topmost first.
    pub layers: Vec<LayerId>,
}

/// Unneeded layers and documents.
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

/// An unneeded layer.
struct Unneeded {
    id: LayerId,
    /// Number of layers below it.
    height: usize,
    /// Bytes of its tar.
    bytes: u64,
}

impl ImageStore {
    /// Removes the image `text`, and those of its layers that no other image, sandbox or layer needs.
    ///
    /// # Errors
    /// Those of [`Self::lookup`]; [`Error::SeveralNames`] for an ID; one of these layers is mounted.
    /// Nothing is removed then.
    pub fn remove(&self, text: &str) -> Result<Removed, Error> {
        let _lock = self.lock()?;
        let record = self.only_name(text)?;
        let others: Vec<ImageRecord> = self.records()?.into_iter().filter(|other| *other != record).collect();
        let own: HashSet<&LayerId> = record.layers.iter().collect();
        let chains = self.layers.chains()?;
        // A layer without an image, created by a user on top, keeps those below it.
        let by_hand = chains.layers().into_iter().filter(|id| !own.contains(id));
        let kept: HashSet<&LayerId> = by_hand.filter_map(|id| chains.parents(id)).flatten().collect();
        let mut unneeded = self.unneeded(&others, &chains)?;
        unneeded.retain(|layer| own.contains(&layer.id) && !kept.contains(&layer.id));
        let unneeded: Vec<LayerId> = unneeded.into_iter().map(|layer| layer.id).collect();
        for id in &unneeded {
            self.layers.ensure_unused(id)?;
        }
        self.delete_record(&record)?;
        let removed = self.remove_unless_needed(unneeded, chains)?;
        for digest in self.unneeded_blobs(&others)? {
            self.delete_blob(&digest)?;
        }
        for (digest, _) in self.unneeded_layer_blobs(&others)? {
            self.delete_layer_blob(&digest)?;
        }
        Ok(Removed { reference: record.reference, layers: removed })
    }

    /// Removes layers that no image and no sandbox needs, except mounted ones, and documents that no image
    /// uses.
    ///
    /// # Errors
    /// The store cannot be read, or a layer cannot be removed.
    pub fn prune(&self, dry_run: bool) -> Result<Pruned, Error> {
        let _lock = self.lock()?;
        let records = self.records()?;
        let chains = self.layers.chains()?;
        let mut pruned = Pruned { blobs: self.unneeded_blobs(&records)?, ..Pruned::default() };
        // A mounted layer needs its parents.
        let mut in_use = HashSet::new();
        let mut sizes = HashMap::new();
        for layer in self.unneeded(&records, &chains)? {
            self.layers.cancel().check().map_err(windowsfilter::Error::from)?;
            if in_use.contains(&layer.id) || self.mounted_at(&layer.id)?.is_some() {
                in_use.extend(chains.parents(&layer.id).into_iter().flatten());
                continue;
            }
            sizes.insert(layer.id.clone(), layer.bytes);
            pruned.layers.push(layer.id);
        }
        for (digest, size) in self.unneeded_layer_blobs(&records)? {
            if !dry_run {
                self.delete_layer_blob(&digest)?;
            }
            pruned.bytes += size;
            pruned.layer_blobs.push(digest);
        }
        if !dry_run {
            pruned.layers = self.remove_unless_needed(pruned.layers, chains)?;
            for digest in &pruned.blobs {
                self.delete_blob(digest)?;
            }
        }
        pruned.bytes += pruned.layers.iter().filter_map(|id| sizes.get(id)).sum::<u64>();
        Ok(pruned)
    }

    /// Layers that have no owner and that neither `records` nor a sandbox needs; those with the longest
    /// chain first, so that each can be removed in turn. A layer that cannot be read stays, and so do its
    /// possible parents.
    fn unneeded(&self, records: &[ImageRecord], chains: &Chains) -> Result<Vec<Unneeded>, Error> {
        let mut needed: HashSet<&LayerId> = records.iter().flat_map(|record| &record.layers).collect();
        let (mut layers, mut unreadable) = (Vec::new(), Vec::new());
        for id in chains.layers() {
            let (record, parents) = match (self.layers.record(id), chains.parents(id)) {
                // Removed since: removing sandboxes and single layers does not take this lock.
                (Err(windowsfilter::Error::NoSuchLayer { .. }), _) => continue,
                (Ok(record), Some(parents)) => (record, parents),
                // Its kind and parents are unknown.
                (Err(error), _) => {
                    unreadable.push((id, error));
                    continue;
                }
                (Ok(_), None) => {
                    unreadable.extend(self.layers.chain_ids(id).err().map(|error| (id, error)));
                    continue;
                }
            };
            if record.kind == LayerKind::Layer
                && !needed.contains(id)
                // Unreadable owners count as owners.
                && self.layers.owners(id).is_ok_and(|owners| owners.is_empty())
            {
                layers.push(Unneeded { id: id.clone(), height: parents.len(), bytes: record.tar_size });
            } else {
                needed.extend(parents);
            }
        }
        layers.retain(|layer| !needed.contains(&layer.id));
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.height));
        for (damaged, error) in unreadable {
            let before = layers.len();
            // Its children are not its parents.
            let on_it: HashSet<LayerId> = chains.children(damaged).into_iter().collect();
            layers.retain(|layer| on_it.contains(&layer.id));
            let kept = before - layers.len();
            if kept > 0 {
                tracing::warn!(
                    "{error}; layers that it may stand on ({kept}) stay until it is put right or removed"
                );
            }
        }
        Ok(layers)
    }

    /// Removes layers and returns their IDs. Skips those that got a sandbox on top, or were mounted or
    /// removed, since they were found unneeded.
    fn remove_unless_needed(&self, ids: Vec<LayerId>, chains: Chains) -> Result<Vec<LayerId>, Error> {
        let results = self.layers.remove_all(&ids, chains);
        let mut removed = Vec::new();
        for (id, result) in ids.into_iter().zip(results) {
            match result {
                Ok(()) => removed.push(id),
                Err(error) if matches!(error.kind(), ErrorKind::InUse | ErrorKind::NotFound) => {
                    tracing::info!("{error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
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
            // Skip names that are not digests.
            if let (false, Ok(digest)) = (needed.contains(&name), format!("sha256:{name}").parse()) {
                blobs.push(digest);
            }
        }
        blobs.sort();
        Ok(blobs)
    }
}
