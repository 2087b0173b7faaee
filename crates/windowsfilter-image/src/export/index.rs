//! The files beside an export's blobs: `index.json`, `oci-layout`, and Docker's `manifest.json`.

use std::collections::BTreeMap;

use serde::Serialize;
use windowsfilter::Digest;

use super::Format;
use super::layers::Outgoing;
use super::manifest::Exporting;
use super::sink::Sink;
use crate::error::Error;
use crate::oci::{CONTAINERD_NAME, Config, Descriptor, INDEX, REF_NAME, is_foreign};
use crate::records::ImageRecord;
use crate::reference::Reference;

/// One image of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    layer_sources: BTreeMap<String, Descriptor>,
}

/// Writes the manifest and the files that refer to it. Returns the manifest's digest.
pub(super) fn write(
    sink: &mut Sink<'_>,
    record: &ImageRecord,
    config: &Config,
    manifest: &Exporting,
    layers: &[Outgoing],
    format: Format,
) -> Result<Digest, Error> {
    let reference = Reference::of_record(&record.reference)?;
    let mut descriptor = sink.document(&manifest.media_type, &manifest.bytes)?;
    let digest = descriptor.digest;
    descriptor.platform = Some(config.platform.clone());
    // Drop a digest in the name unless it is this manifest's.
    let name = match reference.digest() {
        Some(claimed) if claimed != digest => reference.tagged(),
        _ => Some(reference.with_tag()),
    };
    if let Some(name) = name {
        let full = Reference::of_record(&name)?.full().to_owned();
        descriptor.annotations =
            Some([(REF_NAME.to_owned(), name), (CONTAINERD_NAME.to_owned(), full)].into());
    }
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
    if format == Format::DockerArchive {
        sink.file("manifest.json", &json(&[saved(&reference, manifest, layers)]))?;
    }
    sink.file("index.json", &json(&index))?;
    sink.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

fn saved(reference: &Reference, manifest: &Exporting, layers: &[Outgoing]) -> SavedImage {
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let foreign = layers.iter().filter(|layer| is_foreign(&layer.descriptor.media_type));
    SavedImage {
        config: blob(&manifest.config),
        // Docker loads only tags (moby `image/tarexport/load.go`).
        repo_tags: reference.tagged().map(|tag| vec![tag]),
        layers: layers
            .iter()
            .map(|layer| blob(layer.file.as_ref().unwrap_or(&layer.descriptor.digest)))
            .collect(),
        // The descriptor that Docker pushes instead of the layer (moby `image/tarexport/save.go`).
        layer_sources: foreign.map(|layer| (layer.diff_id.to_string(), layer.descriptor.clone())).collect(),
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("documents have string keys and finite numbers")
}
