//! The ioctls that rustix has no function for (loop devices, freezing, trimming, ext4's checkpoint), and
//! leases. There are no decisions in here.
//!
//! UNSAFETY: the number of an ioctl determines the type of its argument, and each call must guarantee that
//! the two match. The guarantees are made here, next to the structures of `linux/loop.h`, `linux/fs.h` and
//! `linux/ext4.h`; callers get safe functions.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Result;
use rustix::ioctl::{
    self, Getter, IntegerSetter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, Updater, opcode,
};
use std::ffi::c_void;

/// `LO_FLAGS_READ_ONLY`: the device refuses writes.
pub(super) const LO_FLAGS_READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: the device detaches its file when the last user closes it.
pub(super) const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_DIRECT_IO`: the device bypasses the page cache of the file it is backed by.
pub(super) const LO_FLAGS_DIRECT_IO: u32 = 16;

const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);
const FITRIM: Opcode = opcode::read_write::<TrimRange>(b'X', 121);
const EXT4_IOC_CHECKPOINT: Opcode = opcode::write::<u32>(b'f', 43);

/// Source: `struct fstrim_range` in `linux/fs.h`; bytes.
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    /// Shorter free ranges are left alone.
    shortest: u64,
}
const _: () = assert!(size_of::<TrimRange>() == 24);

/// The configuration of a loop device. Source: `struct loop_info64` in `linux/loop.h`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct LoopInfo {
    /// Device number of the file system that holds the backing file.
    pub(super) device: u64,
    /// Inode number of the backing file.
    pub(super) inode: u64,
    pub(super) rdevice: u64,
    /// Bytes of the file that come before the device's first.
    pub(super) offset: u64,
    /// Bytes of the file to use; 0 for all.
    pub(super) size_limit: u64,
    pub(super) number: u32,
    pub(super) encrypt_type: u32,
    pub(super) encrypt_key_size: u32,
    /// `LO_FLAGS_*`.
    pub(super) flags: u32,
    /// For humans; the kernel ignores it.
    pub(super) file_name: [u8; 64],
    pub(super) crypt_name: [u8; 64],
    pub(super) encrypt_key: [u8; 32],
    pub(super) init: [u64; 2],
}
const _: () = assert!(size_of::<LoopInfo>() == 232);

impl LoopInfo {
    /// All zero: the whole file, writable, attached until it is detached explicitly.
    pub(super) const fn new() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// Source: `struct loop_config` in `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}
const _: () = assert!(size_of::<LoopConfig>() == 304);

/// `LOOP_CTL_GET_FREE`: its result is the return value of the call, which rustix' ready-made patterns drop.
struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE takes no argument (null is passed) and writes nothing; its result is the return
// value.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<u32> {
        u32::try_from(out).map_err(|_| rustix::io::Errno::RANGE)
    }
}

/// Number of a free loop device; `control` is `/dev/loop-control`.
pub(super) fn loop_get_free(control: impl AsFd) -> Result<u32> {
    // SAFETY: `GetFree` is the definition of this ioctl, above.
    unsafe { ioctl::ioctl(control, GetFree) }
}

/// Attaches `file` to the loop device and sets it up in one step. `block_size` in bytes, 0 for the kernel's
/// choice.
pub(super) fn loop_configure(
    device: impl AsFd,
    file: BorrowedFd<'_>,
    block_size: u32,
    info: LoopInfo,
) -> Result<()> {
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| rustix::io::Errno::BADF)?;
    let config = LoopConfig { fd, block_size, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `LoopConfig` has; the kernel takes
    // its own reference on the file behind `fd`, which is open for the length of the call.
    unsafe { ioctl::ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }
}

/// The configuration of the loop device; `ENXIO` if it is free.
pub(super) fn loop_status(device: impl AsFd) -> Result<LoopInfo> {
    // SAFETY: LOOP_GET_STATUS64 fills one `struct loop_info64`, whose layout `LoopInfo` has; every bit
    // pattern is valid.
    unsafe { ioctl::ioctl(device, Getter::<LOOP_GET_STATUS64, LoopInfo>::new()) }
}

/// Grows the loop device to the current size of its file.
pub(super) fn loop_set_capacity(device: impl AsFd) -> Result<()> {
    // SAFETY: LOOP_SET_CAPACITY ignores its argument and touches no memory of ours.
    unsafe { ioctl::ioctl(device, NoArg::<LOOP_SET_CAPACITY>::new()) }
}

/// Detaches the file from the loop device, at once or when its last user is gone.
pub(super) fn loop_clear(device: impl AsFd) -> Result<()> {
    // SAFETY: LOOP_CLR_FD ignores its argument and touches no memory of ours.
    unsafe { ioctl::ioctl(device, NoArg::<LOOP_CLR_FD>::new()) }
}

/// Makes the file system of `directory` consistent on its device and blocks every writer until [`thaw`].
pub(super) fn freeze(directory: impl AsFd) -> Result<()> {
    // SAFETY: FIFREEZE is declared with an int but ignores its argument; 0 is passed, no memory is touched.
    unsafe { ioctl::ioctl(directory, IntegerSetter::<FIFREEZE>::new_usize(0)) }
}

/// Ends [`freeze`].
pub(super) fn thaw(directory: impl AsFd) -> Result<()> {
    // SAFETY: FITHAW is declared with an int but ignores its argument; 0 is passed, no memory is touched.
    unsafe { ioctl::ioctl(directory, IntegerSetter::<FITHAW>::new_usize(0)) }
}

/// Writes everything in the journal of `directory`'s ext4 to its place on the device; `ENOTTY` from kernels
/// before 5.14.
pub(super) fn ext4_checkpoint(directory: impl AsFd) -> Result<()> {
    // SAFETY: EXT4_IOC_CHECKPOINT reads one u32 of flags; none are set.
    unsafe { ioctl::ioctl(directory, Setter::<EXT4_IOC_CHECKPOINT, u32>::new(0)) }
}

/// Tells the device of `directory`'s file system about all blocks that are free.
pub(super) fn trim(directory: impl AsFd) -> Result<()> {
    let mut range = TrimRange { start: 0, length: u64::MAX, shortest: 0 };
    // SAFETY: FITRIM reads one `struct fstrim_range`, whose layout `TrimRange` has, and writes the number of
    // bytes trimmed into it.
    unsafe { ioctl::ioctl(directory, Updater::<FITRIM, TrimRange>::new(&mut range)) }
}

/// Takes a write lease on a file that is open for reading, and gives it back at once: `EAGAIN` if the file is
/// open in any other way, by this process too, or by the kernel. Source: `fcntl(2)`, F_SETLEASE.
pub(super) fn try_write_lease(file: impl AsFd) -> Result<()> {
    let fd = file.as_fd().as_raw_fd();
    let set = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: these commands take an int and touch no memory; the descriptor is open for the length of
        // the call.
        match unsafe { libc::fcntl(fd, command, argument) } {
            -1 => Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
                .unwrap_or(rustix::io::Errno::IO)),
            _ => Ok(()),
        }
    };
    // If another process opens the file while we hold the lease, the kernel sends us a signal: choose one
    // that ends no process.
    set(F_SETSIG, libc::SIGURG)?;
    set(libc::F_SETLEASE, libc::F_WRLCK)?;
    set(libc::F_SETLEASE, libc::F_UNLCK)
}

/// Source: `asm-generic/fcntl.h`.
const F_SETSIG: libc::c_int = 10;
