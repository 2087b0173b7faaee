//! Converts one file's backup stream to its tar entries.
//!
//! A tar has metadata before data, a backup stream has some of them behind. So a source is read twice if it
//! can be; otherwise late metadata are lost. Sparse files come as an empty data record and blocks behind it.
//!
//! Source: go-winio `backuptar/tar.go` `WriteTarFileFromBackupStream` and `copySparse`.

use std::io::{self, Read, Seek, Write};

use crate::backup_stream::{self as backup, BackupStreamError, StreamHeader};
use crate::ea;
use crate::tar::MAX_SPECIAL_SIZE;

use super::entry::FileInfo;
use super::error::LayerTarError;
use super::export::BackupSource;
use super::loss::Lost;
use super::writer::{Head, Writer};

/// The findings of the first pass over a backup stream.
struct Found {
    head: Head,
    /// The data record, if the reader is at it.
    data: Option<StreamHeader>,
    /// The data and streams of the file, in order, with their true sizes. Only filled by a whole pass.
    parts: Vec<Part>,
}

/// Data or a named stream.
struct Part {
    header: StreamHeader,
    size: u64,
}

impl<W: Write> Writer<W> {
    /// Writes a file with all its streams from a backup stream. `size` is that of its data.
    ///
    /// # Errors
    /// The same as in the reference: records in an order that it refuses, sparse streams, reparse points that
    /// are not links. An extended writer accepts all of these, except a second descriptor, link or data
    /// record behind the data; sparse streams only from a source that can be read twice.
    pub fn write_backup_stream(
        &mut self,
        path: &[u8],
        size: u64,
        info: FileInfo,
        source: BackupSource<'_>,
    ) -> Result<(), LayerTarError> {
        let head = Head::new(path, size, info);
        match source {
            BackupSource::Empty => self.begin(&head),
            BackupSource::Forward(source) => self.write_forward(head, size, backup::Reader::new(source)),
            BackupSource::Seekable(source) => {
                let start = source.stream_position().map_err(|source| LayerTarError::Source { source })?;
                let reader = backup::Reader::new(source);
                if self.extended {
                    self.write_all_parts(head, size, reader, start)
                } else {
                    self.write_twice_read(head, size, reader, start)
                }
            }
        }
    }

    fn write_forward<R: Read>(
        &mut self,
        head: Head,
        size: u64,
        mut reader: backup::Reader<R>,
    ) -> Result<(), LayerTarError> {
        let found = self.collect(head, &mut reader, backup::Reader::next, Pass::UntilData)?;
        self.begin(&found.head)?;
        if let Some(data) = &found.data {
            self.copy_data(&found.head, size, data, &mut reader)?;
        }
        self.copy_streams(&found.head, &mut reader, backup::Reader::next, Pass::UntilData)
    }

    fn write_twice_read<R: Read + Seek>(
        &mut self,
        head: Head,
        size: u64,
        mut reader: backup::Reader<R>,
        start: u64,
    ) -> Result<(), LayerTarError> {
        let found = self.collect(head, &mut reader, backup::Reader::next_by_seeking, Pass::Whole)?;
        let head = found.head;
        self.begin(&head)?;
        reader.restart(start).map_err(|source| stream_error(&head, source))?;
        while let Some(record) = reader.next_by_seeking().map_err(|source| stream_error(&head, source))? {
            match record.id {
                backup::DATA => {
                    self.copy_data(&head, size, &record, &mut reader)?;
                    break;
                }
                // The first pass has read them.
                backup::SECURITY_DATA | backup::REPARSE_DATA | backup::EA_DATA => {}
                _ => self.lose_record(&head, &record),
            }
        }
        self.copy_streams(&head, &mut reader, backup::Reader::next_by_seeking, Pass::Whole)
    }

    /// Reads metadata up to the data, or up to the end.
    fn collect<R: Read>(
        &mut self,
        head: Head,
        reader: &mut backup::Reader<R>,
        next: Next<R>,
        pass: Pass,
    ) -> Result<Found, LayerTarError> {
        let mut found = Found { head, data: None, parts: Vec::new() };
        let (mut eas, mut security, mut reparse) = (Vec::new(), None, None);
        while let Some(record) = next(reader).map_err(|source| stream_error(&found.head, source))? {
            match record.id {
                backup::DATA => {
                    found.head.set_has_data();
                    if pass == Pass::UntilData {
                        found.data = Some(record);
                        break;
                    }
                    found.parts.push(Part { size: record.size, header: record });
                }
                backup::ALTERNATE_DATA => {
                    if pass == Pass::UntilData {
                        self.lose_record(&found.head, &record);
                    } else {
                        found.parts.push(Part { size: record.size, header: record });
                    }
                }
                backup::SECURITY_DATA => {
                    let descriptor = metadata(&found.head, reader)?;
                    self.replaces(&mut security, &found.head, &record);
                    found.head.set_security(&descriptor);
                }
                backup::REPARSE_DATA => {
                    let buffer = metadata(&found.head, reader)?;
                    self.replaces(&mut reparse, &found.head, &record);
                    self.set_reparse(&mut found.head, &buffer)?;
                }
                backup::EA_DATA => {
                    let buffer = metadata(&found.head, reader)?;
                    let decoded = ea::decode(&buffer);
                    eas.extend(decoded.map_err(|source| ea_error(&found.head, source))?);
                }
                backup::SPARSE_BLOCK if pass == Pass::Whole => found.add_block(&record)?,
                // A whole pass reports nothing here: the second pass meets these records again.
                _ if is_ignored(record.id) || self.extended => {
                    if pass == Pass::UntilData || self.extended {
                        self.lose_record(&found.head, &record);
                    }
                }
                id => return Err(unknown_record(&found.head, id, false)),
            }
        }
        self.add_eas(&mut found.head, &eas)?;
        Ok(found)
    }

    /// Copies the current data record.
    fn copy_data<R: Read>(
        &mut self,
        head: &Head,
        size: u64,
        data: &StreamHeader,
        reader: &mut backup::Reader<R>,
    ) -> Result<(), LayerTarError> {
        let is_sparse = data.attributes & backup::STREAM_SPARSE_ATTRIBUTE != 0;
        if data.size > 0 || !is_sparse {
            if size != data.size {
                let entry = head.display_name();
                return Err(LayerTarError::SizeMismatch { entry, expected: size, actual: data.size });
            }
            return self.copy_to_tar(head, reader);
        }
        // An empty sparse file has no blocks.
        if size > 0 { self.copy_sparse(head, reader) } else { Ok(()) }
    }

    /// Copies sparse blocks, with zeros between them, up to the closing one.
    fn copy_sparse<R: Read>(
        &mut self,
        head: &Head,
        reader: &mut backup::Reader<R>,
    ) -> Result<(), LayerTarError> {
        let sparse_error = |problem| LayerTarError::SparseBlocks { entry: head.display_name(), problem };
        let (mut position, mut has_holes) = (0, false);
        loop {
            let block = reader.next().map_err(|source| stream_error(head, source))?;
            let block = block.ok_or_else(|| sparse_error("there is no closing block"))?;
            if block.id != backup::SPARSE_BLOCK {
                return Err(sparse_error("another record comes before the closing block"));
            }
            let hole = block.sparse_offset.checked_sub(position);
            let hole = hole.ok_or_else(|| sparse_error("they are out of order"))?;
            self.copy_to_tar(head, &mut io::repeat(0).take(hole))?;
            has_holes |= hole > 0;
            if block.size == 0 {
                break;
            }
            self.copy_to_tar(head, reader)?;
            position = block.sparse_offset.saturating_add(block.size);
        }
        if has_holes {
            self.lose(&head.name, Lost::Holes);
        }
        Ok(())
    }

    /// Copies streams behind the data.
    fn copy_streams<R: Read>(
        &mut self,
        head: &Head,
        reader: &mut backup::Reader<R>,
        next: Next<R>,
        pass: Pass,
    ) -> Result<(), LayerTarError> {
        while let Some(record) = next(reader).map_err(|source| stream_error(head, source))? {
            match record.id {
                backup::ALTERNATE_DATA if record.attributes & backup::STREAM_SPARSE_ATTRIBUTE != 0 => {
                    let stream = String::from_utf8_lossy(&record.name).into_owned();
                    return Err(LayerTarError::SparseStream { entry: head.display_name(), stream });
                }
                backup::ALTERNATE_DATA => {
                    if let Some(suffix) = self.stream_suffix(head, &record) {
                        self.begin_stream(head, &suffix, record.size)?;
                        self.copy_to_tar(head, reader)?;
                    }
                }
                // The first of two passes has read them.
                backup::EA_DATA if pass == Pass::Whole => {}
                // The end of a sparse file that has no blocks, which some Windows write.
                backup::SPARSE_BLOCK if record.size == 0 => {}
                id if id == backup::EA_DATA || is_ignored(id) || (self.extended && !is_singular(id)) => {
                    self.lose_record(head, &record);
                }
                id => return Err(unknown_record(head, id, true)),
            }
        }
        Ok(())
    }

    /// The extended way: no part of a file is skipped because of its place.
    fn write_all_parts<R: Read + Seek>(
        &mut self,
        head: Head,
        size: u64,
        mut reader: backup::Reader<R>,
        start: u64,
    ) -> Result<(), LayerTarError> {
        let Found { head, parts, .. } =
            self.collect(head, &mut reader, backup::Reader::next_by_seeking, Pass::Whole)?;
        self.begin(&head)?;
        let data: Vec<&Part> = parts.iter().filter(|part| part.header.id == backup::DATA).collect();
        match data[..] {
            [] => {}
            [data] if data.size == size => {}
            [data] => {
                let entry = head.display_name();
                return Err(LayerTarError::SizeMismatch { entry, expected: size, actual: data.size });
            }
            _ => return Err(unknown_record(&head, backup::DATA, true)),
        }
        self.copy_parts(&head, &parts, backup::DATA, &mut reader, start)?;
        self.copy_parts(&head, &parts, backup::ALTERNATE_DATA, &mut reader, start)
    }

    /// Copies the parts of one kind.
    fn copy_parts<R: Read + Seek>(
        &mut self,
        head: &Head,
        parts: &[Part],
        kind: u32,
        reader: &mut backup::Reader<R>,
        start: u64,
    ) -> Result<(), LayerTarError> {
        let mut parts = parts.iter().filter(|part| part.header.id == kind).peekable();
        if parts.peek().is_none() {
            return Ok(());
        }
        reader.restart(start).map_err(|source| stream_error(head, source))?;
        for part in parts {
            loop {
                let record = reader.next_by_seeking().map_err(|source| stream_error(head, source))?;
                // The first pass met it; if it is gone, the source has changed in between.
                let record = record.ok_or_else(|| unknown_record(head, kind, true))?;
                if record == part.header {
                    break;
                }
            }
            if kind == backup::ALTERNATE_DATA {
                let Some(suffix) = self.stream_suffix(head, &part.header) else { continue };
                self.begin_stream(head, &suffix, part.size)?;
            }
            if part.size == part.header.size {
                self.copy_to_tar(head, reader)?;
            } else {
                self.copy_sparse(head, reader)?;
            }
        }
        Ok(())
    }

    /// The suffix that a stream adds to the name of its file: its own name less one `:$DATA`.
    ///
    /// Unless it begins with a colon it is not the name of a stream, and the tar would have another file, or
    /// this one again. The reference writes that all the same; an extended tar leaves it out (`None`).
    fn stream_suffix(&mut self, head: &Head, stream: &StreamHeader) -> Option<Vec<u8>> {
        let name = &stream.name;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        if end < name.len() {
            self.lose(&head.name, Lost::NameAfterNul { name: name.clone() });
        }
        let name = &name[..end];
        let suffix = name.strip_suffix(b":$DATA").unwrap_or(name);
        if !suffix.starts_with(b":") {
            self.lose_record(head, stream);
            if self.extended {
                return None;
            }
        }
        Some(suffix.to_vec())
    }

    fn copy_to_tar(&mut self, head: &Head, data: &mut dyn Read) -> Result<(), LayerTarError> {
        let copied = self.tar.copy(data)?;
        copied.map_err(|source| LayerTarError::Data { entry: head.display_name(), source })?;
        Ok(())
    }

    /// Notes a record that a file should have only once. The last one counts, as in the reference.
    fn replaces(&mut self, before: &mut Option<StreamHeader>, head: &Head, record: &StreamHeader) {
        if let Some(before) = before.replace(record.clone()) {
            self.lose(&head.name, Lost::Record { id: before.id, size: before.size });
        }
    }

    fn lose_record(&mut self, head: &Head, record: &StreamHeader) {
        let size = record.size;
        let what = match record.id {
            backup::ALTERNATE_DATA => Lost::Stream { name: record.name.clone(), size },
            backup::EA_DATA => Lost::ExtendedAttributes { size },
            id => Lost::Record { id, size },
        };
        self.lose(&head.name, what);
    }
}

/// How far to read metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    UntilData,
    Whole,
}

type Next<R> = fn(&mut backup::Reader<R>) -> Result<Option<StreamHeader>, BackupStreamError>;

impl Found {
    /// Adds a sparse block: its part ends no sooner than the block.
    fn add_block(&mut self, block: &StreamHeader) -> Result<(), LayerTarError> {
        let head = &self.head;
        let part = self.parts.last_mut().ok_or_else(|| unknown_record(head, block.id, false))?;
        // A part has its data in itself or in blocks; behind data of its own only the closing block may
        // follow.
        match part.header.size {
            0 => part.size = block.sparse_offset.saturating_add(block.size),
            size if block.size == 0 && block.sparse_offset <= size => {}
            _ => return Err(unknown_record(head, block.id, false)),
        }
        Ok(())
    }
}

/// Kinds that the reference skips everywhere.
fn is_ignored(id: u32) -> bool {
    matches!(id, backup::LINK | backup::PROPERTY_DATA | backup::OBJECT_ID | backup::TXFS_DATA)
}

/// Kinds that a file has only once, and that came too late.
fn is_singular(id: u32) -> bool {
    matches!(id, backup::DATA | backup::SECURITY_DATA | backup::REPARSE_DATA | backup::SPARSE_BLOCK)
}

/// The data of a metadata record. More than a PAX header holds cannot be written anyway.
fn metadata<R: Read>(head: &Head, reader: &mut backup::Reader<R>) -> Result<Vec<u8>, LayerTarError> {
    reader.read_all(MAX_SPECIAL_SIZE).map_err(|source| stream_error(head, source))
}

fn stream_error(head: &Head, source: BackupStreamError) -> LayerTarError {
    LayerTarError::BackupStream { entry: head.display_name(), source }
}

fn ea_error(head: &Head, source: ea::EaError) -> LayerTarError {
    LayerTarError::EaData { entry: head.display_name(), source }
}

fn unknown_record(head: &Head, id: u32, after_data: bool) -> LayerTarError {
    LayerTarError::UnknownRecord { entry: head.display_name(), id, after_data }
}
