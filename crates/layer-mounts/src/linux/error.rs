//! Errors of the Linux mechanisms of the portable engine: the call, the path and the kernel's error.
//!
//! One enum for all of `linux/`, because its parts are used together (an overlay needs a loop device needs a
//! file) and the driver above treats them alike. The text of a variant never repeats its source; printing the
//! chain does that.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The error of a Linux mechanism.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// A system call failed on a path, and only the kernel's error is known.
    #[error("{}: {call} failed", path.display())]
    System {
        /// The system call or ioctl, by its name in the manual.
        call: &'static str,
        /// The path that it was applied to.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] crate::Cancelled),

    /// The kernel refused to mount a file system.
    #[error("cannot mount {} as {file_system}: {call} failed{}", path.display(), KernelLog(log))]
    Mount {
        /// The file system type.
        file_system: &'static str,
        /// The step of the mount that was refused, with its parameter.
        call: String,
        /// The image or directory to be mounted.
        path: PathBuf,
        /// The kernel's messages in the mount's own log, oldest first; often only they give the reason.
        log: Vec<String>,
        /// The kernel's answer.
        source: io::Error,
    },

    /// An EROFS image could be mounted neither straight from files nor through loop devices.
    #[error("{loop_backed}; before that, without loop devices: {file_backed}")]
    BothBackings {
        /// Why the file-backed mount failed.
        file_backed: Box<LinuxError>,
        /// Why the mount through loop devices failed.
        #[source]
        loop_backed: Box<LinuxError>,
    },

    /// The running kernel does not know a file system that is needed.
    #[error(
        "this kernel has no {file_system} file system: run `modprobe {file_system}`, or use a kernel built with \
         CONFIG_{}",
        kernel_option(file_system)
    )]
    FileSystemMissing {
        /// The file system type.
        file_system: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The running kernel has no loop devices.
    #[error("this kernel has no loop devices ({}): run `modprobe loop`, or use a kernel built with CONFIG_BLK_DEV_LOOP", path.display())]
    LoopMissing {
        /// The device node that is missing.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The caller may not mount.
    #[error("mounting {} needs root or CAP_SYS_ADMIN", path.display())]
    NotPermitted {
        /// The image or directory to be mounted.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A mount is in use.
    #[error("{} is in use{}", path.display(), HolderList(holders))]
    Busy {
        /// The mount point.
        path: PathBuf,
        /// Its holders, as far as `/proc` shows them.
        holders: Vec<Holder>,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The writes of mounting a sandbox cannot be saved to its image.
    #[error("{}: the first writes to the sandbox cannot be saved, so it is not mounted: make room where the store is", path.display())]
    Unsettled {
        /// Where the image was to be mounted.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// Writes to a sandbox cannot be saved to its image.
    #[error(
        "{}: some of what was written here cannot be saved, so it stays mounted for now: copy elsewhere what matters and make room \
         where the store is; unmounting again lets go of what is not saved",
        path.display()
    )]
    Unsaved {
        /// Where the sandbox is mounted.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A file that must exist for a mount is not a regular file.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// Nothing is mounted where a mount was expected.
    #[error("{}: nothing is mounted here", path.display())]
    NotMounted {
        /// The directory.
        path: PathBuf,
    },

    /// An operation failed, and so did undoing the steps before it.
    #[error("{first}; undoing it failed too: {}", Semicolons(undo))]
    Undo {
        /// The failure that made undoing necessary.
        #[source]
        first: Box<LinuxError>,
        /// The steps that could not be undone, in the order tried.
        undo: Vec<LinuxError>,
    },

    /// A line of the kernel's mount table is not what the kernel documents.
    #[error("/proc/self/mountinfo line {line}: {text:?} has no {missing}")]
    MountTable {
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
        /// The field that is missing or not a number.
        missing: &'static str,
    },

    /// A program that makes file systems is not installed.
    #[error("{tool} is not installed: it is in the package {package}")]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// The distribution package that has it.
        package: &'static str,
        /// Why it could not be started.
        source: io::Error,
    },

    /// A program that makes file systems failed.
    #[error("{tool} on {} failed with {status}: {}", path.display(), Excerpt { path, text: stderr })]
    ToolFailed {
        /// The program.
        tool: &'static str,
        /// The file it was to work on.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// Its standard error.
        stderr: String,
    },

    /// The size of a sandbox is too small for its file system.
    #[error("a sandbox of {requested} bytes is too small: at least {minimum} bytes are needed")]
    SandboxTooSmall {
        /// The size asked for, in bytes.
        requested: u64,
        /// The least size, in bytes.
        minimum: u64,
    },

    /// A sandbox of this size would be larger than any of Windows.
    #[error("a sandbox of {requested} bytes is too large: at most {maximum} (64 TiB)")]
    SandboxTooLarge {
        /// Bytes asked for.
        requested: u64,
        /// Bytes a sandbox may have.
        maximum: u64,
    },

    /// A sandbox was to be made smaller.
    #[error("{}: a sandbox of {current} bytes cannot shrink to {requested} bytes", path.display())]
    SandboxShrink {
        /// The image.
        path: PathBuf,
        /// Its size now, in bytes.
        current: u64,
        /// The size asked for, in bytes.
        requested: u64,
    },

    /// The caller may mount, but not grow a mounted file system.
    #[error("{}: growing a mounted sandbox needs CAP_SYS_RESOURCE; unmounted, it can be grown without", path.display())]
    GrowNotPermitted {
        /// The image.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A sandbox image is attached to a loop device already; attaching it twice would corrupt it.
    #[error("{} is in use{}", path.display(), HolderList(holders))]
    ImageAttached {
        /// The image.
        path: PathBuf,
        /// Its holders, as far as they are visible.
        holders: Vec<Holder>,
    },

    /// The list of mounts cannot be read, so it is unknown what is mounted.
    #[error("the list of mounts cannot be read: mount a proc at /proc")]
    NoMountTable {
        /// The kernel's answer.
        source: io::Error,
    },

    /// An upper directory holds something that this store never makes overlayfs create.
    #[error("{}: overlayfs attribute {attribute} is not supported here: the sandbox was mounted by something else", path.display())]
    ForeignOverlay {
        /// The entry, relative to the upper directory.
        path: PathBuf,
        /// The extended attribute.
        attribute: &'static str,
    },

    /// A path in an upper directory is longer than Windows can express.
    #[error("a path in the sandbox is {length} bytes long, Windows allows at most {limit}: {}…", prefix.display())]
    PathTooLong {
        /// Its first bytes, for finding it.
        prefix: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// An upper directory is nested deeper than the limit.
    #[error("directories in the sandbox are more than {limit} levels deep: {}…", prefix.display())]
    TooDeep {
        /// The first bytes of their path, for finding them.
        prefix: PathBuf,
        /// Most levels.
        limit: usize,
    },

    /// An upper directory has more names than the limit.
    #[error("{}: with what is in it, the sandbox has more than {limit} changed names", path.display())]
    TooManyNames {
        /// The directory, relative to the upper directory.
        path: PathBuf,
        /// Most names.
        limit: u64,
    },

    /// A file has more bytes of attributes than the limit.
    #[error("{}: its extended attributes for Windows have more than {limit} bytes", path.display())]
    AttributesTooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes of their names and values.
        limit: usize,
    },

    /// A directory was moved away during the walk.
    #[error("{}: changed while it was being read", path.display())]
    Moved {
        /// The directory, relative to the upper directory.
        path: PathBuf,
    },

    /// A thread that writes a file ended without saying why.
    #[error("{}: the thread that writes it panicked", path.display())]
    WriterPanicked {
        /// The file.
        path: PathBuf,
    },

    /// A file was written to after an earlier write had failed.
    #[error("{}: nothing more can be written after the error before", path.display())]
    WriterStopped {
        /// The file.
        path: PathBuf,
    },
}

/// One reason why a mount is busy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A process that has a file below the mount point open, or as its working directory or root.
    Process {
        /// Its process ID.
        pid: u32,
        /// Its name, as in `/proc/PID/comm`.
        name: String,
    },
    /// A mount below the mount point, or another mount of the same file system.
    Mount {
        /// Where it is.
        mount_point: PathBuf,
    },
    /// A mount in another mount namespace.
    Namespace {
        /// The namespace, as in `/proc/PID/ns/mnt`.
        namespace: u64,
        /// A process in it.
        pid: u32,
        /// Its name, as in `/proc/PID/comm`.
        name: String,
        /// How many more processes are in it.
        others: usize,
        /// The mount point in that namespace.
        mount_point: PathBuf,
    },
    /// A loop device whose users are not visible.
    Device {
        /// Its node.
        path: PathBuf,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "{name} (process {pid})"),
            Self::Mount { mount_point } => write!(f, "the mount {}", mount_point.display()),
            Self::Namespace { namespace, pid, name, others, mount_point } => {
                write!(f, "{name} (process {pid}")?;
                if *others > 0 {
                    write!(f, " and {others} more")?;
                }
                write!(f, ") in mount namespace {namespace}, at {}", mount_point.display())
            }
            Self::Device { path } => {
                write!(f, "{}, for a mount that cannot be seen from here", path.display())
            }
        }
    }
}

/// ` by x, y`, or nothing.
pub(super) struct HolderList<'a>(pub(super) &'a [Holder]);

impl fmt::Display for HolderList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, holder) in self.0.iter().enumerate() {
            write!(f, "{}{holder}", if position == 0 { " by " } else { ", " })?;
        }
        Ok(())
    }
}

/// ` (the kernel says: a; b)`, or nothing.
struct KernelLog<'a>(&'a [String]);

impl fmt::Display for KernelLog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (the kernel says: {})", self.0.join("; ")) }
    }
}

/// Errors with their sources, joined for one message.
struct Semicolons<'a>(&'a [LinuxError]);

impl fmt::Display for Semicolons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if position == 0 { "" } else { "; " })?;
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        Ok(())
    }
}

/// The kernel configuration option of a file system, without `CONFIG_`.
fn kernel_option(file_system: &str) -> &'static str {
    match file_system {
        "erofs" => "EROFS_FS",
        "overlay" => "OVERLAY_FS",
        "ext4" => "EXT4_FS",
        _ => "…_FS",
    }
}

impl LinuxError {
    /// For `map_err`: a system call that failed on a path.
    pub fn system<E: Into<io::Error>>(call: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::System { call, path: path.to_path_buf(), source: source.into() }
    }

    /// This error, together with that of undoing the steps before it, if that failed too.
    pub(super) fn with_undo(self, undo: Result<(), Self>) -> Self {
        match undo {
            Ok(()) => self,
            Err(error) => Self::Undo { first: Box::new(self), undo: vec![error] },
        }
    }

    /// Whether writes to a sandbox cannot be saved.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Unsaved { .. } => true,
            Self::Undo { first, .. } => first.is_loss(),
            _ => false,
        }
    }

    /// Whether the operation was refused because its subject is in use.
    pub fn is_in_use(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::ImageAttached { .. } => true,
            Self::Undo { first, .. } => first.is_in_use(),
            _ => false,
        }
    }

    /// The kernel's error number, looking through wrappers to the first failure.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::System { source, .. }
            | Self::Mount { source, .. }
            | Self::FileSystemMissing { source, .. }
            | Self::LoopMissing { source, .. }
            | Self::NotPermitted { source, .. }
            | Self::Busy { source, .. }
            | Self::NoMountTable { source }
            | Self::GrowNotPermitted { source, .. }
            | Self::ToolMissing { source, .. } => source.raw_os_error(),
            Self::BothBackings { loop_backed, .. } => loop_backed.raw_os_error(),
            Self::Undo { first, .. } => first.raw_os_error(),
            _ => None,
        }
    }
}

/// The first lines of a program's output: e2fsck writes a line for every fault, and a damaged image has
/// thousands.
struct Excerpt<'a> {
    path: &'a Path,
    text: &'a str,
}

/// Lines to show.
const EXCERPT_LINES: usize = 4;

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        f.write_str(&lines[..lines.len().min(EXCERPT_LINES)].join("\n"))?;
        match lines.len().saturating_sub(EXCERPT_LINES) {
            0 => Ok(()),
            more => {
                write!(
                    f,
                    "\n\u{2026} and {more} more lines: `e2fsck -f -n {}` shows all",
                    self.path.display()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(holders: Vec<Holder>) -> LinuxError {
        LinuxError::Busy { path: "/mnt/c".into(), holders, source: io::Error::from_raw_os_error(16) }
    }

    #[test]
    fn busy_names_whoever_holds_the_mount() {
        let process = Holder::Process { pid: 7, name: "bash".into() };
        let mount = Holder::Mount { mount_point: "/mnt/c/x".into() };
        assert_eq!(busy(vec![]).to_string(), "/mnt/c is in use");
        assert_eq!(
            busy(vec![process, mount]).to_string(),
            "/mnt/c is in use by bash (process 7), the mount /mnt/c/x"
        );
    }

    #[test]
    fn a_mount_in_another_namespace_is_named_with_its_process_and_place() {
        let holder = Holder::Namespace {
            namespace: 4_026_532_210,
            pid: 77,
            name: "sleep".into(),
            others: 2,
            mount_point: "/s/mounts/box/storage".into(),
        };
        assert_eq!(
            LinuxError::ImageAttached { path: "/s/sandbox.img".into(), holders: vec![holder] }.to_string(),
            "/s/sandbox.img is in use by sleep (process 77 and 2 more) in mount namespace 4026532210, at /s/mounts/box/storage"
        );
    }

    #[test]
    fn an_undo_error_tells_both_stories_with_their_causes() {
        let error = LinuxError::Undo {
            first: Box::new(LinuxError::NotMounted { path: "/a".into() }),
            undo: vec![busy(vec![])],
        };
        let text = error.to_string();
        assert!(
            text.starts_with("/a: nothing is mounted here; undoing it failed too: /mnt/c is in use: "),
            "{text}"
        );
        assert!(text.contains("busy"), "{text}");
    }

    #[test]
    fn a_missing_file_system_names_module_and_kernel_option() {
        let source = io::Error::from_raw_os_error(19);
        let text = LinuxError::FileSystemMissing { file_system: "erofs", source }.to_string();
        assert!(text.contains("modprobe erofs") && text.contains("CONFIG_EROFS_FS"), "{text}");
    }
}
