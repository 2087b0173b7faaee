//! `containerd.services.snapshots.v1.Snapshots`.

use std::collections::HashMap;
use std::sync::Arc;

use prost_types::Timestamp;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::api::snapshots::snapshots_server::Snapshots;
use crate::api::snapshots::{
    CleanupRequest, CommitSnapshotRequest, Info, Kind as ApiKind, ListSnapshotsRequest,
    ListSnapshotsResponse, MountsRequest, MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse,
    RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest,
    UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use crate::call::{Call, blocking, namespace};
use crate::containerd::Containerd;
use crate::error::Error;
use crate::filter::{Filters, Subject};
use crate::find_layer::{self, Found};
use crate::labels;
use crate::records::{Kind, Record};
use crate::services::unpack::unpack;
use crate::snapshotter::{LayerBlob, New, Snapshotter, Wanted};
use crate::stop::Stop;

/// Snapshots in one message of List.
const BATCH: usize = 100;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotsService {
    snapshotter: Arc<Snapshotter>,
    containerd: Containerd,
}

impl SnapshotsService {
    pub(crate) fn new(snapshotter: Arc<Snapshotter>, containerd: Containerd) -> Self {
        Self { snapshotter, containerd }
    }

    /// If a client will unpack this layer by itself, unpacks it into the store first, from containerd's
    /// content store, unless the store has it.
    async fn unpack_wanted(&self, key: String, stop: Stop) -> Result<(), Error> {
        let snapshotter = Arc::clone(&self.snapshotter);
        let Some(wanted) = blocking(move || snapshotter.wanted(&key, &stop)).await? else { return Ok(()) };
        let Found { digest, size, diff_id } = find_layer::find(&self.containerd, &wanted).await?;
        let (snapshotter, owner) = (Arc::clone(&self.snapshotter), wanted.clone());
        if blocking(move || snapshotter.own_found(&owner, diff_id)).await? {
            return Ok(());
        }
        let Wanted { record, namespace, .. } = wanted;
        let blob = LayerBlob { digest, size, diff_id: Some(diff_id) };
        unpack(&self.snapshotter, &self.containerd, record, namespace, blob).await.map(drop)
    }

    /// Runs `work` on the snapshotter, in a blocking thread.
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Snapshotter, &Stop) -> Result<T, Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let snapshotter = Arc::clone(&self.snapshotter);
        call.block(move |stop| work(&snapshotter, stop)).await
    }
}

fn new(
    key: String,
    parent: String,
    namespace: Option<String>,
    labels: HashMap<String, String>,
) -> Result<New, Error> {
    Ok(New { key, parent, namespace, labels: labels::checked(labels)? })
}

#[tonic::async_trait]
impl Snapshots for SnapshotsService {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let call = Call::new("Prepare", &request, &request.get_ref().key);
        let namespace = namespace(&request);
        let PrepareSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        self.call(call, move |snapshotter, stop| {
            let mounts = snapshotter.prepare(new(key, parent, namespace, labels)?, stop)?;
            Ok(PrepareSnapshotResponse { mounts })
        })
        .await
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> Result<Response<ViewSnapshotResponse>, Status> {
        let call = Call::new("View", &request, &request.get_ref().key);
        let namespace = namespace(&request);
        let ViewSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        self.call(call, move |snapshotter, stop| {
            let mounts = snapshotter.view(new(key, parent, namespace, labels)?, stop)?;
            Ok(ViewSnapshotResponse { mounts })
        })
        .await
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Result<Response<MountsResponse>, Status> {
        let call = Call::new("Mounts", &request, &request.get_ref().key);
        let key = request.into_inner().key;
        let stop = Stop::default();
        // Dropped with the call: when the client disconnects or the deadline passes.
        let _stops = stop.on_drop();
        call.run(async {
            if self.snapshotter.unpacks_for_clients() {
                self.unpack_wanted(key.clone(), stop.clone()).await?;
            }
            let snapshotter = Arc::clone(&self.snapshotter);
            let mounts = blocking(move || snapshotter.mounts(&key, &stop)).await?;
            Ok(MountsResponse { mounts })
        })
        .await
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        let call = Call::new("Commit", &request, &request.get_ref().key);
        let CommitSnapshotRequest { name, key, labels, parent, .. } = request.into_inner();
        self.call(call, move |snapshotter, stop| {
            snapshotter.commit(&name, &key, labels::checked(labels)?, &parent, stop)
        })
        .await
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        let call = Call::new("Remove", &request, &request.get_ref().key);
        let key = request.into_inner().key;
        self.call(call, move |snapshotter, stop| snapshotter.remove(&key, stop)).await
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> Result<Response<StatSnapshotResponse>, Status> {
        let call = Call::new("Stat", &request, &request.get_ref().key);
        let key = request.into_inner().key;
        self.call(call, move |snapshotter, _| {
            Ok(StatSnapshotResponse { info: Some(info(&*snapshotter.stat(&key)?)) })
        })
        .await
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        let name = request.get_ref().info.as_ref().map(|info| info.name.clone()).unwrap_or_default();
        let call = Call::new("Update", &request, &name);
        let UpdateSnapshotRequest { info: given, update_mask, .. } = request.into_inner();
        self.call(call, move |snapshotter, stop| {
            let given = given.ok_or(Error::Missing { what: "the snapshot's info" })?;
            let paths = update_mask.unwrap_or_default().paths;
            let record = snapshotter.update(&given.name, &labels::checked(given.labels)?, &paths, stop)?;
            Ok(UpdateSnapshotResponse { info: Some(info(&record)) })
        })
        .await
    }

    type ListStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<ListSnapshotsResponse, Status>> + Send + 'static>>;

    async fn list(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::new("List", &request, "");
        let filters = request.into_inner().filters;
        let records = self
            .call(call, move |snapshotter, stop| {
                let filters = Filters::parse(&filters, stop)?;
                let mut found = Vec::new();
                for record in snapshotter.list() {
                    stop.check()?;
                    if filters.accept(&subject(&record)) {
                        found.push(record);
                    }
                }
                Ok(found)
            })
            .await?
            .into_inner();
        // Builds each message as it is sent.
        let mut records = records.into_iter();
        let batches = std::iter::from_fn(move || {
            let info: Vec<Info> = records.by_ref().take(BATCH).map(|record| info(&record)).collect();
            (!info.is_empty()).then_some(Ok(ListSnapshotsResponse { info }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(batches))))
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        let call = Call::new("Usage", &request, &request.get_ref().key);
        let key = request.into_inner().key;
        self.call(call, move |snapshotter, stop| {
            let usage = snapshotter.usage(&key, stop)?;
            Ok(UsageResponse { size: signed(usage.size), inodes: signed(usage.inodes) })
        })
        .await
    }

    async fn cleanup(&self, request: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        let call = Call::new("Cleanup", &request, "");
        self.call(call, |snapshotter, _| snapshotter.cleanup()).await
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn kind(kind: Kind) -> ApiKind {
    match kind {
        Kind::View => ApiKind::View,
        Kind::Unpack | Kind::Sandbox => ApiKind::Active,
        Kind::Committed => ApiKind::Committed,
    }
}

fn subject(record: &Record) -> Subject<'_> {
    let kind = match record.kind {
        Kind::View => "view",
        Kind::Unpack | Kind::Sandbox => "active",
        Kind::Committed => "committed",
    };
    Subject { name: &record.key, parent: &record.parent, kind, labels: &record.labels }
}

fn info(record: &Record) -> Info {
    Info {
        name: record.key.clone(),
        parent: record.parent.clone(),
        kind: kind(record.kind).into(),
        created_at: Some(timestamp(record.created)),
        updated_at: Some(timestamp(record.updated)),
        labels: record.labels.clone().into_iter().collect(),
    }
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    const SECOND: i64 = 1_000_000_000;
    // The remainder is below 10^9, so the cast is exact.
    Timestamp { seconds: nanoseconds.div_euclid(SECOND), nanos: nanoseconds.rem_euclid(SECOND) as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds_before_1970_too() {
        assert_eq!(
            timestamp(1_700_000_000_123_456_789),
            Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 }
        );
        assert_eq!(timestamp(-1), Timestamp { seconds: -1, nanos: 999_999_999 });
    }
}
