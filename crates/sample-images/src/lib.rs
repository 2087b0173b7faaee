//! Sample images: realistic Windows images of any size, made from a seed, for demo, tests and benchmarks.
//!
//! No Microsoft file is needed and none is made: contents are generated ([`content`]), and what surrounds
//! them is what an image has: layers planned by [`base`] and [`diff`], written by [`layer`] as HCS' exports
//! are, put together by [`image`]. The same specification gives the same bytes, whatever the machine and the
//! day.
//! [`small`] makes layers entry by entry, for tests; [`docker_store`] makes the store of a Docker on Windows.

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
