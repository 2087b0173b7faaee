//! The calls to Windows as traits, so that a recording stand-in can replace it on any system.

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

/// File attributes that decide how a file is handled. Source: winnt.h.
pub mod attribute {
    /// `FILE_ATTRIBUTE_DIRECTORY`.
    pub const DIRECTORY: u32 = 0x10;
    /// `FILE_ATTRIBUTE_REPARSE_POINT`.
    pub const REPARSE_POINT: u32 = 0x400;
}

/// A privilege that an administrator holds but must enable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Privilege {
    /// Reads any file, regardless of its security descriptor.
    Backup,
    /// Writes any file, regardless of its security descriptor.
    Restore,
    /// Reads and writes audit lists.
    Security,
}

impl Privilege {
    /// Its name in Windows.
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
    /// When the file was created.
    pub creation_time: i64,
    /// When it was last read.
    pub last_access_time: i64,
    /// When its data was last written.
    pub last_write_time: i64,
    /// When its data or metadata were last changed.
    pub change_time: i64,
    /// `FILE_ATTRIBUTE_*`.
    pub attributes: u32,
}

/// The status of a file, known without opening its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Times and attributes.
    pub info: BasicInfo,
    /// Bytes of data; meaningless for directories.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// Its identity on its volume.
    pub id: [u8; 16],
}

impl FileStatus {
    /// Whether it is a directory; it may be a reparse point as well.
    pub fn is_directory(&self) -> bool {
        self.info.attributes & attribute::DIRECTORY != 0
    }

    /// Whether it is a reparse point.
    pub fn is_reparse_point(&self) -> bool {
        self.info.attributes & attribute::REPARSE_POINT != 0
    }
}

/// The target to restore a backup stream to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupTarget {
    /// A file that must not exist yet.
    NewFile,
    /// A directory that must not exist yet.
    NewDirectory,
    /// The existing file or directory; if it is a reparse point, the reparse point itself.
    Existing,
}

/// A directory that is held open, and everything below it. No call follows a reparse point on its way to a
/// path.
pub trait Tree: Debug + Send + Sync + Sized {
    /// An open file.
    type File: Read + Write + Seek + Send + 'static;
    /// A file's backup stream.
    type BackupReader: Read + Send + 'static;
    /// Restores a file from its backup stream. `write` has passed the bytes to Windows when it returns.
    type BackupWriter: Write + Send + 'static;

    /// The directory's path.
    fn root(&self) -> &Path;

    /// Attributes, times, size and links of the file at `path` itself, not of a link's target.
    ///
    /// # Errors
    /// The path does not exist, or a reparse point is on the way.
    fn status(&self, path: &RelativePath) -> Result<FileStatus>;

    /// Names in a directory, in any order.
    ///
    /// # Errors
    /// Those of [`Tree::status`].
    fn list(&self, path: &RelativePath) -> Result<Vec<Vec<u16>>>;

    /// Makes a directory.
    ///
    /// # Errors
    /// The path exists, or a reparse point is on the way.
    fn make_directory(&self, path: &RelativePath) -> Result<()>;

    /// Makes a file and sets its times and attributes, which writing does not change.
    ///
    /// # Errors
    /// Those of [`Tree::make_directory`]; on failure there is no file.
    fn create_file(&self, path: &RelativePath, info: &BasicInfo) -> Result<Self::File>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of [`Tree::status`].
    fn open_file(&self, path: &RelativePath) -> Result<Self::File>;

    /// The backup stream of the file or directory at `path`, with its security descriptor if `security`.
    /// Needs [`Privilege::Backup`].
    ///
    /// # Errors
    /// Those of [`Tree::status`].
    fn backup_read(&self, path: &RelativePath, security: bool) -> Result<Self::BackupReader>;

    /// Restores the file or directory at `path`, with its security descriptor if `security`; sets times and
    /// attributes first. Needs [`Privilege::Restore`], and [`Privilege::Security`] if `security`.
    ///
    /// # Errors
    /// Those of [`Tree::make_directory`] or [`Tree::status`]; on failure nothing new remains.
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
    /// Those of [`Tree::status`].
    fn set_directory_info(&self, path: &RelativePath, info: &BasicInfo) -> Result<()>;

    /// Makes a hard link at `path` to the file `target` of the tree `from`.
    ///
    /// # Errors
    /// Those of [`Tree::make_directory`].
    fn link(&self, path: &RelativePath, from: &Self, target: &RelativePath) -> Result<()>;

    /// Removes a file, an empty directory or a reparse point, even a read-only one.
    ///
    /// # Errors
    /// Those of [`Tree::status`].
    fn remove(&self, path: &RelativePath) -> Result<()>;

    /// Opens a file for reading once from start to end. Refuses a file that is a reparse point itself, too.
    ///
    /// # Errors
    /// Those of [`Tree::status`].
    fn open_sequential(&self, path: &RelativePath) -> Result<Box<dyn Read + Send>>;

    /// Opens an alternate stream of the file, directory or reparse point at `path`, for reading once from
    /// start to end.
    ///
    /// # Errors
    /// Those of [`Tree::status`], or the stream does not exist.
    fn open_stream(&self, path: &RelativePath, stream: &StreamName) -> Result<Box<dyn Read + Send>>;

    /// Fails if `path` or anything on the way to it is a reparse point.
    ///
    /// # Errors
    /// Those of [`Tree::status`].
    fn refuse_reparse_point(&self, path: &RelativePath) -> Result<()>;

    /// Removes `path` and everything below it; a missing path is not an error. Removes as much as possible
    /// and returns the first error.
    ///
    /// # Errors
    /// Something could not be removed.
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

/// The result of terminating a compute system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// It has ended.
    Done,
    /// It is ending: wait.
    Pending,
    /// It had already ended.
    AlreadyStopped,
}

/// A container or utility VM, open. Dropping it closes it.
pub trait ComputeSystem {
    /// Ends it.
    ///
    /// # Errors
    /// Every result but success, "pending" and "already stopped".
    fn terminate(&self) -> Result<Termination>;

    /// Waits until it has ended.
    ///
    /// # Errors
    /// The system failed, or the connection to the service is lost.
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

    /// `ActivateLayer`: mounts a sandbox's disk; does next to nothing for a read-only layer.
    ///
    /// # Errors
    /// The error of the service, as for all of its functions.
    fn activate_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `DeactivateLayer`: undoes [`Host::activate_layer`].
    ///
    /// # Errors
    /// The error of the service.
    fn deactivate_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `PrepareLayer`: puts the filter over a mounted sandbox. Call it for one layer at a time, or it times
    /// out (hcsshim `preparelayer.go`).
    ///
    /// # Errors
    /// The error of the service.
    fn prepare_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()>;
    /// `UnprepareLayer`: undoes [`Host::prepare_layer`].
    ///
    /// # Errors
    /// The error of the service.
    fn unprepare_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `CreateLayer`: creates an empty read-only layer on top of the layer with the ID `parent`, or without a
    /// parent if that is empty.
    ///
    /// # Errors
    /// The error of the service.
    fn create_layer(&self, info: &DriverInfo, id: &str, parent: &str) -> Result<()>;
    /// `CreateSandboxLayer`: creates a writable layer.
    ///
    /// # Errors
    /// The error of the service.
    fn create_sandbox_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()>;
    /// `ExpandSandboxSize`: grows a sandbox's disk to at least `size` bytes.
    ///
    /// # Errors
    /// The error of the service.
    fn expand_sandbox_size(&self, info: &DriverInfo, id: &str, size: u64) -> Result<()>;
    /// `DestroyLayer`: removes a layer's directory.
    ///
    /// # Errors
    /// The error of the service.
    fn destroy_layer(&self, info: &DriverInfo, id: &str) -> Result<()>;
    /// `ExportLayer`: writes the changes of a layer to the transport directory `target`, which is created or
    /// must be empty.
    ///
    /// # Errors
    /// The error of the service.
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
    /// The error of the service.
    fn import_layer(
        &self,
        info: &DriverInfo,
        id: &str,
        source: &Path,
        parents: &[LayerDescriptor],
    ) -> Result<()>;
    /// `GetLayerMountPath`: the volume of an active sandbox, by its name without a backslash at the end
    /// (`\\?\Volume{GUID}`), the directory of a read-only layer; `None` if the service returns none.
    ///
    /// # Errors
    /// The error of the service.
    fn layer_mount_path(&self, info: &DriverInfo, id: &str) -> Result<Option<PathBuf>>;
    /// `LayerExists`.
    ///
    /// # Errors
    /// The error of the service.
    fn layer_exists(&self, info: &DriverInfo, id: &str) -> Result<bool>;
    /// `GetBaseImages`: the images of the machine's own store, JSON.
    ///
    /// # Errors
    /// The error of the service.
    fn base_images(&self) -> Result<String>;
    /// `NameToGuid`: converts a name to its GUID.
    ///
    /// # Errors
    /// The error of the service.
    fn name_to_guid(&self, name: &str) -> Result<Guid>;
    /// `ProcessBaseImage`: makes hives, disks and layout of a base layer from its files.
    ///
    /// # Errors
    /// The error of the service.
    fn process_base_image(&self, path: &Path) -> Result<()>;
    /// `ProcessUtilityImage`: makes a utility VM's disks and boot store.
    ///
    /// # Errors
    /// The error of the service.
    fn process_utility_image(&self, path: &Path) -> Result<()>;
    /// `GrantVmAccess`: lets a virtual machine open a file.
    ///
    /// # Errors
    /// The error of the service.
    fn grant_vm_access(&self, vm: &str, path: &Path) -> Result<()>;

    /// `HcsEnumerateComputeSystems`: the systems that match `query` (JSON), as JSON.
    ///
    /// # Errors
    /// The error of the service.
    fn enumerate_compute_systems(&self, query: &str) -> Result<String>;
    /// `HcsOpenComputeSystem`, with a callback registered for its end.
    ///
    /// # Errors
    /// The error of the service.
    fn open_compute_system(&self, id: &str) -> Result<Box<dyn ComputeSystem>>;

    /// `DetachVirtualDisk` on the disk in the file `path`.
    ///
    /// # Errors
    /// The disk cannot be opened, or is not attached.
    fn detach_virtual_disk(&self, path: &Path) -> Result<()>;
    /// `AttachVirtualDisk` on the disk in the file `path`, until the result is dropped.
    ///
    /// # Errors
    /// The disk cannot be opened or attached.
    fn attach_virtual_disk(&self, path: &Path) -> Result<Self::Disk>;
    /// Whether `path` is a directory: that of a layer, or the root of a volume, `\\?\Volume{GUID}\`.
    ///
    /// # Errors
    /// Windows cannot tell.
    fn is_directory(&self, path: &Path) -> Result<bool>;
    /// Extends the volume's file system to all of its partition (`IOCTL_DISK_GET_LENGTH_INFO`,
    /// `FSCTL_EXTEND_VOLUME`).
    ///
    /// # Errors
    /// The error of the volume.
    fn extend_volume(&self, volume: &Path) -> Result<()>;
    /// Writes all changes on the volume of `path` to its disk, including files of other programs
    /// (`FlushFileBuffers` on the volume).
    ///
    /// # Errors
    /// The error of the volume.
    fn flush_volume(&self, path: &Path) -> Result<()>;
    /// Name of the file system of the volume that `path` is on, mounted anywhere: `NTFS`, `ReFS`. `path` need
    /// not exist yet.
    ///
    /// # Errors
    /// The volume cannot be queried.
    fn file_system(&self, path: &Path) -> Result<String>;

    /// Enables privileges for this process.
    ///
    /// # Errors
    /// [`Code::NOT_ALL_ASSIGNED`](crate::Code::NOT_ALL_ASSIGNED) if the user does not hold them.
    fn enable_process_privileges(&self, privileges: &[Privilege]) -> Result<()>;
    /// Disables privileges for this process.
    ///
    /// # Errors
    /// Those of [`Host::enable_process_privileges`].
    fn disable_process_privileges(&self, privileges: &[Privilege]) -> Result<()>;
    /// Enables privileges for this thread alone, until the result is dropped.
    ///
    /// # Errors
    /// Those of [`Host::enable_process_privileges`].
    fn thread_privileges(&self, privileges: &[Privilege]) -> Result<Self::Privileges>;

    /// Opens a directory to work below it.
    ///
    /// # Errors
    /// The directory cannot be opened.
    fn open_tree(&self, path: &Path) -> Result<Self::Tree>;
    /// Makes Windows end `child` with this process, even if this process is killed.
    ///
    /// # Errors
    /// It is not possible; the child goes on running.
    fn tie_to_this_process(&self, child: &Child) -> Result<()>;
    /// Renames a directory.
    ///
    /// # Errors
    /// [`Code::ACCESS_DENIED`](crate::Code::ACCESS_DENIED) while something in it is open.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a directory and everything in it, without following links. A missing directory is not an
    /// error.
    ///
    /// # Errors
    /// [`Code::ACCESS_DENIED`](crate::Code::ACCESS_DENIED) or
    /// [`Code::SHARING_VIOLATION`](crate::Code::SHARING_VIOLATION) while something in it is open.
    fn remove_directory(&self, path: &Path) -> Result<()>;
    /// Programs that have files in the directory `path` open, as `name (process 123)`. In a large directory
    /// only the upper part is checked.
    ///
    /// # Errors
    /// Windows cannot tell.
    fn holders(&self, path: &Path) -> Result<Vec<String>>;

    /// The true build of the operating system, also for programs that do not declare support for it
    /// (`RtlGetVersion`).
    ///
    /// # Errors
    /// Windows does not tell.
    fn os_build(&self) -> Result<u32>;
    /// An ID of the current boot, different after every start; empty if unknown.
    fn boot(&self) -> String;
    /// Waits.
    fn pause(&self, duration: Duration);
}
