//! Converts a layer tar to entries and backup streams.
//!
//! Source: go-winio `backuptar/tar.go` `WriteBackupStreamFromTarFile`; hcsshim `pkg/ociwclayer/import.go` and
//! moby's `daemon/graphdriver/windows` for the loop.

use std::io::{self, BufRead, Write};

use crate::backup_stream::{self as backup, BackupStreamError, StreamHeader};
use crate::ea;
use crate::name;
use crate::tar::{ArchiveEnd, Header, Reader, type_flag};

use super::entry::{EntryKind, LayerEntry, attached_stream, windows_path};
use super::error::LayerTarError;
use super::loss::{Loss, Lost};

/// Receives the entries of a layer. Paths have backslashes and are otherwise as in the tar, so they need
/// cleaning.
pub trait LayerSink {
    /// Deletes a path of a lower layer.
    ///
    /// # Errors
    /// Any error ends the import.
    fn remove(&mut self, path: &[u8]) -> io::Result<()>;

    /// Makes a hard link.
    ///
    /// # Errors
    /// Any error ends the import.
    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()>;

    /// Begins a file, directory or reparse point; its backup stream follows.
    ///
    /// # Errors
    /// Any error ends the import.
    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()>;

    /// Takes the next bytes of the backup stream of the last added file. They come in small pieces.
    ///
    /// # Errors
    /// Any error ends the import.
    fn write(&mut self, stream: &[u8]) -> io::Result<()>;
}

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Bytes of all files; named streams are not counted.
    pub total_size: u64,
    /// Entries handed over; streams are not counted.
    pub entries: u64,
    /// How the tar ended. Only [`ArchiveEnd::Marked`] is certainly its true end.
    pub end: Option<ArchiveEnd>,
    /// Content of the tar that the backup streams lack.
    pub losses: Vec<Loss>,
}

/// Reads a layer tar and hands its entries to `sink`.
///
/// # Errors
/// [`LayerTarError`]; everything before the failing entry has been handed over then.
pub fn import<R: BufRead>(source: R, sink: &mut dyn LayerSink) -> Result<Imported, LayerTarError> {
    let mut importer =
        Importer { tar: Reader::new(source), sink, total_size: 0, entries: 0, losses: Vec::new() };
    let mut next = importer.tar.next()?;
    while let Some(header) = next {
        next = importer.entry(&header)?;
    }
    let Importer { tar, total_size, entries, losses, .. } = importer;
    Ok(Imported { total_size, entries, end: tar.end(), losses })
}

struct Importer<'a, R> {
    tar: Reader<R>,
    sink: &'a mut dyn LayerSink,
    total_size: u64,
    entries: u64,
    losses: Vec<Loss>,
}

impl<R: BufRead> Importer<'_, R> {
    /// Hands over an entry; returns the header behind it and its streams.
    fn entry(&mut self, header: &Header) -> Result<Option<Header>, LayerTarError> {
        let entry = LayerEntry::from_header(header)?;
        self.entries += 1;
        let path = windows_path(&entry.name);
        match &entry.kind {
            EntryKind::Whiteout { target } => {
                self.sink.remove(&windows_path(target)).map_err(|source| sink_error(&entry, source))?;
            }
            EntryKind::Link { target } => {
                let target = windows_path(target);
                self.sink.add_link(&path, &target).map_err(|source| sink_error(&entry, source))?;
            }
            _ => {
                self.sink.add(&path, &entry).map_err(|source| sink_error(&entry, source))?;
                self.total_size += entry.size;
                return self.streams(&entry, header);
            }
        }
        Ok(self.tar.next()?)
    }

    /// Writes the backup stream of an entry; returns the header behind its streams.
    fn streams(&mut self, entry: &LayerEntry, header: &Header) -> Result<Option<Header>, LayerTarError> {
        let mut stream = backup::Writer::new(SinkWriter(&mut *self.sink));
        let stream_error = |source| backup_error(entry, source);
        if let Some(security) = &entry.security {
            stream.record(backup::SECURITY_DATA, security).map_err(stream_error)?;
        }
        if !entry.eas.is_empty() {
            let eas = ea::encode(&entry.eas).map_err(|source| LayerTarError::ExtendedAttributes {
                entry: entry.display_name(),
                offset: entry.offset,
                source,
            })?;
            stream.record(backup::EA_DATA, &eas).map_err(stream_error)?;
        }
        if let Some(reparse) = &entry.reparse {
            stream.record(backup::REPARSE_DATA, reparse).map_err(stream_error)?;
        }
        if entry.has_data() {
            let record = StreamHeader::new(backup::DATA, entry.size);
            copy_data(entry, &mut self.tar, &mut stream, &record)?;
        } else if header.stored_size > 0 && header.type_flag != type_flag::GLOBAL {
            let what = Lost::Data { type_flag: header.type_flag, size: header.stored_size };
            self.losses.push(Loss { entry: entry.name.clone(), what });
        }
        while let Some(header) = self.tar.next()? {
            let Some(name) = attached_stream(entry, &header) else { return Ok(Some(header)) };
            if name::to_utf16(name).is_err() {
                let what = Lost::NameBytes { name: name.to_vec() };
                self.losses.push(Loss { entry: entry.name.clone(), what });
            }
            copy_data(entry, &mut self.tar, &mut stream, &StreamHeader::alternate(name, header.size))?;
        }
        Ok(None)
    }
}

/// Copies the tar's current data into a record.
fn copy_data<R: BufRead>(
    entry: &LayerEntry,
    tar: &mut Reader<R>,
    stream: &mut backup::Writer<SinkWriter<'_>>,
    record: &StreamHeader,
) -> Result<(), LayerTarError> {
    stream.begin(record).map_err(|source| backup_error(entry, source))?;
    let mut buffer = vec![0; usize::try_from(record.size).map_or(COPY_SIZE, |size| size.min(COPY_SIZE))];
    loop {
        match tar.read_some(&mut buffer)? {
            // Go notices data that no part of a sparse map refers to only when it reads on at the end.
            0 => return Ok(()),
            count => stream.write_data(&buffer[..count]).map_err(|source| backup_error(entry, source))?,
        }
    }
}

/// Large enough to be worth a call, small enough for a cache.
const COPY_SIZE: usize = 64 << 10;

struct SinkWriter<'a>(&'a mut dyn LayerSink);

impl Write for SinkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sink_error(entry: &LayerEntry, source: io::Error) -> LayerTarError {
    LayerTarError::Sink { entry: entry.display_name(), offset: entry.offset, source }
}

fn backup_error(entry: &LayerEntry, source: BackupStreamError) -> LayerTarError {
    match source {
        BackupStreamError::Write { source } => sink_error(entry, source),
        source => LayerTarError::BackupStream { entry: entry.display_name(), source },
    }
}
