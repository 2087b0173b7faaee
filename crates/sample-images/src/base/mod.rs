//! The base layer: a Windows installation as HCS would export it.
//!
//! Realistic where it affects the cost of indexing and reading: WinSxS with up to 13,000 assemblies and as
//! many manifests in single directories; most of System32 as second names of WinSxS files, with the data
//! under either name; names beyond 100 bytes; many tiny and few large files; junctions, streams, extended
//! attributes; valid hives and a valid boot store.

mod bulk;
mod skeleton;

use std::collections::HashSet;

use super::content::ContentKind;
use super::names::Names;
use super::plan::{Planned, Source, Stream, What, attributes, walk_order};
use super::prng::Prng;
use super::security::{Class, SERVICES};

pub(super) use skeleton::HIVES;

/// 2022-05-08 as FILETIME: the time of the installation.
pub(crate) const INSTALLED: u64 = 132_964_416_000_000_000;
/// FILETIME units in a day.
pub(crate) const DAY: u64 = 864_000_000_000;

const WINDOWS: &str = "Files/Windows";
const SYSTEM32: &str = "Files/Windows/System32";
const WINSXS: &str = "Files/Windows/WinSxS";

/// Plans a base layer of exactly `entries` entries (at least [`smallest`]) and about `bytes` bytes of
/// content.
#[must_use]
pub fn plan(seed: u64, build: u64, entries: usize, bytes: u64) -> Vec<Planned> {
    let mut base = Base::new(seed, build);
    base.skeleton();
    let room = entries.saturating_sub(base.len());
    base.assemblies(base.len() + room * 72 / 100);
    base.servicing(base.len() + room * 9 / 100);
    base.fill(entries);
    scale(&mut base.early, &mut base.rest, bytes);
    base.in_order()
}

/// The number of entries in every base layer.
#[must_use]
pub fn smallest() -> usize {
    let mut base = Base::new(0, 1);
    base.skeleton();
    base.len()
}

struct Base {
    seed: u64,
    prng: Prng,
    names: Names,
    /// Directories that exist.
    directories: HashSet<String>,
    /// WinSxS files that precede everything else in `Files/Windows`.
    early: Vec<Planned>,
    rest: Vec<Planned>,
}

impl Base {
    fn new(seed: u64, build: u64) -> Self {
        Self {
            seed,
            prng: Prng::named(seed, b"base layer"),
            names: Names::new(seed, build),
            directories: HashSet::new(),
            early: Vec::new(),
            rest: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.early.len() + self.rest.len()
    }

    /// A time before the installation, to 100 ns.
    fn written(&mut self) -> u64 {
        INSTALLED - self.prng.below(700 * DAY)
    }

    /// Adds `path` and its missing parents.
    fn directory(&mut self, path: &str) {
        self.directory_as(path, attributes::DIRECTORY, Class::SystemDirectory);
    }

    fn directory_as(&mut self, path: &str, attributes: u32, class: Class) {
        if self.directories.contains(path) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.directories.insert(path.to_owned());
        let written = INSTALLED + self.prng.below(DAY);
        self.rest.push(Planned::new(path, What::Directory, attributes, Some(class), written));
    }

    fn made(&mut self, kind: ContentKind, name: &str, size: u64) -> What {
        let seed = Prng::named(self.seed, name.as_bytes()).draw();
        What::File(Source::Made { kind, seed, size })
    }

    fn file(&mut self, name: &str, kind: ContentKind, size: u64) -> &mut Planned {
        let what = self.made(kind, name, size);
        let written = self.written();
        self.push(Planned::new(name, what, attributes::FILE, Some(Class::SystemFile), written))
    }

    fn push(&mut self, entry: Planned) -> &mut Planned {
        let at = self.rest.len();
        self.rest.push(entry);
        &mut self.rest[at]
    }

    /// A program file; some have the attribute in which the kernel caches their signature's level.
    fn program(&mut self, name: &str) -> Planned {
        let size = program_size(&mut self.prng);
        let what = self.made(ContentKind::Program, name, size);
        let class = if self.prng.chance(8) {
            Class::Service(self.prng.below(u64::from(SERVICES)) as u8)
        } else {
            Class::SystemFile
        };
        let written = self.written();
        let mut entry = Planned::new(name, what, attributes::FILE, Some(class), written);
        if self.prng.chance(15) {
            entry.eas.push(("$KERNEL.PURGE.ESBCACHE".into(), signature_cache(&mut self.prng)));
        }
        entry
    }

    /// The order of the tar: `Files` without `Windows`, early assemblies, the rest of `Windows`, `Hives`,
    /// `UtilityVM`.
    fn in_order(self) -> Vec<Planned> {
        let group = |name: &str| match name {
            WINDOWS | WINSXS => 1,
            _ if name.starts_with("Files/Windows/") => 2,
            _ if name.starts_with("Files") => 0,
            _ if name.starts_with("Hives") => 3,
            _ => 4,
        };
        let mut entries: Vec<(u8, Planned)> =
            self.rest.into_iter().map(|entry| (group(&entry.name), entry)).collect();
        entries.extend(self.early.into_iter().map(|entry| (1, entry)));
        entries.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| walk_order(&x.name, &y.name)));
        entries.into_iter().map(|(_, entry)| entry).collect()
    }
}

fn zone_identifier() -> Stream {
    Stream {
        name: "Zone.Identifier".into(),
        source: Source::Bytes(b"[ZoneTransfer]\r\nZoneId=3\r\n".to_vec()),
    }
}

/// Random bytes of a realistic length.
fn signature_cache(prng: &mut Prng) -> Vec<u8> {
    let mut value = b"\x6c\0\0\0\x03\0\x02\x0c".to_vec();
    while value.len() < 108 {
        value.extend_from_slice(&prng.draw().to_le_bytes());
    }
    value.truncate(108);
    value
}

/// Many small, few large: from 2 KB to 6 MB before scaling.
fn program_size(prng: &mut Prng) -> u64 {
    const KIB: u64 = 1024;
    match prng.below(100) {
        0..35 => prng.between(2 * KIB, 16 * KIB),
        35..70 => prng.between(16 * KIB, 64 * KIB),
        70..90 => prng.between(64 * KIB, 256 * KIB),
        90..98 => prng.between(256 * KIB, 1024 * KIB),
        _ => prng.between(1024 * KIB, 6144 * KIB),
    }
}

/// Makes programs larger or smaller so that all content together comes to about `bytes`.
fn scale(early: &mut [Planned], rest: &mut [Planned], bytes: u64) {
    let is_program =
        |entry: &Planned| matches!(entry.what, What::File(Source::Made { kind: ContentKind::Program, .. }));
    let all = || early.iter().chain(rest.iter());
    let programs: u64 = all().filter(|entry| is_program(entry)).map(Planned::size).sum();
    let others: u64 = all().filter(|entry| !is_program(entry)).map(Planned::size).sum();
    let wanted = bytes.saturating_sub(others);
    for entry in early.iter_mut().chain(rest) {
        if let What::File(Source::Made { kind: ContentKind::Program, size, .. }) = &mut entry.what {
            *size = ((u128::from(*size) * u128::from(wanted) / u128::from(programs.max(1))) as u64).max(512);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bulk::LARGEST_DIRECTORY;
    use super::*;

    fn data_before_links(entries: &[Planned]) {
        let mut files = HashSet::new();
        for entry in entries {
            match &entry.what {
                What::Link(target) => assert!(files.contains(target.as_str()), "{} -> {target}", entry.name),
                What::File(_) => _ = files.insert(entry.name.as_str()),
                _ => {}
            }
        }
    }

    #[test]
    fn a_base_layer_has_exactly_the_entries_asked_for() {
        for entries in [smallest(), 150, 200, 1000, 20_000] {
            let plan = plan(1, 1000, entries, 50_000_000);
            assert_eq!(plan.len(), entries.max(smallest()));
            data_before_links(&plan);
        }
    }

    #[test]
    fn names_differ_in_more_than_case_and_have_their_directory_before_them() {
        let (mut seen, mut directories) = (HashSet::new(), HashSet::new());
        for entry in plan(3, 1000, 20_000, 50_000_000) {
            assert!(seen.insert(entry.name.to_lowercase()), "{} twice", entry.name);
            let parent = entry.name.rsplit_once('/').map(|(parent, _)| parent.to_owned());
            assert!(
                parent.is_none_or(|parent| directories.contains(&parent)),
                "{} has no directory",
                entry.name
            );
            if matches!(entry.what, What::Directory) {
                directories.insert(entry.name);
            }
        }
    }

    #[test]
    fn links_go_from_system32_to_winsxs_and_back() {
        let plan = plan(1, 1000, 5000, 50_000_000);
        let link = |from: &str, to: &str| {
            plan.iter().any(|entry| {
                entry.name.starts_with(from) && matches!(&entry.what, What::Link(t) if t.starts_with(to))
            })
        };
        assert!(link(SYSTEM32, WINSXS) && link(WINSXS, SYSTEM32));
    }

    #[test]
    fn content_comes_to_about_the_bytes_asked_for() {
        let bytes: u64 = plan(1, 1000, 20_000, 400_000_000).iter().map(Planned::size).sum();
        assert!((396_000_000..404_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn one_hundred_thousand_entries_have_directories_as_large_as_the_real_ones() {
        let plan = plan(1, 1000, 100_000, 2_000_000_000);
        let manifests = plan.iter().filter(|entry| entry.name.ends_with(".manifest")).count();
        assert!((12_000..=LARGEST_DIRECTORY).contains(&manifests), "{manifests}");
    }
}
