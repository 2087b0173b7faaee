//! `cp`: files out of an image or layer, onto this host.
//!
//! A stranger wrote the image, so its names and links must not choose where we write: every name is used as
//! one path component below a directory we hold open, links at the destination are replaced and never
//! followed, and a link is only made if it leads to somewhere inside the copy.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use windowsfilter::support::JsonName;
use windowsfilter::{Cancel, Follow, Node, NodeKind, View};

use crate::error::{Error, IoContext};
use crate::human;
use crate::location::{Location, LocationArguments};
use crate::progress::Progress;
use crate::session::Session;

mod destination;
mod link;

use destination::Directory;

/// Copy a file out of an image or layer, without mounting it
///
/// Nothing is written outside DEST: existing links are replaced, not followed, and links in the image that
/// lead out of the copy are left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also copy directories with their content
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    location: LocationArguments,
    /// Existing directory to copy into, or name of the copy
    #[arg(value_name = "DEST", value_hint = clap::ValueHint::AnyPath)]
    destination: PathBuf,
}

/// The result.
#[derive(Default, serde::Serialize)]
struct Copied {
    files: u64,
    directories: u64,
    links: u64,
    bytes: u64,
    /// Links that were left out.
    skipped: Vec<JsonName>,
}

/// Copies the file or directory.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let location = Location::parse(session, &args.location)?;
    let view = location.view(session)?;
    let found = location.find(&view, Follow::Always)?;
    let node = &found.node;
    let is_directory = found.stream.is_none() && node.is_directory();
    if is_directory && !args.recursive {
        return Err(Error::IsDirectory { target: location.target, path: found.shown() });
    }
    let (directory, name) = place(&args.destination, found.name())?;
    let progress = Progress::new(session.output, "copy", None);
    let mut copy = Copy {
        view: &view,
        target: &location.target,
        root: &node.view_path,
        progress,
        cancel: session.store.cancel(),
        done: Copied::default(),
    };
    match &found.stream {
        Some(stream) => copy.content(view.open_stream(stream)?, &found.shown(), (&directory, &name))?,
        None if is_directory => copy.tree(node, &directory, &name)?,
        None => copy.file(node, &directory, &name)?,
    }
    let done = copy.done;
    for skipped in &done.skipped {
        let skipped = human::name(skipped.as_bytes());
        session.output.note(&format!("left out {skipped}: it leads out of the copy"));
    }
    session.output.print(&done, |_| Ok(()))
}

/// The directory to write into and the name of the copy: as `cp` does, a directory that exists is copied
/// into.
fn place(destination: &Path, name: &[u8]) -> Result<(Directory, Vec<u8>), Error> {
    if destination.is_dir() {
        // The root has no name; its content goes into a directory called after the drive.
        let name = if name.is_empty() { b"C" } else { name };
        return Ok((Directory::open(destination)?, name.to_vec()));
    }
    let parent =
        destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = destination.file_name() else {
        return Err(Error::UnsafeName { name: destination.display().to_string() });
    };
    Ok((Directory::open(parent)?, name.as_encoded_bytes().to_vec()))
}

/// The last part of a node's path; empty for the root.
fn last_name(node: &Node) -> &[u8] {
    node.view_path.rsplit(|&b| b == b'/').next().unwrap_or_default()
}

/// A node's path from the root of the view.
fn full_path(node: &Node) -> Vec<u8> {
    [b"/", &node.view_path[..]].concat()
}

/// The same for people.
fn shown_path(node: &Node) -> String {
    human::name(&full_path(node))
}

/// A directory that is being copied.
struct Level {
    to: Directory,
    /// Entries that are still to be copied, last first.
    rest: Vec<(Vec<u8>, Node)>,
}

struct Copy<'a> {
    view: &'a View,
    target: &'a str,
    /// The path in the view of what is copied.
    root: &'a [u8],
    progress: Progress,
    cancel: &'a Cancel,
    done: Copied,
}

impl Copy<'_> {
    fn tree(&mut self, node: &Node, into: &Directory, name: &[u8]) -> Result<(), Error> {
        // A list instead of recursion: how deep the tree is, the image says.
        let mut levels = vec![self.enter(node, into, name)?];
        while let Some(level) = levels.last_mut() {
            let Some((name, node)) = level.rest.pop() else {
                levels.pop();
                continue;
            };
            self.cancel.check().map_err(windowsfilter::Error::from)?;
            match node.kind() {
                NodeKind::Directory => {
                    let next = self.enter(&node, &level.to, &name)?;
                    levels.push(next);
                }
                NodeKind::File => self.file(&node, &level.to, &name)?,
                NodeKind::Link => {
                    // The copy's own root is level 0.
                    let depth = levels.len() - 1;
                    if let Some(level) = levels.last() {
                        self.link(&node, &level.to, &name, depth)?;
                    }
                }
                _ => self.done.skipped.push(full_path(&node).into()),
            }
        }
        Ok(())
    }

    fn enter(&mut self, node: &Node, into: &Directory, name: &[u8]) -> Result<Level, Error> {
        let to = into.subdirectory(name)?;
        self.done.directories += 1;
        let children = self.view.list(node)?;
        // The view's spelling fits Linux; the true name may be too long.
        let rest = children.into_iter().rev().map(|(_, node)| (last_name(&node).to_vec(), node)).collect();
        Ok(Level { to, rest })
    }

    fn file(&mut self, node: &Node, into: &Directory, name: &[u8]) -> Result<(), Error> {
        if node.kind() != NodeKind::File {
            let (target, path) = (self.target.to_owned(), shown_path(node));
            return Err(Error::NotAFile { target, path, actual: "link" });
        }
        self.content(self.view.open_file(node)?, &shown_path(node), (into, name))
    }

    fn content(
        &mut self,
        content: impl Read,
        path: &str,
        (into, name): (&Directory, &[u8]),
    ) -> Result<(), Error> {
        let mut content = self.cancel.reader(content);
        let mut new = into.file(name)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    new.file.write_all(&buffer[..n]).at("write", into.path(name))?;
                    self.progress.bytes(n as u64);
                    self.done.bytes += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let (target, path) = (self.target.to_owned(), path.to_owned());
                    return Err(Error::Content { target, path, source });
                }
            }
        }
        new.finish()?;
        self.done.files += 1;
        Ok(())
    }

    fn link(&mut self, node: &Node, into: &Directory, name: &[u8], depth: usize) -> Result<(), Error> {
        let text = self.view.link_target(node)?;
        let target =
            if link::stays_inside(&text, depth) { Some(text.clone()) } else { self.way_inside(node) };
        match target {
            Some(target) => {
                into.link(name, &target)?;
                self.done.links += 1;
            }
            None => self.done.skipped.push([&full_path(node)[..], b" -> ", &text].concat().into()),
        }
        Ok(())
    }

    /// Another way to where a link leads, if that is inside the copy.
    fn way_inside(&self, node: &Node) -> Option<Vec<u8>> {
        // A link that leads nowhere, or in circles, leads nowhere inside either.
        let Ok(Some(end)) = self.view.lookup(&node.view_path, Follow::Always) else { return None };
        link::relative(self.root, &node.view_path, &end.view_path)
    }
}
