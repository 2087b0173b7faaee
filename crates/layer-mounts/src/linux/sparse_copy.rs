//! Copies an image that is mostly holes: by sharing its blocks if the file system can, else only its data.
//!
//! Data bypass the page cache if possible, for the reason given in [`super::direct_writer`].

use super::aligned_buffer::{ALIGNMENT, AlignedBuffer};
use super::error::LinuxError;
use crate::Cancel;
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// Bytes moved per read and write.
const PIECE_BYTES: usize = 1 << 20;

/// How a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMethod {
    /// `FICLONE`: both files share their blocks until one is changed.
    Reflink,
    /// The data was read and written, the holes were left out.
    Data {
        /// Bytes read and written.
        bytes: u64,
    },
}

/// Makes the empty file `target` equal to `source`, whose length must be a multiple of 4096 bytes. The paths
/// are for errors. Nothing is synced. `cancel` ends it half-way.
pub fn copy(
    (source, source_path): (&File, &Path),
    (target, target_path): (&File, &Path),
    cancel: &Cancel,
) -> Result<CopyMethod, LinuxError> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(CopyMethod::Reflink);
    }
    let length = source.metadata().map_err(LinuxError::system("fstat", source_path))?.len();
    target.set_len(length).map_err(LinuxError::system("ftruncate", target_path))?;
    let mut copier = Copier {
        source,
        source_path,
        target,
        target_path,
        buffer: AlignedBuffer::new(PIECE_BYTES),
        bytes: 0,
        cancel,
    };
    copier.set_direct(true);
    let result = copier.copy_data(length);
    copier.set_direct(false);
    result.map(|()| CopyMethod::Data { bytes: copier.bytes })
}

struct Copier<'a> {
    source: &'a File,
    source_path: &'a Path,
    target: &'a File,
    target_path: &'a Path,
    buffer: AlignedBuffer,
    bytes: u64,
    cancel: &'a Cancel,
}

impl Copier<'_> {
    /// Switches `O_DIRECT`. Only for speed, so a refusal of the file system does not matter.
    fn set_direct(&self, direct: bool) {
        for file in [self.source, self.target] {
            if let Ok(mut flags) = rustix::fs::fcntl_getfl(file) {
                flags.set(OFlags::DIRECT, direct);
                let _ = rustix::fs::fcntl_setfl(file, flags);
            }
        }
    }

    fn copy_data(&mut self, length: u64) -> Result<(), LinuxError> {
        let mut offset = 0;
        while let Some(start) = self.seek(SeekFrom::Data(offset))? {
            let end = self.seek(SeekFrom::Hole(start))?.unwrap_or(length);
            // Direct I/O needs whole blocks; the extra bytes are zeros or data, and equal in both files
            // either way.
            let aligned = start - start % ALIGNMENT as u64;
            self.copy_range(aligned, end.next_multiple_of(ALIGNMENT as u64).min(length))?;
            offset = end;
        }
        Ok(())
    }

    /// `None` at the end of the file, which the kernel reports as an error.
    fn seek(&self, position: SeekFrom) -> Result<Option<u64>, LinuxError> {
        match rustix::fs::seek(self.source, position) {
            Ok(offset) => Ok(Some(offset)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(LinuxError::system("lseek", self.source_path)(error)),
        }
    }

    fn copy_range(&mut self, mut offset: u64, end: u64) -> Result<(), LinuxError> {
        while offset < end {
            self.cancel.check()?;
            match self.copy_piece(offset, end - offset) {
                Ok(count) => offset += count,
                Err(PieceError::Refused) => self.set_direct(false),
                Err(PieceError::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Copies at most one buffer and returns how much. Reading 0 bytes is an error, as the file ends only at
    /// `end`.
    fn copy_piece(&mut self, offset: u64, length: u64) -> Result<u64, PieceError> {
        self.buffer.clear();
        let spare = self.buffer.spare_mut();
        let wanted = spare.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let count = rustix::io::pread(self.source, &mut spare[..wanted], offset)
            .map_err(|error| self.failed("pread", self.source_path, error))?;
        if count == 0 {
            return Err(PieceError::Failed(LinuxError::system("pread", self.source_path)(Errno::IO)));
        }
        self.buffer.advance(count);
        let written = rustix::io::pwrite(self.target, self.buffer.filled(), offset)
            .map_err(|error| self.failed("pwrite", self.target_path, error))?;
        self.bytes += written as u64;
        Ok(written as u64)
    }

    /// With direct I/O, EINVAL is a late refusal; without, it is an error like any other.
    fn failed(&self, call: &'static str, path: &Path, error: Errno) -> PieceError {
        let is_direct =
            |file| rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::DIRECT));
        match error {
            Errno::INTR => PieceError::Refused,
            Errno::INVAL if is_direct(self.source) || is_direct(self.target) => PieceError::Refused,
            _ => PieceError::Failed(LinuxError::system(call, path)(error)),
        }
    }
}

/// Why a piece was not copied.
enum PieceError {
    /// Try again without direct I/O.
    Refused,
    /// A real failure.
    Failed(LinuxError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn copied(folder: &Path, pieces: &[(u64, usize)], length: u64) -> (File, File) {
        let open = |name| {
            File::options()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .open(folder.join(name))
                .unwrap()
        };
        let (source, target) = (open("source"), open("target"));
        source.set_len(length).unwrap();
        for &(offset, count) in pieces {
            source.write_all_at(&vec![offset as u8 | 1; count], offset).unwrap();
        }
        copy((&source, &folder.join("source")), (&target, &folder.join("target")), &Cancel::default())
            .unwrap();
        (source, target)
    }

    #[test]
    fn data_arrives_and_holes_stay_holes() {
        for parent in [std::env::temp_dir(), "/dev/shm".into()] {
            let folder = tempfile::tempdir_in(parent).unwrap();
            let length = 8 << 30;
            let pieces = [(0, 5000), (100 << 20, 3 << 20), ((1 << 30) + 4096, 1), (length - 1, 1)];
            let (_, target) = copied(folder.path(), &pieces, length);
            assert_eq!(target.metadata().unwrap().len(), length);
            assert!(target.metadata().unwrap().blocks() * 512 < 4 << 20);
            for (offset, count) in pieces {
                let mut bytes = vec![0; count];
                target.read_exact_at(&mut bytes, offset).unwrap();
                assert!(bytes.iter().all(|&byte| byte == offset as u8 | 1), "at {offset}");
            }
            let mut gap = vec![1; 4096];
            target.read_exact_at(&mut gap, 2 << 30).unwrap();
            assert!(gap.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn an_empty_and_an_all_hole_file_are_copied() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1 << 20] {
            let (_, target) = copied(folder.path(), &[], length);
            assert_eq!(target.metadata().unwrap().len(), length);
        }
    }
}
