//! System calls that change something: the points at which faults strike.
//!
//! Numbers and flags are those of x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl` of Linux,
//! `asm-generic/fcntl.h`, `linux/loop.h`).

/// Calls that always change something.
const CHANGING: &[(u64, &str)] = &[
    (18, "pwrite64"),
    (20, "writev"),
    (40, "sendfile"),
    (73, "flock"),
    (74, "fsync"),
    (75, "fdatasync"),
    (76, "truncate"),
    (77, "ftruncate"),
    (82, "rename"),
    (83, "mkdir"),
    (84, "rmdir"),
    (85, "creat"),
    (86, "link"),
    (87, "unlink"),
    (88, "symlink"),
    (90, "chmod"),
    (91, "fchmod"),
    (92, "chown"),
    (93, "fchown"),
    (94, "lchown"),
    (133, "mknod"),
    (162, "sync"),
    (165, "mount"),
    (166, "umount2"),
    (188, "setxattr"),
    (189, "lsetxattr"),
    (190, "fsetxattr"),
    (197, "removexattr"),
    (198, "lremovexattr"),
    (199, "fremovexattr"),
    (258, "mkdirat"),
    (259, "mknodat"),
    (260, "fchownat"),
    (263, "unlinkat"),
    (264, "renameat"),
    (265, "linkat"),
    (266, "symlinkat"),
    (268, "fchmodat"),
    (277, "sync_file_range"),
    (280, "utimensat"),
    (285, "fallocate"),
    (296, "pwritev"),
    (306, "syncfs"),
    (316, "renameat2"),
    (326, "copy_file_range"),
    (328, "pwritev2"),
    (428, "open_tree"),
    (429, "move_mount"),
    (430, "fsopen"),
    (431, "fsconfig"),
    (432, "fsmount"),
    (442, "mount_setattr"),
];

/// `ioctl`s that change something.
const IOCTLS: &[(u64, &str)] = &[
    (0x4C01, "ioctl LOOP_CLR_FD"),
    (0x4C07, "ioctl LOOP_SET_CAPACITY"),
    (0x4C0A, "ioctl LOOP_CONFIGURE"),
    (0x4C82, "ioctl LOOP_CTL_GET_FREE"),
    (0x4004_9409, "ioctl FICLONE"),
    (0x4020_940D, "ioctl FICLONERANGE"),
    (0x4008_6610, "ioctl EXT4_IOC_RESIZE_FS"),
    (0x4004_662B, "ioctl EXT4_IOC_CHECKPOINT"),
    (0xC018_5879, "ioctl FITRIM"),
    (0xC004_5877, "ioctl FIFREEZE"),
    (0xC004_5878, "ioctl FITHAW"),
];

const WRITE: u64 = 1;
const OPEN: u64 = 2;
const IOCTL: u64 = 16;
const OPENAT: u64 = 257;
/// `O_CREAT | O_TRUNC`, and the bit that turns `O_DIRECTORY` into `O_TMPFILE`.
const CREATING: u64 = 0o100 | 0o1000 | 0o20_000_000;

/// The name of a call that changes something; `None` for all others. Output to descriptors 1 and 2 does not
/// count.
#[must_use]
pub fn changing(number: u64, arguments: [u64; 3]) -> Option<&'static str> {
    let listed = |list: &[(u64, &'static str)], wanted| {
        list.iter().find(|(number, _)| *number == wanted).map(|&(_, name)| name)
    };
    match number {
        WRITE => (arguments[0] > 2).then_some("write"),
        OPEN => (arguments[1] & CREATING != 0).then_some("open"),
        OPENAT => (arguments[2] & CREATING != 0).then_some("openat"),
        IOCTL => listed(IOCTLS, arguments[1] & 0xFFFF_FFFF),
        _ => listed(CHANGING, number),
    }
}

/// Whether a call makes earlier writes durable.
#[must_use]
pub fn is_sync(name: &str) -> bool {
    matches!(name, "fsync" | "fdatasync" | "syncfs" | "sync")
}

/// Whether a call removes something. If such a call fails, its target may stay for cleanup.
#[must_use]
pub fn is_removal(name: &str) -> bool {
    matches!(name, "unlink" | "unlinkat" | "rmdir" | "umount2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_no_change_and_creating_is() {
        assert_eq!(changing(OPENAT, [0, 0, 0o2_000_000]), None);
        assert_eq!(changing(OPENAT, [0, 0, 0o2_000_102]), Some("openat"));
        assert_eq!(changing(0, [3, 0, 0]), None);
        assert_eq!(changing(WRITE, [1, 0, 0]), None);
        assert_eq!(changing(WRITE, [3, 0, 0]), Some("write"));
        assert_eq!(changing(IOCTL, [3, 0x4C0A, 0]), Some("ioctl LOOP_CONFIGURE"));
        assert_eq!(changing(IOCTL, [3, 0x5401, 0]), None);
    }
}
