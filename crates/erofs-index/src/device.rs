//! The place of a file's data: a device of the image, and a block on it.

/// A device of an image, counted from 1 as the format does (0 is the image itself, which holds no file data).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub(crate) u16);

impl DeviceId {
    /// 1 for the device added first: the order of a mount's `device=` options.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The device's place in [`Image::devices`](crate::Image::devices).
    pub fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

/// The start of a file's bytes, which are contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// The device that holds them.
    pub device: DeviceId,
    /// The block of 512 bytes at which they begin.
    pub block: u64,
}

impl Extent {
    /// The byte on the device at which the data begins.
    pub fn offset(self) -> u64 {
        self.block.saturating_mul(crate::format::BLOCK_SIZE as u64)
    }
}
