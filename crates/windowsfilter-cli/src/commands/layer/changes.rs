//! `layer changes`: the files that a layer adds, modifies and deletes.

use windowsfilter::driver::{Change, ChangeKind};
use windowsfilter::support::JsonName;

use crate::error::Error;
use crate::human;
use crate::limits::ChangeLimitArguments;
use crate::session::Session;

/// List the files that a layer or sandbox adds (A), modifies (M) and deletes (D)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of a layer or sandbox, or image reference: its top layer
    #[arg(value_name = "ID|REF")]
    id: String,
    #[command(flatten)]
    pub(crate) limits: ChangeLimitArguments,
}

#[derive(serde::Serialize)]
struct Line {
    kind: ChangeKind,
    path: JsonName,
}

/// Prints the changes, sorted by path.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = session.layer(&args.id)?;
    let changes = session.store.changes(&id)?;
    let lines: Vec<Line> = changes.iter().map(line).collect();
    session.output.print(&lines, |out| {
        lines.iter().try_for_each(|line| {
            writeln!(out, "{} {}", line.kind.letter(), human::name(line.path.as_bytes()))
        })
    })
}

fn line(change: &Change) -> Line {
    Line { kind: change.kind, path: view_path(&change.path).into() }
}

/// Files as the view has them, with a leading slash; what no view shows by its name in the tar.
fn view_path(tar_name: &[u8]) -> &[u8] {
    match tar_name.strip_prefix(b"Files") {
        Some([]) => b"/",
        Some(path @ [b'/', ..]) => path,
        _ => tar_name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_path_of_the_view_and_other_areas_their_tar_name() {
        for (tar_name, text) in [
            (&b"Files/Windows/a.txt"[..], "/Windows/a.txt"),
            (b"Files", "/"),
            (b"Hives/Software_Delta", "Hives/Software_Delta"),
            (b"Filesystem/x", "Filesystem/x"),
        ] {
            assert_eq!(view_path(tar_name), text.as_bytes());
        }
    }
}
