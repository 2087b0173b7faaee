//! Records the digest of a sandbox template, so that damage to it is not copied into every sandbox.
//!
//! Beside `templates/<name>.img` lies `<name>.json` with its digest. It is written before the image, so an
//! image without one was not made by this code. A damaged template may be removed: the next sandbox of its
//! size makes it again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use layer_mounts::linux::LinuxError;
use layer_mounts::linux::sandbox_image::try_lock_templates;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::sealed;

/// Version of the records that this code writes and reads.
const VERSION: u32 = 1;
/// Bytes to hash at once; an image consists of such blocks.
const BLOCK: u64 = 4096;

#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    digest: Digest,
}

/// Writes the record of the image that is about to become `template`, and syncs it. The caller holds the
/// templates' lock.
pub(super) fn write(template: &Path, image: &File) -> Result<(), LinuxError> {
    let digest = digest(image).map_err(LinuxError::system("read", template))?;
    let path = record_path(template);
    let text = sealed::seal(VERSION, &Record { digest }).map_err(LinuxError::system("write", &path))?;
    let mut file = File::create(&path).map_err(LinuxError::system("open", &path))?;
    io::Write::write_all(&mut file, &text).map_err(LinuxError::system("write", &path))?;
    file.sync_all().map_err(LinuxError::system("fsync", &path))
}

/// Templates that differ from their record, and why; none while another process is making a template.
/// `remove` removes them.
pub(super) fn damaged(templates: &Path, remove: bool) -> Result<Vec<(PathBuf, String)>, LinuxError> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(templates) {
        // Templates may be deleted at any time.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        other => other.map_err(LinuxError::system("opendir", templates))?,
    };
    let images: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()
        .map_err(LinuxError::system("readdir", templates))?;
    let Some(_lock) = try_lock_templates(templates)? else { return Ok(found) };
    for image in images.into_iter().filter(|path| path.extension().is_some_and(|end| end == "img")) {
        let Some(problem) = problem(&image) else { continue };
        if remove {
            std::fs::remove_file(&image).map_err(LinuxError::system("unlink", &image))?;
        }
        found.push((image, problem));
    }
    found.sort();
    Ok(found)
}

fn record_path(template: &Path) -> PathBuf {
    template.with_extension("json")
}

fn problem(template: &Path) -> Option<String> {
    let image = match File::open(template) {
        // Templates may be deleted at any time.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        other => other,
    };
    let record = record(&record_path(template));
    match (image.and_then(|image| digest(&image)), record) {
        (Err(error), _) => Some(error.to_string()),
        (_, Err(problem)) => Some(problem),
        (Ok(actual), Ok(record)) => {
            (actual != record.digest).then(|| format!("it is {actual}, expected {}", record.digest))
        }
    }
}

fn record(path: &Path) -> Result<Record, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    sealed::unseal(VERSION, &text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Digest of an image's non-zero blocks, each preceded by its offset. Holes and blocks of zeros read the
/// same, and file systems may turn one into the other.
fn digest(image: &File) -> io::Result<Digest> {
    let length = image.metadata()?.len();
    let mut hasher = Sha256::new();
    hasher.update(length.to_le_bytes());
    let mut block = [0; BLOCK as usize];
    let mut at = 0;
    while let Some(data) = seek(image, SeekFrom::Data(at))? {
        at = data - data % BLOCK;
        let hole = seek(image, SeekFrom::Hole(data))?.unwrap_or(length);
        while at < hole {
            let count = usize::try_from((length - at).min(BLOCK)).unwrap_or(block.len());
            image.read_exact_at(&mut block[..count], at)?;
            if block[..count].iter().any(|&byte| byte != 0) {
                hasher.update(at.to_le_bytes());
                hasher.update(&block[..count]);
            }
            at += BLOCK;
        }
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// `None` at the end of the file, which the kernel reports as an error.
fn seek(image: &File, position: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(image, position) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
