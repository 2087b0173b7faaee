//! `ExportLayer` and `ImportLayer`: layers to and from transport directories.
//!
//! `Files` has the attribute word and the backup stream of each file; those of a directory are in
//! `<name>.$wcidirs$` beside it. `Hives` has plain files, `tombstones.txt` the deletions. Source: hcsshim
//! `internal/wclayer/legacy.go`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::code::Code;
use crate::metadata::{self, ATTRIBUTE_REPARSE_POINT, Info};
use crate::sandbox::{self, DISK, Difference, OF_PARENTS, State};
use crate::streams::{Content, DATA, Event, Parser, SECURITY, SPARSE_BLOCK, Stream};
use crate::{tree, volumes};

const DIRECTORY_SUFFIX: &str = ".$wcidirs$";
const TOMBSTONES_FILE: &str = "tombstones.txt";
const TOMBSTONES_HEADER: &str = "\u{feff}Version 1.0";
/// The hives with a sandbox's changes of the registry.
const HIVES: [&str; 5] =
    ["DefaultUser_Delta", "Sam_Delta", "Security_Delta", "Software_Delta", "System_Delta"];

/// Writes the changes of `layer` to `target`.
pub(crate) fn export(layer: &Path, target: &Path, parents: &[PathBuf]) -> Result<(), Code> {
    fs::create_dir_all(target.join("Files"))?;
    let (root, Difference { entries, tombstones }) = if State::load(layer)?.is_some() {
        let volume = volumes::directory(layer)?;
        let difference = sandbox::difference(&volume, parents, |_| true)?;
        (volume, difference)
    } else {
        let (files, of_parents) = (layer.join("Files"), sandbox::of_parents(layer)?);
        let difference = sandbox::difference(&files, parents, |path| of_parents.contains(path))?;
        (files, difference)
    };
    for entry in &entries {
        export_entry(&root.join(&entry.path), &target.join("Files").join(&entry.path), entry.is_directory)?;
    }
    for kept in ["Hives", "UtilityVM"] {
        if layer.join(kept).is_dir() {
            tree::copy(&layer.join(kept), &target.join(kept))?;
        }
    }
    if !target.join("Hives").exists() {
        fs::create_dir(target.join("Hives"))?;
        // Exporting a sandbox does not change it.
        let (info, _) = metadata::of_path(&layer.join(DISK))?;
        for hive in HIVES {
            let hive = target.join("Hives").join(hive);
            // The first bytes of every hive; no reader here looks further.
            fs::write(&hive, [&b"regf"[..], &[0; 4092]].concat())?;
            metadata::set_at(&hive, info, Vec::new())?;
        }
    }
    let lines = tombstones.iter().map(|path| format!("\\{path}\r\n")).collect::<String>();
    fs::write(target.join(TOMBSTONES_FILE), format!("{TOMBSTONES_HEADER}\r\n{lines}"))?;
    Ok(())
}

fn export_entry(from: &Path, to: &Path, is_directory: bool) -> Result<(), Code> {
    let (info, mut streams) = metadata::of_path(from)?;
    let data = if is_directory { Vec::new() } else { fs::read(from)? };
    if !streams.iter().any(|stream| stream.id == SECURITY) {
        streams.insert(0, Stream::default_security());
    }
    let own = |stream: &Stream| matches!(stream.id, DATA | SPARSE_BLOCK);
    if !streams.iter().any(own) && !data.is_empty() {
        streams.push(Stream::data(0));
    }
    let sparse = streams.iter().any(|stream| stream.id == SPARSE_BLOCK);
    let mut bytes = info.attributes.to_le_bytes().to_vec();
    for mut stream in streams {
        if let (DATA, Content::InFile { size, .. }, false) = (stream.id, &mut stream.content, sparse) {
            *size = data.len() as u64;
        }
        bytes.extend(stream.header());
        match stream.content {
            Content::Stored(stored) => bytes.extend(stored),
            Content::InFile { offset, size } => {
                let place = offset as usize..(offset + size) as usize;
                bytes.extend(data.get(place).ok_or(Code::INVALID_DATA)?);
            }
        }
    }
    let file = if is_directory {
        fs::create_dir(to)?;
        with_suffix(to)
    } else {
        to.to_owned()
    };
    fs::write(&file, bytes)?;
    // The times are those of the original; the attributes are in the file.
    Ok(metadata::set_at(&file, Info { attributes: 0x20, ..info }, Vec::new())?)
}

fn with_suffix(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(DIRECTORY_SUFFIX);
    name.into()
}

/// Makes `layer` from the transport directory `source`, and copies the parents' files into it.
pub(crate) fn import(layer: &Path, source: &Path, parents: &[PathBuf]) -> Result<(), Code> {
    if !source.join("Hives").is_dir() {
        return Err(Code::PATH_NOT_FOUND);
    }
    let files = layer.join("Files");
    fs::create_dir_all(&files)?;
    let root = source.join("Files");
    let entries = if root.is_dir() { tree::walk(&root)? } else { Vec::new() };
    let mut directories = Vec::new();
    for entry in entries {
        let (from, to) = (root.join(&entry.path), files.join(&entry.path));
        if entry.is_directory {
            fs::create_dir(&to)?;
            // Set a directory's times once everything is in it.
            directories.push((with_suffix(&from), to));
        } else if !entry.path.to_string_lossy().ends_with(DIRECTORY_SUFFIX) {
            import_entry(&from, &to, false)?;
        }
    }
    let set_directories = || directories.iter().rev().try_for_each(|(from, to)| import_entry(from, to, true));
    // Now, because the next step needs to know the reparse points, and again later, because filling a
    // directory changes its times.
    set_directories()?;
    let of_parents = sandbox::fill_layer(&files, parents)?;
    set_directories()?;
    tree::copy(&source.join("Hives"), &layer.join("Hives"))?;
    let lines = of_parents.iter().map(|path| format!("{path}\n")).collect::<String>();
    Ok(fs::write(layer.join(OF_PARENTS), lines)?)
}

fn import_entry(from: &Path, to: &Path, is_directory: bool) -> Result<(), Code> {
    let bytes = fs::read(from)?;
    let (word, stream_bytes) = bytes.split_first_chunk::<4>().ok_or(Code::INVALID_DATA)?;
    let (mut streams, mut data) = (Vec::new(), Vec::new());
    let mut parser = Parser::default();
    parser.feed(stream_bytes, |event| {
        match event {
            Event::Write { offset, bytes } => {
                let end = offset as usize + bytes.len();
                data.resize(data.len().max(end), 0);
                data[offset as usize..end].copy_from_slice(&bytes);
            }
            Event::Done(stream) => streams.push(stream),
        }
        Ok(())
    })?;
    if !parser.is_between() {
        return Err(Code::INVALID_DATA);
    }
    if !is_directory {
        fs::write(to, data)?;
    }
    let (info, _) = metadata::of_path(from)?;
    let attributes = u32::from_le_bytes(*word) & !ATTRIBUTE_REPARSE_POINT;
    metadata::set_at(to, Info { attributes, ..info }, streams)?;
    Ok(())
}
