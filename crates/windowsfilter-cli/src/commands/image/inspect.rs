//! `image inspect`: all about one image.

use std::io::{self, Write};

use windowsfilter::DiffId;
use windowsfilter_image::ImageInfo;

use crate::error::Error;
use crate::human;
use crate::output::{Align, Table, write_fields};
use crate::session::Session;

/// Show an image: its system, layers, sizes and history
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference, or the beginning of an image ID
    #[arg(value_name = "REF")]
    reference: String,
}

#[derive(serde::Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    image: &'a ImageInfo,
    /// Base first.
    diff_ids: Vec<DiffId>,
}

/// Prints it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let image = session.of_image(&args.reference, session.images()?.inspect(&args.reference))?;
    let diff_ids = image.layers.iter().map(|layer| layer.diff_id).collect();
    session.output.print(&Inspected { image: &image, diff_ids }, |out| write(out, &image))
}

fn write(out: &mut dyn Write, image: &ImageInfo) -> io::Result<()> {
    let text = |text: &str| human::name(text.as_bytes());
    let optional = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), text);
    write_fields(
        out,
        &[
            ("ref", text(&image.reference)),
            ("image id", image.image_id.to_string()),
            (
                "system",
                format!("{}/{} {}", text(&image.os), text(&image.architecture), optional(&image.os_version)),
            ),
            ("created", optional(&image.created)),
            ("author", optional(&image.author)),
            ("size", human::size(image.size)),
        ],
    )?;
    writeln!(out)?;
    layers(image).write(out)?;
    if !image.history.is_empty() {
        writeln!(out)?;
        history(image).write(out)?;
    }
    Ok(())
}

fn layers(image: &ImageInfo) -> Table {
    let mut table = Table::new(&[
        ("LAYER", Align::Left),
        ("DIFF ID", Align::Left),
        ("SIZE", Align::Right),
        ("ENTRIES", Align::Right),
    ]);
    for layer in &image.layers {
        table.row([
            human::short_id(layer.id.as_str()).to_owned(),
            human::short_id(&layer.diff_id.0.hex()).to_owned(),
            human::size(layer.size),
            layer.entries.to_string(),
        ]);
    }
    table
}

fn history(image: &ImageInfo) -> Table {
    let mut table = Table::new(&[("HISTORY", Align::Left), ("STEP", Align::Left), ("COMMENT", Align::Left)]);
    let text = |text: &Option<String>| text.as_deref().map(|text| human::name(text.as_bytes()));
    for step in &image.history {
        table.row([
            step.created.as_deref().map_or_else(|| "-".to_owned(), human::rfc3339_minute),
            text(&step.created_by).unwrap_or_else(|| "-".to_owned()),
            text(&step.comment).unwrap_or_default(),
        ]);
    }
    table
}
