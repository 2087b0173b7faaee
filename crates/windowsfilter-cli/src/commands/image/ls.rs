//! `image ls`: all images.

use windowsfilter_image::ImageSummary;

use crate::error::Error;
use crate::human;
use crate::output::{Align, Table};
use crate::session::Session;

/// List images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints the list. A damaged image is reported, and does not hide the others.
pub(crate) fn run(session: &Session, _args: &Args) -> Result<(), Error> {
    let images = session.images()?.list()?;
    for image in &images {
        if let Some(problem) = &image.problem {
            session.output.note(&format!("image {}: {problem}", human::name(image.reference.as_bytes())));
        }
    }
    session.output.print(&images, |out| table(&images).write(out))
}

fn table(images: &[ImageSummary]) -> Table {
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
            human::short_id(&image.image_id.hex()).to_owned(),
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
