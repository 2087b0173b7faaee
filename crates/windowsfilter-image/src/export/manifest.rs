//! An export's manifest: the imported one if all blobs are unchanged, otherwise a new one that says the
//! same of the new blobs.

use serde::Deserialize;
use windowsfilter::Digest;

use super::ExportOptions;
use super::layers::Outgoing;
use crate::error::Error;
use crate::json::{self, Object, Raw};
use crate::oci::{CONFIG, Descriptor, MANIFEST, Manifest};
use crate::records::{ImageRecord, ImageStore};

/// The manifest that an image was imported with.
pub(super) struct Stored {
    manifest: Manifest,
    /// The layers' descriptors, with all fields.
    layers: Vec<Raw>,
    bytes: Vec<u8>,
}

impl Stored {
    pub(super) fn layer(&self, i: usize) -> Option<(&Descriptor, &Raw)> {
        self.manifest.layers.get(i).zip(self.layers.get(i))
    }
}

/// The manifest of an export.
pub(super) struct Exporting {
    pub(super) media_type: String,
    pub(super) config: Digest,
    pub(super) config_type: String,
    pub(super) bytes: Vec<u8>,
}

impl ImageStore {
    /// Reads the manifest that an image was imported with, if any.
    pub(super) fn stored_manifest(&self, record: &ImageRecord) -> Result<Option<Stored>, Error> {
        #[derive(Deserialize)]
        struct Layers {
            #[serde(default)]
            layers: Vec<Raw>,
        }
        let Some(digest) = &record.manifest else { return Ok(None) };
        let (what, bytes) = ("the image's manifest", self.blob(digest)?);
        let Layers { layers } = json::parse(what, &bytes)?;
        Ok(Some(Stored { manifest: json::parse(what, &bytes)?, layers, bytes }))
    }
}

/// The manifest with this config and these layers.
pub(super) fn of_export(
    stored: Option<Stored>,
    config: &[u8],
    layers: &[Outgoing],
    options: &ExportOptions<'_>,
) -> Result<Exporting, Error> {
    let config = Descriptor::new(CONFIG, Digest::of(config), config.len() as u64);
    let mut document = Object::default();
    let mut annotations = None;
    if let Some(stored) = stored {
        if is_kept(&stored, &config, layers, options) {
            let Manifest { media_type, config, .. } = stored.manifest;
            let media_type = if media_type.is_empty() { MANIFEST.to_owned() } else { media_type };
            let config_type = config.media_type;
            return Ok(Exporting { media_type, config: config.digest, config_type, bytes: stored.bytes });
        }
        document = Object::parse("the image's manifest", &stored.bytes)?;
        annotations = stored.manifest.config.annotations;
    }
    let descriptors: Vec<Raw> = layers.iter().map(descriptor).collect();
    let config = Descriptor { annotations, ..config };
    document.set("schemaVersion", &2);
    document.set("mediaType", &MANIFEST);
    document.set("config", &config);
    document.set_list("layers", &descriptors);
    Ok(Exporting {
        media_type: MANIFEST.to_owned(),
        config: config.digest,
        config_type: config.media_type,
        bytes: document.text().into_bytes(),
    })
}

/// Whether to export the imported manifest unchanged. A Docker manifest is rewritten if a compression is
/// given: it would be rewritten now or by a later export anyway, and in a layout skopeo does not find
/// Docker manifests by name.
fn is_kept(stored: &Stored, config: &Descriptor, layers: &[Outgoing], options: &ExportOptions<'_>) -> bool {
    let manifest = &stored.manifest;
    manifest.config.digest == config.digest
        && manifest.config.size == config.size
        && manifest.layers.len() == layers.len()
        && layers.iter().all(|layer| layer.as_it_came.is_some())
        && (options.compression.is_none() || matches!(manifest.media_type.as_str(), MANIFEST | ""))
}

/// A layer's descriptor for an OCI manifest.
fn descriptor(layer: &Outgoing) -> Raw {
    let media_type = oci_media_type(&layer.descriptor.media_type);
    match &layer.as_it_came {
        Some(raw) if media_type == layer.descriptor.media_type => raw.clone(),
        _ => Raw::of(&Descriptor { media_type, ..layer.descriptor.clone() }),
    }
}

/// The OCI media type for a Docker one. Source: image-spec `media-types.md`, "Compatibility Matrix".
fn oci_media_type(media_type: &str) -> String {
    const OCI: &str = "application/vnd.oci.image.layer";
    let docker = media_type.strip_prefix("application/vnd.docker.image.rootfs.");
    let (kind, rest) = match docker.map(|rest| (rest.strip_prefix("foreign."), rest)) {
        Some((Some(rest), _)) => (".nondistributable.v1.tar", rest),
        Some((None, rest)) => (".v1.tar", rest),
        None => return media_type.to_owned(),
    };
    match rest.strip_prefix("diff.tar") {
        Some("") => format!("{OCI}{kind}"),
        Some(compression) => format!("{OCI}{kind}+{}", compression.trim_start_matches(['.', '+'])),
        None => media_type.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_media_types_have_equals_of_ocis() {
        for (docker, oci) in [
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            ("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"),
            (
                "application/vnd.docker.image.rootfs.diff.tar.zstd",
                "application/vnd.oci.image.layer.v1.tar+zstd",
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            ),
            ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
            ("text/plain", "text/plain"),
        ] {
            assert_eq!(oci_media_type(docker), oci);
        }
    }
}
