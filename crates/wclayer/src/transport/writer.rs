//! A layer into a transport directory.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::attributes::FILE_ATTRIBUTE_DIRECTORY;
use crate::backup_stream;
use crate::layer_tar::{FileInfo, LayerEntry, LayerSink, Loss, Lost};
use crate::name;
use crate::tombstones;

use super::directory::Directory;
use super::error::{TransportError, shown};
use super::{Area, DIRECTORY_SUFFIX, FILES, TOMBSTONES, UTILITY_VM_FILES, area, clean, is_below};

/// Takes the entries of a layer and stores them.
///
/// Links and deletions can only be made when HCS has imported the rest, so [`finish`](Self::finish) gives
/// them back.
pub struct Writer<'a, D: Directory> {
    directory: &'a mut D,
    current: Current<D>,
    deferred: Deferred,
    /// What was added, by folded path: the spelling it was added with.
    added: HashMap<Vec<u8>, Vec<u8>>,
    /// Reparse points that are directories; they are made last.
    reparse_directories: Vec<Vec<u8>>,
}

/// Where the bytes of a backup stream go.
enum Current<D: Directory> {
    None,
    /// Behind the attribute word of a transport file.
    Stored(D::Sink),
    /// Into the file itself.
    Restored(D::BackupSink),
}

/// A hard link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The further name.
    pub path: Vec<u8>,
    /// The file, spelled as it was added.
    pub target: Vec<u8>,
    /// Whether the file is in this layer; otherwise in a parent.
    pub is_in_layer: bool,
}

/// What remains to be done with a layer when its files are there. Paths have backslashes and are clean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deferred {
    /// Deletions below `Files`, in order.
    pub tombstones: Vec<Vec<u8>>,
    /// Deletions below `UtilityVM\Files`, which is a copy of the parent's: to be made there.
    pub utility_vm_removals: Vec<Vec<u8>>,
    /// Hard links, in order.
    pub links: Vec<Link>,
    /// What the format cannot hold.
    pub losses: Vec<Loss>,
}

impl<'a, D: Directory> Writer<'a, D> {
    /// Writes into `directory`, which is empty.
    pub fn new(directory: &'a mut D) -> Self {
        Self {
            directory,
            current: Current::None,
            deferred: Deferred::default(),
            added: HashMap::new(),
            reparse_directories: Vec::new(),
        }
    }

    /// The directory that is written into, for what is not an entry.
    pub fn directory(&mut self) -> &mut D {
        self.directory
    }

    /// Completes the last file, makes directories that are reparse points, and gives back what HCS has to
    /// have imported the layer for.
    ///
    /// # Errors
    /// [`TransportError::Io`].
    pub fn finish(mut self) -> Result<Deferred, TransportError> {
        self.complete()?;
        for path in &self.reparse_directories {
            self.directory.create_directory(path).map_err(TransportError::io("make the directory", path))?;
        }
        Ok(self.deferred)
    }

    /// Completes the last file: its bytes are written and it is closed. Adding the next one does this too.
    ///
    /// # Errors
    /// [`TransportError::Io`].
    pub fn complete(&mut self) -> Result<(), TransportError> {
        let flushed = match &mut self.current {
            Current::None => Ok(()),
            Current::Stored(file) => file.flush(),
            Current::Restored(file) => file.flush(),
        };
        self.current = Current::None;
        flushed.map_err(TransportError::io("write the file", b""))
    }

    fn add_entry(&mut self, path: &[u8], entry: &LayerEntry) -> Result<(), TransportError> {
        self.complete()?;
        let path = clean(path);
        let area = area(&path).ok_or_else(|| TransportError::Path { path: shown(&path) })?;
        if path.ends_with(DIRECTORY_SUFFIX) {
            return Err(TransportError::ReservedName { path: shown(&path) });
        }
        let info = entry.info();
        let is_directory = info.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        self.current = match area {
            Area::Top | Area::Files => self.store(&path, entry, is_directory)?,
            Area::Hives => {
                if is_directory {
                    self.make_directory(&path)?;
                }
                self.lose_security(entry);
                self.restore(&path, &FileInfo { attributes: 0, ..info }, false)?
            }
            Area::UtilityVm => {
                if is_directory {
                    self.make_directory(&path)?;
                }
                self.restore(&path, &info, true)?
            }
        };
        self.added.insert(name::fold(&path), path);
        Ok(())
    }

    /// Begins a file with attribute word and backup stream.
    fn store(
        &mut self,
        path: &[u8],
        entry: &LayerEntry,
        is_directory: bool,
    ) -> Result<Current<D>, TransportError> {
        let mut file_path = path.to_vec();
        if is_directory {
            file_path.extend_from_slice(DIRECTORY_SUFFIX);
            if entry.reparse.is_some() {
                self.reparse_directories.push(path.to_vec());
            } else {
                self.make_directory(path)?;
            }
        }
        let info = FileInfo { attributes: 0, ..entry.info() };
        let file = self.directory.create(&file_path, &info);
        let mut file = file.map_err(TransportError::io("make the file", &file_path))?;
        let attributes = entry.attributes.to_le_bytes();
        file.write_all(&attributes).map_err(TransportError::io("write the file", &file_path))?;
        Ok(Current::Stored(file))
    }

    /// Begins a plain file.
    fn restore(
        &mut self,
        path: &[u8],
        info: &FileInfo,
        with_security: bool,
    ) -> Result<Current<D>, TransportError> {
        let file = self.directory.backup_write(path, info, with_security);
        file.map(Current::Restored).map_err(TransportError::io("restore the file", path))
    }

    fn make_directory(&mut self, path: &[u8]) -> Result<(), TransportError> {
        self.directory.create_directory(path).map_err(TransportError::io("make the directory", path))
    }

    fn lose_security(&mut self, entry: &LayerEntry) {
        if let Some(security) = &entry.security {
            let what = Lost::Record { id: backup_stream::SECURITY_DATA, size: security.len() as u64 };
            self.deferred.losses.push(Loss { entry: entry.name.clone(), what });
        }
    }

    fn defer_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TransportError> {
        self.complete()?;
        let (path, target) = (clean(path), clean(target));
        let can_link = |path: &[u8]| is_below(path, FILES) || is_below(path, UTILITY_VM_FILES);
        if !can_link(&path) || !can_link(&target) {
            return Err(TransportError::Link { path: shown(&path), target: shown(&target) });
        }
        let added = self.added.get(&name::fold(&target));
        let is_in_layer = added.is_some();
        let target = added.cloned().unwrap_or(target);
        self.added.insert(name::fold(&path), path.clone());
        self.deferred.links.push(Link { path, target, is_in_layer });
        Ok(())
    }

    fn defer_removal(&mut self, path: &[u8]) -> Result<(), TransportError> {
        self.complete()?;
        let path = clean(path);
        if is_below(&path, FILES) {
            self.deferred.tombstones.push(path);
        } else if is_below(&path, UTILITY_VM_FILES) {
            self.deferred.utility_vm_removals.push(path);
        } else {
            return Err(TransportError::Path { path: shown(&path) });
        }
        Ok(())
    }
}

impl<D: Directory> LayerSink for Writer<'_, D> {
    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        Ok(self.defer_removal(path)?)
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(self.defer_link(path, target)?)
    }

    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()> {
        Ok(self.add_entry(path, entry)?)
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        match &mut self.current {
            Current::None => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "no file was added before its data"))
            }
            Current::Stored(file) => file.write_all(stream),
            Current::Restored(file) => file.write_all(stream),
        }
    }
}

impl Deferred {
    /// Puts deletions and the links within the layer into the directory too, which is the form that
    /// `ExportLayer` gives. Links to files of other layers are left: they are the result.
    ///
    /// # Errors
    /// [`TransportError::Tombstones`] for a path that the file cannot hold, [`TransportError::Io`].
    pub fn store<D: Directory>(&self, directory: &mut D) -> Result<Vec<Link>, TransportError> {
        let below_files = |path: &Vec<u8>| path[FILES.len() + 1..].to_vec();
        let tombstones: Vec<Vec<u8>> = self.tombstones.iter().map(below_files).collect();
        let file = tombstones::write(&tombstones).map_err(|source| TransportError::Tombstones { source })?;
        let action = "write the file";
        let sink = directory.create(TOMBSTONES, &FileInfo::default());
        let mut sink = sink.map_err(TransportError::io(action, TOMBSTONES))?;
        sink.write_all(&file).and_then(|()| sink.flush()).map_err(TransportError::io(action, TOMBSTONES))?;
        let (inside, outside): (Vec<&Link>, Vec<&Link>) =
            self.links.iter().partition(|link| link.is_in_layer);
        for link in inside {
            let linked = directory.link(&link.path, &link.target);
            linked.map_err(TransportError::io("link the file", &link.path))?;
        }
        Ok(outside.into_iter().cloned().collect())
    }
}

impl<D: Directory> std::fmt::Debug for Writer<'_, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("deferred", &self.deferred).finish_non_exhaustive()
    }
}
