//! Layer tars: how Windows files and all their metadata are put into a tar, and got back out.
//!
//! Tar knows names, times and data. The rest of a Windows file is in PAX records that go-winio made up
//! (`MSWINDOWS.*`, `LIBARCHIVE.creationtime`); an alternate stream is an entry `name:stream` right behind its
//! file; a deletion is an empty file `.wh.name`. A layer's digest is that of these bytes, so this module does
//! what the reference does with each entry, oddities included:
//!
//! * [`LayerEntry::from_header`]: what an entry of a tar is;
//! * [`import()`]: a tar as entries and their backup streams, which is what Windows restores files from;
//! * [`export()`]: entries and backup streams as a tar; [`Writer`]: the same from metadata that is already at
//!   hand.
//!
//! Where the reference is known to lose something, [`Writer::extended`] carries it in records and entries of
//! our own, which readers that do not know them pass over. What is lost all the same is a [`Loss`], never
//! silence.
//!
//! Differences to the reference, each where `vectors/` allow one: times outside 1677-2262 stay exact (the
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
