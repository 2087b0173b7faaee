//! A list of files as bytes: `path NUL content NUL`, for each file.
//!
//! Documents name each other by digests, IDs and lengths, which mutation would never find. So they are
//! written as:
//!
//! | in a path or in a content | is |
//! | --- | --- |
//! | `%` and a hexadecimal digit | 64 of that digit |
//! | `%&n` | the digits of the digest of file number `n`, a hexadecimal digit |
//! | `%$n` | that digest with its algorithm |
//! | `%#n` | that file's length in bytes |
//! | `%=n` | the digest of the tar that the file is |
//!
//! Content that begins with `%T` is a layer's tar, with `%G` the same compressed: the rest is the name of
//! the one file in it. A path that ends in `/` is a directory, and one that begins with `>` a link to its
//! content.

use std::fs;
use std::io::Write;
use std::path::{Component, Path};

use windowsfilter::Digest;

/// Most files of one input.
const MOST: usize = 32;

/// A file, expanded.
pub struct File {
    /// Relative; it may be invalid as a file's path.
    pub path: String,
    /// The content.
    pub content: Vec<u8>,
    /// Whether the content is a link's target.
    is_link: bool,
    /// The digest of the uncompressed content.
    tar: Digest,
}

/// Reads an input.
pub fn read(input: &[u8]) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let mut pieces = input.split(|&byte| byte == 0);
    while files.len() < MOST
        && let (Some(path), Some(content)) = (pieces.next(), pieces.next())
    {
        let (content, tar) = written_out(content, &files);
        // A path may contain the digest of its own content.
        files.push(File { path: String::new(), content, is_link: false, tar });
        let path = String::from_utf8_lossy(&expand(path, &files)).into_owned();
        if let Some(file) = files.last_mut() {
            file.is_link = path.starts_with('>');
            file.path = path.trim_start_matches('>').to_owned();
        }
    }
    files
}

/// The expanded content, and the digest of its uncompressed form.
fn written_out(content: &[u8], before: &[File]) -> (Vec<u8>, Digest) {
    let (plain, is_compressed) = match content {
        [b'%', b'T', name @ ..] => (layer(&String::from_utf8_lossy(name)), false),
        [b'%', b'G', name @ ..] => (layer(&String::from_utf8_lossy(name)), true),
        text => (expand(text, before), false),
    };
    let digest = Digest::of(&plain);
    (if is_compressed { compress(&plain) } else { plain }, digest)
}

fn compress(tar: &[u8]) -> Vec<u8> {
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    compressed.write_all(tar).expect("memory");
    compressed.finish().expect("memory")
}

/// A layer with one file.
fn layer(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "Files", tar::EntryType::Directory, &[]);
    append(&mut tar, &format!("Files/{name}"), tar::EntryType::Regular, &[]);
    tar.into_inner().expect("memory")
}

/// Skips names that a tar cannot have.
fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    _ = tar.append_data(&mut header, name, content);
}

fn expand(text: &[u8], files: &[File]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'%', [kind @ (b'&' | b'$' | b'#' | b'='), digit, after @ ..])
                if let Some(number) = char::from(*digit).to_digit(16) =>
            {
                out.extend(
                    files.get(number as usize).map(|file| file.named(*kind)).unwrap_or_default().bytes(),
                );
                rest = after;
            }
            (b'%', [digit, after @ ..]) if digit.is_ascii_hexdigit() => {
                out.extend([*digit; 64]);
                rest = after;
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

impl File {
    fn named(&self, kind: u8) -> String {
        match kind {
            b'&' => Digest::of(&self.content).hex(),
            b'$' => Digest::of(&self.content).to_string(),
            b'#' => self.content.len().to_string(),
            _ => self.tar.to_string(),
        }
    }

    /// Creates the file below `root`, if possible: some names conflict.
    pub fn make(&self, root: &Path) {
        let relative = Path::new(&self.path);
        if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
            return;
        }
        // A path through an earlier link would leave `root`.
        if relative.ancestors().any(|above| root.join(above).is_symlink()) {
            return;
        }
        let place = root.join(relative);
        if self.path.ends_with('/') {
            _ = fs::create_dir_all(&place);
            return;
        }
        _ = place.parent().map(fs::create_dir_all);
        _ = if self.is_link {
            std::os::unix::fs::symlink(String::from_utf8_lossy(&self.content).as_ref(), &place)
        } else {
            fs::write(&place, &self.content)
        };
    }
}

/// The files as an archive, in order.
pub fn archive(files: &[File]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        append(&mut archive, &file.path, tar::EntryType::Regular, &file.content);
    }
    archive.into_inner().expect("memory")
}
