//! Writes a layer to a transport directory.
//!
//! A later entry replaces an earlier one of its name. Hard links to the earlier one keep its content: one of
//! them becomes the file.

mod deletions;
mod names;

use std::io::{self, Write};

use crate::attributes::FILE_ATTRIBUTE_DIRECTORY;
use crate::backup_stream;
use crate::layer_tar::{FileInfo, LayerEntry, LayerSink, Loss, Lost};
use crate::name;
use crate::tombstones;

use self::deletions::Deletions;
pub use self::names::AddedNames;
use self::names::{Added, Kind};

use super::directory::Directory;
use super::error::{TransportError, shown};
use super::{Area, DIRECTORY_SUFFIX, FILES, TOMBSTONES, UTILITY_VM_FILES, area, clean, is_below};

/// Stores the entries of a layer.
///
/// Links and deletions can only be made after HCS has imported the rest, so [`finish`](Self::finish) returns
/// them.
pub struct Writer<'a, D: Directory> {
    directory: &'a mut D,
    current: Current<D>,
    deferred: Deferred,
    /// Hard links, in order; `None` if another entry has taken a link's name, or the link has become its
    /// file.
    links: Vec<Option<Link>>,
    /// Below `Files`, and below `UtilityVM\\Files`.
    deletions: [Deletions; 2],
    /// Reparse points that are directories; they are made last.
    reparse_directories: Vec<Vec<u8>>,
}

/// The destination of a backup stream.
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
    /// Whether the file is in this layer, added before the link; otherwise in a parent.
    pub is_in_layer: bool,
    /// The layer's final entry of the target's name, if the file is not in the layer: the link's target if no
    /// parent has it either.
    pub later: Option<Vec<u8>>,
}

/// The steps that remain after a layer's files are written. Paths have backslashes and are clean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deferred {
    /// Deletions below `Files`, in order.
    pub tombstones: Vec<Vec<u8>>,
    /// Deletions below `UtilityVM\Files`, to be made in the copy of the parent's utility VM.
    pub utility_vm_removals: Vec<Vec<u8>>,
    /// Hard links, in order.
    pub links: Vec<Link>,
    /// Losses: content that the format cannot hold.
    pub losses: Vec<Loss>,
    /// The names of the layer.
    pub added: AddedNames,
}

impl<'a, D: Directory> Writer<'a, D> {
    /// Writes into `directory`, which is empty.
    pub fn new(directory: &'a mut D) -> Self {
        Self {
            directory,
            current: Current::None,
            deferred: Deferred::default(),
            links: Vec::new(),
            deletions: Default::default(),
            reparse_directories: Vec::new(),
        }
    }

    /// The names added so far.
    pub fn added(&self) -> &AddedNames {
        &self.deferred.added
    }

    /// The directory, to write files that are not entries.
    pub fn directory(&mut self) -> &mut D {
        self.directory
    }

    /// Completes the last file, makes directories that are reparse points, and returns the steps that have to
    /// wait until HCS has imported the layer.
    ///
    /// # Errors
    /// [`TransportError::Io`].
    pub fn finish(mut self) -> Result<Deferred, TransportError> {
        self.complete()?;
        for path in &self.reparse_directories {
            self.directory.create_directory(path).map_err(TransportError::io("make the directory", path))?;
        }
        for mut link in self.links.into_iter().flatten() {
            if !link.is_in_layer {
                let later =
                    self.deferred.added.get(&link.target).filter(|added| added.kind != Kind::Directory);
                link.later = later.map(|added| added.path.clone());
            }
            self.deferred.links.push(link);
        }
        let [files, utility_vm] = self.deletions;
        self.deferred.tombstones = files.into_paths();
        self.deferred.utility_vm_removals = utility_vm.into_paths();
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
        let kind = match (is_directory, entry.reparse.is_some() && matches!(area, Area::Top | Area::Files)) {
            (true, false) => Kind::Directory,
            (true, true) => Kind::ReparseDirectory,
            (false, _) => Kind::File,
        };
        let (path, is_there) = self.make_room(path, kind)?;
        self.current = match area {
            Area::Top | Area::Files => self.store(&path, entry, kind, is_there)?,
            Area::Hives => {
                if is_directory && !is_there {
                    self.make_directory(&path)?;
                }
                self.lose_security(entry);
                self.restore(&path, &FileInfo { attributes: 0, ..info }, false)?
            }
            Area::UtilityVm => {
                if is_directory && !is_there {
                    self.make_directory(&path)?;
                }
                self.restore(&path, &info, true)?
            }
        };
        self.deferred.added.insert(path, kind);
        Ok(())
    }

    /// Removes the earlier entry of this name. But a directory over a directory keeps its spelling and
    /// content; then the result is `true`.
    fn make_room(&mut self, path: Vec<u8>, kind: Kind) -> Result<(Vec<u8>, bool), TransportError> {
        if kind != Kind::Directory {
            self.forget_deletions_below(&path);
        }
        match self.deferred.added.get(&path).cloned() {
            None => Ok((path, false)),
            Some(Added { path: there, kind: Kind::Directory }) if kind == Kind::Directory => {
                self.remove_metadata(&there)?;
                Ok((there, true))
            }
            Some(_) => {
                self.take_back(&path)?;
                Ok((path, false))
            }
        }
    }

    /// Drops the deletions in a path that is no longer a directory: if it becomes one again, that is a new
    /// one.
    fn forget_deletions_below(&mut self, path: &[u8]) {
        for deletions in &mut self.deletions {
            deletions.forget_below(path);
        }
    }

    /// Removes the entries at a path and below it. Hard links to them from elsewhere keep the files.
    fn take_back(&mut self, path: &[u8]) -> Result<(), TransportError> {
        let gone = self.deferred.added.take(path);
        for added in &gone {
            if let Kind::Link(number) = added.kind {
                self.links[number] = None;
            }
        }
        let top = gone.first().filter(|top| !matches!(top.kind, Kind::Link(_))).cloned();
        for Added { path, .. } in gone {
            self.rescue(&path)?;
        }
        let Some(Added { path, kind }) = top else { return Ok(()) };
        if kind == Kind::ReparseDirectory {
            self.reparse_directories.retain(|other| *other != path);
        } else {
            self.directory.remove(&path).map_err(TransportError::io("replace", &path))?;
        }
        if kind == Kind::File { Ok(()) } else { self.remove_metadata(&path) }
    }

    /// Turns the first link to a file into the file, and lets the other links lead there.
    fn rescue(&mut self, path: &[u8]) -> Result<(), TransportError> {
        let mut now: Option<Vec<u8>> = None;
        for number in self.deferred.added.take_links_to(path) {
            let Some(link) = &mut self.links[number] else { continue };
            match &now {
                Some(file) => {
                    link.target.clone_from(file);
                    self.deferred.added.link_to(file, number);
                }
                None => {
                    let linked = self.directory.link(&link.path, &link.target);
                    linked.map_err(TransportError::io("keep the file of a replaced name as", &link.path))?;
                    self.deferred.added.insert(link.path.clone(), Kind::File);
                    now = Some(std::mem::take(&mut link.path));
                    self.links[number] = None;
                }
            }
        }
        Ok(())
    }

    /// Removes the file with a directory's metadata, in areas where directories have one.
    fn remove_metadata(&mut self, path: &[u8]) -> Result<(), TransportError> {
        if !matches!(area(path), Some(Area::Top | Area::Files)) {
            return Ok(());
        }
        let file_path = [path, DIRECTORY_SUFFIX].concat();
        self.directory.remove(&file_path).map_err(TransportError::io("replace", &file_path))
    }

    /// Begins a file with attribute word and backup stream.
    fn store(
        &mut self,
        path: &[u8],
        entry: &LayerEntry,
        kind: Kind,
        is_there: bool,
    ) -> Result<Current<D>, TransportError> {
        let mut file_path = path.to_vec();
        if kind != Kind::File {
            file_path.extend_from_slice(DIRECTORY_SUFFIX);
        }
        match kind {
            Kind::ReparseDirectory => self.reparse_directories.push(path.to_vec()),
            Kind::Directory if !is_there => self.make_directory(path)?,
            _ => {}
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
        let (target, is_in_layer) = match self.deferred.added.get(&target) {
            None => (target, false),
            // A link to a link is a link to the same file.
            Some(Added { kind: Kind::Link(number), .. }) => {
                let link = self.links[*number].as_ref();
                link.map_or((target, false), |link| (link.target.clone(), link.is_in_layer))
            }
            Some(added) => (added.path.clone(), true),
        };
        if is_in_layer && name::eq(&path, &target) {
            return Ok(());
        }
        self.forget_deletions_below(&path);
        if is_in_layer && is_below_any_case(&target, &path) {
            return self.replace_by_its_own(path, &target);
        }
        // Only after looking up the target: the link may replace it, and the file is rescued then.
        let number = self.links.len();
        self.links.push(Some(Link { path: path.clone(), target: target.clone(), is_in_layer, later: None }));
        if is_in_layer {
            self.deferred.added.link_to(&target, number);
        }
        if self.deferred.added.get(&path).is_some() {
            self.take_back(&path)?;
        }
        if self.links[number].is_some() {
            self.deferred.added.insert(path, Kind::Link(number));
        }
        Ok(())
    }

    /// Replaces a directory by a file in it.
    fn replace_by_its_own(&mut self, path: Vec<u8>, target: &[u8]) -> Result<(), TransportError> {
        let aside = [&path[..], b".$wcikept$"].concat();
        let keep = TransportError::io("keep the file of a replaced name as", &path);
        self.directory.link(&aside, target).map_err(keep)?;
        self.take_back(&path)?;
        let linked = self.directory.link(&path, &aside).and_then(|()| self.directory.remove(&aside));
        linked.map_err(TransportError::io("keep the file of a replaced name as", &path))?;
        self.deferred.added.insert(path, Kind::File);
        Ok(())
    }

    fn defer_removal(&mut self, path: &[u8]) -> Result<(), TransportError> {
        self.complete()?;
        let path = clean(path);
        if is_below(&path, FILES) {
            self.deletions[0].push(path);
        } else if is_below(&path, UTILITY_VM_FILES) {
            self.deletions[1].push(path);
        } else {
            return Err(TransportError::Path { path: shown(&path) });
        }
        Ok(())
    }
}

fn is_below_any_case(path: &[u8], directory: &[u8]) -> bool {
    is_below(&name::fold(path), &name::fold(directory))
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
    /// Also writes deletions and the links within the layer to the directory, as `ExportLayer` does. Returns
    /// the links to files of other layers.
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
