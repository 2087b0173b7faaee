//! The kernel's list of mounts, and unmounting.
//!
//! Only the table tells what is mounted: it stays right after a crash of this program, which our own records
//! would not. Source of the format: `proc_pid_mountinfo(5)`.

use super::error::LinuxError;
use super::holders;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TABLE: &str = "/proc/self/mountinfo";
/// How long to wait for a busy mount. Between `fork` and `exec` a child of any thread has every file open
/// that this process has just closed; programs that scan everything, such as indexers, also have files open
/// for a moment. containerd waits for the same reason (`mount/mount_linux.go`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Unique as long as the mount exists.
    pub id: u64,
    /// The mount this one sits on.
    pub parent: u64,
    /// Device number of the file system, major and minor.
    pub device: (u32, u32),
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Options of this mount, such as `ro,nosuid`.
    pub options: String,
    /// Its type, such as `erofs`.
    pub file_system: String,
    /// The source: an image, a device, or a word.
    pub source: PathBuf,
    /// Options of the file system.
    pub file_system_options: String,
}

/// All mounts of this process' mount namespace, in the order of mounting.
pub fn read() -> Result<Vec<Mount>, LinuxError> {
    parse(&std::fs::read(TABLE).map_err(|source| LinuxError::NoMountTable { source })?)
}

/// Parses the text of a `mountinfo` file.
pub fn parse(table: &[u8]) -> Result<Vec<Mount>, LinuxError> {
    let lines = table.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| {
            parse_line(line).map_err(|missing| LinuxError::MountTable {
                line: number + 1,
                text: String::from_utf8_lossy(line).into_owned(),
                missing,
            })
        })
        .collect()
}

/// `36 35 98:0 /root /mount/point options optional… - type source options`; the error is the field that is
/// missing.
fn parse_line(line: &[u8]) -> Result<Mount, &'static str> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut field = |name: &'static str| fields.next().ok_or(name);
    let id = number(field("mount ID")?).ok_or("mount ID")?;
    let parent = number(field("parent ID")?).ok_or("parent ID")?;
    let device = parse_device(field("device number")?).ok_or("device number")?;
    let root = path(field("root")?);
    let mount_point = path(field("mount point")?);
    let options = text(field("mount options")?);
    // Any number of tags such as `shared:1` come before the dash.
    while field("separator")? != b"-" {}
    let file_system = text(field("file system type")?);
    let source = path(field("source")?);
    let file_system_options = text(field("file system options")?);
    Ok(Mount { id, parent, device, root, mount_point, options, file_system, source, file_system_options })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

pub(super) fn parse_device(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

/// The kernel writes blank, tab, newline, backslash and `#` as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| first == b'\\').and_then(octal_byte);
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    bytes
}

fn octal_byte(digits: &[u8; 3]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// The topmost mount at exactly this path, if any. The path may contain links; they are resolved first.
pub fn at(path: &Path) -> Result<Option<Mount>, LinuxError> {
    let path = resolve(path)?;
    Ok(read()?.into_iter().rfind(|mount| mount.mount_point == path))
}

/// The mounts at this path and below it, in an order in which they can be unmounted.
pub fn under(path: &Path) -> Result<Vec<Mount>, LinuxError> {
    let path = resolve(path)?;
    let mut mounts = read()?;
    mounts.retain(|mount| mount.mount_point.starts_with(&path));
    // A later mount may sit on an earlier one, never the other way round.
    mounts.reverse();
    Ok(mounts)
}

fn resolve(path: &Path) -> Result<PathBuf, LinuxError> {
    std::fs::canonicalize(path).map_err(LinuxError::system("realpath", path))
}

/// Unmounts the topmost mount at this path. If it stays in use, the error names its users.
pub fn unmount(path: &Path) -> Result<(), LinuxError> {
    let start = Instant::now();
    let first = free_top(path);
    loop {
        match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) if start.elapsed() < BUSY_TIMEOUT && first.is_some() => {
                std::thread::sleep(BUSY_PAUSE);
                // Do not unmount a mount that another process has put on top meanwhile.
                if free_top(path) != first {
                    return Err(unmount_error(path, Errno::BUSY));
                }
            }
            result => return result.map_err(|error| unmount_error(path, error)),
        }
    }
}

/// The ID of the topmost mount at this path; `None` if a mount sits below the path, which would keep it busy
/// for long, or if the table cannot be read.
fn free_top(path: &Path) -> Option<u64> {
    let (path, mounts) = (resolve(path).ok()?, read().ok()?);
    let is_below = |mount: &Mount| mount.mount_point != path && mount.mount_point.starts_with(&path);
    let top = mounts.iter().rfind(|mount| mount.mount_point == path)?;
    (!mounts.iter().any(is_below)).then_some(top.id)
}

/// Detaches the mount at this path at once; the file system is unmounted when its last user is gone.
pub fn detach(path: &Path) -> Result<(), LinuxError> {
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
    rustix::mount::unmount(path, flags).map_err(|error| unmount_error(path, error))
}

fn unmount_error(path: &Path, error: Errno) -> LinuxError {
    match error {
        Errno::BUSY => LinuxError::Busy {
            path: path.to_path_buf(),
            holders: holders::of_path(path),
            source: error.into(),
        },
        Errno::INVAL => LinuxError::NotMounted { path: path.to_path_buf() },
        Errno::PERM => LinuxError::NotPermitted { path: path.to_path_buf(), source: error.into() },
        _ => LinuxError::system("umount2", path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::Holder;
    use crate::linux::bind::bind;
    use std::fs::File;

    #[test]
    fn a_line_is_parsed_with_escapes_and_any_number_of_tags() {
        let table = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134\\011c rw,noatime shared:1 master:2 - ext3 /dev/ro\\043ot rw,x\n\
                      37 36 0:5 / /mnt/c ro - overlay overlay ro,lowerdir=/a\\072b\n";
        let mounts = parse(table).unwrap();
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].id, mounts[0].parent, mounts[0].device), (36, 35, (98, 0)));
        assert_eq!(mounts[0].mount_point, Path::new("/mnt/a b\\\tc"));
        assert_eq!(mounts[0].source, Path::new("/dev/ro#ot"));
        assert_eq!(mounts[1].file_system, "overlay");
        assert_eq!(mounts[1].file_system_options, "ro,lowerdir=/a:b");
    }

    #[test]
    fn a_backslash_that_starts_no_octal_number_stays() {
        assert_eq!(unescape(b"a\\9\\04\\777\\"), b"a\\9\\04\\777\\");
    }

    #[test]
    fn a_broken_line_is_named_with_its_number_and_missing_field() {
        let error = parse(b"36 35 98:0 / / rw - a b c\n1 2 3:4 / / rw shared:1\n").unwrap_err();
        assert!(matches!(error, LinuxError::MountTable { line: 2, missing: "separator", .. }), "{error}");
        assert!(parse(b"x 35 98:0 / / rw - a b c").is_err());
        assert!(parse(b"1 35 98-0 / / rw - a b c").is_err());
    }

    #[test]
    fn the_table_of_this_machine_can_be_read() {
        assert!(read().unwrap().iter().any(|mount| mount.mount_point == Path::new("/proc")));
    }

    /// A bind mount that goes away even if the test fails.
    struct Bound(tempfile::TempDir);

    impl Bound {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["source", "target"] {
                std::fs::create_dir(folder.path().join(name)).unwrap();
            }
            std::fs::create_dir(folder.path().join("source/inner")).unwrap();
            let bound = Self(folder);
            bind(&bound.source(), &bound.target()).unwrap();
            bound
        }
        fn source(&self) -> PathBuf {
            self.0.path().join("source")
        }
        fn target(&self) -> PathBuf {
            self.0.path().join("target")
        }
    }

    impl Drop for Bound {
        fn drop(&mut self) {
            while detach(&self.target()).is_ok() {}
        }
    }

    #[test]
    fn mounts_are_found_at_and_under_a_path_the_last_first() {
        let bound = Bound::new();
        let inner = bound.target().join("inner");
        bind(&bound.source(), &inner).unwrap();
        assert_eq!(at(&inner).unwrap().unwrap().mount_point, inner);
        assert_eq!(at(&bound.source()).unwrap(), None);
        let below: Vec<_> =
            under(bound.0.path()).unwrap().into_iter().map(|mount| mount.mount_point).collect();
        assert_eq!(below, [inner.clone(), bound.target()]);
        unmount(&inner).unwrap();
    }

    #[test]
    fn a_busy_mount_names_the_process_and_the_mounts_that_hold_it() {
        let bound = Bound::new();
        let inner = bound.target().join("inner");
        let open = File::create(bound.target().join("open")).unwrap();
        bind(&bound.source(), &inner).unwrap();
        let LinuxError::Busy { holders, .. } = unmount(&bound.target()).unwrap_err() else {
            panic!("not busy")
        };
        assert!(holders.contains(&Holder::Mount { mount_point: inner.clone() }), "{holders:?}");
        let us = std::process::id();
        assert!(holders.iter().any(|holder| matches!(holder, Holder::Process { pid, .. } if *pid == us)));
        drop(open);
        unmount(&inner).unwrap();
        unmount(&bound.target()).unwrap();
    }

    #[test]
    fn children_that_other_threads_start_do_not_keep_a_mount_busy() {
        let bound = Bound::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        std::process::Command::new("true").status().unwrap();
                    }
                });
            }
            for _ in 0..200 {
                drop(File::create(bound.target().join("open")).unwrap());
                unmount(&bound.target()).unwrap();
                bind(&bound.source(), &bound.target()).unwrap();
            }
        });
    }

    #[test]
    fn a_detached_mount_is_gone_although_a_file_of_it_is_open() {
        let bound = Bound::new();
        let _open = File::create(bound.target().join("open")).unwrap();
        detach(&bound.target()).unwrap();
        assert_eq!(at(&bound.target()).unwrap(), None);
    }

    #[test]
    fn unmounting_what_is_no_mount_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(unmount(folder.path()), Err(LinuxError::NotMounted { .. })));
    }
}
