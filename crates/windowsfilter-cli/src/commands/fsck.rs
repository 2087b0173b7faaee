//! `fsck`: every invariant of the store.

use std::io;

use windowsfilter::fsck::Invariant;

use crate::error::Error;
use crate::session::Session;

/// Check every invariant of the store
///
/// Prints each problem with the name of the violated invariant (docs/fsck.md explains them). Exits with 5 if
/// problems remain. The bytes of layers are read by `layer verify`, not here.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Repair what can be repaired without loss: rebuild indexes, finish interrupted work
    #[arg(long)]
    repair: bool,
}

/// A finding of any part of the store.
#[derive(serde::Serialize)]
pub(crate) struct Finding {
    invariant: Invariant,
    /// The layer with the problem.
    id: Option<String>,
    /// The image with the problem.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// The set of containerd's snapshots with the problem.
    set: Option<String>,
    problem: String,
    repaired: bool,
}

impl From<windowsfilter::fsck::Finding> for Finding {
    fn from(found: windowsfilter::fsck::Finding) -> Self {
        let windowsfilter::fsck::Finding { invariant, id, problem, repaired } = found;
        Self { invariant, id: id.map(String::from), reference: None, set: None, problem, repaired }
    }
}

impl From<windowsfilter_image::Finding> for Finding {
    fn from(found: windowsfilter_image::Finding) -> Self {
        let windowsfilter_image::Finding { invariant, reference, problem, repaired } = found;
        Self { invariant, id: None, reference, set: None, problem, repaired }
    }
}

#[cfg(target_os = "linux")]
impl From<windowsfilter_containerd::Finding> for Finding {
    fn from(found: windowsfilter_containerd::Finding) -> Self {
        let windowsfilter_containerd::Finding { invariant, set, problem } = found;
        Self { invariant, id: None, reference: None, set: Some(set), problem, repaired: false }
    }
}

impl Finding {
    /// Whether cleanup removes it.
    fn is_leftover(&self) -> bool {
        matches!(
            self.invariant,
            Invariant::InterruptedWork
                | Invariant::TemporaryFiles
                | Invariant::UnfinishedTemplate
                | Invariant::MountsInUse
                | Invariant::LocksOfLayers
        )
    }

    /// Prints it on one line.
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let place = match (&self.id, &self.reference, &self.set) {
            (Some(id), ..) => format!("layer {id}"),
            (_, Some(reference), _) => format!("image {reference}"),
            (.., Some(set)) => format!("snapshots of set {set}"),
            (None, None, None) => "store".to_owned(),
        };
        let state = if self.repaired { " (repaired)" } else { "" };
        // Most problems begin with their place.
        let problem = self.problem.strip_prefix(&format!("{place}: ")).unwrap_or(&self.problem);
        writeln!(out, "{place}: {}: {problem}{state}", self.invariant)
    }
}

/// Checks, and repairs if asked to.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let findings = check(session, args.repair)?;
    session.output.print(&findings, |out| {
        write_all(&findings, out)?;
        if findings.is_empty() { writeln!(out, "no problems") } else { Ok(()) }
    })?;
    result(&findings)
}

fn check(session: &Session, repair: bool) -> Result<Vec<Finding>, Error> {
    let layers = session.store.fsck(repair)?.into_iter().map(Finding::from);
    let images = session.images()?.fsck(repair)?.into_iter().map(Finding::from);
    Ok(layers.chain(images).chain(snapshots(session)?).collect())
}

#[cfg(target_os = "linux")]
fn snapshots(session: &Session) -> Result<Vec<Finding>, Error> {
    let found = windowsfilter_containerd::fsck(&session.store)?;
    Ok(found.into_iter().map(Finding::from).collect())
}

/// Only Linux has snapshots of containerd.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
fn snapshots(_: &Session) -> Result<Vec<Finding>, Error> {
    Ok(Vec::new())
}

/// Prints findings, a line each.
pub(crate) fn write_all(findings: &[Finding], out: &mut dyn io::Write) -> io::Result<()> {
    findings.iter().try_for_each(|finding| finding.write(out))
}

/// The command's end: a failure if there is anything left to repair.
pub(crate) fn result(findings: &[Finding]) -> Result<(), Error> {
    let left: Vec<&Finding> = findings.iter().filter(|finding| !finding.repaired).collect();
    match left.len() {
        0 => Ok(()),
        count => Err(Error::Findings { count, leftovers: left.iter().all(|finding| finding.is_leftover()) }),
    }
}
