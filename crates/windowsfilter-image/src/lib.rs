//! Windows images in OCI layouts and archives, to and from the layer store.
//!
//! An image is a config (what to run, and the diffIDs of its layers), a manifest (which blobs these are) and
//! a name. The layers live in the layer store under their chain IDs, so that images share them;
//! [`ImageStore`] keeps the rest below the store's `images/`:
//!
//! ```text
//! images/lock                     held while names, or the layers behind them, change
//!        import.lock              held while an import reads layers
//!        blobs/sha256/<hex>       configs and manifests, exactly as they came
//!        layer-blobs/<hex>        compressed blobs of layers, exactly as they came, if they are kept
//!        refs/<reference>.json    one image each: what it is called and what it is made of
//! ```
//!
//! A layer is read once, checked against its blob's digest and size and against the config's diffID, and
//! becomes visible only when all the image's layers have been checked.
//!
//! The program in `examples/change.rs` imports an image, changes it in a sandbox, commits and exports it; `examples/scan.rs`
//! reads what an image shows without a mount:
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
//! [`docker_store`] is about another store: that of Docker on Windows, which it only reads.

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
/// The layer store that images are in.
pub use windowsfilter;
