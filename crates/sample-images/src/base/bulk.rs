//! The bulk of a base layer: side-by-side assemblies, update packages, applications, drivers.

use super::super::content::ContentKind;
use super::super::plan::{Planned, What, attributes};
use super::{Base, WINDOWS, WINSXS, zone_identifier};

/// Most names in one directory, as in real images.
pub(super) const LARGEST_DIRECTORY: usize = 13_000;
/// Most names in one directory of filler files.
const FILLER_DIRECTORY: usize = 400;

impl Base {
    /// Adds side-by-side assemblies until the layer has `until` entries.
    pub(super) fn assemblies(&mut self, until: usize) {
        let mut count = 1;
        // The largest assembly: directory, manifest, six files with a second name each, and new directories
        // for them.
        while self.len() + 20 < until && count < LARGEST_DIRECTORY {
            count += 1;
            let component = self.names.component();
            let assembly = self.names.assembly(&component);
            let manifest = self.prng.between(400, 3000);
            self.file(&format!("{WINSXS}/Manifests/{assembly}.manifest"), ContentKind::Xml, manifest);
            let early = self.prng.chance(50);
            self.assembly_directory(&assembly, early);
            let files = [1, 1, 1, 1, 2, 2, 3, 6][self.prng.below(8) as usize];
            for n in 0..files {
                let name = if n == 0 { component.clone() } else { self.names.component() };
                self.payload(&assembly, &name, early);
            }
        }
    }

    fn assembly_directory(&mut self, assembly: &str, early: bool) {
        self.directory(&format!("{WINSXS}/{assembly}"));
        if early && let Some(directory) = self.rest.pop() {
            self.early.push(directory);
        }
    }

    /// One file of an assembly and, for most, the name under which programs find it.
    fn payload(&mut self, assembly: &str, name: &str, early: bool) {
        let (place, extension) = *self.prng.pick(&PLACES);
        let file = format!("{}.{extension}", self.names.spelled(name));
        let sxs = format!("{WINSXS}/{assembly}/{file}");
        let installed = (!place.is_empty()).then(|| format!("{WINDOWS}/{place}/{file}"));
        if let Some(installed) = &installed
            && let Some((parent, _)) = installed.rsplit_once('/')
        {
            self.directory(parent);
        }
        let (data, link) = match installed {
            Some(installed) if early => (sxs, Some(installed)),
            Some(installed) => (installed, Some(sxs)),
            None => (sxs, None),
        };
        let entry = self.program(&data);
        let written = entry.written;
        if early {
            self.early.push(entry);
        } else {
            self.rest.push(entry);
        }
        if let Some(link) = link {
            self.rest.push(Planned::new(link, What::Link(data), attributes::FILE, None, written));
        }
    }

    /// Adds update packages, each a `.mum` and a `.cat`, until the layer has `until` entries.
    pub(super) fn servicing(&mut self, until: usize) {
        while self.len() + 2 <= until {
            let name = self.names.component();
            let package = format!(
                "{WINDOWS}/servicing/Packages/Microsoft-Windows-{name}-Package~31bf3856ad364e35~amd64~~"
            );
            let (mum, catalogue) = (self.prng.between(900, 9000), self.prng.between(7000, 12_000));
            self.file(&format!("{package}.mum"), ContentKind::Xml, mum);
            self.file(&format!("{package}.cat"), ContentKind::Dense, catalogue);
        }
    }

    /// Adds applications, drivers and the utility VM's own files, until the layer has exactly `entries`.
    pub(super) fn fill(&mut self, entries: usize) {
        let mut in_directory = FILLER_DIRECTORY;
        let mut directory = String::new();
        while self.len() < entries {
            let name = self.names.component();
            if in_directory == FILLER_DIRECTORY || self.prng.chance(3) {
                in_directory = 0;
                let parent = *self.prng.pick(&FILLED);
                directory = format!("{parent}/{name}");
                // The parent may be new too; put the last entries where one name is enough.
                if self.len() + 3 > entries {
                    directory = "Files/Windows/Temp".into();
                }
                self.directory(&directory);
                continue;
            }
            in_directory += 1;
            self.filler_file(&directory, &name);
        }
    }

    fn filler_file(&mut self, directory: &str, name: &str) {
        match self.prng.below(10) {
            0..=4 => {
                let mut entry = self.program(&format!("{directory}/{name}.dll"));
                if self.prng.chance(20) {
                    entry.streams.push(zone_identifier());
                }
                self.push(entry);
            }
            5..=6 => _ = self.file(&format!("{directory}/{name}.xml"), ContentKind::Xml, 2500),
            7 => _ = self.file(&format!("{directory}/{name}.ini"), ContentKind::Text, 0),
            8 => {
                let entry = self.file(&format!("{directory}/{name}.txt"), ContentKind::Text, 1800);
                entry.attributes = attributes::READONLY_FILE;
            }
            _ => _ = self.file(&format!("{directory}/{name}.cab"), ContentKind::Dense, 20_000),
        }
    }
}

/// The path where programs find an assembly's file, and the file's kind; an empty path means only in
/// WinSxS.
const PLACES: [(&str, &str); 16] = [
    ("System32", "dll"),
    ("System32", "dll"),
    ("System32", "dll"),
    ("System32", "exe"),
    ("System32/drivers", "sys"),
    ("System32/en-US", "dll.mui"),
    ("System32/wbem", "dll"),
    ("SysWOW64", "dll"),
    ("SysWOW64", "dll"),
    ("SysWOW64/en-US", "dll.mui"),
    ("Microsoft.NET/Framework64/v4.0.30319", "dll"),
    ("", "dll"),
    ("", "dll"),
    ("", "dll.mui"),
    ("", "exe"),
    ("", "sys"),
];

/// Parents of filler directories.
const FILLED: [&str; 6] = [
    "Files/Program Files",
    "Files/Program Files (x86)",
    "Files/ProgramData/Microsoft",
    "Files/Windows/System32/DriverStore/FileRepository",
    "UtilityVM/Files/Windows/WinSxS",
    "UtilityVM/Files/Windows/System32",
];
