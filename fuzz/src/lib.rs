//! Inputs that are several files: what the targets need that read directories and archives.

pub mod files;
pub mod sandbox;
pub mod view;
