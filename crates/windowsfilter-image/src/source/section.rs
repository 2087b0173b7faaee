//! A part of an open file, read without using the file's position: any number of sections can be read at
//! once.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// A range of a file's bytes.
#[derive(Debug)]
pub(super) struct Section {
    file: Arc<File>,
    position: u64,
    left: u64,
}

impl Section {
    /// The `length` bytes at `offset`.
    pub(super) fn new(file: &Arc<File>, offset: u64, length: u64) -> Self {
        Self { file: file.clone(), position: offset, left: length }
    }

    /// At most the first `length` bytes.
    pub(super) fn whole(file: &Arc<File>, length: u64) -> Self {
        Self::new(file, 0, length)
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = read_at(&self.file, &mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
