//! Reads a transport directory as a layer.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use crate::backup_stream::{self as backup, STREAM_SPARSE_ATTRIBUTE};
use crate::layer_tar::{BackupSource, FileInfo, LayerSource, SourceItem};
use crate::name;
use crate::tombstones;

use super::directory::{Directory, Metadata};
use super::error::{TransportError, shown};
use super::{ATTRIBUTE_SIZE, DIRECTORY_SUFFIX, FILES, HIVES, RECYCLE_BIN, TOMBSTONES, is_below, parent};

/// Hives whose times are used for `Files` and `Hives`: of a layer, of a base layer.
const SYSTEM_HIVES: [&[u8]; 2] = [b"Hives\\System_Delta", b"Hives\\System_Base"];

/// Goes through a transport directory, depth-first, in the order of the names' bytes; deletions come right
/// behind their directory.
pub struct Reader<'a, D: Directory> {
    directory: &'a D,
    /// Remaining steps, last first.
    stack: Vec<Step>,
    /// Deletions by directory.
    tombstones: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    current: Current<D>,
}

enum Step {
    Visit(Vec<u8>),
    Tombstone(Vec<u8>),
    /// Deletions in directories that the layer does not have, which must not be lost.
    OtherTombstones,
}

enum Current<D: Directory> {
    None,
    Stored(D::Source),
    Raw(D::BackupSource),
}

impl<'a, D: Directory> Reader<'a, D> {
    /// Reads `directory`. Its deletions are read here.
    ///
    /// # Errors
    /// [`TransportError::Tombstones`] or [`TransportError::Io`]; a missing `tombstones.txt` is an error too.
    pub fn new(directory: &'a D) -> Result<Self, TransportError> {
        let mut file = Vec::new();
        let source = directory.open(TOMBSTONES);
        source
            .and_then(|mut source| source.read_to_end(&mut file))
            .map_err(TransportError::io("read the file", TOMBSTONES))?;
        let mut tombstones: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for path in tombstones::parse(&file).map_err(|source| TransportError::Tombstones { source })? {
            let path = [FILES, b"\\", &path].concat();
            tombstones.entry(parent(&path).to_vec()).or_default().push(path);
        }
        let mut reader =
            Self { directory, stack: vec![Step::OtherTombstones], tombstones, current: Current::None };
        reader.push_children(b"")?;
        Ok(reader)
    }

    fn next(&mut self) -> Result<Option<SourceItem>, TransportError> {
        self.current = Current::None;
        while let Some(step) = self.stack.pop() {
            match step {
                Step::Tombstone(path) => return Ok(Some(SourceItem::Tombstone { path })),
                Step::OtherTombstones => {
                    let left = std::mem::take(&mut self.tombstones).into_values().flatten().rev();
                    self.stack.extend(left.map(Step::Tombstone));
                }
                Step::Visit(path) => {
                    if let Some(item) = self.visit(path)? {
                        return Ok(Some(item));
                    }
                }
            }
        }
        Ok(None)
    }

    fn visit(&mut self, path: Vec<u8>) -> Result<Option<SourceItem>, TransportError> {
        let metadata = self.metadata(&path)?;
        if metadata.is_directory {
            if name::eq(&path, RECYCLE_BIN) {
                return Ok(None);
            }
            self.push_children(&path)?;
            let tombstones = self.tombstones.remove(&path).unwrap_or_default();
            self.stack.extend(tombstones.into_iter().rev().map(Step::Tombstone));
        }
        let link_id = metadata.link_id.filter(|_| !metadata.is_directory);
        let (info, size) = match is_below(&path, FILES) {
            true => self.open_stored(&path, &metadata)?,
            false => {
                (self.open_raw(&path, &metadata)?, if metadata.is_directory { 0 } else { metadata.size })
            }
        };
        Ok(Some(SourceItem::File { path, size, info, link_id }))
    }

    /// Opens a file with attribute word and backup stream; returns attributes and times, and the size of the
    /// data.
    fn open_stored(&mut self, path: &[u8], metadata: &Metadata) -> Result<(FileInfo, u64), TransportError> {
        let mut file_path = path.to_vec();
        let mut info = metadata.info;
        if metadata.is_directory {
            file_path.extend_from_slice(DIRECTORY_SUFFIX);
            info = self.metadata(&file_path)?.info;
        }
        let file = self.directory.open(&file_path);
        let mut file = file.map_err(TransportError::io("open the file", &file_path))?;
        let mut attributes = [0; ATTRIBUTE_SIZE as usize];
        file.read_exact(&mut attributes)
            .map_err(|_| TransportError::Attributes { path: shown(&file_path) })?;
        info.attributes = u32::from_le_bytes(attributes);
        let mut size = 0;
        if !metadata.is_directory {
            size = data_size(&mut file)
                .map_err(|source| TransportError::BackupStream { path: shown(&file_path), source })?;
        }
        let start = file.seek(SeekFrom::Start(ATTRIBUTE_SIZE));
        start.map_err(TransportError::io("read the file", &file_path))?;
        self.current = Current::Stored(file);
        Ok((info, size))
    }

    /// Opens a plain file. Times that importing changes are replaced by the one that it keeps.
    fn open_raw(&mut self, path: &[u8], metadata: &Metadata) -> Result<FileInfo, TransportError> {
        let source = self.directory.backup_read(path);
        self.current = Current::Raw(source.map_err(TransportError::io("read the file", path))?);
        let mut info = metadata.info;
        if path == FILES || path == HIVES {
            let hive = SYSTEM_HIVES.iter().find_map(|hive| self.directory.metadata(hive).ok());
            let attributes = info.attributes;
            info = FileInfo { attributes, ..hive.map_or(info, |hive| hive.info) };
        }
        info.creation_time = info.last_write_time;
        info.last_access_time = info.last_write_time;
        Ok(info)
    }

    fn push_children(&mut self, path: &[u8]) -> Result<(), TransportError> {
        let names = self.directory.list(path);
        let mut names = names.map_err(TransportError::io("list the directory", path))?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.retain(|name| !name.ends_with(DIRECTORY_SUFFIX) && (!path.is_empty() || name != TOMBSTONES));
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"\\"].concat() };
        self.stack.extend(names.iter().map(|name| Step::Visit([&prefix[..], name].concat())));
        Ok(())
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata, TransportError> {
        self.directory.metadata(path).map_err(TransportError::io("look up the file", path))
    }
}

/// Bytes of a file's data: of its data record, or up to the last of its sparse blocks.
fn data_size<R: Read + Seek>(file: &mut R) -> Result<u64, backup::BackupStreamError> {
    let mut reader = backup::Reader::new(file);
    while let Some(record) = reader.next_by_seeking()? {
        if record.id != backup::DATA {
            continue;
        }
        let mut size = record.size;
        if size == 0 && record.attributes & STREAM_SPARSE_ATTRIBUTE != 0 {
            while let Some(block) = reader.next_by_seeking()?.filter(|block| block.id == backup::SPARSE_BLOCK)
            {
                size = block.sparse_offset.saturating_add(block.size);
            }
        }
        return Ok(size);
    }
    Ok(0)
}

impl<D: Directory> LayerSource for Reader<'_, D> {
    fn next_item(&mut self) -> io::Result<Option<SourceItem>> {
        Ok(self.next()?)
    }

    fn backup_stream(&mut self) -> BackupSource<'_> {
        match &mut self.current {
            Current::None => BackupSource::Empty,
            Current::Stored(file) => BackupSource::Seekable(file),
            Current::Raw(file) => BackupSource::Forward(file),
        }
    }
}

impl<D: Directory> std::fmt::Debug for Reader<'_, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
