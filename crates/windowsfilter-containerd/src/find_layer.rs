//! Finds a layer's blob in containerd's content store, given only its chain ID.
//!
//! Unpackers label a blob with its diffID, and so does BuildKit for blobs it pulls. Label and parent chain
//! ID give the chain ID to compare. If BuildKit made the parent, its chain ID differs between BuildKit and
//! this store: our diff of it keeps Windows' own metadata. In that case, and without a label, the manifest
//! and config of an image with this layer name the blob.

use serde_json::Value;
use windowsfilter::{DiffId, Digest, LayerId};
use windowsfilter_image::chain_id;

use crate::containerd::Containerd;
use crate::error::Error;
use crate::snapshotter::Wanted;

/// Most blobs to look at.
const MAX_BLOBS: usize = 100_000;
/// Documents to read: their largest size, bytes, and most of them.
const MAX_DOCUMENT: u64 = 1 << 20;
const MAX_DOCUMENTS: usize = 2_000;

/// A blob of containerd's content store.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its length, bytes.
    pub(crate) size: u64,
    /// The digest of its uncompressed content, from its label.
    pub(crate) uncompressed: Option<DiffId>,
}

/// A found blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Digest of the blob.
    pub(crate) digest: Digest,
    /// Its length, bytes.
    pub(crate) size: u64,
    /// Expected digest of its uncompressed content.
    pub(crate) diff_id: DiffId,
}

/// Finds a layer's blob.
///
/// # Errors
/// [`Error::NoBlob`], [`Error::TooManyBlobs`]; errors of containerd.
pub(crate) async fn find(containerd: &Containerd, wanted: &Wanted) -> Result<Found, Error> {
    let layer = wanted.chain_id.to_string();
    let Some(blobs) = containerd.blobs(&wanted.namespace, MAX_BLOBS).await? else {
        return Err(Error::TooManyBlobs { layer, limit: MAX_BLOBS });
    };
    let is_wanted = |diff_id: DiffId| {
        chain_id(wanted.below.as_ref(), diff_id).is_ok_and(|id| id.as_str() == wanted.chain_id.hex())
    };
    // Without a label, the blob may be the plain tar, whose digest is the diffID.
    let diff_id = |blob: &Blob| blob.uncompressed.unwrap_or(DiffId(blob.digest));
    if let Some(blob) = blobs.iter().find(|blob| is_wanted(diff_id(blob))) {
        return Ok(Found { digest: blob.digest, size: blob.size, diff_id: diff_id(blob) });
    }
    for blob in blobs.iter().filter(|blob| blob.size <= MAX_DOCUMENT).take(MAX_DOCUMENTS) {
        let Some(document) = document(containerd, wanted, blob.digest).await? else { continue };
        let Some(config) = named(&document, &["config", "digest"]).and_then(digest_of) else { continue };
        let is_there = blobs.iter().any(|blob| blob.digest == config && blob.size <= MAX_DOCUMENT);
        let Some(config) = (if is_there { self::document(containerd, wanted, config).await? } else { None })
        else {
            continue;
        };
        if let Some((digest, diff_id)) = layer_of(&document, &config, &wanted.chain_id.hex())
            && let Some(blob) = blobs.iter().find(|blob| blob.digest == digest)
        {
            return Ok(Found { digest, size: blob.size, diff_id });
        }
    }
    Err(Error::NoBlob { key: wanted.record.short_key(), layer })
}

/// A small blob parsed as JSON; `None` if it is not JSON.
async fn document(containerd: &Containerd, wanted: &Wanted, digest: Digest) -> Result<Option<Value>, Error> {
    let bytes = containerd.small_blob(&wanted.namespace, digest, MAX_DOCUMENT).await?;
    Ok(bytes
        .filter(|bytes| bytes.first() == Some(&b'{'))
        .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Blob and diffID of the image's layer whose chain ID is `wanted`.
fn layer_of(manifest: &Value, config: &Value, wanted: &str) -> Option<(Digest, DiffId)> {
    let layers = named(manifest, &["layers"])?.as_array()?;
    let diff_ids = named(config, &["rootfs", "diff_ids"])?.as_array()?;
    let mut below: Option<LayerId> = None;
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let diff_id = DiffId(digest_of(diff_id)?);
        let id = chain_id(below.as_ref(), diff_id).ok()?;
        if id.as_str() == wanted {
            return Some((named(layer, &["digest"]).and_then(digest_of)?, diff_id));
        }
        below = Some(id);
    }
    None
}

/// The value at `path`. Keys match as in Go, an exact one first: Microsoft's configs spell `rootfS`.
fn named<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| {
        let fields = value.as_object()?;
        fields
            .get(*name)
            .or_else(|| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v))
    })
}

fn digest_of(value: &Value) -> Option<Digest> {
    value.as_str()?.parse().ok()
}
