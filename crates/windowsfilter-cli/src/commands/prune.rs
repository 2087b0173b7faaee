//! `prune`: removes what nothing needs.

use crate::error::Error;
use crate::human;
use crate::session::Session;

/// Remove layers that no image and no sandbox needs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Prunes and prints what went.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let pruned = session.images()?.prune(args.dry_run)?;
    let (interrupted, bytes) = session.store.interrupted()?;
    if interrupted > 0 {
        let bytes = human::size(bytes);
        session.output.note(&format!(
            "interrupted imports and removals have left {bytes}: `windowsfilter cleanup` removes them"
        ));
    }
    session.output.print(&pruned, |out| {
        pruned.layers.iter().try_for_each(|id| writeln!(out, "layer {id}"))?;
        pruned.blobs.iter().try_for_each(|digest| writeln!(out, "document {digest}"))?;
        pruned.layer_blobs.iter().try_for_each(|digest| writeln!(out, "blob {digest}"))?;
        if pruned.layers.is_empty() && pruned.blobs.is_empty() && pruned.layer_blobs.is_empty() {
            return writeln!(out, "nothing to remove");
        }
        let done = if args.dry_run { "would free" } else { "freed" };
        writeln!(out, "{done} {}", human::size(pruned.bytes))
    })
}
