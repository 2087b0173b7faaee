//! Layer tars: writing Windows files with all their metadata to a tar, and reading them back.
//!
//! Tar knows names, times and data. The rest of a Windows file is in PAX records that go-winio defined
//! (`MSWINDOWS.*`, `LIBARCHIVE.creationtime`); an alternate stream is an entry `name:stream` right behind its
//! file; a deletion is an empty file `.wh.name`. A layer's digest is that of these bytes, so this module does
//! what the reference does with each entry, oddities included:
//!
//! * [`LayerEntry::from_header`]: the meaning of a tar entry;
//! * [`import()`]: from a tar to entries and their backup streams, from which Windows restores files;
//! * [`export()`]: from entries and backup streams to a tar; [`Writer`]: the same from parsed metadata.
//!
//! Where the reference loses something, [`Writer::extended`] keeps it in records and entries of our own,
//! which other readers skip. Everything that is still lost is reported as a [`Loss`].
//!
//! Differences from the reference, each where `vectors/` allow one: times outside 1677-2262 stay exact (the
//! reference wraps them); extended attributes keep the order of their records (its order is random);
//! contiguous files (type `7`) keep their data.
//!
//! Source: go-winio `backuptar/tar.go`, hcsshim `pkg/ociwclayer`, as recorded in `vectors/`; see
//! `docs/formats.md`.

mod entry;
mod error;
mod export;
mod from_backup;
mod import;
mod loss;
mod records;
mod writer;

pub use entry::{
    EntryKind, FileInfo, LayerEntry, RecordedTimes, attached_stream, backup_name, is_file, windows_path,
};
pub use error::LayerTarError;
pub use export::{BackupSource, LayerSource, ReadSeek, SourceItem, export};
pub use import::{Imported, LayerSink, import};
pub use loss::{Loss, Lost};
pub use writer::Writer;
