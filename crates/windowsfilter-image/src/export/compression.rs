//! Compression of layers.

use std::io::{self, Read, Write};
use std::str::FromStr;

/// How to compress the layers of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// No compression: the blobs' digests are the diffIDs.
    None,
    /// Readable by every tool.
    #[default]
    Gzip,
    /// Faster and smaller.
    Zstd,
}

impl Compression {
    /// The suffix of a layer's media type.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }

    /// The compression in a layer's media type, Docker's or OCI's.
    pub(super) fn of(media_type: &str) -> Self {
        match media_type {
            media_type if media_type.ends_with("gzip") => Self::Gzip,
            media_type if media_type.ends_with("zstd") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Copies `from` to `to`, compressed. The output is the same on every run.
    ///
    /// # Errors
    /// Errors of either.
    pub fn copy(self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        // Large reads suit both the compressors and the disk.
        let mut from = io::BufReader::with_capacity(1 << 20, from);
        let to = io::BufWriter::with_capacity(1 << 20, to);
        let mut to = match self {
            Self::None => {
                let mut to = to;
                io::copy(&mut from, &mut to)?;
                to
            }
            Self::Gzip => {
                let mut gzip = flate2::GzBuilder::new().mtime(0).write(to, flate2::Compression::default());
                io::copy(&mut from, &mut gzip)?;
                gzip.finish()?
            }
            Self::Zstd => {
                let mut zstd = zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                io::copy(&mut from, &mut zstd)?;
                zstd.finish()?
            }
        };
        to.flush()
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!("{text:?} is none of none, gzip, zstd")),
        }
    }
}
