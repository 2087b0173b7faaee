//! Files in a tar, by name. Compressed archives and streams are first unpacked to a temporary file.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use wclayer::tar::{Header, Reader, TarError, type_flag};
use windowsfilter::LayerStore;
use windowsfilter::import::{CompressedFormat, MAX_ZSTD_WINDOW_LOG};

use super::Blob;
use super::section::Section;
use crate::error::{Error, IoContext};

/// Most links to follow. Old versions of `docker save` write a symbolic link for a repeated layer; none of
/// them leads to another link.
const MAX_LINKS: usize = 4;
/// Longest name or link target to keep, bytes: no tool writes one longer than Linux' paths.
const MAX_NAME: usize = 4096;
/// Most memory for an archive's names, bytes, with [`ENTRY_COST`] for each. An archive has a few names per
/// layer, so this is some hundred times the largest; an untrusted archive could consist of names only.
const MAX_NAMES: usize = 16 << 20;
/// Approximate cost of a name besides its bytes.
const ENTRY_COST: usize = 128;
/// Bytes to read for a header. Most have one block or two.
const HEADER_BUFFER: usize = 4096;
/// Everything in a tar is aligned to this.
const BLOCK: u64 = wclayer::tar::BLOCK_SIZE as u64;

#[derive(Debug)]
enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

/// An indexed tar. Reads use the file that was indexed, even if its path leads to another one later.
pub(crate) struct Archive {
    pub(crate) label: String,
    file: Arc<File>,
    members: HashMap<String, Member>,
}

impl Archive {
    /// Indexes `file`, opened from `path`; if it is compressed, a plain copy in `store`.
    pub(crate) fn open(file: File, path: &Path, store: &LayerStore) -> Result<Self, Error> {
        let label = path.display().to_string();
        let metadata = file.metadata().at("read", path)?;
        if !metadata.is_file() {
            let pipe = store.cancel().pipe(move || Ok(file)).at("read", path)?;
            return Self::spool(Box::new(pipe), label, store);
        }
        let file = Arc::new(file);
        let mut magic = [0; CompressedFormat::MAGIC_LENGTH];
        let length = read_up_to(&mut Section::whole(&file, u64::MAX), &mut magic).at("read", path)?;
        if CompressedFormat::of(&magic[..length]).is_some() {
            return Self::spool(Box::new(Section::whole(&file, u64::MAX)), label, store);
        }
        Self::indexed(file, label)
    }

    /// Copies `stream`, uncompressed, to a temporary file in `store` and indexes that. The store's limit
    /// for a layer applies to the whole stream.
    pub(crate) fn spool(
        stream: Box<dyn Read + Send + '_>,
        label: String,
        store: &LayerStore,
    ) -> Result<Self, Error> {
        let broken = |source: io::Error| match source.to_string() {
            // zstd's error can be recognized only by its text.
            text if text.contains("too much memory") => Error::ZstdWindow { path: label.clone() },
            _ => Error::Archive { path: label.clone(), source },
        };
        let read = Cell::new(0);
        let stream = store.cancel().reader(stream);
        let mut stream = BufReader::with_capacity(1 << 18, Counted { stream, count: &read });
        let mut magic = [0; CompressedFormat::MAGIC_LENGTH];
        let length = read_up_to(&mut stream, &mut magic).map_err(broken)?;
        let whole = io::Cursor::new(magic).take(length as u64).chain(stream);
        let mut plain: Box<dyn Read + '_> = match CompressedFormat::of(&magic[..length]) {
            Some(CompressedFormat::Gzip) => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(whole)))
            }
            Some(CompressedFormat::Zstd) => {
                let mut decoder = zstd::Decoder::with_buffer(BufReader::new(whole)).map_err(broken)?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG).map_err(broken)?;
                Box::new(decoder)
            }
            Some(format) => return Err(Error::NotRead { path: label, format }),
            None => Box::new(whole),
        };
        let mut file = store.files().spool()?;
        let mut buffer = vec![0; 1 << 18];
        let mut length = 0;
        loop {
            match plain.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    length += count as u64;
                    store.limits().check_archive(&label, read.get(), length)?;
                    file.write_all(&buffer[..count]).at("write a temporary file in", store.root())?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(broken(e)),
            }
        }
        Self::indexed(Arc::new(file), label)
    }

    fn indexed(file: Arc<File>, label: String) -> Result<Self, Error> {
        let members = index(&file, &label)?;
        Ok(Self { label, file, members })
    }

    /// Whether the archive's files are where a layer has them.
    pub(crate) fn is_layer(&self) -> bool {
        self.members.keys().any(|name| is_of_a_layer(name))
    }

    /// Opens the file `name`.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Blob>, Error> {
        let mut name = clean("", name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Member::Link(target)) => name = target.clone(),
                Some(&Member::File { offset, size }) => {
                    return Ok(Some(Blob { section: Section::new(&self.file, offset, size), size }));
                }
            }
        }
        Err(Error::Malformed {
            what: self.label.clone(),
            reason: format!("too many links on the way to {name:?}"),
        })
    }
}

/// A reader that counts its bytes.
struct Counted<'a, R> {
    stream: R,
    count: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Reads the headers only and skips the data.
fn index(file: &Arc<File>, label: &str) -> Result<HashMap<String, Member>, Error> {
    let broken = |source| Error::Archive { path: label.to_owned(), source };
    let length = file.metadata().map_err(broken)?.len();
    let (mut members, mut budget, mut position) = (HashMap::new(), MAX_NAMES, 0);
    let unreadable = |position, error: TarError| match position {
        0 => Error::NotAnArchive { path: label.to_owned(), source: error.into() },
        _ => broken(error.into()),
    };
    while let Some(header) = header_at(file, position, length).map_err(|e| unreadable(position, e))? {
        let offset = position.saturating_add(header.data_offset);
        let end = offset.saturating_add(header.stored_size);
        let next = end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        let name = clean("", &String::from_utf8_lossy(&header.name[..header.name.len().min(MAX_NAME)]));
        if end > length {
            return Err(Error::Truncated { path: label.to_owned(), entry: name, end, length });
        }
        position = next;
        if let Some((name, member)) = member(&header, offset, name) {
            let cost =
                name.len() + ENTRY_COST + if let Member::Link(target) = &member { target.len() } else { 0 };
            budget = budget.checked_sub(cost).ok_or_else(|| too_many(label, is_of_a_layer(&name)))?;
            match header.name.contains(&b'\\') {
                // A name with Windows' separators; an entry with the exact name takes precedence.
                true => drop(members.entry(name).or_insert(member)),
                false => drop(members.insert(name, member)),
            }
        }
    }
    Ok(members)
}

/// Parses the header at `position`; its offsets are relative to that.
fn header_at(file: &Arc<File>, position: u64, length: u64) -> Result<Option<Header>, TarError> {
    let section = Section::new(file, position, length.saturating_sub(position));
    Reader::new(BufReader::with_capacity(HEADER_BUFFER, section)).next()
}

fn member(header: &Header, offset: u64, name: String) -> Option<(String, Member)> {
    if header.name.len() > MAX_NAME || header.link_name.len() > MAX_NAME || header.sparse.is_some() {
        return None;
    }
    // A symbolic link is relative to its directory, a hard link to the archive.
    let directory = match header.type_flag {
        type_flag::FILE => return Some((name, Member::File { offset, size: header.stored_size })),
        type_flag::SYMLINK => name.rsplit_once('/').map_or("", |(directory, _)| directory),
        type_flag::LINK => "",
        _ => return None,
    };
    let target = clean(directory, &String::from_utf8_lossy(&header.link_name));
    Some((name, Member::Link(target)))
}

fn too_many(label: &str, is_layer: bool) -> Error {
    if is_layer {
        return Error::NotAnImage { path: label.to_owned(), is_layer };
    }
    let reason = format!(
        "the names in it take more than {} MiB; an image archive has a few names per layer, so this is none",
        MAX_NAMES >> 20
    );
    Error::Malformed { what: label.to_owned(), reason }
}

/// Whether a name is in one of a layer's directories.
fn is_of_a_layer(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    ["Files", "Hives", "UtilityVM"].iter().any(|directory| first.eq_ignore_ascii_case(directory))
}

/// `name`, relative to `directory`, without `.` and `..`. Names are only map keys, never paths on this
/// machine.
fn clean(directory: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split(['/', '\\'])) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_links_are_relative_to_their_directory() {
        assert_eq!(clean("", "./blobs//sha256/x"), "blobs/sha256/x");
        assert_eq!(clean("abc", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(clean("", "../../../etc/passwd"), "etc/passwd");
        assert_eq!(clean("a772", r"..\b\layer.tar"), "b/layer.tar");
    }
}
