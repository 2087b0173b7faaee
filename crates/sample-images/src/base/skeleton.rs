//! The fixed part of every base layer: users, a small System32, hives, the utility VM's boot store.

use super::super::content::ContentKind;
use super::super::hive::{self, HiveKind, Key, Value};
use super::super::plan::{Planned, Source, Stream, What, attributes};
use super::super::security::Class;
use super::{Base, DAY, INSTALLED, SYSTEM32, WINSXS, zone_identifier};

const BOOT: &str = "UtilityVM/Files/EFI/Microsoft/Boot";

impl Base {
    /// Adds the fixed part.
    pub(super) fn skeleton(&mut self) {
        self.users();
        self.system();
        self.registry();
        self.utility_vm();
    }

    fn users(&mut self) {
        self.file("Files/License.txt", ContentKind::Text, 5120).attributes = attributes::READONLY_FILE;
        self.junction("Files/Documents and Settings", r"C:\Users", true);
        for path in ["Files/Program Files", "Files/Program Files (x86)"] {
            self.directory_as(path, attributes::READONLY_DIRECTORY, Class::SystemDirectory);
        }
        self.directory_as("Files/ProgramData", attributes::HIDDEN_DIRECTORY, Class::Administrators);
        self.junction("Files/ProgramData/Desktop", r"C:\Users\Public\Desktop", true);
        self.file("Files/ProgramData/Überblick – 概要.txt", ContentKind::Text, 900).class =
            Some(Class::Administrators);
        self.directory_as("Files/Users", attributes::READONLY_DIRECTORY, Class::Profile);
        self.junction("Files/Users/All Users", r"C:\ProgramData", false);
        self.junction("Files/Users/Default User", r"C:\Users\Default", true);
        for path in ["Default", "Default/AppData", "Default/AppData/Local", "Public", "Public/Desktop"] {
            self.directory_as(&format!("Files/Users/{path}"), attributes::DIRECTORY, Class::Profile);
        }
        self.junction("Files/Users/Default/Local Settings", r"C:\Users\Default\AppData\Local", true);
        let profile_hive = hive::empty(HiveKind::Full, INSTALLED);
        self.bytes("Files/Users/Default/NTUSER.DAT", profile_hive, Some(Class::Profile));
        let desktop = self.file("Files/Users/Public/desktop.ini", ContentKind::Text, 174);
        (desktop.attributes, desktop.class) = (attributes::HIDDEN_SYSTEM_FILE, Some(Class::Profile));
    }

    fn system(&mut self) {
        self.directory(WINSXS);
        self.directory("Files/Windows/WinSxS/Manifests");
        self.directory("Files/Windows/Temp");
        self.directory("Files/Windows/servicing/Packages");
        for name in ["ntdll.dll", "kernel32.dll", "kernelbase.dll", "cmd.exe", "drivers/tcpip.sys"] {
            let name = format!("{SYSTEM32}/{name}");
            if let Some((parent, _)) = name.rsplit_once('/') {
                self.directory(parent);
            }
            let entry = self.program(&name);
            self.push(entry);
        }
        self.directory(&format!("{SYSTEM32}/drivers/etc"));
        self.file(&format!("{SYSTEM32}/drivers/etc/hosts"), ContentKind::Text, 824);
        let explorer = self.program("Files/Windows/explorer.exe");
        self.push(explorer);
        let notepad = self.program("Files/Windows/notepad.exe");
        self.push(notepad).streams.push(zone_identifier());
        let target = format!("{SYSTEM32}/cmd.exe");
        self.push(Planned::new(
            "Files/Windows/command.com",
            What::Link(target),
            attributes::FILE,
            None,
            INSTALLED,
        ));
        let large = Source::Made { kind: ContentKind::Xml, seed: self.seed, size: 100 * 1024 };
        let log = self.file("Files/Windows/setupact.log", ContentKind::Text, 40_000);
        log.streams.push(Stream { name: "diagnostics".into(), source: large });
        log.streams.push(Stream { name: "empty".into(), source: Source::Bytes(Vec::new()) });
    }

    fn registry(&mut self) {
        let config = format!("{SYSTEM32}/config");
        self.directory(&config);
        for (file, name) in HIVES {
            let bytes = hive::hive(&system_keys(file), HiveKind::Full, INSTALLED);
            self.bytes(&format!("{config}/{file}"), bytes.clone(), Some(Class::Administrators));
            self.bytes(&format!("Hives/{name}_Base"), bytes, None);
        }
        self.directory("Hives");
    }

    fn utility_vm(&mut self) {
        self.directory(BOOT);
        let store = hive::boot_store("Windows Utility VM", INSTALLED);
        self.bytes(&format!("{BOOT}/BCD"), store, Some(Class::Administrators));
        for (log, size) in [("BCD.LOG", 28_672), ("BCD.LOG1", 8192), ("BCD.LOG2", 0)] {
            self.bytes(&format!("{BOOT}/{log}"), vec![0; size], Some(Class::Administrators));
            if let Some(entry) = self.rest.last_mut() {
                entry.attributes = attributes::HIDDEN_SYSTEM_FILE;
            }
        }
        let loader = self.program(&format!("{BOOT}/bootmgfw.efi"));
        self.push(loader);
        self.directory("UtilityVM/Files/Windows/System32");
        let kernel = self.program("UtilityVM/Files/Windows/System32/kernel32.dll");
        self.push(kernel);
    }

    fn junction(&mut self, name: &str, target: &str, mount_point: bool) {
        let what = What::Reparse { target: target.into(), mount_point };
        self.push(Planned::new(name, what, attributes::JUNCTION, Some(Class::Junction), INSTALLED));
    }

    fn bytes(&mut self, name: &str, bytes: Vec<u8>, class: Option<Class>) {
        let written = INSTALLED + self.prng.below(DAY);
        self.push(Planned::new(name, What::File(Source::Bytes(bytes)), attributes::FILE, class, written));
    }
}

/// Hives of a base layer: file in `config`, name in `Hives`.
pub(crate) const HIVES: [(&str, &str); 5] = [
    ("DEFAULT", "DefaultUser"),
    ("SAM", "Sam"),
    ("SECURITY", "Security"),
    ("SOFTWARE", "Software"),
    ("SYSTEM", "System"),
];

fn system_keys(hive: &str) -> Key {
    match hive {
        "SOFTWARE" => Key::default()
            .set(
                r"Microsoft\Windows NT\CurrentVersion",
                "ProductName",
                Value::Text("Windows Server 2022 Datacenter".into()),
            )
            .set(r"Microsoft\Windows NT\CurrentVersion", "CurrentBuild", Value::Text("20348".into()))
            .set(r"Microsoft\Windows NT\CurrentVersion", "CurrentMajorVersionNumber", Value::Dword(10)),
        "SYSTEM" => Key::default().set("Select", "Current", Value::Dword(1)).set(
            r"ControlSet001\Control\ComputerName\ComputerName",
            "ComputerName",
            Value::Text("SAMPLE".into()),
        ),
        _ => Key::default(),
    }
}
