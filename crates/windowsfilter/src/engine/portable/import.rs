//! Imports a layer: the blob becomes `layer.tar`, byte for byte, and `layer.erofs`, its index.
//!
//! One pass over the stream, on four threads (`pipeline`): reading and hashing the blob, decompressing,
//! hashing and parsing the tar, and writing it. A `layer_tree` collects the headers; `write_index` writes it
//! as an index once the tar is complete and its digests are the expected ones. No name of the tar becomes a
//! path of the host.

mod decompress;
mod entry_name;
mod layer_tree;
#[cfg(test)]
mod order_tests;
mod pipeline;
mod streams;
#[cfg(test)]
mod tests;
mod write_index;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use wclayer::tar::{ArchiveEnd, Header, Reader, TarError, type_flag};

use crate::digest::{DiffId, Digest, Hashed};
use crate::durable::sync_dir;
use crate::engine::{Expect, ImportRequest, Imported, Progress};
use crate::error::{Error, IoContext, shown};
use crate::limits::{Exceeded, Limit, Limits};
use crate::store::file;
use crate::temporary::Temporaries;

pub use decompress::MAX_ZSTD_WINDOW_LOG;
pub(super) use entry_name::is_separator;
use layer_tree::LayerTree;
use pipeline::{BlobInfo, Tee, confine_this_thread};

/// Entries between two calls of [`Progress::entries`].
const PROGRESS_STEP: u64 = 256;

/// Writes `dir/layer.tar` and `dir/layer.erofs`, neither of which may exist, and makes both durable.
///
/// # Errors
/// A blob or tar that is damaged or not the expected one, an entry that a Windows layer cannot have, an
/// exceeded limit, or failed I/O. The caller has to remove the files written by then.
pub(crate) fn import(dir: &Path, request: ImportRequest<'_>, limits: &Limits) -> Result<Imported, Error> {
    let tar = dir.join(file::TAR);
    let imported = run(request, limits, Some(&tar), IndexFile::New(&dir.join(file::INDEX)))?;
    sync_dir(dir)?;
    Ok(imported)
}

/// Writes only `dir/layer.tar`, with the checks of [`import`], for an engine that needs no index.
///
/// # Errors
/// Those of [`import`].
pub(crate) fn spool(dir: &Path, request: ImportRequest<'_>, limits: &Limits) -> Result<Imported, Error> {
    let imported = run(request, limits, Some(&dir.join(file::TAR)), IndexFile::None)?;
    sync_dir(dir)?;
    Ok(imported)
}

/// Rebuilds the index of a layer's tar, whose digest must still be the diffID. The new index replaces the old
/// one atomically.
///
/// # Errors
/// Those of [`import`].
pub(crate) fn rebuild_index(
    tar: &Path,
    diff_id: DiffId,
    index: &Path,
    temporaries: &Temporaries,
) -> Result<Imported, Error> {
    let blob = Box::new(temporaries.cancel().reader(File::open(tar).at("open", tar)?));
    let label = tar.display().to_string();
    let expect = Expect { diff_id: Some(diff_id), ..Expect::default() };
    let request = ImportRequest { blob, expect, progress: &(), label };
    // The layer was imported before, perhaps without limits.
    run(request, &Limits::NONE, None, IndexFile::Replace(index, temporaries))
}

/// The result of one pass over the tar.
struct Scanned {
    tree: LayerTree,
    diff_id: DiffId,
    tar_size: u64,
    end: Option<ArchiveEnd>,
    /// Bytes behind the end, if they are more than zeros.
    trailing: u64,
}

fn run(
    request: ImportRequest<'_>,
    limits: &Limits,
    tar: Option<&Path>,
    index: IndexFile<'_>,
) -> Result<Imported, Error> {
    let ImportRequest { blob, expect, progress, label } = request;
    let info = BlobInfo { length: expect.blob.map(|(_, size)| size), label: &label, progress, limits };
    let (scanned, blob) = pipeline::run(blob, info, |chunks| {
        let tee = Tee::new(chunks, tar, limits)?;
        // From here on this thread opens no files.
        confine_this_thread();
        scan(tee, limits, progress)
    })?;
    let Scanned { tree, diff_id, tar_size, end, trailing } = scanned;
    let blob = blob.unwrap_or((diff_id.0, tar_size));
    check(&expect, blob, diff_id, &label)?;
    let mut notes = tree.findings.notes();
    notes.extend(end_note(end, trailing));
    let (entries, size, whiteouts) = (tree.counts.entries, tree.counts.bytes, tree.counts.whiteouts);
    let start = Instant::now();
    let (index, parent_links) = write_index::write(tree, diff_id, tar_size, index)?;
    tracing::debug!("index of {entries} entries: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    Ok(Imported { diff_id, tar_size, size, entries, index, blob, notes, parent_links, whiteouts })
}

/// Reads the tar to its end, and then the bytes behind it.
fn scan(mut tee: Tee<'_>, limits: &Limits, progress: &dyn Progress) -> Result<Scanned, Error> {
    let mut tree = LayerTree::new();
    let mut last = LastEntry::default();
    let result = read_entries(&mut tee, &mut tree, &mut last, limits, progress);
    // The tar's reader only knows that its source failed; the tee knows why.
    let (end, tar_end) = result.map_err(|error| last.named_in(tee.take_failure().unwrap_or(error)))?;
    let (digest, tar_size, has_more) = tee.finish().map_err(|error| last.named_in(error))?;
    // Zeros are padding: tar programs write whole records of 10 KiB.
    let trailing = if has_more { tar_size.saturating_sub(tar_end) } else { 0 };
    Ok(Scanned { tree, diff_id: DiffId(digest), tar_size, end, trailing })
}

fn read_entries(
    tee: &mut Tee<'_>,
    tree: &mut LayerTree,
    last: &mut LastEntry,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Option<ArchiveEnd>, u64), Error> {
    let mut tar = Reader::new(tee).with_longest_special(limits.header.unwrap_or(u64::MAX));
    let (mut number, mut unreported) = (0, 0);
    while let Some(header) = tar.next().map_err(header_error)? {
        number += 1;
        last.set(&header);
        limits.check_entry(number, &header)?;
        if header.type_flag != type_flag::GLOBAL {
            tree.add(&header, &mut tar.data())?;
        }
        unreported += 1;
        if unreported == PROGRESS_STEP {
            progress.entries(unreported);
            unreported = 0;
        }
    }
    progress.entries(unreported);
    tree.findings.check(limits.foreign_layers)?;
    tree.check()?;
    Ok((tar.end(), tar.position()))
}

/// Reports an extended header that is too long like any other exceeded limit.
fn header_error(error: TarError) -> Error {
    match error {
        TarError::SpecialTooLong { entry, offset, size, limit } => Error::Limit {
            entry: Some((entry, offset)),
            exceeded: Exceeded { limit: Limit::Header, allowed: limit, actual: size },
        },
        other => other.into(),
    }
}

/// The entry that was read last, to name it in errors of the other threads.
#[derive(Default)]
struct LastEntry {
    name: Vec<u8>,
    /// None before the first entry.
    offset: Option<u64>,
}

impl LastEntry {
    fn set(&mut self, header: &Header) {
        self.name.clear();
        self.name.extend_from_slice(&header.name);
        self.offset = Some(header.offset);
    }

    /// Adds to an exceeded limit the entry that exceeded it, unless the error names one.
    fn named_in(&self, error: Error) -> Error {
        match error {
            Error::Limit { entry: None, exceeded } => {
                let entry = self.offset.map(|offset| (shown(&self.name), offset));
                Error::Limit { entry, exceeded }
            }
            other => other,
        }
    }
}

fn check(expect: &Expect, blob: (Digest, u64), diff_id: DiffId, label: &str) -> Result<(), Error> {
    if let Some((digest, size)) = expect.blob {
        if blob.1 != size {
            let what = format!("the blob of {label}");
            return Err(Error::SizeMismatch { what, expected: size, actual: blob.1 });
        }
        if blob.0 != digest {
            let what = format!("the digest of the blob of {label}");
            return Err(Error::DigestMismatch { what, expected: digest, actual: blob.0 });
        }
    }
    match expect.diff_id {
        Some(expected) if expected != diff_id => Err(Error::DigestMismatch {
            what: format!("the diffID of {label}"),
            expected: expected.0,
            actual: diff_id.0,
        }),
        _ => Ok(()),
    }
}

/// A note about an odd end, which Go's reader accepts, so importing does; and about bytes behind the end.
fn end_note(end: Option<ArchiveEnd>, trailing: u64) -> Option<String> {
    let text = match end {
        Some(ArchiveEnd::Marked) | None if trailing > 0 => {
            return Some(format!("{trailing} bytes behind the end of the tar are kept"));
        }
        Some(ArchiveEnd::Marked) | None => return None,
        Some(ArchiveEnd::HalfMarked) => "the tar ends with half an end marker",
        Some(ArchiveEnd::Unmarked) => "the tar ends without an end marker",
        Some(ArchiveEnd::InPadding) => "the tar ends inside the padding of its last entry",
        Some(ArchiveEnd::EntryMissing) => "the tar ends behind an extended header whose entry is missing",
    };
    Some(text.to_owned())
}

/// The destination of an index.
#[derive(Clone, Copy)]
enum IndexFile<'a> {
    /// No index is needed.
    None,
    /// Into a directory that is not published yet.
    New(&'a Path),
    /// In place of another one, atomically.
    Replace(&'a Path, &'a Temporaries),
}

impl IndexFile<'_> {
    /// Writes and hashes the index, and syncs it.
    fn write(
        self,
        write: impl FnOnce(&mut dyn io::Write) -> Result<(), Error>,
    ) -> Result<Option<Digest>, Error> {
        let hash = |file: &mut File| {
            let mut hashed = Hashed::new(file);
            write(&mut hashed).map(|()| hashed.finish().0)
        };
        match self {
            Self::None => Ok(None),
            Self::New(path) => {
                let mut file = File::create_new(path).at("create", path)?;
                let digest = hash(&mut file)?;
                file.sync_all().at("sync", path)?;
                Ok(Some(digest))
            }
            Self::Replace(path, temporaries) => {
                let mut new = temporaries.file()?;
                let digest = hash(new.as_file_mut())?;
                new.persist(path)?;
                Ok(Some(digest))
            }
        }
    }
}
