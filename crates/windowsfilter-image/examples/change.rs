//! Changes an image: a sandbox on it, a file written through its mount, a commit, an archive:
//! `change STORE IMAGE ARCHIVE`. Mounting needs root, on Linux.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use windowsfilter_image::windowsfilter::{LayerId, LayerStore, StorageOptions};
use windowsfilter_image::{
    CommitOptions, ExportOptions, Format, ImageStore, ImportOptions, Reference, Source,
};

/// Imports `image`, adds `C:\new.txt` to it and writes the new image to `archive`.
pub(crate) fn run(
    root: &Path,
    image: &Path,
    archive: &Path,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let layers = LayerStore::open(root, StorageOptions::default())?;
    let images = ImageStore::open(layers.clone())?;
    let base = images.import(ImportOptions::new(Source::Path(image.to_owned())))?;

    let sandbox = LayerId::new("work")?;
    images.create_sandbox(base.top.as_str(), &sandbox, StorageOptions { size: Some(64 << 20) })?;
    let mounted = layers.mount(&sandbox, None)?;
    fs::write(mounted.join("new.txt"), "hello\r\n")?;
    layers.unmount(&sandbox)?;
    for change in layers.changes(&sandbox)? {
        writeln!(out, "{:?} {}", change.kind, String::from_utf8_lossy(&change.path))?;
    }

    let name: Reference = "changed:1".parse()?;
    let changed = images.commit(&sandbox, CommitOptions::new(name.clone()))?;
    writeln!(out, "layer {}", changed.top)?;
    let options = ExportOptions { format: Format::OciArchive, ..ExportOptions::default() };
    images.export(&name.to_string(), archive, &options)?;
    layers.remove(&sandbox)?;
    Ok(())
}

#[allow(dead_code, reason = "tests call `run`")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [root, image, archive] = &arguments[..] else { return Err("STORE IMAGE ARCHIVE".into()) };
    run(Path::new(root), Path::new(image), Path::new(archive), &mut std::io::stdout().lock())
}
