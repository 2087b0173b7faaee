//! Rows about files' content: long paths, deletions, streams, extended attributes, holes, reparse points, a
//! utility VM.
//!
//! Files are restored into a sandbox's volume with BackupWrite, which can create everything that NTFS
//! holds, and read from the layer made of its diff with BackupRead.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hcs::windows::Directory;
use hcs::{BackupTarget, BasicInfo, Host as _, LayerDescriptor, Privilege, RelativePath, Tree as _};
use wclayer::backup_stream::{
    ALTERNATE_DATA, DATA, EA_DATA, REPARSE_DATA, Reader, SPARSE_BLOCK, STREAM_SPARSE_ATTRIBUTE, StreamHeader,
    Writer,
};
use wclayer::ea::ExtendedAttribute;
use wclayer::reparse::ReparsePoint;
use windowsfilter::Driver;
use windowsfilter::driver::ChangeKind;

use super::basics::read;
use super::check::{Check, Failure, NotAsked, SIZE, Verdict, expect, id};
use super::layers;

const ARCHIVE: u32 = 0x20;
/// The boot store of a utility VM, by its tar name.
const BOOT_STORE: &str = "UtilityVM/Files/EFI/Microsoft/Boot/BCD";
/// A file that a layer adds to a utility VM.
const ADDED: &str = "windowsfilter-added.txt";
/// Position of a sparse file's data, and its length.
const ISLAND: u64 = 1 << 20;
const END: u64 = 4 << 20;
/// A socket, as any program can make it; a WSL link; a vendor's tag that Windows does not know.
const TAGS: [(&str, u32, &[u8]); 3] = [
    ("socket", 0x8000_0023, b""),
    ("wsl-link", 0xA000_001D, b"\x02\0\0\0../bin/sh"),
    ("alias.exe", 0x8000_001B, &[3; 50]),
];

/// One record of a backup stream.
type Record<'a> = (StreamHeader, &'a [u8]);

fn backup_stream(records: &[Record<'_>]) -> Result<Vec<u8>, Failure> {
    let mut stream = Writer::new(Vec::new());
    for (header, data) in records {
        stream.begin(header)?;
        stream.write_data(data)?;
    }
    Ok(stream.finish()?)
}

fn record(id: u32, data: &[u8]) -> Record<'_> {
    (StreamHeader::new(id, data.len() as u64), data)
}

fn path(text: &str) -> Result<RelativePath, Failure> {
    Ok(RelativePath::from_text(text)?)
}

impl Check {
    /// Restores a file into a directory of this Windows.
    fn restore(&self, tree: &Directory, name: &str, records: &[Record<'_>]) -> Result<(), Failure> {
        let _privileges = self.host.system.thread_privileges(&[
            Privilege::Backup,
            Privilege::Restore,
            Privilege::Security,
        ])?;
        let info = BasicInfo { attributes: ARCHIVE, ..BasicInfo::default() };
        let mut file = tree.backup_write(&path(name)?, BackupTarget::NewFile, &info, false)?;
        file.write_all(&backup_stream(records)?)?;
        Ok(())
    }

    /// The data of the first record with this kind in the backup stream of a layer's file.
    fn backed_up(&self, layer: &str, name: &str, kind: u32) -> Result<Vec<u8>, Failure> {
        let _privileges = self.host.system.thread_privileges(&[Privilege::Backup])?;
        let tree = self.host.system.open_tree(&self.host.home().join(layer))?;
        let mut reader = Reader::new(tree.backup_read(&path(&format!(r"Files\{name}"))?, false)?);
        while let Some(header) = reader.next()? {
            if header.id == kind {
                return Ok(reader.read_all(1 << 20)?);
            }
        }
        Err(format!("{name} has no record of kind {kind} in its backup stream").into())
    }

    /// Makes the sandbox `<name>-box` on `base`, lets `fill` write into it, and makes the layer `name` from
    /// its diff, which is returned.
    fn committed(
        &self,
        name: &str,
        parent: &str,
        fill: impl FnOnce(&Directory, &Path) -> Result<(), Failure>,
    ) -> Result<Vec<u8>, Failure> {
        let sandbox = format!("{name}-box");
        let store = self.host.sandbox(&sandbox, parent)?;
        let view = store.get(&id(&sandbox)?, "")?;
        let filled =
            self.host.system.open_tree(&view).map_err(Failure::from).and_then(|tree| fill(&tree, &view));
        store.put(&id(&sandbox)?)?;
        filled?;
        let mut tar = Vec::new();
        store.diff(&id(&sandbox)?, Some(&id(parent)?))?.read_to_end(&mut tar)?;
        store.apply_diff(&id(name)?, Some(&id(parent)?), &mut &tar[..])?;
        Ok(tar)
    }

    pub(super) fn long_paths(&self) -> Verdict {
        let store = self.host.store()?;
        let (tar, file) = layers::deep()?;
        store.apply_diff(&id("deep-base")?, None, &mut &tar[..])?;
        store.apply_diff(&id("deep")?, Some(&id("base")?), &mut &tar[..])?;
        for (layer, parent) in [("deep-base", None), ("deep", Some(id("base")?))] {
            let mut tar = Vec::new();
            store.diff(&id(layer)?, None)?.read_to_end(&mut tar)?;
            let again = format!("{layer}-again");
            store.apply_diff(&id(&again)?, parent.as_ref(), &mut &tar[..])?;
            expect(read(&store, &again, &file)? == b"deep", format!("{file} is another in {again}"))?;
        }
        // Also in the way that a container makes them.
        let below = file.strip_prefix("Files/").unwrap_or(&file).replace('/', r"\");
        self.committed("deep-made", "base", |_, view| {
            let file = view.join(&below);
            fs::create_dir_all(file.parent().unwrap_or(view))?;
            Ok(fs::write(file, b"made")?)
        })?;
        expect(read(&store, "deep-made", &file)? == b"made", "what a sandbox has deep below is another")?;
        Ok(format!(
            "{} characters below the layer, in and out of a base layer, a layer and a sandbox",
            file.len()
        ))
    }

    pub(super) fn utility_vm(&self) -> Verdict {
        let base = self.host.home().join("base");
        if !base.join("UtilityVM").join("Files").is_dir() {
            return Err(NotAsked("the base layer has no utility VM: give that of nanoserver".into()).into());
        }
        for disk in ["SystemTemplateBase.vhdx", "SystemTemplate.vhdx"] {
            expect(base.join("UtilityVM").join(disk).exists(), format!("the base layer has no {disk}"))?;
        }
        let store = self.host.store()?;
        let boot_store = read(&store, "base", BOOT_STORE)?;
        expect(boot_store.starts_with(b"regf"), "the boot store of the tar is no registry hive")?;
        store.apply_diff(&id("vm")?, Some(&id("base")?), &mut &layers::utility_vm(ADDED)?[..])?;
        let vm = self.host.home().join("vm").join("UtilityVM");
        expect(vm.join("Files").join(ADDED).exists(), "the added file is missing")?;
        let disk = vm.join("SystemTemplate.vhdx");
        expect(disk.exists(), "ProcessUtilityImage made no SystemTemplate.vhdx of the layer")?;
        let links = self.links(&self.host.home().join("vm"), BOOT_STORE)?;
        expect(links == 1, format!("the boot store of the layer has {links} names: it is the parent's"))?;
        expect(
            read(&store, "base", BOOT_STORE)? == boot_store,
            "the boot store of the parent is another now",
        )?;
        let linked = self.first_file(&base.join("UtilityVM").join("Files"))?;
        let name = linked.strip_prefix(&base)?.to_string_lossy().replace('\\', "/");
        let links = self.links(&self.host.home().join("vm"), &name)?;
        expect(links > 1, format!("{name} was copied"))?;
        Ok(format!("made, cloned with links ({name} has {links}), its boot store copied"))
    }

    fn links(&self, layer: &Path, name: &str) -> Result<u32, Failure> {
        let tree = self.host.system.open_tree(layer)?;
        Ok(tree.status(&path(&name.replace('/', r"\"))?)?.links)
    }

    /// A utility VM's file, at its top or somewhere below, other than a boot store.
    fn first_file(&self, dir: &Path) -> Result<PathBuf, Failure> {
        let mut directories = vec![dir.to_owned()];
        while let Some(dir) = directories.pop() {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_file() && !dir.to_string_lossy().contains("EFI") {
                    return Ok(entry.path());
                }
                if kind.is_dir() {
                    directories.push(entry.path());
                }
            }
        }
        Err(format!("there is no file in {}", dir.display()).into())
    }

    /// Prints ExportLayer's file byte for byte: its format is undocumented.
    pub(super) fn tombstones(&self) -> Verdict {
        let store = self.host.store()?;
        store.apply_diff(&id("doomed")?, Some(&id("base")?), &mut &layers::doomed()?[..])?;
        self.committed("tombs", "doomed", |_, view| {
            fs::remove_file(view.join("doomed.txt"))?;
            Ok(fs::remove_dir_all(view.join("doomed"))?)
        })?;
        let text = self.exported_tombstones()?;
        let changes = store.changes(&id("tombs-box")?)?;
        for gone in ["Files/doomed.txt", "Files/doomed"] {
            let found = changes
                .iter()
                .any(|change| change.path == gone.as_bytes() && change.kind == ChangeKind::Delete);
            expect(found, format!("{gone} is not deleted in the changes; tombstones.txt is {text:?}"))?;
        }
        Ok(format!("tombstones.txt is {text:?}"))
    }

    fn exported_tombstones(&self) -> Result<String, Failure> {
        let (system, info) = (&self.host.system, self.host.info());
        let parents = ["doomed", "base"].map(|name| -> Result<_, Failure> {
            let path = self.host.home().join(name);
            Ok(LayerDescriptor { id: system.name_to_guid(name)?, flags: 0, path })
        });
        let parents = parents.into_iter().collect::<Result<Vec<_>, _>>()?;
        let target = self.dir.join("exported");
        let _privileges = system.thread_privileges(&[Privilege::Backup])?;
        system.activate_layer(&info, "tombs-box")?;
        let exported = system.export_layer(&info, "tombs-box", &target, &parents);
        let deactivated = system.deactivate_layer(&info, "tombs-box");
        exported?;
        deactivated?;
        let text = fs::read(target.join("tombstones.txt"))?;
        Ok(String::from_utf8_lossy(&text[..text.len().min(2_000)]).into_owned())
    }

    pub(super) fn tombstones_mount(&self) -> Verdict {
        let store = self.host.sandbox("tombs-view", "tombs")?;
        let view = store.get(&id("tombs-view")?, "")?;
        let shown = ["doomed.txt", "doomed", "stays.txt"].map(|name| view.join(name).exists());
        store.put(&id("tombs-view")?)?;
        let wanted = [false, false, true];
        expect(
            shown == wanted,
            format!("doomed.txt, doomed, stays.txt are seen: {shown:?}, not {wanted:?}"),
        )?;
        Ok("what a sandbox deleted is gone in the layer made of it".into())
    }

    pub(super) fn streams(&self) -> Verdict {
        self.committed("streams", "base", |tree, _| {
            let header = StreamHeader::alternate(b"Zone.Identifier", 17);
            let records = [record(DATA, b"data"), (header, &b"[ZoneTransfer]\r\nZ"[..])];
            self.restore(tree, "from-the-net.txt", &records)
        })?;
        let stream = self.backed_up("streams", "from-the-net.txt", ALTERNATE_DATA)?;
        expect(stream == b"[ZoneTransfer]\r\nZ", format!("the stream has {stream:?}"))?;
        Ok("a stream of a sandbox's file is in its layer".into())
    }

    pub(super) fn streams_by_name(&self) -> Verdict {
        let stream = read(&self.host.store()?, "streams", "Files/from-the-net.txt:Zone.Identifier")?;
        expect(stream == b"[ZoneTransfer]\r\nZ", format!("the stream has {stream:?}"))?;
        Ok("tar-split's users find it by its name".into())
    }

    pub(super) fn extended_attributes(&self) -> Verdict {
        let attribute = ExtendedAttribute {
            name: b"WINDOWSFILTER".to_vec(),
            value: b"kept".to_vec(),
            ..Default::default()
        };
        let encoded = wclayer::ea::encode(std::slice::from_ref(&attribute))?;
        self.committed("attributes", "base", |tree, _| {
            self.restore(tree, "attributes.txt", &[record(EA_DATA, &encoded), record(DATA, b"data")])
        })?;
        let found = wclayer::ea::decode(&self.backed_up("attributes", "attributes.txt", EA_DATA)?)?;
        expect(found == [attribute], format!("it has {found:?}"))?;
        Ok("an extended attribute of a sandbox's file is in its layer".into())
    }

    pub(super) fn sparse_files(&self) -> Verdict {
        let header = StreamHeader { attributes: STREAM_SPARSE_ATTRIBUTE, ..StreamHeader::new(DATA, 0) };
        let block = |sparse_offset, data: &'static [u8]| {
            (StreamHeader { sparse_offset, ..StreamHeader::new(SPARSE_BLOCK, data.len() as u64) }, data)
        };
        let tar = self.committed("sparse", "base", |tree, _| {
            let records = [(header, &b""[..]), block(ISLAND, b"island"), block(END, b"")];
            self.restore(tree, "sparse.bin", &records)
        })?;
        let found = read(&self.host.store()?, "sparse", "Files/sparse.bin")?;
        expect(found.len() as u64 == END, format!("the file has {} bytes", found.len()))?;
        let island = ISLAND as usize;
        expect(found[island..].starts_with(b"island"), "what stood between the holes is gone")?;
        expect(found[..island].iter().all(|&byte| byte == 0), "there is something in a hole")?;
        Ok(format!("a file with holes in a diff of {} bytes comes back in a sandbox of {SIZE}", tar.len()))
    }

    pub(super) fn reparse_tags(&self) -> Verdict {
        let buffer = |tag, data: &[u8]| ReparsePoint::Other { tag, data: data.to_vec() }.encode();
        self.committed("tags", "base", |tree, _| {
            for (name, tag, data) in TAGS {
                self.restore(tree, name, &[record(REPARSE_DATA, &buffer(tag, data)?)])
                    .map_err(|error| format!("{name}, tag {tag:#x}: {error}"))?;
            }
            Ok(())
        })?;
        for (name, tag, data) in TAGS {
            let found = self.backed_up("tags", name, REPARSE_DATA)?;
            expect(found == buffer(tag, data)?, format!("{name}, tag {tag:#x}: {found:?}"))?;
        }
        Ok("a socket, a link of WSL and another tag of a sandbox are in its layer".into())
    }
}
