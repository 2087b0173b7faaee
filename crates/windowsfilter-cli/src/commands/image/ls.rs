//! `image ls`: all images.

use std::collections::BTreeSet;

use windowsfilter::Digest;
use windowsfilter_image::ImageSummary;

use crate::error::Error;
use crate::human;
use crate::output::{Align, Table};
use crate::session::Session;

/// List images
///
/// With -q only their IDs, each once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print IDs in full
    #[arg(long)]
    no_trunc: bool,
}

/// Prints the list. A damaged image is reported, and does not hide the others.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let images = session.images()?.list()?;
    for image in &images {
        if let Some(problem) = &image.problem {
            session.output.note(&format!("image {}: {problem}", human::name(image.reference.as_bytes())));
        }
    }
    session.output.print(&images, |out| {
        if !session.output.is_quiet() {
            return table(&images, args.no_trunc).write(out);
        }
        let ids: BTreeSet<String> =
            images.iter().map(|image| shown_id(&image.image_id, args.no_trunc)).collect();
        ids.iter().try_for_each(|id| writeln!(out, "{id}"))
    })
}

fn shown_id(id: &Digest, whole: bool) -> String {
    if whole { id.to_string() } else { human::short_id(&id.hex()).to_owned() }
}

fn table(images: &[ImageSummary], whole: bool) -> Table {
    let mut table = Table::new(&[
        ("REF", Align::Left),
        ("IMAGE ID", Align::Left),
        ("OS VERSION", Align::Left),
        ("LAYERS", Align::Right),
        ("SIZE", Align::Right),
        ("CREATED", Align::Left),
    ]);
    for image in images {
        table.row([
            human::name(image.reference.as_bytes()),
            shown_id(&image.image_id, whole),
            image
                .os_version
                .as_deref()
                .map_or_else(|| "-".to_owned(), |version| human::name(version.as_bytes())),
            image.layers.to_string(),
            image.size.map_or_else(|| "-".to_owned(), human::size),
            image.created.as_deref().map_or_else(|| "-".to_owned(), human::rfc3339_minute),
        ]);
    }
    table
}
