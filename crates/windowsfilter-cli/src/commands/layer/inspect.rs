//! `layer inspect`: all about one layer.

use std::io::{self, Write};

use windowsfilter::support::JsonName;
use windowsfilter::{DiffId, LayerId, LayerKind};

use crate::error::Error;
use crate::human;
use crate::output::write_fields;
use crate::session::Session;

/// Show a layer or sandbox
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of a layer or sandbox, or image reference: its top layer
    #[arg(value_name = "ID|REF")]
    id: String,
}

/// The facts about a layer; also a line of `layer ls`.
#[derive(serde::Serialize)]
pub(super) struct Layer {
    pub(super) id: LayerId,
    pub(super) kind: LayerKind,
    /// Nearest first.
    pub(super) parents: Vec<LayerId>,
    pub(super) diff_id: Option<DiffId>,
    /// Bytes of file content; of a sandbox, bytes that it takes on the disk.
    pub(super) size: u64,
    /// Bytes of the uncompressed tar.
    pub(super) tar_size: u64,
    pub(super) entries: u64,
    /// Bytes a sandbox can hold.
    pub(super) sandbox_size: Option<u64>,
    /// RFC 3339.
    pub(super) created: String,
    /// Mounts that are not unmounted yet.
    pub(super) mounts: u64,
    /// Where it is mounted in the store.
    pub(super) mounted: Option<JsonName>,
    /// Where else it is to be seen.
    pub(super) targets: Vec<JsonName>,
    #[serde(skip)]
    pub(super) created_seconds: i64,
}

impl Layer {
    /// Reads the records of layer `id`.
    pub(super) fn read(session: &Session, id: LayerId) -> Result<Self, Error> {
        let record = session.store.record(&id)?;
        let mounts = session.store.mounts(&id)?;
        Ok(Self {
            kind: record.kind,
            parents: session.store.chain_ids(&id)?,
            diff_id: record.diff_id,
            size: if record.kind == LayerKind::Sandbox { session.store.allocated(&id)? } else { record.size },
            tar_size: record.tar_size,
            entries: record.entries,
            sandbox_size: record.sandbox_size,
            created: human::unix_time(record.created, 0),
            created_seconds: record.created,
            mounts: mounts.count,
            mounted: mounts.path.as_deref().map(JsonName::of_path),
            targets: mounts.targets.iter().map(|target| JsonName::of_path(target)).collect(),
            id,
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut fields = vec![
            ("id", self.id.to_string()),
            ("kind", self.kind.as_str().to_owned()),
            ("created", self.created.clone()),
        ];
        if let Some(diff_id) = self.diff_id {
            fields.push(("diff id", diff_id.to_string()));
            fields.push(("entries", self.entries.to_string()));
            fields.push(("size", human::size(self.size)));
            fields.push(("tar size", human::size(self.tar_size)));
        }
        if let Some(size) = self.sandbox_size {
            fields.push(("size", format!("{} of {}", human::size(self.size), human::size(size))));
        }
        if let Some(path) = &self.mounted {
            let times = if self.mounts == 1 { "once".to_owned() } else { format!("{} times", self.mounts) };
            fields.push(("mounted", format!("{times}, at {}", human::name(path.as_bytes()))));
        }
        for (number, path) in self.targets.iter().enumerate() {
            fields.push((if number == 0 { "targets" } else { "" }, human::name(path.as_bytes())));
        }
        for (number, parent) in self.parents.iter().enumerate() {
            fields.push((if number == 0 { "parents" } else { "" }, parent.to_string()));
        }
        write_fields(out, &fields)
    }
}

/// Prints it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let layer = Layer::read(session, session.layer(&args.id)?)?;
    session.output.print(&layer, |out| layer.write(out))
}
