//! `X:PATH`: a path inside an image or layer, or `X:PATH:STREAM`, a stream of the file there.
//!
//! References have colons, and so have Windows paths: in `sample:ltsc2022:C:\Users` the image is
//! `sample:ltsc2022`. The longest part before a colon that names something is the image or layer; without a
//! path it is the root. In a path, a letter and a colon at the beginning are a drive, and any other colon
//! begins the name of a stream, as on Windows: `C:x` is the file `x`, and `/C:x` the stream `x` of the file
//! `C`. Paths are any bytes: a name that is no text can be typed as `ls` found it.

use std::ffi::OsString;

use windowsfilter::metadata::Stream;
use windowsfilter::{Follow, LayerId, LayerKind, Node, View};

use crate::error::Error;
use crate::human;
use crate::session::Session;

/// What commands that look into images take.
#[derive(Debug, clap::Args)]
pub(crate) struct LocationArguments {
    /// Image reference or layer ID, a colon, and a path, which may have a stream at its end:
    /// sample:ltsc2022:C:\License.txt
    #[arg(value_name = "X:PATH[:STREAM]")]
    location: OsString,
    /// Take paths as names in the layers' tars (Files/…, Hives/…, UtilityVM/…), merged over all layers
    #[arg(long)]
    raw: bool,
}

/// A place in a view.
pub(crate) struct Location {
    /// What the user called the image or layer.
    pub(crate) target: String,
    /// The layer it is.
    id: LayerId,
    /// The path as the user wrote it.
    path: Vec<u8>,
    raw: bool,
}

/// The file or stream at a place.
pub(crate) struct Found {
    pub(crate) node: Node,
    /// The stream that was asked for; else the thing itself.
    pub(crate) stream: Option<Stream>,
    /// Its path from the root of the view, or with `--raw` of the layers, and the stream's name.
    pub(crate) path: Vec<u8>,
}

impl Found {
    /// Its path for people.
    pub(crate) fn shown(&self) -> String {
        human::name(&self.path)
    }

    /// The last part of its path; empty for the root.
    pub(crate) fn name(&self) -> &[u8] {
        self.path.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }
}

impl Location {
    /// Splits the argument into image or layer and path.
    pub(crate) fn parse(session: &Session, arguments: &LocationArguments) -> Result<Self, Error> {
        let (text, raw) = (arguments.location.as_encoded_bytes(), arguments.raw);
        let mut problem = None;
        for (target, path) in splits(text) {
            let Ok(target) = str::from_utf8(target) else { continue };
            match session.try_target(target) {
                Ok(Some(id)) => {
                    return Ok(Self { target: target.to_owned(), id, path: path.to_owned(), raw });
                }
                Ok(None) => {}
                // Another cut may fit; if none does, this is what to say.
                Err(error) => problem = Some(error),
            }
        }
        Err(match problem {
            Some(error) => error,
            None => session.no_such_target(likely_target(&human::name(text)))?,
        })
    }

    /// Opens the view. Refuses a sandbox: the store would show its parents without its changes, unnoticed.
    pub(crate) fn view(&self, session: &Session) -> Result<View, Error> {
        if session.store.record(&self.id)?.kind == LayerKind::Sandbox {
            let parent = session.store.chain_ids(&self.id)?.into_iter().next();
            return Err(Error::SandboxView { id: self.id.clone(), parent });
        }
        Ok(session.store.view(&self.id)?)
    }

    /// Finds the file or stream.
    pub(crate) fn find(&self, view: &View, follow: Follow) -> Result<Found, Error> {
        let (file, stream) = split_stream(&self.path, self.raw)?;
        let Some(node) = self.lookup(view, file, follow)? else { return Err(self.missing(file)) };
        let path = self.path_of(&node, file);
        let Some(name) = stream else { return Ok(Found { node, stream: None, path }) };
        let streams = view.metadata(&node)?.streams;
        let found = streams.iter().find(|stream| wclayer::name::eq(&stream.name, name));
        let Some(stream) = found.cloned() else {
            return Err(Error::NoSuchStream {
                target: self.target.clone(),
                path: human::name(&path),
                stream: human::name(name),
                streams: streams.iter().map(|stream| human::name(&stream.name)).collect(),
            });
        };
        let path = [&path[..], b":", &stream.name].concat();
        Ok(Found { node, stream: Some(stream), path })
    }

    fn lookup(&self, view: &View, path: &[u8], follow: Follow) -> Result<Option<Node>, Error> {
        Ok(if self.raw { view.lookup_tar_name(path)? } else { view.lookup(path, follow)? })
    }

    /// The path of `node`, which was found as `file`.
    fn path_of(&self, node: &Node, file: &[u8]) -> Vec<u8> {
        if !self.raw {
            return [b"/", &node.view_path[..]].concat();
        }
        let first = file.split(is_slash).find(|part| !matches!(*part, b"" | b"."));
        if first.is_none_or(|area| !area.eq_ignore_ascii_case(b"Files")) {
            return node.view_path.clone();
        }
        // Below Files, paths are those of the view.
        let separator: &[u8] = if node.view_path.is_empty() { b"" } else { b"/" };
        [b"Files", separator, &node.view_path].concat()
    }

    fn missing(&self, path: &[u8]) -> Error {
        Error::NoSuchPath { target: self.target.clone(), path: human::name(path), raw: self.raw }
    }
}

/// The path of a file and the name of its stream, if there is one; the unnamed stream is the file's content.
fn split_stream(path: &[u8], raw: bool) -> Result<(&[u8], Option<&[u8]>), Error> {
    let drive = match path {
        [letter, b':', ..] if !raw && letter.is_ascii_alphabetic() => 2,
        _ => 0,
    };
    let last = path[drive..].iter().rposition(is_slash).map_or(drive, |at| drive + at + 1);
    let Some((name, rest)) = cut(&path[last..]) else { return Ok((path, None)) };
    let (stream, kind) = cut(rest).unwrap_or((rest, b"$DATA"));
    if !kind.eq_ignore_ascii_case(b"$DATA") {
        return Err(Error::StreamType { path: human::name(path), kind: human::name(kind) });
    }
    // `x:` names nothing, `x::$DATA` the file itself.
    if rest.is_empty() {
        return Ok((path, None));
    }
    Ok((&path[..last + name.len()], Some(stream).filter(|name| !name.is_empty())))
}

fn is_slash(byte: &u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// The parts before and after the first colon.
fn cut(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b':')?;
    Some((&text[..at], &text[at + 1..]))
}

/// Every way to cut `text` at a colon, longest name first; before them all of it as a name.
fn splits(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let colons = (0..text.len()).rev().filter(|&at| text[at] == b':');
    let cuts = colons.map(|at| (&text[..at], &text[at + 1..]));
    std::iter::once((text, &[][..])).chain(cuts).filter(|(target, _)| !target.is_empty())
}

/// The part of `text` that was most likely meant as a name: up to the last colon that no path needs.
fn likely_target(text: &str) -> &str {
    let path_starts = text.find('\\').into_iter().chain(text.find(":/")).min();
    let head = &text[..path_starts.unwrap_or(text.len())];
    let head = head.strip_suffix(':').unwrap_or(head);
    // A drive letter belongs to the path.
    head.rsplit_once(':')
        .filter(|(_, last)| path_starts.is_some() && is_drive(last))
        .map_or(head, |(rest, _)| rest)
}

fn is_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_comes_first() {
        let text = |bytes| str::from_utf8(bytes).unwrap();
        let splits = |whole: &'static str| {
            splits(whole.as_bytes()).map(|(name, path)| (text(name), text(path))).collect::<Vec<_>>()
        };
        let cut = splits(r"sample:ltsc2022:C:\Users");
        assert_eq!(
            cut,
            [
                (r"sample:ltsc2022:C:\Users", ""),
                ("sample:ltsc2022:C", r"\Users"),
                ("sample:ltsc2022", r"C:\Users"),
                ("sample", r"ltsc2022:C:\Users"),
            ]
        );
        assert_eq!(splits("box:"), [("box:", ""), ("box", "")]);
        assert_eq!(splits(":x").len(), 1);
    }

    #[test]
    fn a_colon_begins_a_stream_unless_it_is_a_drives() {
        let text = |bytes| str::from_utf8(bytes).unwrap();
        let split = |path: &'static str, raw| {
            split_stream(path.as_bytes(), raw).map(|(file, stream)| (text(file), stream.map(text)))
        };
        let cut = |path| split(path, false).unwrap();
        assert_eq!(cut(r"C:\a\b.exe:Zone.Identifier"), (r"C:\a\b.exe", Some("Zone.Identifier")));
        assert_eq!(cut("/a/b:s:$data"), ("/a/b", Some("s")));
        assert_eq!(cut("/a/b::$DATA"), ("/a/b", None));
        assert_eq!(cut("C:"), ("C:", None));
        assert_eq!(cut("C:x"), ("C:x", None));
        assert_eq!(cut("C:x:s"), ("C:x", Some("s")));
        assert_eq!(cut("/C:x"), ("/C", Some("x")));
        assert_eq!(cut(r"\:s"), (r"\", Some("s")));
        assert_eq!(cut("x:"), ("x:", None));
        assert_eq!(cut("gr\u{fc}n"), ("gr\u{fc}n", None));
        assert_eq!(cut(""), ("", None));
        assert!(split("xy:s:$INDEX_ALLOCATION", false).is_err());
        assert_eq!(split("F:s", true).unwrap(), ("F", Some("s")));
    }

    #[test]
    fn the_name_in_an_error_is_the_one_that_was_meant() {
        for (text, name) in [
            (r"sampel:ltsc2022:C:\Users", "sampel:ltsc2022"),
            ("sampel:ltsc2022:/Windows", "sampel:ltsc2022"),
            ("localhost:5000/x:1:/Windows", "localhost:5000/x:1"),
            ("sampel:ltsc2022", "sampel:ltsc2022"),
            ("sampel:ltsc2022:C:/Windows", "sampel:ltsc2022"),
            ("sampel:1", "sampel:1"),
            (r"box:\Users", "box"),
        ] {
            assert_eq!(likely_target(text), name);
        }
    }
}
