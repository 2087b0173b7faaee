//! `commit`: commits a sandbox's changes as a layer and an image.

use windowsfilter_image::{CommitOptions, Reference};

use super::image::print_image;
use crate::config_arguments::{ConfigArguments, HistoryArguments, created, parse_time};
use crate::error::Error;
use crate::limits::LimitArguments;
use crate::progress::Progress;
use crate::session::Session;

/// Commit a sandbox's changes as a layer and a new image
///
/// The sandbox may be mounted, and does not change. The new image has the config of the image that the
/// sandbox was created from.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of the sandbox
    id: String,
    /// Reference of the new image
    #[arg(long = "ref", value_name = "REF")]
    reference: Reference,
    #[command(flatten)]
    history: HistoryArguments,
    /// Time to record: seconds since 1970, or as in 2026-08-01T12:00:00Z. Files that were changed later get
    /// this time too, so that the same changes give the same image [env: SOURCE_DATE_EPOCH] [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    created: Option<i64>,
    /// Refuse file attributes that a layer cannot have, instead of leaving them out with a note
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

/// Commits it and prints the image.
pub(crate) fn run(session: &Session, args: Args) -> Result<(), Error> {
    let id = session.sandbox(&args.id)?;
    let created = created(args.created)?;
    let progress = Progress::new(session.output, "commit", None);
    let options = CommitOptions {
        reference: args.reference,
        author: args.history.author,
        message: args.history.message,
        created,
        edits: args.config.into(),
        strict: args.strict,
        progress: &progress,
    };
    let image = session.images()?.commit(&id, options)?;
    drop(progress);
    print_image(session, &image)
}
