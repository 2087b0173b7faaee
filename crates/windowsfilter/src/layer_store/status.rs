//! The rows that `docker info` shows for a store. The original shows one empty row, so its leaks stay
//! invisible.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::LayerStore;
use crate::error::{Error, IoContext};
use crate::id::{IMPORTING, LayerId, REMOVING};
use crate::record::LayerKind;

impl LayerStore {
    /// Facts about the store in rows of name and value, for people; sizes in bytes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn facts(&self) -> Result<Vec<(String, String)>, Error> {
        let (mut layers, mut empty, mut sandboxes, mut damaged) = (0_u64, 0_u64, 0_u64, 0_u64);
        let (mut tar_bytes, mut allocated) = (0, 0);
        for id in self.layers()? {
            allocated += allocated_in(&self.paths.layer(&id))?;
            match self.record(&id) {
                Ok(record) => {
                    tar_bytes += record.tar_size;
                    match record.kind {
                        LayerKind::Layer => layers += 1,
                        LayerKind::Empty => empty += 1,
                        LayerKind::Sandbox => sandboxes += 1,
                    }
                }
                Err(_) => damaged += 1,
            }
        }
        let (mut removals, mut importing, mut pending) = (0_u64, 0_u64, 0);
        for dir in self.leftovers()? {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            removals += u64::from(name.ends_with(REMOVING));
            importing += u64::from(name.ends_with(IMPORTING));
            pending += allocated_in(&dir)?;
        }
        let mut mounted = 0_u64;
        for id in self.mount_directories()? {
            mounted += u64::from(self.mounts(&id)?.users() > 0);
        }
        let rows = [
            ("Engine", self.engine.name().to_owned()),
            ("Root", self.root().display().to_string()),
            (
                "Backing filesystem",
                self.engine.file_system(self.root())?.unwrap_or_else(|| "unknown".to_owned()),
            ),
            ("Layers", layers.to_string()),
            ("Empty layers", empty.to_string()),
            ("Sandboxes", sandboxes.to_string()),
            ("Mounted", mounted.to_string()),
            ("Damaged", damaged.to_string()),
            ("Layer bytes", tar_bytes.to_string()),
            ("Allocated bytes", allocated.to_string()),
            ("Pending removals", removals.to_string()),
            ("Unfinished imports", importing.to_string()),
            ("Pending bytes", pending.to_string()),
        ];
        Ok(rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl LayerStore {
    /// Facts about a layer or sandbox in rows of name and value, for people; `dir` is its directory.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], damaged records.
    pub fn facts_of(&self, id: &LayerId) -> Result<BTreeMap<String, String>, Error> {
        let record = self.record(id)?;
        let mut facts = BTreeMap::from([
            ("dir".to_owned(), self.dir(id)?.display().to_string()),
            ("kind".to_owned(), record.kind.as_str().to_owned()),
            (
                "chain".to_owned(),
                self.chain_ids(id)?.iter().map(LayerId::as_str).collect::<Vec<_>>().join(" "),
            ),
            ("mounts".to_owned(), self.mounts(id)?.count.to_string()),
        ]);
        if let Some(diff_id) = record.diff_id {
            facts.insert("diff_id".to_owned(), diff_id.to_string());
        }
        if let Some(size) = record.sandbox_size {
            facts.insert("size".to_owned(), size.to_string());
        }
        Ok(facts)
    }

    /// Bytes that the files of a layer or sandbox take on the disk.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn allocated(&self, id: &LayerId) -> Result<u64, Error> {
        allocated_in(&self.dir(id)?)
    }

    /// The number of directories that interrupted imports and removals left, and the bytes in them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn interrupted(&self) -> Result<(u64, u64), Error> {
        let (mut count, mut bytes) = (0, 0);
        for dir in self.leftovers()? {
            // A process that fills or empties it holds its lock.
            if matches!(self.paths.try_lock_directory(&dir), Ok(Some(_))) {
                count += 1;
                bytes += allocated_in(&dir)?;
            }
        }
        Ok((count, bytes))
    }
}

/// Bytes that the files in `dir` occupy; files removed meanwhile count as nothing.
fn allocated_in(dir: &Path) -> Result<u64, Error> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.at("list", dir)?,
    };
    let mut bytes = 0;
    for entry in entries {
        match entry.at("list", dir)?.metadata() {
            Ok(metadata) => bytes += allocated(&metadata),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).at("look at a file in", dir),
        }
    }
    Ok(bytes)
}

/// stat(2) counts blocks of 512 bytes, independently of the file system's block size.
#[cfg(unix)]
fn allocated(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}
