//! A server on a socket of its own, and its clients.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use windowsfilter::{Digest, LayerStore, StorageOptions};

use super::fake_containerd::FakeContainerd;
use super::small_disk::SmallDisk;
use crate::api::diff::ApplyRequest;
use crate::api::diff::diff_client::DiffClient;
use crate::api::snapshots::snapshots_client::SnapshotsClient;
use crate::api::snapshots::{
    CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest,
    RemoveSnapshotRequest, StatSnapshotRequest, ViewSnapshotRequest,
};
use crate::api::types::{Descriptor, Mount};
use crate::containerd::{Containerd, NAMESPACE, Patience};
use crate::error::Error;
use crate::listen;
use crate::server;
use crate::snapshotter::{Snapshotter, SnapshotterOptions};
use crate::stop::Stop;

/// Timeouts for the tests' containerd.
pub(super) const PATIENCE: Patience =
    Patience { answer: Duration::from_secs(2), commit: Duration::from_secs(3) };

/// A store, a fake containerd, and a server that can be restarted.
pub(super) struct Fixture {
    pub(super) fake: FakeContainerd,
    pub(super) snapshots: SnapshotsClient<Channel>,
    pub(super) diff: DiffClient<Channel>,
    options: SnapshotterOptions,
    running: Option<Running>,
    disk: Option<SmallDisk>,
    dir: tempfile::TempDir,
}

struct Running {
    snapshotter: Arc<Snapshotter>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<(), Error>>,
}

pub(super) fn options() -> SnapshotterOptions {
    SnapshotterOptions { set: "default".into(), skip_existing: false, buildkit: None, start_anew: false }
}

pub(super) fn open(root: &Path, options: SnapshotterOptions) -> Result<Snapshotter, Error> {
    let store = LayerStore::open(root, StorageOptions { size: Some(1 << 30) }).unwrap();
    Snapshotter::open(store, options)
}

fn connect(path: PathBuf) -> Channel {
    Endpoint::from_static("http://test").connect_with_connector_lazy(tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(options())
    }

    pub(super) fn with(options: SnapshotterOptions) -> Self {
        Self::on(None, tempfile::tempdir().unwrap(), options)
    }

    /// A fixture whose store is on a disk of its own.
    pub(super) fn on_a_small_disk(megabytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        std::fs::create_dir(&store).unwrap();
        Self::on(Some(SmallDisk::ext4(&store, megabytes)), dir, options())
    }

    fn on(disk: Option<SmallDisk>, dir: tempfile::TempDir, options: SnapshotterOptions) -> Self {
        let fake = FakeContainerd::default();
        fake.serve(&dir.path().join("containerd.sock"));
        let channel = connect(dir.path().join("windowsfilter.sock"));
        let (snapshots, diff) = (SnapshotsClient::new(channel.clone()), DiffClient::new(channel));
        let mut fixture = Self { fake, snapshots, diff, options, running: None, disk, dir };
        fixture.start();
        fixture
    }

    /// Starts a server on the store.
    pub(super) fn start(&mut self) {
        let snapshotter = Arc::new(open(&self.path("store"), self.options.clone()).unwrap());
        let listener = listen::bind(&self.path("windowsfilter.sock")).unwrap();
        let containerd = Containerd::new(&self.path("containerd.sock"), PATIENCE);
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let server = tokio::spawn(server::run(Arc::clone(&snapshotter), containerd, listener, stopped));
        self.running = Some(Running { snapshotter, stop, server });
    }

    /// Stops the server after its running calls.
    pub(super) async fn stop(&mut self) {
        let Running { snapshotter, stop, server } = self.running.take().unwrap();
        drop(stop);
        server.await.unwrap().unwrap();
        // The gauges' task holds it for a moment; the records are closed with the last reference.
        while Arc::strong_count(&snapshotter) > 1 {
            tokio::task::yield_now().await;
        }
    }

    /// Restarts the server.
    pub(super) async fn restart(&mut self) {
        self.stop().await;
        self.start();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store's disk.
    pub(super) fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().unwrap()
    }

    pub(super) fn snapshotter(&self) -> &Snapshotter {
        &self.running.as_ref().unwrap().snapshotter
    }

    pub(super) fn store(&self) -> &LayerStore {
        self.snapshotter().store()
    }

    /// Checks that the store has exactly these layers.
    pub(super) fn assert_layers(&self, expected: &[&str]) {
        let layers = self.store().layers().unwrap();
        assert_eq!(layers.iter().map(windowsfilter::LayerId::as_str).collect::<Vec<_>>(), expected);
        assert_eq!(self.store().fsck(false).unwrap(), []);
    }

    pub(super) async fn prepare(&mut self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        self.prepare_labelled(key, parent, &[]).await
    }

    pub(super) async fn prepare_labelled(
        &mut self,
        key: &str,
        parent: &str,
        labels: &[(&str, &str)],
    ) -> Result<Vec<Mount>, Status> {
        let labels = map(labels);
        let request =
            PrepareSnapshotRequest { key: key.into(), parent: parent.into(), labels, ..Default::default() };
        Ok(self.snapshots.prepare(request).await?.into_inner().mounts)
    }

    pub(super) async fn view(&mut self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        let request = ViewSnapshotRequest { key: key.into(), parent: parent.into(), ..Default::default() };
        Ok(self.snapshots.view(request).await?.into_inner().mounts)
    }

    pub(super) async fn mounts(&mut self, key: &str) -> Result<Vec<Mount>, Status> {
        let request = MountsRequest { key: key.into(), ..Default::default() };
        Ok(self.snapshots.mounts(request).await?.into_inner().mounts)
    }

    pub(super) async fn commit(&mut self, name: &str, key: &str) -> Result<(), Status> {
        self.commit_on(name, key, "").await
    }

    pub(super) async fn commit_on(&mut self, name: &str, key: &str, parent: &str) -> Result<(), Status> {
        let (name, key, parent) = (name.into(), key.into(), parent.into());
        let request = CommitSnapshotRequest { name, key, parent, ..Default::default() };
        self.snapshots.commit(request).await.map(drop)
    }

    pub(super) async fn remove(&mut self, key: &str) -> Result<(), Status> {
        let request = RemoveSnapshotRequest { key: key.into(), ..Default::default() };
        self.snapshots.remove(request).await.map(drop)
    }

    pub(super) async fn stat(&mut self, key: &str) -> Result<Info, Status> {
        let request = StatSnapshotRequest { key: key.into(), ..Default::default() };
        Ok(self.snapshots.stat(request).await?.into_inner().info.unwrap())
    }

    /// Kind of a snapshot.
    pub(super) async fn kind(&mut self, key: &str) -> Kind {
        self.stat(key).await.unwrap().kind()
    }

    pub(super) async fn list(&mut self, filters: &[&str]) -> Result<Vec<String>, Status> {
        let filters = filters.iter().map(|&filter| filter.into()).collect();
        let request = ListSnapshotsRequest { filters, ..Default::default() };
        let mut stream = self.snapshots.list(request).await?.into_inner();
        let mut names = Vec::new();
        while let Some(message) = stream.message().await? {
            assert!(message.info.len() <= 100, "{} in one message", message.info.len());
            names.extend(message.info.into_iter().map(|info| info.name));
        }
        Ok(names)
    }

    /// Applies the blob with this digest and length.
    pub(super) async fn apply(
        &mut self,
        mounts: Vec<Mount>,
        digest: Digest,
        size: usize,
    ) -> Result<Descriptor, Status> {
        let request = apply_request(mounts, &digest.to_string(), size as i64);
        Ok(self.diff.apply(request).await?.into_inner().applied.unwrap())
    }

    /// Unpacks a layer as containerd does, and commits its snapshot as `name`.
    pub(super) async fn unpack(&mut self, name: &str, parent: &str, tar: &[u8]) {
        let blob = super::layers::gzip(tar);
        let digest = self.fake.add(&blob);
        let key = format!("default/1/extract-1 {name}");
        let mounts = self.prepare(&key, parent).await.unwrap();
        let applied = self.apply(mounts, digest, blob.len()).await.unwrap();
        assert_eq!(applied.digest, Digest::of(tar).to_string());
        self.commit(name, &key).await.unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Unmounts everything that a failed test left mounted.
        if let Some(running) = &self.running {
            let mut records = running.snapshotter.list();
            records.sort_by_key(|record| std::cmp::Reverse(record.number));
            for record in records {
                let _ = running.snapshotter.remove(&record.key, &Stop::default());
            }
        }
    }
}

/// Path of a fixture's records.
pub(super) fn records(fixture: &Fixture) -> PathBuf {
    fixture.path("store/containerd/default/snapshots.redb")
}

/// Captures the log of the thread that runs something.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Runs `work` and captures its log.
    pub(super) fn of<T>(&self, work: impl FnOnce() -> T) -> T {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::with_default(subscriber, work)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(super) fn apply_request(mounts: Vec<Mount>, digest: &str, size: i64) -> Request<ApplyRequest> {
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
    let diff = Descriptor { media_type, digest: digest.to_owned(), size, ..Default::default() };
    let mut request = Request::new(ApplyRequest { diff: Some(diff), mounts, ..Default::default() });
    request.metadata_mut().insert(NAMESPACE, "tests".parse().unwrap());
    request
}

/// The error of a call, which must fail with this code and these words.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, words: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{status:?}");
}

/// The directory of a view's or sandbox's mount.
#[track_caller]
pub(super) fn shown(mounts: &[Mount]) -> PathBuf {
    let [mount] = mounts else { panic!("one mount expected: {mounts:?}") };
    assert_eq!(mount.r#type, "rbind");
    assert!(mount.target.is_empty());
    PathBuf::from(&mount.source)
}
