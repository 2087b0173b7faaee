//! `X:PATH`: a path inside an image or layer.
//!
//! References have colons, and so have Windows paths: in `sample:ltsc2022:C:\Users` the image is
//! `sample:ltsc2022`. The longest part before a colon that names something is what is meant; without a
//! path it is the root.

use windowsfilter::{LayerId, LayerKind, Node, View};

use crate::error::Error;
use crate::human;
use crate::session::Session;

/// A place in a view.
pub(crate) struct Location {
    /// What the user called the image or layer.
    pub(crate) target: String,
    /// The layer it is.
    pub(crate) id: LayerId,
    /// The path as the user wrote it.
    pub(crate) path: String,
}

impl Location {
    /// Finds out what `text` names.
    pub(crate) fn parse(session: &Session, text: &str) -> Result<Self, Error> {
        let mut problem = None;
        for (target, path) in splits(text) {
            match session.try_target(target) {
                Ok(Some(id)) => return Ok(Self { target: target.to_owned(), id, path: path.to_owned() }),
                Ok(None) => {}
                // Another cut may fit; if none does, this is what to say.
                Err(error) => problem = Some(error),
            }
        }
        Err(match problem {
            Some(error) => error,
            None => session.no_such_target(likely_target(text))?,
        })
    }

    /// Opens the view. A sandbox has none: the store would show its parents without its changes, and nobody would notice.
    pub(crate) fn view(&self, session: &Session) -> Result<View, Error> {
        if session.store.record(&self.id)?.kind == LayerKind::Sandbox {
            let parent = session.store.chain_ids(&self.id)?.into_iter().next();
            return Err(Error::SandboxView { id: self.id.clone(), parent });
        }
        Ok(session.store.view(&self.id)?)
    }

    /// What is there; with `follow`, links are followed to their end.
    pub(crate) fn node(&self, view: &View, follow: bool) -> Result<Node, Error> {
        view.lookup(self.path.as_bytes(), follow)?.ok_or_else(|| self.missing())
    }

    fn missing(&self) -> Error {
        Error::NoSuchPath { target: self.target.clone(), path: self.path.clone() }
    }
}

/// Every way to cut `text` at a colon, longest name first; before them all of it as a name.
fn splits(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let cuts = text.rmatch_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
    std::iter::once((text, "")).chain(cuts).filter(|(target, _)| !target.is_empty())
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

/// The path of `node` as text, from the root of the view.
pub(crate) fn shown_path(node: &Node) -> String {
    format!("/{}", human::name(&node.view_path).trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_comes_first() {
        let cut: Vec<_> = splits(r"sample:ltsc2022:C:\Users").collect();
        assert_eq!(
            cut,
            [
                (r"sample:ltsc2022:C:\Users", ""),
                ("sample:ltsc2022:C", r"\Users"),
                ("sample:ltsc2022", r"C:\Users"),
                ("sample", r"ltsc2022:C:\Users"),
            ]
        );
        assert_eq!(splits("box:").collect::<Vec<_>>(), [("box:", ""), ("box", "")]);
        assert_eq!(splits(":x").count(), 1);
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
