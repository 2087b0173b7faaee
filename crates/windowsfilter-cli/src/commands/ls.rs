//! `ls`: a directory inside an image or layer.

use erofs_index::FileType;
use wclayer::attributes::{self, *};
use wclayer::reparse::ReparsePoint;
use windowsfilter::{Node, View, Win32Metadata};

use super::stat::target;
use crate::error::Error;
use crate::human;
use crate::location::Location;
use crate::output::{Align, Table};
use crate::session::Session;

/// List a directory inside an image or layer, without mounting it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also show attributes, sizes, times and where links lead
    #[arg(short)]
    long: bool,
    /// Image reference or layer ID, a colon, and a path: sample:ltsc2022:C:\Users
    #[arg(value_name = "X:PATH")]
    location: String,
}

#[derive(serde::Serialize)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    attributes: Vec<String>,
    /// RFC 3339.
    modified: String,
    target: Option<String>,
    #[serde(skip)]
    mode: String,
    #[serde(skip)]
    minute: String,
}

/// Lists the directory, or the one file.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let location = Location::parse(session, &args.location)?;
    let view = location.view(session)?;
    let node = location.node(&view, true)?;
    let children = if node.info.kind == FileType::Directory {
        view.list(&node)?
    } else {
        let name = node.view_path.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
        vec![(name, node)]
    };
    let entries =
        children.iter().map(|(name, node)| entry(&view, name, node)).collect::<Result<Vec<_>, _>>()?;
    session.output.print(&entries, |out| {
        if args.long {
            return table(&entries).write(out);
        }
        entries.iter().try_for_each(|entry| writeln!(out, "{}", entry.name))
    })
}

fn entry(view: &View, name: &[u8], node: &Node) -> Result<Entry, Error> {
    let metadata = view.metadata(node)?;
    let (seconds, nanoseconds) = node.info.mtime;
    Ok(Entry {
        name: human::name(name),
        kind: type_of(node, &metadata),
        size: if node.info.kind == FileType::Regular { node.info.size } else { 0 },
        attributes: metadata.attributes.map(attributes::names).unwrap_or_default(),
        modified: human::unix_time(seconds, nanoseconds),
        target: target(view, node, &metadata)?,
        mode: mode(metadata.attributes.unwrap_or(0)),
        minute: human::unix_minute(seconds),
    })
}

/// `file`, `directory`, `symlink` or `mountpoint`.
pub(super) fn type_of(node: &Node, metadata: &Win32Metadata) -> &'static str {
    match node.info.kind {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::CharDevice => "deleted",
        FileType::Symlink => match metadata.reparse.as_deref().map(ReparsePoint::decode) {
            Some(Ok(ReparsePoint::MountPoint { .. })) => "mountpoint",
            _ => "symlink",
        },
    }
}

/// The attributes PowerShell shows, with its letters.
fn mode(attributes: u32) -> String {
    let letters = [
        (FILE_ATTRIBUTE_DIRECTORY, 'd'),
        (FILE_ATTRIBUTE_ARCHIVE, 'a'),
        (FILE_ATTRIBUTE_READONLY, 'r'),
        (FILE_ATTRIBUTE_HIDDEN, 'h'),
        (FILE_ATTRIBUTE_SYSTEM, 's'),
        (FILE_ATTRIBUTE_REPARSE_POINT, 'l'),
    ];
    letters.iter().map(|&(bit, letter)| if attributes & bit != 0 { letter } else { '-' }).collect()
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new(&[
        ("MODE", Align::Left),
        ("SIZE", Align::Right),
        ("MODIFIED", Align::Left),
        ("NAME", Align::Left),
    ]);
    for entry in entries {
        let name = match &entry.target {
            Some(target) => format!("{} -> {target}", entry.name),
            None => entry.name.clone(),
        };
        let size = if entry.kind == "file" { entry.size.to_string() } else { "-".to_owned() };
        table.row([entry.mode.clone(), size, entry.minute.clone(), name]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_letters_of_powershell() {
        assert_eq!(mode(0x10), "d-----");
        assert_eq!(mode(0x20 | 0x1), "-ar---");
        assert_eq!(mode(0x10 | 0x2 | 0x4 | 0x400), "d--hsl");
    }
}
