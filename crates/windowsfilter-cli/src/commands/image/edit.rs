//! `image edit`: another image of the same layers.

use windowsfilter_image::{EditOptions, Reference};

use super::print_image;
use crate::config_arguments::{ConfigArguments, HistoryArguments, created, parse_time};
use crate::error::Error;
use crate::session::Session;

/// Make an image of the same layers with another config
///
/// Each change is an entry in the new image's history. The old image stays, unless --ref is its own name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference, or image ID
    #[arg(value_name = "REF")]
    image: String,
    /// Reference of the new image
    #[arg(long = "ref", value_name = "NEW")]
    reference: Reference,
    #[command(flatten)]
    history: HistoryArguments,
    /// Time to record: seconds since 1970, or as in 2026-08-01T12:00:00Z
    /// [env: SOURCE_DATE_EPOCH] [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    created: Option<i64>,
    #[command(flatten)]
    config: ConfigArguments,
}

/// Makes and prints it.
pub(crate) fn run(session: &Session, args: Args) -> Result<(), Error> {
    let options = EditOptions {
        edits: args.config.into(),
        author: args.history.author,
        message: args.history.message,
        created: created(args.created)?,
        ..EditOptions::new(args.reference)
    };
    let image = session.of_image(&args.image, session.images()?.edit(&args.image, &options))?;
    print_image(session, &image)
}
