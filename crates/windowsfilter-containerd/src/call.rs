//! Common to all calls: run on a thread that may block, log, and count.

use std::future::Future;
use std::time::{Duration, Instant};

use tonic::{Code, Request, Response, Status};

use crate::containerd::NAMESPACE;
use crate::error::Error;
use crate::metrics::{Ended, METRICS, Operation};
use crate::stop::Stop;

/// A call's identity in logs and metrics.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The operation's name in the protocol.
    pub(crate) operation: &'static str,
    /// containerd's namespace; some calls have none.
    pub(crate) namespace: Option<String>,
    /// The snapshot's key.
    pub(crate) key: String,
    /// The digest of the layer.
    pub(crate) digest: String,
}

/// The namespace in the request's header.
pub(crate) fn namespace<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get(NAMESPACE)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

impl Call {
    pub(crate) fn new<T>(operation: &'static str, request: &Request<T>, key: &str) -> Self {
        let namespace = namespace(request);
        Self { operation, namespace, key: key.to_owned(), digest: String::new() }
    }

    /// Runs blocking work and sets its [`Stop`] when the caller is gone.
    pub(crate) async fn block<T: Send + 'static>(
        self,
        work: impl FnOnce(&Stop) -> Result<T, Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let stop = Stop::default();
        // Dropped with the call: when the client disconnects or the deadline passes.
        let _stops = stop.on_drop();
        self.run(blocking(move || work(&stop))).await
    }

    /// Runs `work`, logs and counts it.
    pub(crate) async fn run<T>(
        self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Response<T>, Status> {
        tracing::trace!(operation = self.operation, key = self.key, "begins");
        let running = Running(Some((self, Instant::now())));
        let result = work.await.map(Response::new).map_err(Status::from);
        running.end(result.as_ref().err());
        result
    }

    fn report(&self, elapsed: Duration, failure: Option<&Status>) {
        let Self { operation, namespace, key, digest } = self;
        let namespace = namespace.as_deref().unwrap_or_default();
        let code = failure.map_or(Code::Ok, Status::code);
        let ended = Ended { operation, code: format!("{code:?}") };
        METRICS.operations.get_or_create(&ended).inc();
        METRICS.seconds.get_or_create(&Operation { operation }).observe(elapsed.as_secs_f64());
        let milliseconds = elapsed.as_millis() as u64;
        let key: String = key.chars().take(300).collect();
        match (failure, code) {
            (None, _) => {
                tracing::debug!(operation, namespace, key, digest, milliseconds, "done");
            }
            // containerd probes with these calls; such errors are expected.
            (Some(status), Code::NotFound | Code::AlreadyExists | Code::Unimplemented) => {
                tracing::debug!(operation, namespace, key, digest, milliseconds, "{}", status.message());
            }
            (Some(status), _) => {
                tracing::warn!(
                    operation,
                    namespace,
                    key,
                    digest,
                    milliseconds,
                    ?code,
                    "{}",
                    status.message()
                );
            }
        }
    }
}

/// A call in progress. Dropped unfinished when the caller goes away.
struct Running(Option<(Call, Instant)>);

impl Running {
    fn end(mut self, failure: Option<&Status>) {
        if let Some((call, start)) = self.0.take() {
            call.report(start.elapsed(), failure);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((call, start)) = self.0.take() {
            call.report(start.elapsed(), Some(&Status::cancelled("the caller did not wait for the end")));
        }
    }
}

/// Runs blocking work, to its end even if the caller is gone.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    #[test]
    fn a_call_whose_caller_is_gone_is_counted_as_cancelled() {
        // An operation name only this test uses: metrics are shared by the whole process.
        let call = Call::new("Abandoned", &Request::new(()), "k");
        let mut running = Box::pin(call.run(std::future::pending::<Result<(), Error>>()));
        assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(running);
        let shown = METRICS.text().unwrap();
        let line = r#"windowsfilter_operations_total{operation="Abandoned",code="Cancelled"} 1"#;
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
    }
}
