//! `layer apply`: imports a tar as a layer.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use windowsfilter::import::{Expect, ImportRequest};
use windowsfilter::{Cancel, DiffId, LayerId};

use crate::error::{Error, IoContext};
use crate::human;
use crate::limits::LimitArguments;
use crate::output::write_fields;
use crate::progress::Progress;
use crate::session::Session;
use crate::values;

/// Import a Windows layer tar as a layer
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of the new layer
    #[arg(value_parser = values::new_id)]
    id: LayerId,
    /// Layer tar, plain or compressed with gzip or zstd; `-` reads standard input
    #[arg(default_value = "-", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Layer below the new one [default: none, for a base layer]
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// Import a tar with nothing in Files, Hives or UtilityVM as an empty layer
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

#[derive(serde::Serialize)]
struct Applied<'a> {
    id: &'a LayerId,
    diff_id: DiffId,
    size: u64,
    entries: u64,
    notes: &'a [String],
}

/// Imports the layer; it appears whole or not at all.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let parent = args.parent.as_deref().map(|parent| session.layer(parent)).transpose()?;
    let (blob, total) = open(session.store.cancel(), &args.file)?;
    let progress = Progress::new(session.output, "import", total);
    let request = ImportRequest {
        blob,
        expect: Expect::default(),
        progress: &progress,
        label: format!("layer {}", args.id),
    };
    let applied = session.store.stage(&args.id, request)?.publish(parent.as_ref())?;
    drop(progress);
    for note in &applied.notes {
        session.output.note(note);
    }
    let printed = Applied {
        id: &args.id,
        diff_id: applied.diff_id,
        size: applied.size,
        entries: applied.entries,
        notes: &applied.notes,
    };
    session.output.print(&printed, |out| write_applied(out, &printed))
}

fn open(cancel: &Cancel, path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Error> {
    if path == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Error::TerminalInput);
        }
        let stdin = cancel.pipe(|| Ok(io::stdin())).at("read", "standard input")?;
        return Ok((Box::new(stdin), None));
    }
    let file = cancel.open(path).at("open", path)?;
    let length = path.metadata().at("read", path)?.len();
    Ok((file, Some(length).filter(|&length| length != 0)))
}

fn write_applied(out: &mut dyn Write, applied: &Applied<'_>) -> io::Result<()> {
    write_fields(
        out,
        &[
            ("id", applied.id.to_string()),
            ("diff id", applied.diff_id.to_string()),
            ("size", human::size(applied.size)),
            ("entries", applied.entries.to_string()),
        ],
    )
}
