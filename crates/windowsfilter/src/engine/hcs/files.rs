//! Single files of a layer, by their tar names (`DiffGetter` of the original).

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use hcs::{Code, DriverInfo, Host, Privilege, RelativePath, StreamName, Tree};

use super::base_writer::part_of_layer;
use super::{boot_store, paths};
use crate::driver::DiffGetter;
use crate::error::Error;
use crate::id::LayerId;

/// The files of one layer.
pub(super) struct LayerFiles<H> {
    host: Arc<H>,
    id: LayerId,
    dir: PathBuf,
}

impl<H: Host> LayerFiles<H> {
    pub(super) fn new(host: Arc<H>, info: &DriverInfo, id: &LayerId) -> Self {
        Self { host, id: id.clone(), dir: info.layer(id.as_str()) }
    }

    /// Opens a file regardless of its security descriptor. The original follows links in the path and at its
    /// end, which may lead to the host's files; here a link is an error.
    fn open(&self, name: &RelativePath, stream: Option<&StreamName>) -> hcs::Result<Box<dyn Read + Send>> {
        let _privileges = self.host.thread_privileges(&[Privilege::Backup])?;
        let layer = self.host.open_tree(&self.dir)?;
        match stream {
            None => layer.open_sequential(name),
            Some(stream) => layer.open_stream(name, stream),
        }
    }
}

impl<H: Host> DiffGetter for LayerFiles<H> {
    fn get(&self, name: &[u8]) -> Result<Box<dyn Read + Send>, Error> {
        let missing =
            || Error::NoSuchFile { id: self.id.clone(), path: String::from_utf8_lossy(name).into_owned() };
        let path = part_of_layer(name).map_err(|_| missing())?;
        let (path, stream) = split_stream(&path).map_err(|_| missing())?;
        let relative = match boot_store::kept_as(path) {
            // Files that Windows has changed are returned as they were in the tar.
            Some(kept) => paths::known(kept),
            None => paths::relative(path).map_err(|_| missing())?,
        };
        self.open(&relative, stream.as_ref()).map_err(|error| {
            let is_missing = error.is_not_found() || error.code == Code::REPARSE_POINT_ENCOUNTERED;
            if is_missing { missing() } else { Error::Hcs { id: self.id.to_string(), error } }
        })
    }
}

/// Splits a clean path into a file and a stream of it, if it names one: in a tar `name:stream` is an entry of
/// its own.
fn split_stream(path: &[u8]) -> hcs::Result<(&[u8], Option<StreamName>)> {
    let last = path.iter().rposition(|&byte| byte == b'\\').map_or(0, |separator| separator + 1);
    let Some(colon) = path[last..].iter().position(|&byte| byte == b':') else { return Ok((path, None)) };
    let (file, stream) = (&path[..last + colon], &path[last + colon + 1..]);
    Ok((file, Some(StreamName::new(&paths::units(stream)?)?)))
}
