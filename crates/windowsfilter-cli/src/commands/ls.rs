//! `ls`: a directory inside an image or layer.

use wclayer::attributes::{self, *};
use windowsfilter::support::JsonName;
use windowsfilter::{Follow, Node, View};

use crate::error::Error;
use crate::human;
use crate::location::{Location, LocationArguments};
use crate::node;
use crate::output::{Align, Table};
use crate::session::Session;

/// List a directory inside an image or layer, without mounting it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also show attributes, sizes, times and where links lead
    #[arg(short)]
    long: bool,
    #[command(flatten)]
    location: LocationArguments,
}

#[derive(serde::Serialize)]
struct Entry {
    name: JsonName,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    attributes: Vec<String>,
    /// RFC 3339.
    modified: String,
    target: Option<JsonName>,
    #[serde(skip)]
    mode: String,
    #[serde(skip)]
    minute: String,
}

/// Lists the directory, or the one file.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let location = Location::parse(session, &args.location)?;
    let view = location.view(session)?;
    let found = location.find(&view, Follow::Always)?;
    let entries = match &found.stream {
        Some(stream) => {
            let entry = entry(&view, found.name(), &found.node)?;
            let size = stream.content.size();
            vec![Entry { kind: "stream", size, target: None, ..entry }]
        }
        None if found.node.is_directory() => {
            let children = view.list(&found.node)?;
            children.iter().map(|(name, node)| entry(&view, name, node)).collect::<Result<_, _>>()?
        }
        None => vec![entry(&view, found.name(), &found.node)?],
    };
    session.output.print(&entries, |out| {
        if args.long {
            return table(&entries).write(out);
        }
        entries.iter().try_for_each(|entry| writeln!(out, "{}", human::name(entry.name.as_bytes())))
    })
}

fn entry(view: &View, name: &[u8], node: &Node) -> Result<Entry, Error> {
    let metadata = view.metadata(node)?;
    let (seconds, nanoseconds) = node.modified();
    Ok(Entry {
        name: name.into(),
        kind: node::type_of(node, &metadata),
        size: node.size(),
        attributes: metadata.attributes.map(attributes::names).unwrap_or_default(),
        modified: human::unix_time(seconds, nanoseconds),
        target: node::link_target(view, node, &metadata)?,
        mode: mode(metadata.attributes.unwrap_or(0)),
        minute: human::unix_minute(seconds),
    })
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
            Some(target) => {
                format!("{} -> {}", human::name(entry.name.as_bytes()), human::name(target.as_bytes()))
            }
            None => human::name(entry.name.as_bytes()),
        };
        let size =
            if matches!(entry.kind, "file" | "stream") { entry.size.to_string() } else { "-".to_owned() };
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
