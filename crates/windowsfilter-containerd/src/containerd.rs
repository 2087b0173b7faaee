//! Calls to containerd: its content store for blobs, its leases to keep new blobs from garbage collection.
//!
//! One connection, and another for each blob being written. Every call has a timeout: a content store that
//! hangs must not block a snapshot for ever. A failed or abandoned write leaves nothing in the content
//! store.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use windowsfilter::{DiffId, Digest};

use crate::api::content::content_client::ContentClient;
use crate::api::content::{
    AbortRequest, Info, ListContentRequest, ReadContentRequest, ReadContentResponse, UpdateRequest,
    WriteAction, WriteContentRequest,
};
use crate::api::leases::leases_client::LeasesClient;
use crate::api::leases::{AddResourceRequest, CreateRequest, DeleteRequest, Resource};
use crate::error::{Error, chain};
use crate::find_layer::Blob;
use crate::pieces::Piece;

/// Header that carries a call's namespace.
pub(crate) const NAMESPACE: &str = "containerd-namespace";
/// Header that carries a call's lease.
const LEASE: &str = "containerd-lease";
/// Label with the digest of a blob's uncompressed content.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// The same label as BuildKit writes it, from a descriptor's annotations (`blobAnnotationsLabelPrefix` of
/// its `cache/refs.go`).
const UNCOMPRESSED_BUILDKIT: &str = "buildkit.io/blob/annotation.containerd.io/uncompressed";
/// Label with a lease's expiry.
const EXPIRE: &str = "containerd.io/gc.expire";

/// Largest message: containerd's own limit. It sends 1 MiB at a time.
const MAX_MESSAGE: usize = 16 << 20;
/// Least bytes of a blob to receive within one timeout, except at its end; less counts as stalled.
/// containerd reads from its disk and sends a megabyte at a time.
const PROGRESS: usize = 64 << 10;
/// HTTP/2 window: with a smaller one a blob arrives in many small steps.
const WINDOW: u32 = 4 << 20;

/// A containerd.
#[derive(Clone, Debug)]
pub(crate) struct Containerd {
    address: PathBuf,
    channel: Channel,
    patience: Patience,
}

/// Timeouts for containerd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For an answer.
    pub(crate) answer: Duration,
    /// For the answer to a blob's commit: containerd syncs all of it to the disk first.
    pub(crate) commit: Duration,
}

/// A blob written to the content store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Produced {
    /// Digest of the blob.
    pub(crate) digest: Digest,
    /// Its length, bytes.
    pub(crate) size: u64,
    /// Digest of its uncompressed content.
    pub(crate) diff_id: DiffId,
}

/// Progress of a blob being read, against the timeout.
struct Progress {
    patience: Duration,
    /// Start of the current interval.
    began: Instant,
    /// Bytes received since then.
    bytes: usize,
}

impl Progress {
    fn new(patience: Duration) -> Self {
        Self { patience, began: Instant::now(), bytes: 0 }
    }

    /// Time left in the interval.
    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.began.elapsed())
    }

    /// Counts `length` received bytes. Handling them took `ours`, which does not count against containerd.
    fn made(&mut self, length: usize, ours: Duration) {
        self.bytes += length;
        self.began += ours;
        if self.bytes >= PROGRESS {
            (self.began, self.bytes) = (Instant::now(), 0);
        }
    }
}

/// Where and how to write a blob.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// Reference of the write if the client chose one; otherwise the lease's name is used.
    pub(crate) reference: Option<String>,
    /// Name of the lease that keeps the blob until something else refers to it: an image, or BuildKit's own
    /// lease.
    pub(crate) lease: String,
    /// The lease's lifetime.
    pub(crate) lifetime: jiff::SignedDuration,
    /// Labels of the blob.
    pub(crate) labels: HashMap<String, String>,
}

impl Target {
    fn reference(&self) -> &str {
        self.reference.as_ref().unwrap_or(&self.lease)
    }
}

/// Aborts the write of a blob and ends its lease on drop, unless the blob was committed.
struct Begun(Option<(Containerd, Target)>);

impl Begun {
    /// The blob was committed.
    fn complete(mut self) {
        self.0 = None;
    }

    /// Aborts the write in a task of its own, which runs on even if the caller is gone.
    fn take_back(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        let (containerd, target) = self.0.take()?;
        // Without a runtime the server has shut down.
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(runtime.spawn(async move { containerd.take_back(&target).await }))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        drop(self.take_back());
    }
}

impl Containerd {
    /// The containerd at the socket `address`, which it may open later. `patience` sets the timeouts.
    pub(crate) fn new(address: &Path, patience: Patience) -> Self {
        Self { address: address.to_owned(), channel: connection(address), patience }
    }

    fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn failed(&self, action: impl Into<String>) -> impl FnOnce(Status) -> Error {
        let (address, action) = (self.address.display().to_string(), action.into());
        move |status| Error::Containerd { address, action, source: Box::new(status) }
    }

    /// Waits for an answer, with a timeout.
    async fn answer<T>(
        &self,
        action: &str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        match self.in_time(action, self.patience.answer, call).await? {
            Ok(answer) => Ok(answer),
            Err(status) => Err(self.failed(action)(status)),
        }
    }

    /// The error for a blob that arrives too slowly.
    fn stalled(&self, action: String) -> Error {
        let (address, seconds) = (self.address.display().to_string(), self.patience.answer.as_secs());
        Error::Stalled { address, action, bytes: PROGRESS, seconds }
    }

    async fn in_time<T>(
        &self,
        action: &str,
        patience: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, Error> {
        tokio::time::timeout(patience, call).await.map_err(|_| Error::Silent {
            address: self.address.display().to_string(),
            action: action.to_owned(),
            seconds: patience.as_secs(),
        })
    }

    /// Sends the blob `digest` to `pieces`. Returns `Ok` if the receiver is gone.
    pub(crate) async fn read(
        &self,
        namespace: &str,
        digest: Digest,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<(), Error> {
        let action = format!("read {digest}");
        let request = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        let mut content = self.content();
        let mut stream =
            self.answer(&action, content.read(in_namespace(request, namespace)?)).await?.into_inner();
        let mut progress = Progress::new(self.patience.answer);
        loop {
            let message = match tokio::time::timeout(progress.left(), stream.message()).await {
                // Messages without data must not extend the timeout.
                Ok(Ok(Some(_)) | Err(_)) if progress.left().is_zero() => return Err(self.stalled(action)),
                Ok(message) => message.map_err(self.failed(&action))?,
                Err(_) => return Err(self.stalled(action)),
            };
            let Some(ReadContentResponse { data, .. }) = message else { break };
            let (length, came) = (data.len(), Instant::now());
            if length > 0 && pieces.send(Piece::Data(data)).await.is_err() {
                return Ok(());
            }
            progress.made(length, came.elapsed());
        }
        // A receiver that misses this end treats the blob as cut off.
        let _ = pieces.send(Piece::End).await;
        Ok(())
    }

    /// Lists a namespace's blobs; `None` if there are more than `limit`.
    pub(crate) async fn blobs(&self, namespace: &str, limit: usize) -> Result<Option<Vec<Blob>>, Error> {
        let action = format!("list the content of namespace {namespace}");
        let mut content = self.content();
        let request = in_namespace(ListContentRequest::default(), namespace)?;
        let mut stream = self.answer(&action, content.list(request)).await?.into_inner();
        let (began, mut blobs) = (Instant::now(), Vec::new());
        while let Some(message) = self.answer(&action, stream.message()).await? {
            blobs.extend(message.info.into_iter().filter_map(blob));
            if blobs.len() > limit {
                return Ok(None);
            }
            if began.elapsed() > self.patience.answer {
                return Err(self.stalled(action));
            }
        }
        Ok(Some(blobs))
    }

    /// Reads the blob `digest`; `None` if it is longer than `limit`.
    pub(crate) async fn small_blob(
        &self,
        namespace: &str,
        digest: Digest,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (sender, mut pieces) = mpsc::channel(1);
        let reading = self.read(namespace, digest, sender);
        // Owns the receiver: returning early drops it, which stops reading a blob that is too long.
        let collecting = async move {
            let mut bytes = Vec::new();
            while let Some(Piece::Data(data)) = pieces.recv().await {
                bytes.extend_from_slice(&data);
                if bytes.len() as u64 > limit {
                    return None;
                }
            }
            Some(bytes)
        };
        let (read, collected) = tokio::join!(reading, collecting);
        read.map(|()| collected)
    }

    /// Writes a blob from `pieces`, held by a lease that expires; `produced` resolves to its digests after
    /// the last piece. A blob that already exists counts as written. If the write fails or the caller is
    /// gone, neither blob nor lease stays.
    pub(crate) async fn write(
        &self,
        target: &Target,
        pieces: mpsc::Receiver<Vec<u8>>,
        produced: impl Future<Output = Result<Produced, Error>>,
    ) -> Result<Produced, Error> {
        let mut begun = Begun(Some((self.clone(), target.clone())));
        let written = match self.lease(target).await {
            Ok(()) => self.try_write(target, pieces, produced).await,
            Err(error) => {
                // Stops the producer, so that it does not keep its sandbox locked while the lease is
                // removed.
                drop(pieces);
                Err(error)
            }
        };
        if written.is_ok() {
            begun.complete();
        } else if let Some(taking_back) = begun.take_back() {
            let _ = taking_back.await;
        }
        written
    }

    /// Aborts the write and ends the lease. If that fails, containerd drops both by itself: the lease when
    /// it expires, the write after a day.
    async fn take_back(&self, target: &Target) {
        for result in [self.abort(target).await, self.end_lease(target).await] {
            if let Err(error) = result {
                tracing::warn!("{}", chain(&error));
            }
        }
    }

    /// Aborts a write under a reference of ours. A reference that the client chose may be in use by another
    /// write by now, which this would abort.
    async fn abort(&self, target: &Target) -> Result<(), Error> {
        if target.reference.is_some() {
            return Ok(());
        }
        let request = AbortRequest { r#ref: target.reference().to_owned() };
        let request = in_namespace(request, &target.namespace)?;
        let mut content = self.content();
        self.end(format!("abort {}", target.reference()), content.abort(request)).await
    }

    /// Creates the lease.
    async fn lease(&self, target: &Target) -> Result<(), Error> {
        let expire = (jiff::Timestamp::now() + target.lifetime).to_string();
        let (id, labels) = (target.lease.clone(), [(EXPIRE.to_owned(), expire)].into());
        let request = in_namespace(CreateRequest { id, labels }, &target.namespace)?;
        let mut leases = LeasesClient::new(self.channel.clone());
        let action = format!("create the lease {}", target.lease);
        self.answer(&action, leases.create(request)).await?;
        Ok(())
    }

    async fn end_lease(&self, target: &Target) -> Result<(), Error> {
        let request = DeleteRequest { id: target.lease.clone(), sync: false };
        let request = in_namespace(request, &target.namespace)?;
        let mut leases = LeasesClient::new(self.channel.clone());
        self.end(format!("delete the lease {}", target.lease), leases.delete(request)).await
    }

    /// Aborts or deletes something; fine if it does not exist.
    async fn end<T>(
        &self,
        action: String,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<(), Error> {
        match self.in_time(&action, self.patience.answer, call).await? {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.failed(action)(status)),
        }
    }

    async fn try_write(
        &self,
        target: &Target,
        pieces: mpsc::Receiver<Vec<u8>>,
        produced: impl Future<Output = Result<Produced, Error>>,
    ) -> Result<Produced, Error> {
        let action = format!("write {}", target.reference());
        let (requests, receiver) = mpsc::channel(4);
        let mut request = in_namespace(ReceiverStream::new(receiver), &target.namespace)?;
        request.metadata_mut().insert(LEASE, header(&target.lease)?);
        // Uses a connection of its own: data that containerd does not take fills it, and the abort could
        // not get past that.
        let mut content = ContentClient::new(connection(&self.address));
        // containerd answers every message, so read answers while still sending.
        let answers = async {
            let mut answers = content.write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<_, Status>(())
        };
        let send = self.send(target, pieces, produced, requests);
        tokio::pin!(answers, send);
        let (answered, sent) = tokio::select! {
            answered = &mut answers => (answered, None),
            sent = &mut send => {
                let sent = sent?;
                // Only the answer to the commit is outstanding.
                (self.in_time(&action, self.patience.commit, &mut answers).await?, Some(sent))
            }
        };
        match (answered, sent) {
            (Ok(()), Some(produced)) => Ok(produced),
            (Err(status), Some(produced)) if status.code() == Code::AlreadyExists => {
                self.keep_present(target, &produced).await?;
                Ok(produced)
            }
            (Err(status), _) => Err(self.failed(action)(status)),
            (Ok(()), None) => Err(self.failed(action)(Status::aborted("it ended before all was sent"))),
        }
    }

    /// Sends the pieces and then the commit.
    async fn send(
        &self,
        target: &Target,
        mut pieces: mpsc::Receiver<Vec<u8>>,
        produced: impl Future<Output = Result<Produced, Error>>,
        requests: mpsc::Sender<WriteContentRequest>,
    ) -> Result<Produced, Error> {
        let action = format!("write {}", target.reference());
        let mut offset = 0;
        while let Some(data) = pieces.recv().await {
            let length = data.len() as i64;
            let request = WriteContentRequest {
                action: WriteAction::Write.into(),
                r#ref: target.reference().to_owned(),
                offset,
                data,
                ..WriteContentRequest::default()
            };
            // Fails when the receiver is gone; then the answers carry the error.
            let _ = self.in_time(&action, self.patience.answer, requests.send(request)).await?;
            offset += length;
        }
        let produced = produced.await?;
        let mut labels = target.labels.clone();
        labels.insert(UNCOMPRESSED.to_owned(), produced.diff_id.to_string());
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: target.reference().to_owned(),
            total: offset,
            expected: produced.digest.to_string(),
            offset,
            labels,
            ..WriteContentRequest::default()
        };
        let _ = self.in_time(&action, self.patience.answer, requests.send(request)).await?;
        Ok(produced)
    }

    /// Does for an existing blob what a commit would have done: sets its label and adds it to the lease.
    async fn keep_present(&self, target: &Target, produced: &Produced) -> Result<(), Error> {
        let digest = produced.digest.to_string();
        let add = AddResourceRequest {
            id: target.lease.clone(),
            resource: Some(Resource { id: digest.clone(), r#type: "content".to_owned() }),
        };
        let action = format!("add {digest} to the lease {}", target.lease);
        let mut leases = LeasesClient::new(self.channel.clone());
        self.answer(&action, leases.add_resource(in_namespace(add, &target.namespace)?)).await?;
        let labels = [(UNCOMPRESSED.to_owned(), produced.diff_id.to_string())].into();
        let update = UpdateRequest {
            info: Some(Info { digest: digest.clone(), labels, ..Info::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec![format!("labels.{UNCOMPRESSED}")] }),
        };
        let mut content = self.content();
        let action = format!("label {digest}");
        self.answer(&action, content.update(in_namespace(update, &target.namespace)?)).await?;
        Ok(())
    }
}

/// Connects on first use, and again after a failure.
fn connection(address: &Path) -> Channel {
    let path = address.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://containerd")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .connect_with_connector_lazy(connect)
}

/// A blob from containerd's listing; `None` for other digest algorithms.
fn blob(info: Info) -> Option<Blob> {
    let label = |name| info.labels.get(name)?.parse().ok();
    let uncompressed = label(UNCOMPRESSED).or_else(|| label(UNCOMPRESSED_BUILDKIT));
    Some(Blob { digest: info.digest.parse().ok()?, size: info.size.try_into().ok()?, uncompressed })
}

fn header(value: &str) -> Result<MetadataValue<Ascii>, Error> {
    value.parse().map_err(|_| Error::Header { value: value.chars().take(100).collect() })
}

fn in_namespace<T>(message: T, namespace: &str) -> Result<Request<T>, Error> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE, header(namespace)?);
    Ok(request)
}
