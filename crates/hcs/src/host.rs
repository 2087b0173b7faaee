//! What is asked of Windows, without Windows: the seam at which a recording stand-in takes its place.

use std::fmt::Debug;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use crate::access::AccessControl;
use crate::error::Result;
use crate::guid::Guid;
use crate::layer::{DriverInfo, LayerDescriptor};
use crate::relative_path::{RelativePath, StreamName};

/// File attributes that decide what is done with a file. Source: winnt.h.
pub mod attribute {
    /// `FILE_ATTRIBUTE_DIRECTORY`.
    pub const DIRECTORY: u32 = 0x10;
    /// `FILE_ATTRIBUTE_REPARSE_POINT`.
    pub const REPARSE_POINT: u32 = 0x400;
}

/// A right that an administrator has but must switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Privilege {
    /// Reads whatever the security descriptor says.
    Backup,
    /// Writes whatever the security descriptor says.
    Restore,
    /// Reads and writes audit lists.
    Security,
}

impl Privilege {
    /// The name Windows has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "SeBackupPrivilege",
            Self::Restore => "SeRestorePrivilege",
            Self::Security => "SeSecurityPrivilege",
        }
    }
}

/// `FILE_BASIC_INFO`: times in 100 ns since 1601 (0 changes nothing when set), and attributes (likewise).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BasicInfo {
    /// When the file came to be.
    pub creation_time: i64,
    /// When it was last read.
    pub last_access_time: i64,
    /// When its data was last written.
    pub last_write_time: i64,
    /// When anything of it was last changed.
    pub change_time: i64,
    /// `FILE_ATTRIBUTE_*`.
    pub attributes: u32,
}

/// What is known of a file without opening its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Times and attributes.
    pub info: BasicInfo,
    /// Bytes of data; of no meaning for directories.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// Its identity on its volume.
    pub id: [u8; 16],
}

impl FileStatus {
    /// Whether it is a directory, be it also a reparse point.
    pub fn is_directory(&self) -> bool {
        self.info.attributes & attribute::DIRECTORY != 0
    }

    /// Whether it is a reparse point.
    pub fn is_reparse_point(&self) -> bool {
        self.info.attributes & attribute::REPARSE_POINT != 0
    }
}

/// What a backup stream is restored into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupTarget {
    /// A file that must not be there yet.
    NewFile,
    /// A directory that must not be there yet.
    NewDirectory,
    /// What is there; if it is a reparse point, that.
    Existing,
}

/// A directory, held open, and what is below it. No call follows a reparse point on its way to a path.
pub trait Tree: Debug + Send + Sync + Sized {
    /// A file read and written as it is.
    type File: Read + Write + Seek + Send + 'static;
    /// A file's backup stream.
    type BackupReader: Read + Send + 'static;
    /// Restores a file from its backup stream. Bytes are with Windows when `write` returns.
    type BackupWriter: Write + Send + 'static;

    /// The directory.
    fn root(&self) -> &Path;

    /// Attributes, times, size, links of what is at `path`, not of what it leads to.
    ///
    /// # Errors
    /// Nothing there, or a reparse point on the way.
    fn status(&self, path: &RelativePath) -> Result<FileStatus>;

    /// Names in a directory, in any order.
    ///
    /// # Errors
    /// As [`Tree::status`].
    fn list(&self, path: &RelativePath) -> Result<Vec<Vec<u16>>>;

    /// Makes a directory.
    ///
    /// # Errors
    /// Something there, or a reparse point on the way.
    fn make_directory(&self, path: &RelativePath) -> Result<()>;

    /// Makes a file and sets its times and attributes, which writing does not change.
    ///
    /// # Errors
    /// As [`Tree::make_directory`]; on failure there is no file.
    fn create_file(&self, path: &RelativePath, info: &BasicInfo) -> Result<Self::File>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// As [`Tree::status`].
    fn open_file(&self, path: &RelativePath) -> Result<Self::File>;

    /// The backup stream of what is at `path`, with its security descriptor if `security`. Needs
    /// [`Privilege::Backup`].
    ///
    /// # Errors
    /// As [`Tree::status`].
    fn backup_read(&self, path: &RelativePath, security: bool) -> Result<Self::BackupReader>;

    /// Restores what is at `path`, with its security descriptor if `security`; sets times and attributes
    /// first. Needs [`Privilege::Restore`], and [`Privilege::Security`] if `security`.
    ///
    /// # Errors
    /// As [`Tree::make_directory`] or [`Tree::status`]; on failure nothing new is there.
    fn backup_write(
        &self,
        path: &RelativePath,
        target: BackupTarget,
        info: &BasicInfo,
        security: bool,
    ) -> Result<Self::BackupWriter>;

    /// Sets times and attributes of a directory.
    ///
    /// # Errors
    /// As [`Tree::status`].
    fn set_directory_info(&self, path: &RelativePath, info: &BasicInfo) -> Result<()>;

    /// Gives the file `target` of `from` a further name here.
    ///
    /// # Errors
    /// As [`Tree::make_directory`].
    fn link(&self, path: &RelativePath, from: &Self, target: &RelativePath) -> Result<()>;

    /// Removes a file, an empty directory or a reparse point, even a read-only one.
    ///
    /// # Errors
    /// As [`Tree::status`].
    fn remove(&self, path: &RelativePath) -> Result<()>;

    /// Opens a file for reading once from start to end; one that is a reparse point itself is refused too.
    ///
    /// # Errors
    /// As [`Tree::status`].
    fn open_sequential(&self, path: &RelativePath) -> Result<Box<dyn Read + Send>>;

    /// Opens an alternate stream of what is at `path`, be that a file, a directory or a reparse point, for
    /// reading once from start to end.
    ///
    /// # Errors
    /// As [`Tree::status`]; no such stream.
    fn open_stream(&self, path: &RelativePath, stream: &StreamName) -> Result<Box<dyn Read + Send>>;

    /// Fails if anything on the way to `path`, or itself, is a reparse point.
    ///
    /// # Errors
    /// As [`Tree::status`].
    fn refuse_reparse_point(&self, path: &RelativePath) -> Result<()>;

    /// Removes what is at `path` and below; nothing there is no error. Everything that can go goes; the first
    /// error is returned.
    ///
    /// # Errors
    /// What could not be removed.
    fn remove_tree(&self, path: &RelativePath) -> Result<()> {
        let status = match self.status(path) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let mut first = Ok(());
        if status.is_directory() && !status.is_reparse_point() {
            for name in self.list(path)? {
                let removed = path.join(&name).and_then(|child| self.remove_tree(&child));
                first = first.and(removed);
            }
        }
        match self.remove(path) {
            Err(error) if error.is_not_found() => first,
            other => first.and(other),
        }
    }
}

/// What became of asking a compute system to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// It has ended.
    Done,
    /// It is ending: wait.
    Pending,
    /// It had ended before.
    AlreadyStopped,
}

/// A container or utility VM, open. Dropping it closes it.
pub trait ComputeSystem {
    /// Ends it.
    ///
    /// # Errors
    /// Anything but success, "pending" and "already stopped".
    fn terminate(&self) -> Result<Termination>;

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When its end is a failure, or the service is lost.
    fn wait(&self) -> Result<()>;
}

/// Windows, as far as a layer store needs it. The layer functions are those of `vmcompute.dll`, by their
/// names.
pub trait Host: AccessControl + 'static {
    /// A directory tree.
    type Tree: Tree + 'static;
    /// Ends the use of privileges on this thread when dropped.
    type Privileges;
    /// A virtual disk; detached again when dropped.
    type Disk;

    /// `ActivateLayer`: mounts a sandbox's disk; for a read-only layer next to nothing.
    ///
    /// # Errors
    /// What the service says; so for all functions of it.
    fn activate_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `DeactivateLayer`: undoes [`Host::activate_layer`].
    ///
    /// # Errors
    /// What the service says.
    fn deactivate_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `PrepareLayer`: puts the filter over a mounted sandbox. One at a time, or it times out (hcsshim
    /// `preparelayer.go`).
    ///
    /// # Errors
    /// What the service says.
    fn prepare_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()>;
    /// `UnprepareLayer`: undoes [`Host::prepare_layer`].
    ///
    /// # Errors
    /// What the service says.
    fn unprepare_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `CreateLayer`: an empty read-only layer on top of the layer with the ID `parent`, or of none if that
    /// is empty.
    ///
    /// # Errors
    /// What the service says.
    fn create_layer(&self, info: &DriverInfo, id: &str, parent: &str) -> Result<()>;
    /// `CreateSandboxLayer`: a writable layer.
    ///
    /// # Errors
    /// What the service says.
    fn create_sandbox_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()>;
    /// `ExpandSandboxSize`: grows a sandbox's disk to at least `size` bytes.
    ///
    /// # Errors
    /// What the service says.
    fn expand_sandbox_size(&self, info: &DriverInfo, id: &str, size: u64) -> Result<()>;
    /// `DestroyLayer`: removes a layer's directory.
    ///
    /// # Errors
    /// What the service says.
    fn destroy_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `ExportLayer`: writes what a layer changes into the transport directory `target`, which is made or
    /// empty.
    ///
    /// # Errors
    /// What the service says.
    fn export_layer(
        &self,
        info: &DriverInfo,
        id: &str,
        target: &Path,
        parents: &[LayerDescriptor],
    ) -> Result<()>;
    /// `ImportLayer`: reads a layer from the transport directory `source`.
    ///
    /// # Errors
    /// What the service says.
    fn import_layer(
        &self,
        info: &DriverInfo,
        id: &str,
        source: &Path,
        parents: &[LayerDescriptor],
    ) -> Result<()>;
    /// `GetLayerMountPath`: the volume of an active sandbox, by its name without a backslash at the end
    /// (`\\?\Volume{GUID}`), the directory of a read-only layer; `None` if the service gives none.
    ///
    /// # Errors
    /// What the service says.
    fn layer_mount_path(&self, info: &DriverInfo, id: &str) -> Result<Option<PathBuf>>;
    /// `LayerExists`.
    ///
    /// # Errors
    /// What the service says.
    fn layer_exists(&self, info: &DriverInfo, id: &str) -> Result<bool>;
    /// `GetBaseImages`: the images of the machine's own store, JSON.
    ///
    /// # Errors
    /// What the service says.
    fn base_images(&self) -> Result<String>;
    /// `NameToGuid`: the GUID that stands for a name.
    ///
    /// # Errors
    /// What the service says.
    fn name_to_guid(&self, name: &str) -> Result<Guid>;
    /// `ProcessBaseImage`: makes hives, disks and layout of a base layer whose files are there.
    ///
    /// # Errors
    /// What the service says.
    fn process_base_image(&self, path: &Path) -> Result<()>;
    /// `ProcessUtilityImage`: makes a utility VM's disks and boot store.
    ///
    /// # Errors
    /// What the service says.
    fn process_utility_image(&self, path: &Path) -> Result<()>;
    /// `GrantVmAccess`: lets a virtual machine open a file.
    ///
    /// # Errors
    /// What the service says.
    fn grant_vm_access(&self, vm: &str, path: &Path) -> Result<()>;

    /// `HcsEnumerateComputeSystems`: what matches `query` (JSON), JSON.
    ///
    /// # Errors
    /// What the service says.
    fn enumerate_compute_systems(&self, query: &str) -> Result<String>;
    /// `HcsOpenComputeSystem`, with a callback registered for its end.
    ///
    /// # Errors
    /// What the service says.
    fn open_compute_system(&self, id: &str) -> Result<Box<dyn ComputeSystem>>;

    /// `DetachVirtualDisk` on the disk in the file `path`.
    ///
    /// # Errors
    /// When it cannot be opened or is not attached.
    fn detach_virtual_disk(&self, path: &Path) -> Result<()>;
    /// `AttachVirtualDisk` on the disk in the file `path`, until the result is dropped.
    ///
    /// # Errors
    /// When it cannot be opened or attached.
    fn attach_virtual_disk(&self, path: &Path) -> Result<Self::Disk>;
    /// Whether there is a directory at `path`: that of a layer, or the root of a volume,
    /// `\\?\Volume{GUID}\`.
    ///
    /// # Errors
    /// When that cannot be known.
    fn is_directory(&self, path: &Path) -> Result<bool>;
    /// Lets the volume's file system take all of its partition (`IOCTL_DISK_GET_LENGTH_INFO`,
    /// `FSCTL_EXTEND_VOLUME`).
    ///
    /// # Errors
    /// What the volume says.
    fn extend_volume(&self, volume: &Path) -> Result<()>;
    /// Writes everything that was changed on the volume of `path` to its disk, files of others too
    /// (`FlushFileBuffers` on the volume).
    ///
    /// # Errors
    /// What the volume says.
    fn flush_volume(&self, path: &Path) -> Result<()>;
    /// Name of the file system of the volume that `path` is on, wherever that is mounted: `NTFS`, `ReFS`.
    /// `path` may be about to be made.
    ///
    /// # Errors
    /// When the volume cannot be asked.
    fn file_system(&self, path: &Path) -> Result<String>;

    /// Switches privileges on for this process.
    ///
    /// # Errors
    /// [`Code::NOT_ALL_ASSIGNED`](crate::Code::NOT_ALL_ASSIGNED) if the user does not hold them.
    fn enable_process_privileges(&self, privileges: &[Privilege]) -> Result<()>;
    /// Switches privileges off for this process.
    ///
    /// # Errors
    /// As [`Host::enable_process_privileges`].
    fn disable_process_privileges(&self, privileges: &[Privilege]) -> Result<()>;
    /// Switches privileges on for this thread alone, until the result is dropped.
    ///
    /// # Errors
    /// As [`Host::enable_process_privileges`].
    fn thread_privileges(&self, privileges: &[Privilege]) -> Result<Self::Privileges>;

    /// Opens a directory to work below it.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open_tree(&self, path: &Path) -> Result<Self::Tree>;
    /// Lets `child` end with this process, however that ends.
    ///
    /// # Errors
    /// When the child has to be left alone; it goes on.
    fn tie_to_this_process(&self, child: &Child) -> Result<()>;
    /// Renames a directory.
    ///
    /// # Errors
    /// [`Code::ACCESS_DENIED`](crate::Code::ACCESS_DENIED) while something in it is open.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a directory and all that is in it, without following links. One that is not there is fine.
    ///
    /// # Errors
    /// [`Code::ACCESS_DENIED`](crate::Code::ACCESS_DENIED) or
    /// [`Code::SHARING_VIOLATION`](crate::Code::SHARING_VIOLATION) while something in it is open.
    fn remove_directory(&self, path: &Path) -> Result<()>;
    /// Programs that have files in the directory `path` open, as `name (process 123)`; of a large directory
    /// only its upper part is looked at.
    ///
    /// # Errors
    /// When Windows does not know.
    fn holders(&self, path: &Path) -> Result<Vec<String>>;

    /// The operating system's build, whatever it says to programs that are not declared for it
    /// (`RtlGetVersion`).
    ///
    /// # Errors
    /// When it cannot be had.
    fn os_build(&self) -> Result<u32>;
    /// Something that is another after every start of the machine; empty if nothing is known.
    fn boot(&self) -> String;
    /// Waits.
    fn pause(&self, duration: Duration);
}
