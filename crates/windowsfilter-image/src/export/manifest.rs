//! The manifest of an export: the one that the image came with, if its blobs go out as they came in, else one that says the same of others.

use windowsfilter::Digest;

use super::json;
use crate::error::Error;
use crate::oci::{Descriptor, MANIFEST, Manifest, is_foreign, parse};
use crate::records::{ImageRecord, ImageStore};

/// Annotations of a layer that describe the bytes of its blob, which are others when it is compressed anew: zstd:chunked (containers/storage
/// `pkg/chunked/internal`) and eStargz (containerd/stargz-snapshotter `estargz/types.go`).
const OF_THE_BLOB: [&str; 3] =
    ["io.github.containers.zstd-chunked.", "containerd.io/snapshot/stargz/", "io.containers.estargz."];

impl ImageStore<'_> {
    /// The manifest with this config and these layers, and its bytes.
    pub(super) fn export_manifest(
        &self,
        record: &ImageRecord,
        config: Descriptor,
        mut layers: Vec<Descriptor>,
    ) -> Result<(Manifest, Vec<u8>), Error> {
        let stored = match self.stored_manifest(record)? {
            Some((manifest, bytes)) if is_kept(&manifest, &config, &layers) => return Ok((manifest, bytes)),
            other => other.map(|(manifest, _)| manifest),
        };
        let came_as: Vec<Digest> =
            stored.iter().flat_map(|manifest| &manifest.layers).map(|layer| layer.digest).collect();
        for (i, (layer, source)) in layers.iter_mut().zip(&record.sources).enumerate() {
            let mut annotations = source.annotations.clone();
            if came_as.get(i) != Some(&layer.digest) {
                annotations.retain(|key, _| !OF_THE_BLOB.iter().any(|prefix| key.starts_with(prefix)));
            }
            layer.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
        }
        let (annotations, other) =
            stored.map(|manifest| (manifest.config.annotations, manifest.other)).unwrap_or_default();
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: Descriptor { annotations, ..config },
            layers,
            other,
        };
        let bytes = json(&manifest);
        Ok((manifest, bytes))
    }

    fn stored_manifest(&self, record: &ImageRecord) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
        let Some(digest) = &record.manifest else { return Ok(None) };
        let bytes = self.blob(digest)?;
        Ok(Some((parse("the image's manifest", &bytes)?, bytes)))
    }
}

/// Whether the manifest may go out as it came in. One with foreign layers may not: whoever reads it would fetch them, or leave them out. One of
/// Docker's may not: skopeo does not find it in a layout.
fn is_kept(manifest: &Manifest, config: &Descriptor, layers: &[Descriptor]) -> bool {
    // Sizes too: what was in the store already was never compared with them.
    let blobs =
        |layers: &[Descriptor]| layers.iter().map(|layer| (layer.digest, layer.size)).collect::<Vec<_>>();
    manifest.config.digest == config.digest
        && blobs(&manifest.layers) == blobs(layers)
        && matches!(manifest.media_type.as_str(), MANIFEST | "")
        && !manifest.layers.iter().any(|layer| is_foreign(&layer.media_type))
}
