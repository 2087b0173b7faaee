//! A small cache for a slow source: images are read in pieces of 64 to 512 bytes, mostly near the previous
//! one.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::ReadAt;

/// Bytes fetched at once; the kernel's page cache works in the same unit.
const PAGE: u64 = 4096;
/// Pages kept: 1 MiB.
const PAGES: usize = 256;

/// A source with the last pages read kept in memory, at most 1 MiB. Page `n` has one place, `n` modulo 256.
#[derive(Debug)]
pub struct Cached<S> {
    source: S,
    length: u64,
    pages: Mutex<Vec<Page>>,
}

#[derive(Debug, Clone, Default)]
struct Page {
    /// Number of the page plus 1; 0: empty.
    tag: u64,
    bytes: Vec<u8>,
}

impl<S: ReadAt> Cached<S> {
    /// Puts a cache before `source`, whose bytes and length must not change from now on.
    pub fn new(source: S) -> io::Result<Self> {
        let length = source.len()?;
        Ok(Self { source, length, pages: Mutex::new(vec![Page::default(); PAGES]) })
    }

    /// The source.
    pub fn into_inner(self) -> S {
        self.source
    }

    fn read_page(&self, number: u64, within: usize, buffer: &mut [u8]) -> io::Result<()> {
        // After a panic under the lock, every page is either complete or has no tag.
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let page = &mut pages[(number % PAGES as u64) as usize];
        if page.tag != number + 1 {
            page.tag = 0;
            let start = number * PAGE;
            page.bytes.resize(PAGE.min(self.length.saturating_sub(start)) as usize, 0);
            self.source.read_exact_at(&mut page.bytes, start)?;
            page.tag = number + 1;
        }
        let bytes = page.bytes.get(within..within + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl<S: ReadAt> ReadAt for Cached<S> {
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        match offset.checked_add(buffer.len() as u64) {
            Some(end) if end <= self.length => {}
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        while !buffer.is_empty() {
            let within = (offset % PAGE) as usize;
            let count = buffer.len().min(PAGE as usize - within);
            let (piece, rest) = buffer.split_at_mut(count);
            self.read_page(offset / PAGE, within, piece)?;
            buffer = rest;
            offset += count as u64;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_source_reads_like_the_source_itself() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let cached = Cached::new(bytes.clone()).unwrap();
        for (offset, length) in
            [(0, 1), (4095, 2), (1_048_000, 9000), (0, 4096), (2_999_999, 1), (3_000_000, 0)]
        {
            let mut buffer = vec![0; length];
            cached.read_exact_at(&mut buffer, offset as u64).unwrap();
            assert_eq!(buffer, bytes[offset..offset + length]);
        }
        for (offset, length) in [(3_000_000, 1), (2_999_999, 2), (u64::MAX, 1), (u64::MAX, 0)] {
            assert!(cached.read_exact_at(&mut vec![0; length], offset).is_err(), "{offset} {length}");
        }
    }
}
