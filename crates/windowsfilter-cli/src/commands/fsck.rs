//! `fsck`: every invariant of the store.

use crate::error::Error;
use crate::session::Session;

/// Check every invariant of the store
///
/// Prints what is wrong, and exits with 5 unless nothing is or everything was repaired.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Mend what can be mended: rebuild indexes, finish what was interrupted
    #[arg(long)]
    repair: bool,
}

#[derive(serde::Serialize)]
struct Finding {
    /// The layer it is about.
    id: Option<String>,
    /// The image it is about. Neither: the store.
    #[serde(rename = "ref")]
    reference: Option<String>,
    problem: String,
    repaired: bool,
}

/// Checks, and repairs if asked to.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let findings = check(session, args.repair)?;
    session.output.print(&findings, |out| {
        for finding in &findings {
            let place = match (&finding.id, &finding.reference) {
                (Some(id), _) => format!("layer {id}"),
                (None, Some(reference)) => format!("image {reference}"),
                (None, None) => "store".to_owned(),
            };
            let state = if finding.repaired { " (repaired)" } else { "" };
            writeln!(out, "{place}: {}{state}", finding.problem)?;
        }
        if findings.is_empty() { writeln!(out, "no problems") } else { Ok(()) }
    })?;
    match findings.iter().filter(|finding| !finding.repaired).count() {
        0 => Ok(()),
        count => Err(Error::Findings { count }),
    }
}

fn check(session: &Session, repair: bool) -> Result<Vec<Finding>, Error> {
    let layers = session.store.fsck(repair)?.into_iter().map(|found| Finding {
        id: found.id.map(String::from),
        reference: None,
        problem: found.problem,
        repaired: found.repaired,
    });
    let images = session.images()?.fsck()?.into_iter().map(|found| Finding {
        id: None,
        reference: Some(found.reference),
        problem: found.problem,
        repaired: false,
    });
    Ok(layers.chain(images).collect())
}
