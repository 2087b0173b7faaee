//! Chooses one of several images.

use std::collections::BTreeSet;

use super::{Container, Wanted};
use crate::error::Error;
use crate::oci::PlatformFields;
use crate::platform::is_windows;
use crate::reference::Reference;

/// Most names for an image that the user did not name: each becomes a file in the store. Real images have a
/// few.
const MAX_NAMES: usize = 256;
/// Most choices to list in an error.
const MAX_LISTED: usize = 20;
/// Fewest digits that abbreviate a digest.
const MIN_DIGITS: usize = 4;

/// An image in a container, before its layers are looked at. The digest identifies it, not the name.
pub(super) struct Candidate<T> {
    /// The digest of its manifest or, without one, of its config.
    pub(super) digest: String,
    /// All its names.
    pub(super) names: Vec<String>,
    pub(super) platform: PlatformFields,
    /// Whether its documents exist and are readable, as far as they were read.
    pub(super) usable: bool,
    pub(super) image: T,
}

impl<T> Candidate<T> {
    /// Adds another name.
    pub(super) fn call(&mut self, name: Option<String>) {
        let name = name.filter(|name| !name.is_empty() && !self.names.contains(name));
        self.names.extend(name);
    }
}

/// Whether this is, or may be, only the tag of an image. containerd reads it as one
/// (`core/images/archive/reference.go`, `refTranslator`), umoci and users of skopeo (`oci:DIRECTORY:TAG`)
/// write one; Podman makes a name of it.
fn is_tag(name: &str) -> bool {
    !name.contains(['/', ':', '@'])
}

fn same(name: &str, wanted: &Reference) -> bool {
    Reference::parse(name).is_ok_and(|reference| reference == *wanted)
}

/// A condition on candidates.
type Question<'a, T> = &'a dyn Fn(&Candidate<T>) -> bool;

/// Applies the first condition that any candidate meets.
fn retain_first<T>(all: &mut Vec<Candidate<T>>, questions: &[Question<'_, T>]) -> bool {
    let question = questions.iter().find(|question| all.iter().any(question));
    question.is_some_and(|question| {
        all.retain(question);
        true
    })
}

/// Keeps the candidates that `wanted` names, if any: by full name, otherwise by tag.
fn retain_named<T>(all: &mut Vec<Candidate<T>>, wanted: &Reference) -> bool {
    retain_first(
        all,
        &[&|c| c.names.iter().any(|name| same(name, wanted)), &|c| {
            c.names.iter().any(|name| wanted.tag() == Some(name))
        }],
    )
}

/// Keeps the candidates that `text` selects: as written, by full name, by tag, or by a digest or its
/// beginning.
fn retain_selected<T>(all: &mut Vec<Candidate<T>>, text: &str) -> bool {
    let reference = Reference::parse(text).ok();
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hex = digits.len() >= MIN_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let called = |c: &Candidate<T>| c.names.iter().any(|name| name == text);
    let by_name =
        |c: &Candidate<T>| c.names.iter().any(|name| reference.as_ref().is_some_and(|r| same(name, r)));
    let tag = reference.as_ref().filter(|_| !is_tag(text)).and_then(Reference::tag);
    let by_tag = |c: &Candidate<T>| c.names.iter().any(|name| tag == Some(name));
    let by_own_tag = |c: &Candidate<T>| {
        let tag_of = |name: &String| Reference::parse(name).ok().and_then(|r| r.tag().map(str::to_owned));
        c.names.iter().any(|name| tag_of(name).as_deref() == Some(text))
    };
    let by_digest =
        |c: &Candidate<T>| hex && c.digest.strip_prefix("sha256:").is_some_and(|d| d.starts_with(digits));
    retain_first(all, &[&called, &by_name, &by_tag, &by_own_tag, &by_digest])
}

/// Chooses by selection, or by the image's future name if a candidate has it; readable candidates before
/// unreadable ones; then by platform, by default the first for Windows. Never guesses between different
/// names.
pub(super) fn choose<T>(
    container: &Container,
    mut all: Vec<Candidate<T>>,
    wanted: &Wanted<'_>,
) -> Result<Candidate<T>, Error> {
    let path = container.label();
    if all.is_empty() {
        return Err(Error::NoManifest { path });
    }
    let chosen = match (wanted.select, wanted.reference) {
        (Some(text), _) if !retain_selected(&mut all, text) => {
            return Err(Error::NotInSource { path, selected: text.to_owned(), names: names_of(&all) });
        }
        (Some(_), _) => true,
        (None, Some(reference)) => retain_named(&mut all, reference),
        (None, None) => false,
    };
    // Archives of containerd and Docker name the manifests of all platforms but contain only some.
    retain_first(&mut all, &[&|c| c.usable]);
    let available: BTreeSet<String> = all.iter().map(|c| c.platform.to_string()).collect();
    match wanted.platform {
        Some(platform) => all.retain(|c| platform.accepts(&c.platform)),
        // A single image needs no choice: its config decides whether it is acceptable.
        None if all.len() > 1 => {
            let windows = |c: &Candidate<T>| is_windows(&c.platform.os);
            if !wanted.force || all.iter().any(windows) {
                all.retain(windows);
            }
        }
        None => {}
    }
    let called = |c: &Candidate<T>| c.names.iter().cloned().collect::<BTreeSet<_>>();
    if !chosen && all.iter().any(|c| called(c) != called(&all[0])) {
        let reference = wanted.reference.map(ToString::to_string);
        return Err(Error::SeveralImages { path, reference, names: names_of(&all) });
    }
    all.into_iter().next().ok_or_else(|| Error::NoSuchPlatform {
        path,
        wanted: wanted.platform.map_or_else(|| "windows".into(), ToString::to_string),
        available: listed(available.into_iter().collect()),
    })
}

/// The names to select by; digests of images without names.
fn names_of<T>(all: &[Candidate<T>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for candidate in all {
        let own = if candidate.names.is_empty() {
            std::slice::from_ref(&candidate.digest)
        } else {
            &candidate.names
        };
        for name in own {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    listed(names)
}

fn listed(mut all: Vec<String>) -> Vec<String> {
    if all.len() > MAX_LISTED {
        let more = format!("{} more", all.len() - MAX_LISTED);
        all.truncate(MAX_LISTED);
        all.push(more);
    }
    all
}

/// The image's names in the store: the user's, otherwise all its names in the source. A tag alone is not a
/// name. Equal names count once.
pub(super) fn references(
    container: &Container,
    names: &[String],
    wanted: &Wanted<'_>,
) -> Result<Vec<Reference>, Error> {
    if let Some(reference) = wanted.reference {
        return Ok(vec![reference.clone()]);
    }
    let (tags, names): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| is_tag(name));
    if names.len() > MAX_NAMES {
        return Err(Error::TooManyNames { path: container.label(), actual: names.len(), limit: MAX_NAMES });
    }
    let mut references: Vec<Reference> = Vec::new();
    for name in &names {
        let reference = Reference::parse(name)?;
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    match (references.is_empty(), tags.first()) {
        (false, _) => Ok(references),
        (true, Some(tag)) => Err(Error::NoName { path: format!("{} (tag {tag})", container.label()) }),
        (true, None) => Err(Error::NoName { path: container.label() }),
    }
}
