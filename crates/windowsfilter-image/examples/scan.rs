//! Reads every file of an image without mounting it, as a scanner does, and prints the digests of programs
//! and their layers: `scan STORE IMAGE`.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use windowsfilter_image::windowsfilter::{Digest, LayerStore, NodeKind, StorageOptions};
use windowsfilter_image::{ImageStore, ImportOptions, Source};

/// Imports `image` into the store at `root` and prints all `.exe` files.
pub(crate) fn run(root: &Path, image: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let layers = LayerStore::open(root, StorageOptions::default())?;
    let images = ImageStore::open(layers.clone())?;
    let view = layers.view(&images.import(ImportOptions::new(Source::Path(image.to_owned())))?.top)?;
    for node in view.walk(&view.root()) {
        let node = node?;
        if node.kind() != NodeKind::File || !node.view_path.to_ascii_lowercase().ends_with(b".exe") {
            continue;
        }
        let (digest, _) = Digest::of_reader(view.open_file(&node)?)?;
        let layer = view.layer_of(&node).map_or("unknown", |layer| layer.as_str());
        writeln!(out, "{digest} {} {layer}", String::from_utf8_lossy(&node.view_path))?;
    }
    Ok(())
}

#[allow(dead_code, reason = "tests call `run`")]
fn main() -> Result<(), Box<dyn Error>> {
    let [root, image] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "STORE IMAGE")?;
    run(Path::new(&root), Path::new(&image), &mut std::io::stdout().lock())
}
