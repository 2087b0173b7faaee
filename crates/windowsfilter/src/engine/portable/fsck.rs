//! Checks this engine's own files: tars, indexes, the images of sandboxes, and templates.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use layer_mounts::ext4::Superblock;

use super::{chain, host, import};
use crate::cancel::Cancel;
use crate::digest::{DiffId, Digest};
use crate::engine::portable::xattrs::StreamForm;
use crate::engine::{Examined, Place, Progress, ReadChain, Reading};
use crate::error::{Error, IoContext};
use crate::findings::{Breaks, Violation};
use crate::id::LayerId;
use crate::invariants::Invariant;
use crate::record::{LayerKind, LayerRecord};
use crate::store::file;
use crate::temporary::Temporaries;

/// Names of the files in a layer's or sandbox's directory.
pub(super) const FILES: [&str; 5] =
    [file::TAR, file::INDEX, file::CHAIN_INDEX, file::PLAIN_CHAIN_INDEX, file::SANDBOX];

pub(super) fn check(layer: &Examined<'_>, cancel: &Cancel) -> Vec<Violation> {
    let Examined { place, record, reading, idle } = layer;
    if let Err(violation) = check_record(&place.id, record) {
        return vec![violation];
    }
    match record.kind {
        LayerKind::Empty => Vec::new(),
        LayerKind::Sandbox => check_sandbox(place, record, *idle, cancel).err().into_iter().collect(),
        LayerKind::Layer => {
            let tar = check_tar(place, record, *reading, cancel);
            let index = check_index(place, record).breaks(Invariant::IndexDigest);
            tar.err().into_iter().chain(index.err()).collect()
        }
    }
}

/// The record has the fields that its kind needs.
fn check_record(id: &LayerId, record: &LayerRecord) -> Result<(), Violation> {
    let missing = match record.kind {
        LayerKind::Layer if record.diff_id.is_none() => "diffID",
        LayerKind::Layer if record.index.is_none() => "index digest",
        LayerKind::Sandbox if record.sandbox_size.is_none() => "size",
        _ => return Ok(()),
    };
    damaged(id, file::RECORD, format!("it has no {missing}")).breaks(Invariant::LayerRecord)
}

fn damaged<T>(id: &LayerId, file: &'static str, reason: String) -> Result<T, Error> {
    Err(Error::Damaged { id: id.clone(), file, reason })
}

/// A sandbox changes as long as it lives, so there are no digests to compare, and the content of its files
/// cannot be checked. ext4's own metadata have checksums. They are checked only while the image is not
/// mounted: for a mounted one the kernel has newer metadata in memory.
fn check_sandbox(place: &Place, record: &LayerRecord, idle: bool, cancel: &Cancel) -> Result<(), Violation> {
    let (id, path) = (&place.id, place.dir.join(file::SANDBOX));
    let open = File::open(&path).map_err(|error| unopened(id, file::SANDBOX, &path, error));
    let image = open.breaks(Invariant::SandboxSize)?;
    let length = image.metadata().at("look at", &path).breaks(Invariant::SandboxSize)?.len();
    let recorded = record.sandbox_size.unwrap_or(0);
    if length < recorded {
        let problem = format!("it is {length} bytes, expected {recorded} or more");
        return damaged(id, file::SANDBOX, problem).breaks(Invariant::SandboxSize);
    }
    if !idle {
        return Ok(());
    }
    let superblock = Superblock::read(&image).at("read", &path).breaks(Invariant::SandboxSuperblock)?;
    if let Some(problem) = superblock.problem() {
        return damaged(id, file::SANDBOX, problem).breaks(Invariant::SandboxSuperblock);
    }
    if let Some(size) = superblock.size().filter(|&size| size > length) {
        let problem = format!("it is {length} bytes, its file system {size}");
        return damaged(id, file::SANDBOX, problem).breaks(Invariant::SandboxSize);
    }
    host::check_file_system(&path, cancel).breaks(Invariant::SandboxFileSystem)
}

fn check_tar(
    place: &Place,
    record: &LayerRecord,
    reading: Reading<'_>,
    cancel: &Cancel,
) -> Result<(), Violation> {
    let path = place.dir.join(file::TAR);
    let open = File::open(&path).map_err(|error| unopened(&place.id, file::TAR, &path, error));
    let tar = open.breaks(Invariant::TarSize)?;
    let actual = tar.metadata().at("look at", &path).breaks(Invariant::TarSize)?.len();
    if actual != record.tar_size {
        let what = format!("layer {}: {}", place.id, file::TAR);
        return Err(Error::SizeMismatch { what, expected: record.tar_size, actual })
            .breaks(Invariant::TarSize);
    }
    let Reading::Bytes(progress) = reading else { return Ok(()) };
    check_digest(&place.id, record, (&tar, &path), (progress, cancel)).breaks(Invariant::TarDigest)
}

/// Compares the digest of the whole tar with its diffID.
fn check_digest(
    id: &LayerId,
    record: &LayerRecord,
    (tar, path): (&File, &Path),
    (progress, cancel): (&dyn Progress, &Cancel),
) -> Result<(), Error> {
    let expected = diff_id(id, record)?;
    read_ahead(tar);
    let (actual, _) = Digest::of_reader(cancel.reader(Heard { reader: tar, progress })).at("read", path)?;
    if actual == expected {
        return Ok(());
    }
    Err(Error::DigestMismatch { what: format!("layer {id}: {}", file::TAR), expected, actual })
}

fn check_index(place: &Place, record: &LayerRecord) -> Result<(), Error> {
    let path = place.dir.join(file::INDEX);
    let index = File::open(&path).map_err(|error| unopened(&place.id, file::INDEX, &path, error))?;
    let (actual, _) = Digest::of_reader(index).at("read", &path)?;
    match record.index {
        Some(expected) if expected != actual => {
            let what = format!("layer {}: {}", place.id, file::INDEX);
            Err(Error::DigestMismatch { what, expected, actual })
        }
        _ => Ok(()),
    }
}

/// Compares the chain's indexes, if any exist, with what merging the layers' own indexes gives.
pub(super) fn check_view(place: &Place, chain: ReadChain<'_>) -> Result<(), Error> {
    for (_, form) in StreamForm::NAMES {
        let name = chain::index_file(form);
        let path = place.dir.join(name);
        let Ok(stored) = File::open(&path) else { continue };
        let layers = chain()?;
        // Earlier builds wrote plain streams here; the next use writes it again.
        let form = chain::form_of_file(&path, &layers).unwrap_or(form);
        let (actual, _) = Digest::of_reader(stored).at("read", &path)?;
        let expected = chain::chain_index_digest(&layers, form)?;
        if expected != actual {
            let what = format!("layer {}: {name}", place.id);
            return Err(Error::DigestMismatch { what, expected, actual });
        }
    }
    Ok(())
}

/// Rebuilds a layer's index from its tar, whose digest must be the diffID.
pub(super) fn rebuild(
    place: &Place,
    record: LayerRecord,
    temporaries: &Temporaries,
) -> Result<LayerRecord, Error> {
    let diff_id = DiffId(diff_id(&place.id, &record)?);
    let (tar, index) = (place.dir.join(file::TAR), place.dir.join(file::INDEX));
    let made = import::rebuild_index(&tar, diff_id, &index, temporaries)?;
    // Another version of this program may have written other bytes.
    Ok(LayerRecord { index: made.index, ..record })
}

/// Rebuilds those of the chain's indexes that exist.
pub(super) fn rebuild_view(
    place: &Place,
    chain: ReadChain<'_>,
    temporaries: &Temporaries,
) -> Result<(), Error> {
    let chain = chain()?;
    for (_, form) in StreamForm::NAMES {
        let out = place.dir.join(chain::index_file(form));
        if out.exists() {
            chain::write_chain_index(&chain, &out, temporaries, form)?;
        }
    }
    Ok(())
}

/// The record's diffID, which an earlier check has required.
fn diff_id(id: &LayerId, record: &LayerRecord) -> Result<Digest, Error> {
    match record.diff_id {
        Some(DiffId(digest)) => Ok(digest),
        None => damaged(id, file::RECORD, "it has no diffID".into()),
    }
}

/// Reports a missing file of a layer as damage.
fn unopened(id: &LayerId, file: &'static str, path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::Damaged { id: id.clone(), file, reason: "it is missing".into() };
    }
    Error::Io { action: "open", path: path.to_owned(), source: error }
}

/// Lets the kernel read ahead while we hash. Only for speed, so failing does not matter.
#[cfg(target_os = "linux")]
fn read_ahead(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
}

#[cfg(not(target_os = "linux"))]
fn read_ahead(_: &File) {}

/// A file that reports how much of it is read.
struct Heard<'a> {
    reader: &'a File,
    progress: &'a dyn Progress,
}

impl Read for Heard<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.progress.blob_bytes(count as u64);
        Ok(count)
    }
}
