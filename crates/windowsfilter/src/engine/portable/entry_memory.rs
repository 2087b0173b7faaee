//! What untrusted entries may take of memory, whether they are a layer's that comes in or a sandbox's that
//! goes out.

/// Bytes of memory that what the entries say may take, whatever their number, and with each entry. Entries of
/// real layers take some 300 bytes. A tar that compresses to kilobytes can be all security descriptors, long
/// names or directories that it never names.
const MEMORY: u64 = 64 << 20;
const MEMORY_PER_ENTRY: u64 = 1 << 10;

/// Counts what is kept of entries.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: u64,
    bytes: u64,
}

impl Memory {
    pub(super) fn take(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Called with every entry; the error is why it is one too much.
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
