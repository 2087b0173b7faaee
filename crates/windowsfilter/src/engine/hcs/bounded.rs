//! Limits the reading of a sandbox's changes: a file without blocks can claim any size, and the tar contains
//! all its zeros (`docs/limits.md`, "What a sandbox has changed").

use std::io::{self, Write};

use wclayer::layer_tar::{BackupSource, LayerSource, SourceItem};

use crate::engine::tar_size::TarSize;
use crate::error::{Error, shown};
use crate::limits::{DiffLimits, Exceeded};

/// A layer whose reading fails before the first entry that exceeds the limits.
pub(super) struct Bounded<'a> {
    items: &'a mut dyn LayerSource,
    limits: DiffLimits,
    entries: u64,
    /// Size of the tar, as far as known from the entries' sizes.
    size: TarSize,
    exceeded: Option<Error>,
}

impl<'a> Bounded<'a> {
    pub(super) fn new(items: &'a mut dyn LayerSource, limits: DiffLimits) -> Self {
        Self { items, limits, entries: 0, size: TarSize::new(limits), exceeded: None }
    }

    /// The error, if reading ended because of a limit.
    pub(super) fn exceeded(self) -> Option<Error> {
        self.exceeded
    }

    fn check(&mut self, item: &SourceItem) -> Result<(), Error> {
        let (path, size) = match item {
            SourceItem::Tombstone { path } => (path, 0),
            SourceItem::File { path, size, .. } => (path, *size),
        };
        let path: Vec<u8> = path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
        self.entries += 1;
        let offset = self.size.bytes();
        self.limits
            .check_entries(self.entries)
            .map_err(|exceeded| Error::Limit { entry: Some((shown(&path), offset)), exceeded })?;
        self.size.add(&path, size)
    }
}

impl LayerSource for Bounded<'_> {
    fn next_item(&mut self) -> io::Result<Option<SourceItem>> {
        let Some(item) = self.items.next_item()? else { return Ok(None) };
        match self.check(&item) {
            Ok(()) => Ok(Some(item)),
            Err(error) => {
                self.exceeded = Some(error);
                Err(io::Error::other("the changes are more than a limit allows"))
            }
        }
    }

    fn backup_stream(&mut self) -> BackupSource<'_> {
        self.items.backup_stream()
    }
}

/// A tar whose writing fails when it exceeds the limits: the sizes of streams are known only when they are
/// read.
pub(super) struct BoundedTar<W> {
    out: W,
    limits: DiffLimits,
    written: u64,
    exceeded: Option<Exceeded>,
}

impl<W> BoundedTar<W> {
    pub(super) fn new(out: W, limits: DiffLimits) -> Self {
        Self { out, limits, written: 0, exceeded: None }
    }

    /// See [`Bounded::exceeded`].
    pub(super) fn exceeded(self) -> Option<Error> {
        self.exceeded.map(Error::from)
    }
}

impl<W: Write> Write for BoundedTar<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.written + bytes.len() as u64;
        if let Err(exceeded) = self.limits.check(end) {
            self.exceeded = Some(exceeded);
            return Err(io::Error::other(exceeded.to_string()));
        }
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
