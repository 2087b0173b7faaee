//! Prometheus metrics of the server: counters of calls and bytes, and gauges of snapshots and mounts.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::error::{Error, chain};

/// Upper bounds of the histogram's buckets, seconds: from reading a record to applying gigabytes.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0];
/// Connections served at the same time; others wait.
const CONNECTIONS: usize = 16;
/// Timeout for a connection's request, and again for sending the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Labels of a finished call: its name in the protocol and its gRPC code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Ended {
    pub(crate) operation: &'static str,
    pub(crate) code: String,
}

/// Label of a call: its name in the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Operation {
    pub(crate) operation: &'static str,
}

/// Label of snapshots: their kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfKind {
    pub(crate) kind: &'static str,
}

type Seconds = Family<Operation, Histogram, fn() -> Histogram>;

/// The metrics of this process, counted whether they are served or not.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) operations: Family<Ended, Counter>,
    pub(crate) seconds: Seconds,
    pub(crate) apply_bytes: Counter,
    pub(crate) diff_bytes: Counter,
    pub(crate) snapshots: Family<OfKind, Gauge>,
    pub(crate) mounts: Gauge,
    registry: Registry,
}

/// The metrics of this process.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    /// The library appends `_total` to counters' names.
    fn new() -> Self {
        let mut metrics = Self {
            operations: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            apply_bytes: Counter::default(),
            diff_bytes: Counter::default(),
            snapshots: Family::default(),
            mounts: Gauge::default(),
            registry: Registry::with_prefix("windowsfilter"),
        };
        let registry = &mut metrics.registry;
        registry.register("operations", "Calls by operation and gRPC code", metrics.operations.clone());
        registry.register("operation_seconds", "How long calls took, by operation", metrics.seconds.clone());
        registry.register("apply_bytes", "Bytes of blobs that were unpacked", metrics.apply_bytes.clone());
        registry.register(
            "diff_bytes",
            "Bytes of blobs that were made of changes",
            metrics.diff_bytes.clone(),
        );
        registry.register("snapshots", "Snapshots by kind", metrics.snapshots.clone());
        registry.register("mounts", "Views and sandboxes that are held mounted", metrics.mounts.clone());
        metrics
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Serves the metrics at `http://<address>/metrics` from a task on the current runtime.
///
/// # Errors
/// If it cannot listen on the address.
pub(crate) fn show(address: SocketAddr) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Metrics { address, reason: chain(&error) };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    tokio::spawn(answer_all(listener));
    Ok(())
}

async fn answer_all(listener: tokio::net::TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, or the client disconnected: try again later.
                tracing::warn!("metrics: {}", chain(&error));
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let _permit = permit;
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            let answered = http.serve_connection(TokioIo::new(stream), service_fn(answer));
            match tokio::time::timeout(2 * PATIENCE, answered).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("metrics: {}", chain(&error)),
                Err(_) => tracing::debug!("metrics: a client did not take its answer"),
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/metrics" | "/" => METRICS.text().map_or_else(
            |error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            |text| (StatusCode::OK, text),
        ),
        other => (StatusCode::NOT_FOUND, format!("there is no {other}; metrics are at /metrics\n")),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    if let Ok(kind) = prometheus_text::CONTENT_TYPE.parse() {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    Ok(response)
}
