//! An image's JSON documents, as far as they are used. Source: OCI image-spec 1.1 (`descriptor.md`,
//! `image-index.md`, `manifest.md`, `config.md`); Docker's `manifest.json`: moby `image/tarexport`.
//!
//! Documents are stored unchanged; these structs only read them, with [`crate::json`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use windowsfilter::{DiffId, Digest, LayerId};

use crate::error::Error;
use crate::json::{self, Raw};

/// Largest JSON document to read, bytes: real ones have kilobytes; registries refuse manifests over 4 MiB.
pub(crate) const MAX_JSON: u64 = 8 << 20;
/// Most layers of an image: each layer's record lists all layers below it, so the total grows with the
/// square. Docker stops at 125 (moby `layer/layer_store.go`, `maxLayerDepth`).
pub(crate) const MAX_LAYERS: usize = 1000;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A full name or only a tag, depending on the tool.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's full name of an image.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Marks a manifest that BuildKit attaches to an image, such as an attestation.
pub(crate) const ATTACHED: &str = "vnd.docker.reference.type";

/// A pointer to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Other places to download it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Other annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// In an index: the image's platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<PlatformFields>,
    /// In an index: the type of a manifest that is not an image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: None,
            platform: None,
            artifact_type: None,
        }
    }
}

/// `platform` of a descriptor; a config has the same fields at its top level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlatformFields {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub(crate) os_version: Option<String>,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub(crate) os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl fmt::Display for PlatformFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.os_version.as_ref().map_or(Ok(()), |version| write!(f, ":{version}"))
    }
}

/// A manifest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) layers: Vec<String>,
    /// Foreign layers' descriptors, by diffID.
    #[serde(default)]
    pub(crate) layer_sources: BTreeMap<String, Raw>,
}

/// The fields of a config that are read.
#[derive(Debug, Deserialize)]
#[serde(from = "ConfigFields")]
pub(crate) struct Config {
    pub(crate) platform: PlatformFields,
    pub(crate) created: Option<String>,
    pub(crate) author: Option<String>,
    pub(crate) rootfs: RootFs,
    pub(crate) history: Vec<History>,
    /// How to run a container of it, unchanged.
    pub(crate) config: Option<Raw>,
}

/// The fields of a config, including those of its platform.
#[derive(Deserialize)]
struct ConfigFields {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    #[serde(default, rename = "os.features")]
    os_features: Vec<String>,
    variant: Option<String>,
    created: Option<String>,
    author: Option<String>,
    rootfs: RootFs,
    #[serde(default)]
    history: Vec<History>,
    config: Option<Raw>,
}

impl From<ConfigFields> for Config {
    fn from(fields: ConfigFields) -> Self {
        let ConfigFields { architecture, os, os_version, os_features, variant, .. } = fields;
        Self {
            platform: PlatformFields { architecture, os, os_version, os_features, variant },
            created: fields.created,
            author: fields.author,
            rootfs: fields.rootfs,
            history: fields.history,
            config: fields.config,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub(crate) diff_ids: Vec<DiffId>,
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl Config {
    /// Parses a config.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        json::parse("the image's config", bytes)
    }
}

/// Whether a descriptor of this media type in an index can mean an image or another index; some tools leave
/// the type out. Indexes may contain anything else too. Source: image-spec `image-layout.md`,
/// `media-types.md`.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        MANIFEST
            | INDEX
            | "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
            | ""
    )
}

/// Whether a config of this media type is an image's. Source: image-spec `manifest.md`; moby
/// `distribution/registry.go`, `defaultImageTypes`, for types that old registries returned.
pub(crate) fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        CONFIG
            | "application/vnd.docker.container.image.v1+json"
            | "application/octet-stream"
            | "application/json"
            | "text/html"
            | ""
    )
}

/// Whether archives may leave out a layer of this media type (`foreign` is Docker's word,
/// `nondistributable` OCI's).
pub(crate) fn is_foreign(media_type: &str) -> bool {
    media_type.contains("foreign") || media_type.contains("nondistributable")
}

/// The layers' IDs, base first: the hex digits of their chain IDs. Source: image-spec `config.md`, "Layer
/// ChainID".
pub(crate) fn chain_ids(diff_ids: &[DiffId]) -> Result<Vec<LayerId>, Error> {
    let mut ids = Vec::with_capacity(diff_ids.len());
    let mut chain: Option<Digest> = None;
    for diff_id in diff_ids {
        let next = chain.map_or(diff_id.0, |below| Digest::of(format!("{below} {diff_id}").as_bytes()));
        ids.push(LayerId::new(next.hex())?);
        chain = Some(next);
    }
    Ok(ids)
}

/// The ID of a layer on top of `parent`: the hex digits of its chain ID (OCI image specification, "Layer
/// ChainID").
///
/// # Errors
/// The parent's ID is not a chain ID's digits.
pub fn chain_id(parent: Option<&LayerId>, diff_id: DiffId) -> Result<LayerId, Error> {
    let Some(parent) = parent else { return Ok(LayerId::new(diff_id.0.hex())?) };
    let below: Digest = format!("sha256:{parent}").parse()?;
    Ok(LayerId::new(Digest::of(format!("{below} {diff_id}").as_bytes()).hex())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_layers_chain_id_is_its_diff_id_and_others_hash_what_is_below() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let ids = chain_ids(&[a, b]).unwrap();
        assert_eq!(ids[0].as_str(), a.0.hex());
        assert_eq!(ids[1].as_str(), Digest::of(format!("{a} {b}").as_bytes()).hex());
        assert_eq!(chain_id(None, a).unwrap(), ids[0]);
        assert_eq!(chain_id(Some(&ids[0]), b).unwrap(), ids[1]);
    }

    #[test]
    fn every_name_of_foreign_layers_is_known() {
        for media_type in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        ] {
            assert!(is_foreign(media_type));
        }
        assert!(!is_foreign(LAYER));
    }
}
