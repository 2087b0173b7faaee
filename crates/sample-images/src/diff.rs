//! A diff layer: a container's changes, as HCS would export them.
//!
//! Every layer replaces files, hides files and a directory, adds an application, links to a file of a lower
//! layer and has delta hives. It spells lower names in another case, as Windows programs do: `Windows`,
//! `WINDOWS`, `windows`.

use super::base::{DAY, HIVES, INSTALLED};
use super::content::ContentKind;
use super::hive::{self, HiveKind, Key, Value};
use super::names::Names;
use super::plan::{Planned, Source, Stream, What, attributes, walk_order};
use super::prng::Prng;
use super::security::Class;

/// Entries in every diff layer: directories, hives, a program with a stream, links.
const FRAME: usize = 13;
/// The smallest diff layer: the fixed part, and some of everything else.
pub const SMALLEST: usize = 20;

/// Plans diff layer `number` (the first above the base is 1) with exactly `entries` entries, at least
/// [`SMALLEST`], and about `bytes` bytes of content, on top of `base`.
#[must_use]
pub fn plan(
    seed: u64,
    build: u64,
    number: usize,
    entries: usize,
    bytes: u64,
    base: &[Planned],
) -> Vec<Planned> {
    let seed = Prng::named(seed, format!("layer {number}").as_bytes()).draw();
    let mut diff = Diff {
        prng: Prng::new(seed),
        names: Names::new(seed, build),
        written: INSTALLED + (number as u64 + 1) * DAY,
        spelling: (number - 1) % SPELLINGS.len(),
        entries: Vec::new(),
    };
    diff.frame(number);
    diff.changes(&share(base, number, entries), entries);
    diff.application(number, entries, bytes);
    diff.in_order()
}

/// The layer's spelling of `Windows` and `System32`.
const SPELLINGS: [(&str, &str); 3] =
    [("WINDOWS", "system32"), ("Windows", "System32"), ("windows", "SYSTEM32")];

struct Diff {
    prng: Prng,
    names: Names,
    written: u64,
    spelling: usize,
    entries: Vec<Planned>,
}

/// The base's files directly in `System32` that layer `number` may change: each layer has its own.
fn share(base: &[Planned], number: usize, entries: usize) -> Vec<String> {
    const PREFIX: &str = "Files/Windows/System32/";
    let names = base.iter().filter_map(|entry| {
        let name = entry.name.strip_prefix(PREFIX)?;
        let is_file = matches!(entry.what, What::File(_) | What::Link(_));
        // The link across layers needs its target.
        (is_file && !name.contains('/') && name != "ntdll.dll").then(|| name.to_owned())
    });
    names.skip((number - 1) * entries / 2).take(entries / 2).collect()
}

impl Diff {
    fn windows(&self) -> String {
        format!("Files/{}", SPELLINGS[self.spelling].0)
    }

    fn system32(&self) -> String {
        format!("{}/{}", self.windows(), SPELLINGS[self.spelling].1)
    }

    fn push(&mut self, name: String, what: What, attributes: u32, class: Option<Class>) {
        let written = self.written + self.prng.below(DAY);
        self.entries.push(Planned::new(name, what, attributes, class, written));
    }

    fn directory(&mut self, name: String, class: Class) {
        self.push(name, What::Directory, attributes::DIRECTORY, Some(class));
    }

    fn made(&mut self, name: String, kind: ContentKind, size: u64, class: Class) {
        let what = What::File(Source::Made { kind, seed: self.prng.draw(), size });
        self.push(name, what, attributes::FILE, Some(class));
    }

    /// Adds the fixed part of every diff layer.
    fn frame(&mut self, number: usize) {
        self.directory("Files".into(), Class::SystemDirectory);
        self.directory(self.windows(), Class::SystemDirectory);
        self.directory(self.system32(), Class::SystemDirectory);
        let app = application(number);
        self.directory(app.clone(), Class::Administrators);
        let target = "Files/Windows/System32/ntdll.dll".to_owned();
        self.push(format!("{app}/ntdll-copy.dll"), What::Link(target), attributes::FILE, None);
        self.made(format!("{app}/Server.exe"), ContentKind::Program, 0, Class::Administrators);
        let zone = Source::Bytes(
            b"[ZoneTransfer]\r\nZoneId=3\r\nHostUrl=https://example.com/server.exe\r\n".to_vec(),
        );
        if let Some(server) = self.entries.last_mut() {
            server.streams.push(Stream { name: "Zone.Identifier".into(), source: zone });
        }
        self.push(
            format!("{app}/current"),
            link_to(r"C:\Windows\System32"),
            attributes::JUNCTION,
            Some(Class::Junction),
        );
        self.directory("Hives".into(), Class::SystemDirectory);
        for (file, name) in HIVES {
            let bytes = hive::hive(&delta_keys(file, number), HiveKind::Delta, self.written);
            self.push(
                format!("Hives/{name}_Delta"),
                What::File(Source::Bytes(bytes)),
                attributes::FILE,
                None,
            );
        }
    }

    /// Replaces and hides lower files, for half of the remaining entries.
    fn changes(&mut self, lower: &[String], entries: usize) {
        let until = FRAME + entries.saturating_sub(FRAME) / 2;
        for (number, name) in lower.iter().enumerate() {
            if self.entries.len() >= until {
                return;
            }
            let spelled = self.names.spelled(name);
            let path = format!("{}/{spelled}", self.system32());
            if number % 3 == 1 {
                self.push(path, What::Whiteout, 0, None);
            } else {
                let size = self.prng.between(4000, 120_000);
                self.made(path, ContentKind::Program, size, Class::SystemFile);
            }
        }
    }

    /// Fills the layer up with an application, and removes the one of the layer below.
    fn application(&mut self, number: usize, entries: usize, bytes: u64) {
        if number > 1 && self.entries.len() < entries {
            self.push(
                application(number - 1).to_ascii_uppercase().replacen("FILES", "Files", 1),
                What::Whiteout,
                0,
                None,
            );
        }
        while self.entries.len() < entries {
            let component = self.names.component();
            let name = format!("{}/{component}", application(number));
            match self.prng.below(4) {
                0 => self.made(format!("{name}.config"), ContentKind::Xml, 1500, Class::Administrators),
                1 => self.made(format!("{name}.txt"), ContentKind::Text, 3000, Class::Administrators),
                _ => self.made(format!("{name}.dll"), ContentKind::Program, 0, Class::Administrators),
            }
        }
        self.share_out(bytes);
    }

    /// Shares the remaining `bytes` among the programs without a size.
    fn share_out(&mut self, bytes: u64) {
        let used: u64 = self.entries.iter().map(Planned::size).sum();
        let unsized_program = |entry: &Planned| {
            matches!(entry.what, What::File(Source::Made { kind: ContentKind::Program, size: 0, .. }))
        };
        let count = self.entries.iter().filter(|entry| unsized_program(entry)).count() as u64;
        let each = (bytes.saturating_sub(used) / count.max(1)).max(2048);
        for entry in self.entries.iter_mut().filter(|entry| unsized_program(entry)) {
            let drawn = each / 2 + self.prng.below(each);
            if let What::File(Source::Made { size, .. }) = &mut entry.what {
                *size = drawn;
            }
        }
    }

    fn in_order(mut self) -> Vec<Planned> {
        self.entries.sort_by(|a, b| walk_order(&a.name, &b.name));
        self.entries
    }
}

fn application(number: usize) -> String {
    format!("Files/app{number}")
}

fn link_to(target: &str) -> What {
    What::Reparse { target: target.into(), mount_point: false }
}

fn delta_keys(hive: &str, number: usize) -> Key {
    match hive {
        "SOFTWARE" => Key::default()
            .set(&format!(r"Sample\Layer{number}"), "Version", Value::Text(format!("1.{number}")))
            .set(&format!(r"Sample\Layer{number}"), "Installed", Value::Dword(1)),
        _ => Key::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::base;
    use super::*;

    #[test]
    fn a_diff_layer_has_exactly_the_entries_asked_for() {
        let base = base::plan(1, 1000, 3000, 10_000_000);
        for number in [1, 2, 3] {
            for entries in [SMALLEST, 40, 300] {
                assert_eq!(plan(1, 1000, number, entries, 1_000_000, &base).len(), entries, "layer {number}");
            }
        }
    }

    #[test]
    fn a_diff_layer_replaces_hides_adds_and_links() {
        let base = base::plan(1, 1000, 3000, 10_000_000);
        let diff = plan(1, 1000, 1, 200, 1_000_000, &base);
        let any = |test: &dyn Fn(&Planned) -> bool| diff.iter().any(test);
        assert!(any(&|entry| matches!(entry.what, What::Whiteout)));
        assert!(any(&|entry| matches!(entry.what, What::Link(_))));
        assert!(any(&|entry| entry.name.starts_with("Files/WINDOWS/system32/") && entry.size() > 0));
        assert!(any(&|entry| entry.name == "Hives/Software_Delta"));
    }

    #[test]
    fn the_smallest_diff_layer_changes_lower_files_too() {
        let base = base::plan(1, 1000, 200, 1_000_000);
        let diff = plan(1, 1000, 1, SMALLEST, 1_000_000, &base);
        let below = |entry: &&Planned| entry.name.starts_with("Files/WINDOWS/system32/");
        assert!(diff.iter().filter(below).any(|entry| matches!(entry.what, What::Whiteout)));
        assert!(diff.iter().filter(below).any(|entry| entry.size() > 0));
    }

    #[test]
    fn layers_change_different_files() {
        let base = base::plan(1, 1000, 3000, 10_000_000);
        let first = share(&base, 1, 100);
        assert!(share(&base, 2, 100).iter().all(|name| !first.contains(name)));
    }
}
