//! Imports an image into a store and lists what Windows sees in `C:\`: `import STORE IMAGE`. It needs no
//! rights and mounts nothing.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use windowsfilter_image::windowsfilter::{LayerStore, StorageOptions};
use windowsfilter_image::{ImageStore, ImportOptions, Source};

/// Imports the OCI layout or archive `image` into the store at `root`, and lists the root of its view.
pub(crate) fn run(root: &Path, image: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let layers = LayerStore::open(root, StorageOptions::default())?;
    let images = ImageStore::open(layers.clone())?;
    let imported = images.import(ImportOptions::new(Source::Path(image.to_owned())))?;
    let view = layers.view(&imported.top)?;
    for (name, node) in view.list(&view.root())? {
        writeln!(out, "{:>12} {}", node.size(), String::from_utf8_lossy(&name))?;
    }
    Ok(())
}

#[allow(dead_code, reason = "tests call `run`")]
fn main() -> Result<(), Box<dyn Error>> {
    let [root, image] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "STORE IMAGE")?;
    run(Path::new(&root), Path::new(&image), &mut std::io::stdout().lock())
}
