//! `layer ls`: all layers and sandboxes.

use windowsfilter::{LayerId, LayerKind};

use super::inspect::Layer;
use crate::error::Error;
use crate::human;
use crate::output::{Align, Table};
use crate::session::Session;

/// List layers and sandboxes
///
/// With -q only their IDs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print IDs in full
    #[arg(long)]
    no_trunc: bool,
}

/// Prints the list: each layer after its parents, sandboxes last. A damaged layer is reported, and does not
/// hide the others.
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
    session.output.print(&layers, |out| {
        if session.output.is_quiet() {
            return layers
                .iter()
                .try_for_each(|layer| writeln!(out, "{}", shown_id(&layer.id, args.no_trunc)));
        }
        table(&layers, args.no_trunc).write(out)
    })
}

fn shown_id(id: &LayerId, whole: bool) -> String {
    if whole { id.to_string() } else { id.short().to_owned() }
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
    for layer in layers {
        let counted = layer.diff_id.is_some();
        table.row([
            shown_id(&layer.id, whole),
            layer.kind.as_str().to_owned(),
            layer.parents.first().map_or("-".to_owned(), |parent| shown_id(parent, whole)),
            if counted || layer.sandbox_size.is_some() { human::size(layer.size) } else { "-".to_owned() },
            if counted { layer.entries.to_string() } else { "-".to_owned() },
            human::unix_minute(layer.created_seconds),
            layer
                .targets
                .last()
                .or(layer.mounted.as_ref())
                .map_or_else(String::new, |path| human::name(path.as_bytes())),
        ]);
    }
    table
}
