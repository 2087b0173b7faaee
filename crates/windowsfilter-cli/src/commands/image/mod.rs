//! `image …`: images by name.

mod edit;
mod export;
mod import;
mod inspect;
mod ls;
mod rm;
mod tag;

use std::io::Write;

use windowsfilter_image::Imported;

use crate::error::Error;
use crate::output::write_fields;
use crate::session::{Opening, Session};

/// Work with images
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "each command's help is at its arguments")]
pub(crate) enum Command {
    Import(Box<import::Args>),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Inspect(inspect::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Tag(tag::Args),
    Edit(Box<edit::Args>),
    Export(export::Args),
}

/// Runs one of them.
pub(crate) fn run(store: Opening<'_>, command: Command) -> Result<(), Error> {
    match command {
        Command::Import(args) => import::run(&store.importing(args.limits, args.force).open()?, *args),
        Command::Ls(args) => ls::run(&store.open()?, &args),
        Command::Inspect(args) => inspect::run(&store.open()?, &args),
        Command::Rm(args) => rm::run(&store.open()?, &args),
        Command::Tag(args) => tag::run(&store.open()?, &args),
        Command::Edit(args) => edit::run(&store.open()?, *args),
        Command::Export(args) => export::run(&store.open()?, &args),
    }
}

/// Prints an image that was imported or committed.
pub(super) fn print_image(session: &Session, image: &Imported) -> Result<(), Error> {
    for note in &image.notes {
        session.output.note(note);
    }
    session.output.print(image, |out: &mut dyn Write| {
        let mut fields = Vec::new();
        for (number, reference) in image.references.iter().enumerate() {
            fields.push((if number == 0 { "ref" } else { "" }, reference.clone()));
        }
        fields.push(("image id", image.image_id.to_string()));
        for (number, layer) in image.layers.iter().enumerate() {
            fields.push((if number == 0 { "layers" } else { "" }, layer.to_string()));
        }
        write_fields(out, &fields)
    })
}
