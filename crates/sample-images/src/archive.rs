//! Archives of images, written reproducibly: sorted names, no owner, time 0.

use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::path::Path;

use super::image::{ArchiveStyle, Image, blob_path, encoded};
use programs::error::{IoContext, Result};

struct Archive<'a> {
    tar: tar::Builder<BufWriter<File>>,
    path: &'a Path,
}

impl<'a> Archive<'a> {
    fn create(path: &'a Path) -> Result<Self> {
        Ok(Self { tar: tar::Builder::new(BufWriter::new(File::create(path).at(path)?)), path })
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Directory, 0o755, 0);
        self.tar.append_data(&mut header, format!("{name}/"), std::io::empty()).at(self.path)
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.data(name, bytes.len() as u64, bytes)
    }

    fn file(&mut self, name: &str, from: &Path) -> Result<()> {
        let file = File::open(from).at(from)?;
        let size = file.metadata().at(from)?.len();
        self.data(name, size, file)
    }

    fn data(&mut self, name: &str, size: u64, data: impl Read) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Regular, 0o644, size);
        self.tar.append_data(&mut header, name, data).at(self.path)
    }

    fn finish(self) -> Result<()> {
        let out = self.tar.into_inner().at(self.path)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error).at(self.path).map(drop)
    }
}

/// Writes everything below `from` to the tar `out`.
///
/// # Errors
/// If a file cannot be read, or `out` not be written.
pub fn directory(from: &Path, out: &Path) -> Result<()> {
    let mut archive = Archive::create(out)?;
    add_below(&mut archive, from, "")?;
    archive.finish()
}

fn add_below(archive: &mut Archive<'_>, dir: &Path, prefix: &str) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        names.push(entry.at(dir)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    for name in names {
        let (path, name) = (dir.join(&name), format!("{prefix}{name}"));
        if path.is_dir() {
            archive.directory(&name)?;
            add_below(archive, &path, &format!("{name}/"))?;
        } else {
            archive.file(&name, &path)?;
        }
    }
    Ok(())
}

/// Writes a `docker save` archive of the older style from the layout of `image`.
pub(super) fn docker(image: &Image, layout: &Path, out: &Path) -> Result<()> {
    let mut archive = Archive::create(out)?;
    for layer in &image.summary.layers {
        let id = encoded(&layer.digests.diff_id);
        archive.directory(id)?;
        archive.bytes(&format!("{id}/VERSION"), b"1.0")?;
        archive.bytes(&format!("{id}/json"), format!(r#"{{"id":"{id}","os":"windows"}}"#).as_bytes())?;
        archive.file(&format!("{id}/layer.tar"), &blob_path(layout, &layer.digests.digest))?;
    }
    archive.bytes(&format!("{}.json", encoded(&image.summary.config)), &image.config)?;
    archive.bytes("manifest.json", &image.docker_manifest(ArchiveStyle::Directories)?)?;
    archive.finish()
}
