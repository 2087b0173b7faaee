//! Memory that may be written with `O_DIRECT`.
//!
//! Direct I/O needs memory, file offset and length in multiples of the device's block. Allocating one block
//! more and starting at the first aligned byte achieves that without unsafe code.

/// The alignment used for everything, in bytes. Devices ask for 512 or 4096; 4096 satisfies both.
pub const ALIGNMENT: usize = 4096;

/// A buffer of fixed capacity whose bytes start at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub struct AlignedBuffer {
    storage: Vec<u8>,
    /// Where in `storage` the aligned part starts.
    start: usize,
    /// Bytes in use.
    length: usize,
    capacity: usize,
}

impl AlignedBuffer {
    /// An empty buffer for `capacity` bytes, rounded up to a multiple of [`ALIGNMENT`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(ALIGNMENT);
        let storage = vec![0_u8; capacity + ALIGNMENT];
        let address = storage.as_ptr().addr();
        Self { start: address.next_multiple_of(ALIGNMENT) - address, length: 0, capacity, storage }
    }

    /// The bytes in use.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.length]
    }

    /// The bytes after those in use: write here, then say how many with [`AlignedBuffer::advance`].
    pub fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start + self.length..self.start + self.capacity]
    }

    /// Marks `count` more bytes as used, at most those that are spare.
    pub fn advance(&mut self, count: usize) {
        self.length = self.capacity.min(self.length.saturating_add(count));
    }

    /// Appends as much of `bytes` as fits and returns how much.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare_mut();
        let count = spare.len().min(bytes.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        count
    }

    /// Makes the buffer empty again.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Whether nothing more fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.length == self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_start_aligned_whatever_the_allocator_gives() {
        for capacity in [1, 4096, 5000, 1 << 20] {
            let mut buffer = AlignedBuffer::new(capacity);
            assert_eq!(buffer.spare_mut().as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(buffer.spare_mut().len(), capacity.next_multiple_of(ALIGNMENT));
        }
    }

    #[test]
    fn append_takes_what_fits_and_says_how_much() {
        let mut buffer = AlignedBuffer::new(4096);
        assert_eq!(buffer.append(&[7; 4000]), 4000);
        assert_eq!(buffer.append(&[8; 100]), 96);
        assert!(buffer.is_full());
        assert_eq!(buffer.filled()[3999..4001], [7, 8]);
        buffer.clear();
        assert!(buffer.filled().is_empty() && !buffer.is_full());
    }
}
