//! Reads a base layer from the files that the service keeps on disk. Other layers are read from the output of
//! `ExportLayer`.
//!
//! Source: hcsshim `internal/wclayer/baselayerreader.go`, `exportlayer.go`.

use std::io::{self, BufReader};

use hcs::{RelativePath, Tree};
use wclayer::layer_tar::{BackupSource, LayerSource, SourceItem};

use super::{BUFFER, paths};

/// Never part of a layer.
const RECYCLE_BIN: &[u8] = b"Files\\$Recycle.Bin";

/// Walks a base layer depth-first, in the order of the names' bytes: `Files`, then the utility VM, if it has
/// files.
pub(super) struct BaseReader<'a, T: Tree> {
    layer: &'a T,
    /// Paths still to be read, the next one last.
    stack: Vec<RelativePath>,
    current: Option<BufReader<T::BackupReader>>,
}

impl<'a, T: Tree> BaseReader<'a, T> {
    pub(super) fn new(layer: &'a T) -> hcs::Result<Self> {
        let mut stack = Vec::new();
        let utility_vm = paths::known("UtilityVM");
        match layer.status(&paths::known(r"UtilityVM\Files")) {
            Ok(_) => stack.push(utility_vm),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        stack.push(paths::known("Files"));
        Ok(Self { layer, stack, current: None })
    }

    fn push_children(&mut self, path: &RelativePath) -> hcs::Result<()> {
        // `UtilityVM` also contains the disks that the service made from its files: skip them.
        let mut children = if path.to_string() == "UtilityVM" {
            vec![b"Files".iter().map(|&byte| u16::from(byte)).collect()]
        } else {
            self.layer.list(path)?
        };
        children.sort_unstable_by_key(|name| std::cmp::Reverse(wclayer::name::from_utf16(name)));
        for name in children {
            self.stack.push(path.join(&name)?);
        }
        Ok(())
    }
}

impl<T: Tree> LayerSource for BaseReader<'_, T> {
    fn next_item(&mut self) -> io::Result<Option<SourceItem>> {
        self.current = None;
        while let Some(name) = self.stack.pop() {
            let path = paths::bytes(&name);
            let status = self.layer.status(&name)?;
            if status.is_directory() && !status.is_reparse_point() {
                if wclayer::name::eq(&path, RECYCLE_BIN) {
                    continue;
                }
                self.push_children(&name)?;
            }
            let stream = self.layer.backup_read(&name, true)?;
            self.current = Some(BufReader::with_capacity(BUFFER, stream));
            let has_data = !status.is_directory() && !status.is_reparse_point();
            return Ok(Some(SourceItem::File {
                path,
                size: if has_data { status.size } else { 0 },
                info: paths::file_info(&status.info),
                link_id: (has_data && status.links > 1).then_some(status.id),
            }));
        }
        Ok(None)
    }

    fn backup_stream(&mut self) -> BackupSource<'_> {
        match &mut self.current {
            None => BackupSource::Empty,
            Some(stream) => BackupSource::Forward(stream),
        }
    }
}
