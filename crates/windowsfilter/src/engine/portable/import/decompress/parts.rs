//! Decodes the members of a gzip file or the frames of a zstd file, one after the other. Anything else behind
//! them is an error.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::MAX_ZSTD_WINDOW_LOG;
use crate::compressed::CompressedFormat;

/// Bytes that tell what begins: a gzip member, a zstd frame, or neither.
const MAGIC: usize = 4;

/// The first bytes of something behind the last member or frame that is neither. How much follows makes no
/// difference.
#[derive(Debug, thiserror::Error)]
#[error("it begins with {0:02x?}")]
pub(super) struct Followed(Vec<u8>);

/// A source whose next bytes can be peeked at, across the ends of its buffers.
pub(super) struct Ahead<R> {
    source: R,
    /// Bytes that were peeked at and not yet read.
    head: Vec<u8>,
}

impl<R: BufRead> Ahead<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, head: Vec::new() }
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        let missing = MAGIC.saturating_sub(self.head.len());
        self.source.by_ref().take(missing as u64).read_to_end(&mut self.head)?;
        Ok(&self.head)
    }
}

impl<R: BufRead> BufRead for Ahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.head.is_empty() { self.source.fill_buf() } else { Ok(&self.head) }
    }

    fn consume(&mut self, count: usize) {
        if self.head.is_empty() {
            self.source.consume(count);
        } else {
            self.head.drain(..count);
        }
    }
}

impl<R: BufRead> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Decodes one member or frame.
enum Decoder<R: BufRead> {
    Gzip(Box<GzDecoder<Ahead<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Ahead<R>>),
}

impl<R: BufRead> Decoder<R> {
    fn of(format: CompressedFormat, source: Ahead<R>) -> io::Result<Self> {
        match format {
            CompressedFormat::Gzip => Ok(Self::Gzip(Box::new(GzDecoder::new(source)))),
            CompressedFormat::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?.single_frame();
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                Ok(Self::Zstd(decoder))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn finish(self) -> Ahead<R> {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// Reads the decoded bytes of all of them.
pub(super) struct Parts<R: BufRead> {
    format: CompressedFormat,
    /// None behind the last one.
    current: Option<Decoder<R>>,
}

impl<R: BufRead> Parts<R> {
    pub(super) fn new(format: CompressedFormat, source: Ahead<R>) -> io::Result<Self> {
        Ok(Self { format, current: Some(Decoder::of(format, source)?) })
    }
}

impl<R: BufRead> Read for Parts<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.current {
                None => return Ok(0),
                Some(Decoder::Gzip(decoder)) => decoder.read(buffer)?,
                Some(Decoder::Zstd(decoder)) => decoder.read(buffer)?,
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut source) = self.current.take().map(Decoder::finish) else { return Ok(0) };
            let next = source.peek()?;
            if next.is_empty() {
                return Ok(0);
            }
            if CompressedFormat::of(next) != Some(self.format) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, Followed(next.to_vec())));
            }
            self.current = Some(Decoder::of(self.format, source)?);
        }
    }
}
