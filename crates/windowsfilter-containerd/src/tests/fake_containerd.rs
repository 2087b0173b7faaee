//! containerd's content store and leases in memory, with injected failures.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use windowsfilter::Digest;

use crate::api::content::content_server::{Content, ContentServer};
use crate::api::content::{
    AbortRequest, Info, ListContentRequest, ListContentResponse, ReadContentRequest, ReadContentResponse,
    UpdateRequest, UpdateResponse, WriteAction, WriteContentRequest, WriteContentResponse,
};
use crate::api::leases::leases_server::{Leases, LeasesServer};
use crate::api::leases::{AddResourceRequest, CreateRequest, CreateResponse, DeleteRequest, Lease};
use crate::containerd::NAMESPACE;

/// How the content store answers a read of a blob.
#[derive(Clone, Debug)]
pub(super) enum Blob {
    /// Sends it.
    Whole(Vec<u8>),
    /// Sends these bytes and then hangs.
    Hangs(Vec<u8>),
    /// Sends these bytes and then fails.
    Breaks(Vec<u8>),
    /// Sends this again and again, without an end.
    Repeats(Vec<u8>),
}

/// A written blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) data: Vec<u8>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) lease: String,
    pub(super) namespace: String,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) blobs: HashMap<String, Blob>,
    /// Labels of blobs, by digest.
    pub(super) labels: HashMap<String, HashMap<String, String>>,
    pub(super) written: HashMap<String, Written>,
    pub(super) leases: HashMap<String, HashMap<String, String>>,
    /// Resources added to leases: lease, kind and digest.
    pub(super) resources: Vec<(String, String, String)>,
    /// References of aborted writes.
    pub(super) aborted: Vec<String>,
    /// Writes fail with this code after this number of messages.
    pub(super) write_failure: Option<(usize, tonic::Code)>,
    /// Writes get no answer.
    pub(super) silent: bool,
    /// Whether the leases service is missing.
    pub(super) without_leases: bool,
    /// Namespaces of all reads.
    pub(super) read_namespaces: Vec<String>,
}

/// The containerd. It ends with its runtime.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeContainerd {
    state: Arc<Mutex<State>>,
    /// Notified when a read has sent everything and hangs, and when a write gets no answer.
    pub(super) hanging: Arc<Notify>,
    /// Notified when a write was aborted and its lease deleted.
    pub(super) taken_back: Arc<Notify>,
}

impl FakeContainerd {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a blob and returns its digest.
    pub(super) fn add(&self, data: &[u8]) -> Digest {
        let digest = Digest::of(data);
        self.state().blobs.insert(digest.to_string(), Blob::Whole(data.to_vec()));
        digest
    }

    /// Listens on `path`.
    pub(super) fn serve(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let server = Server::builder()
            .add_service(ContentServer::new(self.clone()).max_decoding_message_size(16 << 20))
            .add_service(LeasesServer::new(self.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(server);
    }
}

fn header<T>(request: &Request<T>, name: &str) -> String {
    request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

type Answers<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Content for FakeContainerd {
    type ListStream = Answers<ListContentResponse>;
    type ReadStream = Answers<ReadContentResponse>;
    type WriteStream = Answers<WriteContentResponse>;

    async fn list(&self, _: Request<ListContentRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (sender, receiver) = mpsc::channel(100);
        let state = self.state();
        for (digest, blob) in &state.blobs {
            let (Blob::Whole(data) | Blob::Hangs(data) | Blob::Breaks(data) | Blob::Repeats(data)) = blob;
            let labels = state.labels.get(digest).cloned().unwrap_or_default();
            let info = Info { digest: digest.clone(), size: data.len() as i64, labels, ..Info::default() };
            sender.try_send(Ok(ListContentResponse { info: vec![info] })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn read(&self, request: Request<ReadContentRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let namespace = header(&request, NAMESPACE);
        self.state().read_namespaces.push(namespace);
        let digest = request.into_inner().digest;
        let blob = self.state().blobs.get(&digest).cloned();
        let blob = blob.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))?;
        let (sender, receiver) = mpsc::channel(1);
        let hanging = Arc::clone(&self.hanging);
        tokio::spawn(async move {
            if let Blob::Repeats(data) = &blob {
                let message = || ReadContentResponse { offset: 0, data: data.clone() };
                while sender.send(Ok(message())).await.is_ok() {}
                return;
            }
            let (Blob::Whole(data) | Blob::Hangs(data) | Blob::Breaks(data) | Blob::Repeats(data)) = &blob;
            let mut offset = 0;
            for data in data.chunks(100_000) {
                let message = ReadContentResponse { offset, data: data.to_vec() };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
                offset += data.len() as i64;
            }
            match blob {
                Blob::Whole(_) | Blob::Repeats(_) => {}
                Blob::Breaks(_) => drop(sender.send(Err(Status::data_loss("disk on fire"))).await),
                Blob::Hangs(_) => {
                    hanging.notify_one();
                    sender.closed().await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let (namespace, lease) = (header(&request, NAMESPACE), header(&request, "containerd-lease"));
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::channel(1);
        let fake = self.clone();
        tokio::spawn(async move {
            let mut blob = Written { namespace, lease, ..Written::default() };
            let mut count = 0;
            while let Ok(Some(message)) = requests.message().await {
                if fake.state().silent {
                    fake.hanging.notify_one();
                    sender.closed().await;
                    return;
                }
                count += 1;
                let failure = fake.state().write_failure;
                let answer = match failure {
                    Some((after, code)) if count > after => {
                        Err(Status::new(code, "the content store refuses"))
                    }
                    _ => fake.take(&mut blob, message),
                };
                let ends = answer.is_err();
                if sender.send(answer).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        let UpdateRequest { info, update_mask } = request.into_inner();
        let info = info.unwrap();
        let mut state = self.state();
        let blob = state.written.get_mut(&info.digest).ok_or_else(|| Status::not_found("no such blob"))?;
        for path in update_mask.unwrap_or_default().paths {
            let key = path.strip_prefix("labels.").unwrap();
            blob.labels.insert(key.to_owned(), info.labels[key].clone());
        }
        Ok(Response::new(UpdateResponse { info: Some(info) }))
    }

    async fn abort(&self, request: Request<AbortRequest>) -> Result<Response<()>, Status> {
        self.state().aborted.push(request.into_inner().r#ref);
        Ok(Response::new(()))
    }
}

impl FakeContainerd {
    fn take(&self, blob: &mut Written, message: WriteContentRequest) -> Result<WriteContentResponse, Status> {
        if message.r#ref.is_empty() {
            return Err(Status::invalid_argument("first message must have a reference"));
        }
        if message.offset != blob.data.len() as i64 {
            return Err(Status::out_of_range(format!(
                "offset {}, expected {}",
                message.offset,
                blob.data.len()
            )));
        }
        blob.data.extend_from_slice(&message.data);
        let digest = Digest::of(&blob.data).to_string();
        if message.action == i32::from(WriteAction::Commit) {
            if message.expected != digest || message.total != blob.data.len() as i64 {
                return Err(Status::failed_precondition("unexpected commit digest"));
            }
            let mut state = self.state();
            if state.written.contains_key(&digest) {
                return Err(Status::already_exists(format!("content {digest}: already exists")));
            }
            blob.labels = message.labels.into_iter().collect();
            state.written.insert(digest.clone(), blob.clone());
        }
        Ok(WriteContentResponse { action: message.action, digest, ..WriteContentResponse::default() })
    }
}

#[tonic::async_trait]
impl Leases for FakeContainerd {
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let CreateRequest { id, labels } = request.into_inner();
        if self.state().without_leases {
            return Err(Status::unimplemented("unknown service containerd.services.leases.v1.Leases"));
        }
        self.state().leases.insert(id.clone(), labels.clone());
        let lease = Some(Lease { id, labels, created_at: None });
        Ok(Response::new(CreateResponse { lease }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<()>, Status> {
        let id = request.into_inner().id;
        let lease = self.state().leases.remove(&id);
        self.taken_back.notify_one();
        lease.map(|_| Response::new(())).ok_or_else(|| Status::not_found(format!("lease {id}: not found")))
    }

    async fn add_resource(&self, request: Request<AddResourceRequest>) -> Result<Response<()>, Status> {
        let AddResourceRequest { id, resource } = request.into_inner();
        let resource = resource.unwrap();
        self.state().resources.push((id, resource.r#type, resource.id));
        Ok(Response::new(()))
    }
}
