//! `layer verify`: reads layers and compares them with their records.

use std::num::NonZeroUsize;

use windowsfilter::{DiffId, LayerId};

use crate::commands::fsck::{self, Finding};
use crate::commands::several;
use crate::error::Error;
use crate::human;
use crate::progress::Progress;
use crate::session::Session;

/// Read all of a layer and check it against its digest and index
///
/// Exits with 5 if it does not verify. --all reads every layer and prints all problems, as `fsck` does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// IDs of layers, or image references: their top layers
    #[arg(value_name = "ID|REF")]
    ids: Vec<String>,
    /// Read every layer, and check sandboxes and images too
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Layers to read at a time [default: the number of processors]
    #[arg(long, value_name = "N", requires = "all")]
    jobs: Option<NonZeroUsize>,
}

#[derive(serde::Serialize)]
struct Verified {
    id: LayerId,
    diff_id: Option<DiffId>,
}

#[derive(serde::Serialize)]
struct AllVerified {
    layers: usize,
    bytes: u64,
    findings: Vec<Finding>,
}

impl Args {
    /// Refuses to verify nothing. clap would ask for an ID alone.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.all || !self.ids.is_empty() { Ok(()) } else { Err(Error::NothingToVerify) }
    }
}

/// Verifies them, or all.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    if args.all {
        return verify_all(session, args.jobs);
    }
    let verify = |name: &str| verify(session, session.layer(name)?);
    several::each(session, &args.ids, verify, |Verified { id, diff_id }, out| match diff_id {
        Some(diff_id) => writeln!(out, "layer {id} is intact: {diff_id}"),
        None => writeln!(out, "layer {id} is intact"),
    })
}

fn verify(session: &Session, id: LayerId) -> Result<Verified, Error> {
    session.store.verify(&id)?;
    let diff_id = session.store.record(&id)?.diff_id;
    Ok(Verified { id, diff_id })
}

fn verify_all(session: &Session, jobs: Option<NonZeroUsize>) -> Result<(), Error> {
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    // What cannot be read is a finding, not a reason to stop.
    let size = |id: &LayerId| session.store.record(id).map_or(0, |record| record.tar_size);
    let total = session.store.layers()?.iter().map(size).sum();
    let progress = Progress::new(session.output, "verify", Some(total));
    let layers = session.store.verify_all(jobs, &progress)?;
    drop(progress);
    let mut images = session.images()?.fsck(false)?;
    images.extend(session.images()?.verify_layer_blobs(false)?);
    let findings = layers.findings.into_iter().map(Finding::from);
    let findings: Vec<Finding> = findings.chain(images.into_iter().map(Finding::from)).collect();
    let verified = AllVerified { layers: layers.layers, bytes: layers.bytes, findings };
    session.output.print(&verified, |out| {
        fsck::write_all(&verified.findings, out)?;
        if !verified.findings.is_empty() {
            return Ok(());
        }
        let (layers, bytes) = (verified.layers, human::size(verified.bytes));
        writeln!(out, "everything is intact: {layers} layers and sandboxes, {bytes} read")
    })?;
    fsck::result(&verified.findings)
}
