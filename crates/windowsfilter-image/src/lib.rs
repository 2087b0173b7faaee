//! Imports Windows images from OCI layouts and archives into the layer store, and exports them.
//!
//! An image is a config (how to run it, and its layers' diffIDs), a manifest (its layers' blobs) and a
//! name. The layers are in the layer store under their chain IDs, so that images share them; [`ImageStore`]
//! keeps the rest in the store's `images/`:
//!
//! ```text
//! images/lock                     held while names, or the layers behind them, change
//!        import.lock              held while an import reads layers
//!        blobs/sha256/<hex>       configs and manifests, exactly as they came
//!        layer-blobs/<hex>        compressed blobs of layers, exactly as they came, if they are kept
//!        refs/<reference>.json    one image each: what it is called and what it is made of
//! ```
//!
//! A layer is read once and checked against its blob's digest and size and the config's diffID. The layers
//! are published once all of them have been checked.
//!
//! A program that imports an image, changes it in a sandbox and commits it; `examples/` has whole ones, among
//! them a scanner that needs no mount:
//!
//! ```no_run
//! use windowsfilter_image::windowsfilter::{LayerStore, StorageOptions};
//! use windowsfilter_image::{CommitOptions, ImageStore, ImportOptions, Source};
//!
//! let layers = LayerStore::open("/var/lib/windowsfilter".as_ref(), StorageOptions::default())?;
//! let images = ImageStore::open(layers.clone())?;
//! let image = images.import(ImportOptions::new(Source::Path("image.tar".into())))?;
//!
//! let sandbox = "box".parse()?;
//! layers.create_sandbox(&sandbox, Some(&image.top), StorageOptions::default(), Some(image.image_id))?;
//! let root = layers.mount(&sandbox, None)?;
//! std::fs::write(root.join("new.txt"), "new")?;
//! layers.unmount(&sandbox)?;
//! images.commit(&sandbox, CommitOptions::new("app:2".parse()?))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docker_store`] reads another store: Docker's own on Windows.

mod commit;
mod config_edits;
pub mod docker_store;
mod edit;
mod error;
mod export;
mod fsck;
mod import;
mod inspect;
mod json;
mod layer_blobs;
mod oci;
mod platform;
mod prune;
mod records;
mod reference;
mod sandbox;
mod shared;
mod source;

pub use commit::CommitOptions;
pub use config_edits::{CommandLine, ConfigEdits};
pub use edit::EditOptions;
pub use error::Error;
pub use export::{Compression, ExportOptions, Exported, Format};
pub use fsck::Finding;
pub use import::{ImageProgress, ImportOptions};
pub use inspect::{ImageInfo, ImageSummary, LayerInfo};
pub use json::JsonError;
pub use oci::{Descriptor, History, chain_id};
pub use platform::Platform;
pub use prune::{Pruned, Removed};
pub use records::{ImageRecord, ImageStore, Imported, SourceLayer};
pub use reference::Reference;
pub use source::Source;
/// The layer store that holds the images' layers.
pub use windowsfilter;
