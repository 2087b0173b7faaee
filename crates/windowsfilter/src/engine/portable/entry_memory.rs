//! The memory limit for untrusted entries, of a layer that is imported or a sandbox that is exported.

/// Bytes of memory that the entries may take: a base, and more with each entry. Entries of real layers take
/// some 300 bytes. A tar that compresses to kilobytes can be all security descriptors, long names or
/// directories that it never names.
const MEMORY: u64 = 64 << 20;
const MEMORY_PER_ENTRY: u64 = 1 << 10;

/// Counts the memory of entries.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: u64,
    bytes: u64,
}

impl Memory {
    pub(super) fn take(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// To be called with every entry. The error is the reason why this one is too much.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.entries += 1;
        if self.bytes <= MEMORY + self.entries * MEMORY_PER_ENTRY {
            return Ok(());
        }
        Err(format!(
            "with it, names and metadata of {} entries take {} MiB of memory, far more than those of a Windows layer",
            self.entries,
            self.bytes >> 20
        ))
    }
}
