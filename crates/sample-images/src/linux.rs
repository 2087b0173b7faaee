//! A Linux image with the same files as a Windows image, for comparison with tools that know only Linux.
//!
//! Keeps names, types, contents, times and the order in the tar, and drops Windows' metadata. Converts only
//! images of one layer: Windows names differ in case from layer to layer, and on Linux those are different
//! files.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use super::image::{blob_path, to_json, write_blob};
use super::layer::{Hashed, digest_text};
use programs::error::{IoContext, Result};

/// Writes the OCI layout `to` of a Linux image named `reference` from `blob`, a gzipped Windows layer.
/// Returns the layer's number of entries.
///
/// # Errors
/// If `blob` cannot be read or `to` cannot be written.
pub fn write(blob: &Path, reference: &str, to: &Path) -> Result<u64> {
    let blobs = to.join("blobs/sha256");
    fs::create_dir_all(&blobs).at(&blobs)?;
    let partial = blobs.join("partial");
    let Converted { diff_id, digest, size, entries } = convert(blob, &partial)?;
    fs::rename(&partial, blob_path(to, &digest)).at(&partial)?;
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let config = to_json("configuration", &config)?;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": write_blob(to, &config)?,
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": digest,
            "size": size,
        }],
    });
    let manifest = to_json("manifest", &manifest)?;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": write_blob(to, &manifest)?,
            "size": manifest.len(),
            "platform": {"architecture": "amd64", "os": "linux"},
            "annotations": {"org.opencontainers.image.ref.name": reference},
        }],
    });
    let files = [
        ("index.json", to_json("index", &index)?),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    for (name, bytes) in files {
        fs::write(to.join(name), bytes).at(to)?;
    }
    Ok(entries)
}

/// A converted layer.
struct Converted {
    diff_id: String,
    digest: String,
    size: u64,
    entries: u64,
}

fn convert(blob: &Path, to: &Path) -> Result<Converted> {
    let source = flate2::read::MultiGzDecoder::new(File::open(blob).at(blob)?);
    let mut source = tar::Archive::new(source);
    let out = Hashed::new(BufWriter::new(File::create(to).at(to)?));
    let gzip = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
    let mut tar = tar::Builder::new(Hashed::new(gzip));
    let mut entries = 0;
    for entry in source.entries().at(blob)? {
        let mut entry = entry.at(blob)?;
        let (name, link) = (name_of(&entry.path_bytes()), entry.link_name_bytes().map(|link| name_of(&link)));
        let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry.header().entry_type());
        header.set_mode(if entry.header().entry_type().is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(entry.size());
        header.set_mtime(entry.header().mtime().at(blob)?);
        match link.flatten() {
            Some(link) => tar.append_link(&mut header, &name, &link).at(to)?,
            None => tar.append_data(&mut header, &name, &mut entry).at(to)?,
        }
        entries += 1;
    }
    let plain = tar.into_inner().at(to)?;
    let packed = plain.inner.finish().at(to)?;
    packed.inner.into_inner().map_err(std::io::IntoInnerError::into_error).at(to)?;
    let (diff_id, digest) = (digest_text(plain.sha256), digest_text(packed.sha256));
    Ok(Converted { diff_id, digest, size: packed.size, entries })
}

/// The name on Linux: `Files` becomes the root. `None` for names that are not UTF-8, which samples do not
/// have.
fn name_of(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    Some(name.strip_prefix("Files").map_or(name, |name| name.trim_start_matches('/')).to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;
    use crate::Spec;

    fn files(blob: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(File::open(blob).unwrap()));
        let mut files = BTreeMap::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned(), content);
        }
        files
    }

    #[test]
    fn the_linux_image_has_the_same_files_and_nothing_of_windows() {
        let dir = tempfile::tempdir().unwrap();
        let (windows, linux) = (dir.path().join("windows"), dir.path().join("linux"));
        let spec = Spec { entries: 300, bytes: 600_000, layers: 1, ..Spec::default() };
        let summary = crate::write(&spec, &windows).unwrap();
        let blob = blob_path(&windows, &summary.layers[0].digests.digest);
        let entries = write(&blob, "linux:1", &linux).unwrap();
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(linux.join("index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(blob_path(&linux, digest)).unwrap()).unwrap();
        let layer = blob_path(&linux, manifest["layers"][0]["digest"].as_str().unwrap());
        let (ours, theirs) = (files(&blob), files(&layer));
        assert_eq!(theirs.len() as u64, entries);
        for (name, content) in &ours {
            let name = name_of(name.as_bytes()).unwrap();
            assert!(name.is_empty() || theirs.get(&name) == Some(content), "{name}");
        }
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(File::open(&layer).unwrap()).read_to_end(&mut text).unwrap();
        assert!(!text.windows(9).any(|bytes| bytes == b"MSWINDOWS"));
    }
}
