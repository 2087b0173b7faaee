//! Sample images: realistic Windows images of any size, made from a seed, for demo, tests and benchmarks.
//!
//! No Microsoft file is needed or made: [`content`] generates files' contents, [`base`] and [`diff`] plan
//! layers, [`layer`] writes them like HCS' exports, and [`image`] assembles an image. The same
//! specification gives the same bytes on every machine and day. [`small`] makes layers entry by entry, for
//! tests; [`docker_store`] makes the store of a Docker on Windows.

pub mod archive;
pub mod base;
pub mod content;
pub mod diff;
pub mod docker_store;
mod documents;
pub mod hive;
pub mod image;
pub mod layer;
pub mod linux;
mod names;
pub mod plan;
pub mod prng;
pub mod real_binaries;
pub mod security;
pub mod small;

pub use image::{Format, LayerSummary, Spec, Summary, write};
pub use layer::Compression;
pub use small::SmallLayer;
