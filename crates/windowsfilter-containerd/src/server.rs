//! The server: both services on one socket, until a signal.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use windowsfilter::LayerStore;

use crate::api::diff::diff_server::DiffServer;
use crate::api::snapshots::snapshots_server::SnapshotsServer;
use crate::call::blocking;
use crate::containerd::{Containerd, Patience};
use crate::error::{Error, IoContext, chain};
use crate::listen;
use crate::metrics::{self, METRICS, OfKind};
use crate::records::Kind;
use crate::services::diff::DiffService;
use crate::services::snapshots::SnapshotsService;
use crate::snapshotter::{Snapshotter, SnapshotterOptions};

/// Timeouts for containerd. Committing a blob of gigabytes takes minutes on a slow disk.
const PATIENCE: Patience = Patience { answer: Duration::from_secs(60), commit: Duration::from_secs(20 * 60) };
/// Interval of the background work.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);
/// How long the start tries to connect to containerd.
const LOOK: Duration = Duration::from_secs(2);
/// Largest request; the limits of labels and filters are below this.
const MAX_REQUEST: usize = 4 << 20;

/// Options of the server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The socket, unless systemd passes one.
    pub address: PathBuf,
    /// containerd's socket.
    pub containerd: PathBuf,
    /// Address to serve metrics on.
    pub metrics: Option<SocketAddr>,
    /// The set of snapshots and its options.
    pub snapshots: SnapshotterOptions,
}

/// Serves until SIGTERM, SIGINT or SIGHUP, then waits for running calls; a second signal exits at once.
///
/// # Errors
/// The socket, the store or the set of snapshots cannot be opened.
pub fn serve(store: LayerStore, options: ServeOptions) -> Result<(), Error> {
    let ServeOptions { address, containerd, metrics: shown_at, snapshots } = options;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().at("start threads for", &address)?;
    let _in_runtime = runtime.enter();
    if let Some(address) = shown_at {
        metrics::show(address)?;
    }
    // Before opening the socket: clients find all mounts restored.
    let snapshotter = Arc::new(Snapshotter::open(store, snapshots)?);
    count_snapshots(&snapshotter);
    let listener = match listen::inherited()? {
        Some(listener) => listener,
        None => listen::bind(&address)?,
    };
    let stop = stop_signal()?;
    runtime.block_on(look_for(&containerd));
    let containerd = Containerd::new(&containerd, PATIENCE);
    tracing::info!(address = %address.display(), root = %snapshotter.store().root().display(), "serving");
    notify(&[NotifyState::Ready]);
    let stopped = async {
        stop.await;
        tracing::info!("stopping after the calls that run");
        notify(&[NotifyState::Stopping]);
    };
    let result = runtime.block_on(run(snapshotter, containerd, listener, stopped));
    // Abandoned work was told to stop and ends by itself; the store is consistent without it.
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// Serves on `listener` until `stop`, then until running calls are done.
///
/// # Errors
/// If the listener fails.
pub(crate) async fn run(
    snapshotter: Arc<Snapshotter>,
    containerd: Containerd,
    listener: UnixListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    listener.set_nonblocking(true).at("listen on", "the socket")?;
    let listener = tokio::net::UnixListener::from_std(listener).at("listen on", "the socket")?;
    let snapshots = SnapshotsServer::new(SnapshotsService::new(Arc::clone(&snapshotter), containerd.clone()))
        .max_decoding_message_size(MAX_REQUEST);
    let diff = DiffServer::new(DiffService::new(Arc::clone(&snapshotter), containerd))
        .max_decoding_message_size(MAX_REQUEST);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SnapshotsServer<SnapshotsService>>().await;
    health.set_serving::<DiffServer<DiffService>>().await;
    let tidying = tokio::spawn(tidy(snapshotter));
    let served = Server::builder()
        .add_service(health_service)
        .add_service(snapshots)
        .add_service(diff)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop)
        .await;
    tidying.abort();
    served.map_err(Error::Serve)
}

/// Warns if no containerd listens yet. It may start later, but a wrong path shows up now.
async fn look_for(containerd: &Path) {
    let connected = tokio::time::timeout(LOOK, tokio::net::UnixStream::connect(containerd)).await;
    if let Ok(Err(error)) = connected {
        let path = containerd.display();
        tracing::warn!(
            "no containerd listens on {path} yet, so no layer can be applied or compared: {error}"
        );
    }
}

/// Every few seconds: sets the gauges and retries removals of what was in use. containerd triggers a
/// cleanup only when it removes something else.
async fn tidy(snapshotter: Arc<Snapshotter>) {
    loop {
        tokio::time::sleep(TIDY_INTERVAL).await;
        count_snapshots(&snapshotter);
        let snapshotter = Arc::clone(&snapshotter);
        let again = blocking(move || {
            snapshotter.tidy();
            Ok(())
        });
        if let Err(error) = again.await {
            tracing::error!("{}", chain(&error));
        }
    }
}

fn count_snapshots(snapshotter: &Snapshotter) {
    let kinds = [
        ("view", Kind::View),
        ("unpack", Kind::Unpack),
        ("sandbox", Kind::Sandbox),
        ("committed", Kind::Committed),
    ];
    let records = snapshotter.list();
    for (name, kind) in kinds {
        let count = records.iter().filter(|record| record.kind == kind).count();
        METRICS.snapshots.get_or_create(&OfKind { kind: name }).set(count as i64);
    }
    let mounted = records.iter().filter(|record| matches!(record.kind, Kind::View | Kind::Sandbox));
    METRICS.mounts.set(mounted.count() as i64);
}

/// Waits for a signal to stop; SIGHUP is one, since there is nothing to reload. The next signal exits the
/// process.
fn stop_signal() -> Result<impl Future<Output = ()>, Error> {
    let listen = |kind| signal(kind).at("wait for", "signals");
    let mut signals =
        [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?];
    Ok(async move {
        next_signal(&mut signals).await;
        tokio::spawn(async move {
            next_signal(&mut signals).await;
            tracing::warn!("stopping at once");
            std::process::exit(1);
        });
    })
}

async fn next_signal([terminate, interrupt, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Notifies systemd, if it started this process.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell systemd: {error}");
    }
}
