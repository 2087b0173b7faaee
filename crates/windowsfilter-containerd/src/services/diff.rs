//! `containerd.services.diff.v1.Diff`.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use windowsfilter::DiffId;
use windowsfilter::support::Hashed;
use windowsfilter_image::Compression;

use crate::api::diff::diff_server::Diff;
use crate::api::diff::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse};
use crate::api::types::{Descriptor, Mount};
use crate::call::{Call, blocking, namespace};
use crate::containerd::{Containerd, Produced, Target};
use crate::error::Error;
use crate::metrics::METRICS;
use crate::pieces::{PieceWriter, UNDER_WAY};
use crate::records::Record;
use crate::services::unpack::unpack;
use crate::snapshotter::{LayerBlob, Snapshotter};

/// Media type of a layer's tar.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// End of the error message for unsupported media types.
const SUPPORTED: &str = "tar, tar+gzip and tar+zstd of OCI's and Docker's layers are";
/// Lifetime of a new blob's lease: by then the client must have named the blob in an image.
const LEASE_LIFETIME: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct DiffService {
    snapshotter: Arc<Snapshotter>,
    containerd: Containerd,
}

impl DiffService {
    pub(crate) fn new(snapshotter: Arc<Snapshotter>, containerd: Containerd) -> Self {
        Self { snapshotter, containerd }
    }

    /// The snapshot that `mounts` belong to; an error if they are not ours.
    fn subject(&self, mounts: &[Mount], what: &'static str) -> Result<Arc<Record>, Error> {
        self.snapshotter.of_mounts(mounts)?.ok_or(Error::ForeignMounts { what })
    }

    fn namespace(&self, given: Option<String>, record: &Record) -> Result<String, Error> {
        let namespace = given.or_else(|| self.snapshotter.namespace_of(record));
        namespace.ok_or_else(|| Error::NoNamespace { key: record.short_key() })
    }

    async fn unpack(
        &self,
        record: Arc<Record>,
        namespace: Option<String>,
        layer: Descriptor,
    ) -> Result<ApplyResponse, Error> {
        let namespace = self.namespace(namespace, &record)?;
        let blob = described(&layer)?;
        let (snapshotter, subject) = (Arc::clone(&self.snapshotter), Arc::clone(&record));
        if let Some((diff_id, size)) = blocking(move || snapshotter.present_for_client(&subject)).await? {
            return Ok(applied(diff_id, size));
        }
        let imported = unpack(&self.snapshotter, &self.containerd, record, namespace, blob).await?;
        METRICS.apply_bytes.inc_by(imported.blob.1);
        Ok(applied(imported.diff_id, imported.tar_size))
    }

    async fn compare(&self, request: DiffRequest, namespace: Option<String>) -> Result<DiffResponse, Error> {
        let (media_type, compression) = wanted(&request.media_type)?;
        let snapshotter = Arc::clone(&self.snapshotter);
        let (left, right) = self.sides(&request)?;
        let namespace = self.namespace(namespace, &right)?;
        let newest = request.source_date_epoch.as_ref().map(time);
        let tar = blocking(move || snapshotter.difference(left.as_deref(), &right, newest)).await?;

        let target = Target {
            namespace,
            reference: Some(request.r#ref).filter(|reference| !reference.is_empty()),
            lease: unique(),
            lifetime: LEASE_LIFETIME,
            labels: request.labels,
        };
        let (sender, pieces) = mpsc::channel(UNDER_WAY);
        let produced = blocking(move || produce(tar, PieceWriter::new(sender), compression));
        // Spawned, not polled here: it runs while pieces are sent.
        let produced = tokio::spawn(produced);
        let produced = async { produced.await.map_err(|_| Error::Panicked)? };
        let Produced { digest, size, .. } = self.containerd.write(&target, pieces, produced).await?;
        METRICS.diff_bytes.inc_by(size);
        let diff = Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size: signed(size),
            ..Descriptor::default()
        };
        Ok(DiffResponse { diff: Some(diff) })
    }

    /// The two snapshots to compare. `None` on the left: compare with nothing.
    fn sides(&self, request: &DiffRequest) -> Result<(Option<Arc<Record>>, Arc<Record>), Error> {
        let left = self.snapshotter.of_mounts(&request.left)?;
        let right = self.snapshotter.of_mounts(&request.right)?;
        match (left, right) {
            (None, None) => Err(Error::ForeignMounts { what: "mounts to compare" }),
            (Some(left), Some(right)) => Ok((Some(left), right)),
            (None, Some(right)) if request.left.is_empty() => Ok((None, right)),
            (None, Some(right)) => Err(unrelated("other mounts", &right.key)),
            (Some(left), None) => Err(unrelated(&left.key, "other mounts")),
        }
    }
}

fn unrelated(left: &str, right: &str) -> Error {
    let shown = |text: &str| text.chars().take(200).collect();
    let reason = "only one of the two is a snapshot of this snapshotter";
    Error::Unrelated { left: shown(left), right: shown(right), reason }
}

#[tonic::async_trait]
impl Diff for DiffService {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let mut call = Call::new("Apply", &request, "");
        let namespace = namespace(&request);
        let ApplyRequest { diff, mounts, .. } = request.into_inner();
        call.digest = diff.as_ref().map(|diff| diff.digest.clone()).unwrap_or_default();
        let record = match self.subject(&mounts, "mounts to apply to") {
            Ok(record) => record,
            Err(error) => return call.run(async { Err(error) }).await,
        };
        call.key.clone_from(&record.key);
        call.run(async {
            let layer = diff.ok_or(Error::Missing { what: "the layer's descriptor" })?;
            if !is_layer(&layer.media_type) {
                return Err(Error::MediaType { media_type: layer.media_type, supported: SUPPORTED });
            }
            self.unpack(record, namespace, layer).await
        })
        .await
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let mut call = Call::new("Diff", &request, "");
        let namespace = namespace(&request);
        let request = request.into_inner();
        if let Ok(Some(record)) = self.snapshotter.of_mounts(&request.right) {
            call.key.clone_from(&record.key);
        }
        call.run(self.compare(request, namespace)).await
    }
}

fn described(layer: &Descriptor) -> Result<LayerBlob, Error> {
    let size = u64::try_from(layer.size)
        .map_err(|_| Error::Descriptor { digest: layer.digest.clone(), size: layer.size })?;
    Ok(LayerBlob { digest: layer.digest.parse()?, size, diff_id: None })
}

/// Apply's response: digest and length of the tar.
fn applied(diff_id: DiffId, size: u64) -> ApplyResponse {
    let applied = Descriptor {
        media_type: LAYER.to_owned(),
        digest: diff_id.to_string(),
        size: signed(size),
        ..Descriptor::default()
    };
    ApplyResponse { applied: Some(applied) }
}

/// Whether a blob of this media type can be a layer. Its first bytes tell the compression; encrypted blobs
/// cannot be read.
fn is_layer(media_type: &str) -> bool {
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    media_type.is_empty()
        || known.iter().any(|known| media_type.starts_with(known))
            && media_type.contains(".tar")
            && !media_type.contains("+encrypted")
}

/// Media type and compression for a new blob.
fn wanted(media_type: &str) -> Result<(&str, Compression), Error> {
    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    match media_type {
        "" | GZIP | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Ok((if media_type.is_empty() { GZIP } else { media_type }, Compression::Gzip))
        }
        LAYER | "application/vnd.docker.image.rootfs.diff.tar" => Ok((media_type, Compression::None)),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok((media_type, Compression::Zstd)),
        _ => {
            Err(Error::MediaType { media_type: media_type.chars().take(200).collect(), supported: SUPPORTED })
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A timestamp of containerd's messages as seconds and nanoseconds.
fn time(timestamp: &Timestamp) -> (i64, u32) {
    (timestamp.seconds, u32::try_from(timestamp.nanos).unwrap_or_default())
}

/// A name unique in containerd.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("windowsfilter-{}-{time}-{count}", std::process::id())
}

/// Compresses `tar` into `to` and hashes both.
fn produce(tar: Box<dyn Read + Send>, to: PieceWriter, compression: Compression) -> Result<Produced, Error> {
    let mut tar = Hashed::new(tar);
    let mut blob = Hashed::new(to);
    let copied = compression.copy(&mut tar, &mut blob).and_then(|()| blob.flush());
    copied.map_err(|source| {
        // Errors of walking the sandbox arrive as errors of the stream.
        match source.downcast::<windowsfilter::Error>() {
            Ok(error) => Error::Store(error),
            Err(source) => Error::Io { action: "read", path: "the changes".into(), source },
        }
    })?;
    let (diff_id, _) = tar.finish();
    let (digest, size) = blob.finish();
    Ok(Produced { digest, size, diff_id: DiffId(diff_id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_by_their_media_type_and_encrypted_ones_are_not_taken() {
        for media_type in [
            "",
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            assert!(is_layer(media_type), "{media_type}");
        }
        for media_type in [
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.in-toto+json",
            "application/vnd.oci.image.config.v1+json",
            "text/plain",
        ] {
            assert!(!is_layer(media_type), "{media_type}");
        }
    }

    #[test]
    fn a_diff_is_gzip_unless_asked_for_otherwise() {
        assert_eq!(wanted("").unwrap(), ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip));
        assert_eq!(wanted(LAYER).unwrap().1, Compression::None);
        assert_eq!(wanted("application/vnd.oci.image.layer.v1.tar+zstd").unwrap().1, Compression::Zstd);
        assert!(matches!(wanted("application/zip"), Err(Error::MediaType { .. })));
    }
}
