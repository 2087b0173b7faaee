//! Unpacks a blob of containerd's content store into a snapshot's layer.

use std::sync::Arc;

use tokio::sync::mpsc;
use windowsfilter::import::Imported;

use crate::call::blocking;
use crate::containerd::Containerd;
use crate::error::Error;
use crate::pieces::{PieceReader, UNDER_WAY};
use crate::records::Record;
use crate::snapshotter::{Cancel, LayerBlob, Snapshotter};

/// Cancels the work when the caller is gone: its future, which holds this, is dropped then.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Unpacks the blob `layer` into the snapshot `record`.
///
/// # Errors
/// Like [`Snapshotter::unpack`]; a blob that cannot be read.
pub(crate) async fn unpack(
    snapshotter: &Arc<Snapshotter>,
    containerd: &Containerd,
    record: Arc<Record>,
    namespace: String,
    layer: LayerBlob,
) -> Result<Imported, Error> {
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let containerd = containerd.clone();
    let feed = tokio::spawn(async move { containerd.read(&namespace, layer.digest, sender).await });
    let cancel = Cancel::new(feed.abort_handle());
    let _on_drop = CancelOnDrop(cancel.clone());
    let snapshotter = Arc::clone(snapshotter);
    let blob = Box::new(PieceReader::new(receiver));
    let unpacked = blocking(move || snapshotter.unpack(&record, layer, blob, &cancel)).await;
    feed.abort();
    match (unpacked, feed.await) {
        (Ok(imported), _) => Ok(imported),
        // If reading the blob failed, that is the cause.
        (Err(error), Ok(Err(cause))) if !matches!(error, Error::Cancelled { .. }) => Err(cause),
        (Err(error), _) => Err(error),
    }
}
