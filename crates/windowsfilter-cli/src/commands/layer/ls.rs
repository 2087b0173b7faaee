//! `layer ls`: all layers and sandboxes.

use windowsfilter::LayerKind;

use super::inspect::Layer;
use crate::error::Error;
use crate::human;
use crate::output::{Align, Table};
use crate::session::Session;

/// List layers and sandboxes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print IDs in full
    #[arg(long)]
    no_trunc: bool,
}

/// Prints the list: each layer after its parents, sandboxes last. A damaged layer is reported, and does not hide the others.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let mut layers = Vec::new();
    for id in session.store.layers()? {
        match Layer::read(session, id) {
            Ok(layer) => layers.push(layer),
            Err(error) => session.output.note(&error.to_string()),
        }
    }
    layers
        .sort_by_key(|layer| (layer.kind == LayerKind::Sandbox, layer.parents.len(), layer.created_seconds));
    session.output.print(&layers, |out| table(&layers, args.no_trunc).write(out))
}

fn table(layers: &[Layer], whole: bool) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("KIND", Align::Left),
        ("PARENT", Align::Left),
        ("SIZE", Align::Right),
        ("ENTRIES", Align::Right),
        ("CREATED", Align::Left),
        ("MOUNTED", Align::Left),
    ]);
    let short = |id: &str| if whole { id.to_owned() } else { human::short_id(id).to_owned() };
    for layer in layers {
        let counted = layer.diff_id.is_some();
        table.row([
            short(layer.id.as_str()),
            layer.kind.as_str().to_owned(),
            layer.parents.first().map_or("-".to_owned(), |parent| short(parent.as_str())),
            if counted { human::size(layer.size) } else { "-".to_owned() },
            if counted { layer.entries.to_string() } else { "-".to_owned() },
            human::unix_minute(layer.created_seconds),
            layer
                .targets
                .last()
                .or(layer.mounted.as_ref())
                .map_or_else(String::new, |path| path.display().to_string()),
        ]);
    }
    table
}
