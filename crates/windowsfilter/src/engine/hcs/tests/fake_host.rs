//! A fake Windows that records its calls, keeps layers as plain directories, and fails the calls it is told
//! to.
//!
//! It imitates only the visible behaviour of Microsoft's code and contains no code of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hcs::{
    AccessControl, Code, ComputeSystem, DriverInfo, Error, Guid, Host, LayerDescriptor, Privilege, Result,
    Termination, User,
};
use wclayer::security::SecurityDescriptor;

use super::answers;
use super::fake_tree::{self, FakeTree, Nodes};

/// Which calls fail.
#[derive(Clone, Debug)]
enum Failure {
    /// The first `times` calls of one function.
    Function { name: &'static str, times: usize },
    /// The call with this number among all calls.
    Number(usize),
}

/// The state of the machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// Calls with their arguments; the test's directory is shown as `ROOT`, temporary directories as `TMP`.
    calls: Vec<String>,
    failures: Vec<(Failure, Code)>,
    /// Name of a directory to create in every new layer, where one of our files should go.
    pub(super) obstacle: Option<&'static str>,
    root: PathBuf,
    pub(super) nodes: Nodes,
    /// Deletions that `ExportLayer` reports, by layer.
    pub(super) tombstones: Vec<(String, String)>,
    /// The transport directory of the last `ImportLayer`.
    pub(super) imported: BTreeMap<String, Option<Vec<u8>>>,
    /// Whether directories that a layer has from its parents really contain files, so that removing them
    /// fails.
    pub(super) copies_parents: bool,
    /// Layers that the service denies knowing.
    pub(super) unknown: BTreeSet<String>,
    pub(super) active: BTreeSet<String>,
    pub(super) prepared: BTreeSet<String>,
    pub(super) attached: usize,
    pub(super) privileges: usize,
    pub(super) systems: String,
    pub(super) termination: Termination,
    pub(super) file_system: &'static str,
    pub(super) build: u32,
    pub(super) boot: String,
    /// Set while a layer is prepared, because calls must not overlap.
    pub(super) preparing: bool,
    /// The error for queries about volumes, if they fail.
    pub(super) volume_error: Option<Code>,
    /// Security descriptors of directories, SDDL; others inherit that of their parent directory.
    pub(super) descriptors: BTreeMap<PathBuf, String>,
    /// The descriptor of the disk.
    pub(super) outside: &'static str,
    /// The error for reading security descriptors, if that fails.
    pub(super) descriptor_error: Option<Code>,
    pub(super) user: User,
    /// The results of the next flushes: `None` succeeds.
    pub(super) flush_failures: Vec<Option<Code>>,
    /// For each flush of the volume, the layers marked as incomplete at that time.
    pub(super) flushes: Vec<Vec<String>>,
    /// Processes that have files of layers open.
    pub(super) holders: Vec<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            copies_parents: false,
            failures: Vec::new(),
            obstacle: None,
            root: PathBuf::new(),
            nodes: Nodes::default(),
            tombstones: Vec::new(),
            imported: BTreeMap::new(),
            unknown: BTreeSet::new(),
            active: BTreeSet::new(),
            prepared: BTreeSet::new(),
            attached: 0,
            privileges: 0,
            systems: "[]".to_owned(),
            termination: Termination::Pending,
            file_system: "NTFS",
            build: 20_348,
            boot: "boot 1".to_owned(),
            preparing: false,
            volume_error: None,
            descriptors: BTreeMap::new(),
            // The list of a data root made by Docker.
            outside: "O:BAD:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)",
            descriptor_error: None,
            user: User { sid: "S-1-5-18".to_owned(), is_administrator: true },
            flush_failures: Vec::new(),
            flushes: Vec::new(),
            holders: Vec::new(),
        }
    }
}

/// The host; clones are the same machine.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeHost(Arc<Mutex<Machine>>);

/// Stands in for `NameToGuid`: a different GUID for every name.
pub(super) fn guid(name: &str) -> Guid {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    Guid { data1: hash, ..Guid::default() }
}

fn is_sandbox(info: &DriverInfo, id: &str) -> bool {
    info.layer(id).join("sandbox.vhdx").exists()
}

/// Success if `may`, else the error with the service's code.
fn answer(call: &'static str, id: &str, may: bool, code: Code) -> Result<()> {
    if may { Ok(()) } else { Err(Error::new(call, id, code)) }
}

/// The prefix of volume names.
const VOLUME: &str = r"\\?\Volume{";

/// The volume of a sandbox, as the service names it: without a final backslash, so the standard library
/// cannot find it.
pub(super) fn volume(sandbox: &str) -> String {
    format!("{VOLUME}{}}}", guid(sandbox))
}

impl FakeHost {
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_root(&self, root: &Path) {
        self.machine().root = root.to_owned();
    }

    /// Returns the calls so far and forgets them.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.machine().calls)
    }

    /// Like [`Self::calls`], without the calls on files of a tree.
    pub(super) fn service_calls(&self) -> Vec<String> {
        let calls = self.calls();
        let is_service = |call: &String| {
            call.starts_with(|first: char| first.is_ascii_uppercase()) && !call.starts_with("Backup")
        };
        calls.into_iter().filter(is_service).collect()
    }

    pub(super) fn forget(&self) {
        self.machine().calls.clear();
    }

    /// Lets all calls of a function fail.
    pub(super) fn fail(&self, name: &'static str, code: Code) {
        self.fail_times(name, code, usize::MAX);
    }

    /// Lets the next calls of a function fail.
    pub(super) fn fail_times(&self, name: &'static str, code: Code, times: usize) {
        self.machine().failures = vec![(Failure::Function { name, times }, code)];
    }

    /// Lets all calls of a function fail, in addition to earlier failures.
    pub(super) fn fail_too(&self, name: &'static str, code: Code) {
        self.machine().failures.push((Failure::Function { name, times: usize::MAX }, code));
    }

    /// Lets the call with this number fail, counted from 0.
    pub(super) fn fail_number(&self, number: usize, code: Code) {
        let mut machine = self.machine();
        machine.calls.clear();
        machine.failures = vec![(Failure::Number(number), code)];
    }

    pub(super) fn succeed(&self) {
        self.machine().failures.clear();
    }

    /// Records a call, and fails it if told to.
    pub(super) fn call(&self, name: &'static str, arguments: impl Into<String>) -> Result<()> {
        let mut machine = self.machine();
        let arguments = machine.shown(&arguments.into());
        let number = machine.calls.len();
        machine.calls.push(format!("{name}({arguments})"));
        for (failure, code) in &mut machine.failures {
            let fails = match failure {
                Failure::Function { name: failing, times } if *failing == name && *times > 0 => {
                    *times -= 1;
                    true
                }
                Failure::Function { .. } => false,
                Failure::Number(failing) => *failing == number,
            };
            if fails {
                return Err(Error::new(name, arguments, *code));
            }
        }
        Ok(())
    }

    fn make_directory(&self, layer: &Path) {
        fs::create_dir(layer).unwrap();
        if let Some(name) = self.machine().obstacle {
            fs::create_dir_all(layer.join(name).join("full")).unwrap();
        }
    }

    fn layer_call(&self, name: &'static str, info: &DriverInfo, id: &str, rest: &str) -> Result<()> {
        self.call(name, format!("{}, {}, {id}{rest}", info.flavour, info.home.display()))
    }
}

impl Machine {
    /// Arguments without the parts that differ between runs.
    fn shown(&self, arguments: &str) -> String {
        let mut text = arguments.replace(&*self.root.to_string_lossy(), "ROOT");
        let temporary = "ROOT/home/.windowsfilter/tmp/layer";
        while let Some(start) = text.find(temporary) {
            let name = start + temporary.len();
            let end = text[name..].find([',', ')', '/', ' ']).map_or(text.len(), |length| name + length);
            text.replace_range(start..end, "TMP");
        }
        text
    }
}

fn shown(parents: &[LayerDescriptor]) -> String {
    let parents =
        parents.iter().map(|parent| format!("{}:{}:{}", parent.id, parent.flags, parent.path.display()));
    format!(", [{}]", parents.collect::<Vec<_>>().join(", "))
}

/// Privileges of a thread, counted while they are held.
#[derive(Debug)]
pub(super) struct Privileges(FakeHost);

impl Drop for Privileges {
    fn drop(&mut self) {
        self.0.machine().privileges -= 1;
    }
}

/// An attached disk, counted while it is attached.
#[derive(Debug)]
pub(super) struct Disk(FakeHost);

impl Drop for Disk {
    fn drop(&mut self) {
        self.0.machine().attached -= 1;
    }
}

struct System {
    host: FakeHost,
    id: String,
}

impl ComputeSystem for System {
    fn terminate(&self) -> Result<Termination> {
        self.host.call("HcsTerminateComputeSystem", &self.id)?;
        Ok(self.host.machine().termination)
    }

    fn wait(&self) -> Result<()> {
        self.host.call("Wait", &self.id)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // A failure here cannot be reported.
        _ = self.host.call("HcsCloseComputeSystem", &self.id);
    }
}

fn privilege_names(privileges: &[Privilege]) -> String {
    privileges.iter().map(|privilege| privilege.name()).collect::<Vec<_>>().join(", ")
}

impl AccessControl for FakeHost {
    fn create_directory(&self, path: &Path, sddl: &str) -> Result<()> {
        self.call("CreateDirectory", format!("{}, {sddl}", path.display()))?;
        if path.exists() {
            return Err(Error::new("CreateDirectory", path.display().to_string(), Code::ALREADY_EXISTS));
        }
        fs::create_dir(path).unwrap();
        self.machine().descriptors.insert(path.to_owned(), sddl.to_owned());
        Ok(())
    }

    fn security_descriptor(&self, path: &Path) -> Result<Vec<u8>> {
        let machine = self.machine();
        if let Some(code) = machine.descriptor_error {
            return Err(Error::new("GetKernelObjectSecurity", path.display().to_string(), code));
        }
        // A path without its own descriptor has that of its nearest ancestor.
        let own = path.ancestors().find_map(|ancestor| machine.descriptors.get(ancestor));
        let sddl = own.map_or(machine.outside, String::as_str);
        Ok(SecurityDescriptor::from_sddl(sddl).unwrap().to_bytes().unwrap())
    }

    fn user(&self) -> Result<User> {
        Ok(self.machine().user.clone())
    }
}

impl Host for FakeHost {
    type Tree = FakeTree;
    type Privileges = Privileges;
    type Disk = Disk;

    fn activate_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        self.layer_call("ActivateLayer", info, id, "")?;
        let is_new = self.machine().active.insert(id.to_owned());
        answer("ActivateLayer", id, is_new || !is_sandbox(info, id), answers::SANDBOX_IS_ACTIVE)
    }

    fn deactivate_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        self.layer_call("DeactivateLayer", info, id, "")?;
        let mut machine = self.machine();
        let may = machine.active.contains(id) && !machine.prepared.contains(id);
        answer("DeactivateLayer", id, may || !is_sandbox(info, id), answers::OUT_OF_ORDER)?;
        machine.active.remove(id);
        machine.prepared.remove(id);
        Ok(())
    }

    fn prepare_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()> {
        assert!(!std::mem::replace(&mut self.machine().preparing, true), "two layers are prepared at once");
        let result = self.layer_call("PrepareLayer", info, id, &shown(parents));
        std::thread::yield_now();
        let mut machine = self.machine();
        machine.preparing = false;
        result?;
        let may = machine.active.contains(id) && !machine.prepared.contains(id);
        answer("PrepareLayer", id, may || !is_sandbox(info, id), answers::OUT_OF_ORDER)?;
        machine.prepared.insert(id.to_owned());
        Ok(())
    }

    fn unprepare_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        self.layer_call("UnprepareLayer", info, id, "")?;
        let was = self.machine().prepared.remove(id);
        answer("UnprepareLayer", id, was || !is_sandbox(info, id), answers::OUT_OF_ORDER)
    }

    fn create_layer(&self, info: &DriverInfo, id: &str, parent: &str) -> Result<()> {
        self.layer_call("CreateLayer", info, id, &format!(", {parent:?}"))?;
        self.make_directory(&info.layer(id));
        Ok(())
    }

    fn create_sandbox_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()> {
        self.layer_call("CreateSandboxLayer", info, id, &shown(parents))?;
        self.make_directory(&info.layer(id));
        fs::write(info.layer(id).join("sandbox.vhdx"), b"disk").unwrap();
        Ok(())
    }

    fn expand_sandbox_size(&self, info: &DriverInfo, id: &str, size: u64) -> Result<()> {
        self.layer_call("ExpandSandboxSize", info, id, &format!(", {size}"))
    }

    fn destroy_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        self.layer_call("DestroyLayer", info, id, "")?;
        let is_active = is_sandbox(info, id) && self.machine().active.contains(id);
        answer("DestroyLayer", id, !is_active, answers::SANDBOX_IS_ACTIVE)?;
        fs::remove_dir_all(info.layer(id)).unwrap();
        Ok(())
    }

    fn export_layer(
        &self,
        info: &DriverInfo,
        id: &str,
        target: &Path,
        parents: &[LayerDescriptor],
    ) -> Result<()> {
        self.layer_call("ExportLayer", info, id, &format!(", {}{}", target.display(), shown(parents)))?;
        let is_prepared = is_sandbox(info, id) && self.machine().prepared.contains(id);
        answer("ExportLayer", id, !is_prepared, answers::OUT_OF_ORDER)?;
        fake_tree::note_deletions(self, &info.layer(id), &parents[0].path, id);
        fake_tree::export(self, &info.layer(id), target, id);
        Ok(())
    }

    fn import_layer(
        &self,
        info: &DriverInfo,
        id: &str,
        source: &Path,
        parents: &[LayerDescriptor],
    ) -> Result<()> {
        self.layer_call("ImportLayer", info, id, &format!(", {}{}", source.display(), shown(parents)))?;
        answer("ImportLayer", id, source.join("Hives").is_dir(), answers::NOTHING_THERE)?;
        fake_tree::import(self, source, &info.layer(id), &parents[0].path);
        Ok(())
    }

    fn layer_mount_path(&self, info: &DriverInfo, id: &str) -> Result<Option<PathBuf>> {
        self.layer_call("GetLayerMountPath", info, id, "")?;
        if !info.layer(id).join("sandbox.vhdx").exists() {
            return Ok(Some(info.layer(id)));
        }
        let machine = self.machine();
        if !machine.active.contains(id) && machine.attached == 0 {
            return Err(Error::new("GetLayerMountPath", id, answers::NO_VOLUME));
        }
        Ok(Some(volume(id).into()))
    }

    fn layer_exists(&self, info: &DriverInfo, id: &str) -> Result<bool> {
        self.layer_call("LayerExists", info, id, "")?;
        Ok(info.layer(id).is_dir() && !self.machine().unknown.contains(id))
    }

    fn base_images(&self) -> Result<String> {
        self.call("GetBaseImages", "")?;
        Ok("{}".to_owned())
    }

    fn name_to_guid(&self, name: &str) -> Result<Guid> {
        self.call("NameToGuid", name)?;
        Ok(guid(name))
    }

    fn process_base_image(&self, path: &Path) -> Result<()> {
        self.call("ProcessBaseImage", path.display().to_string())?;
        answer("ProcessBaseImage", "", path.join("Files").is_dir(), answers::NOTHING_THERE)
    }

    fn process_utility_image(&self, path: &Path) -> Result<()> {
        self.call("ProcessUtilityImage", path.display().to_string())?;
        fake_tree::change_boot_store(self, path);
        Ok(())
    }

    fn grant_vm_access(&self, vm: &str, path: &Path) -> Result<()> {
        self.call("GrantVmAccess", format!("{vm}, {}", path.display()))
    }

    fn enumerate_compute_systems(&self, query: &str) -> Result<String> {
        self.call("HcsEnumerateComputeSystems", query)?;
        Ok(self.machine().systems.clone())
    }

    fn open_compute_system(&self, id: &str) -> Result<Box<dyn ComputeSystem>> {
        self.call("HcsOpenComputeSystem", id)?;
        Ok(Box::new(System { host: self.clone(), id: id.to_owned() }))
    }

    fn detach_virtual_disk(&self, path: &Path) -> Result<()> {
        self.call("DetachVirtualDisk", path.display().to_string())
    }

    fn attach_virtual_disk(&self, path: &Path) -> Result<Disk> {
        self.call("AttachVirtualDisk", path.display().to_string())?;
        self.machine().attached += 1;
        Ok(Disk(self.clone()))
    }

    fn is_directory(&self, path: &Path) -> Result<bool> {
        let machine = self.machine();
        let name = path.to_string_lossy();
        if let Some(code) = machine.volume_error {
            return Err(Error::new("GetFileAttributes", name, code));
        }
        if !name.starts_with(VOLUME) {
            return Ok(path.is_dir());
        }
        if !name.ends_with('\\') {
            // The device itself, which has no attributes.
            return Err(Error::new("GetFileAttributes", name, answers::NO_DIRECTORY));
        }
        Ok(machine.active.iter().any(|id| format!("{}\\", volume(id)) == name))
    }

    fn extend_volume(&self, volume: &Path) -> Result<()> {
        self.call("ExtendVolume", volume.display().to_string())?;
        assert_eq!(self.machine().attached, 1, "the disk is not attached");
        Ok(())
    }

    fn flush_volume(&self, path: &Path) -> Result<()> {
        self.call("FlushFileBuffers", path.display().to_string())?;
        let mut machine = self.machine();
        let marks = machine.root.join("home/.windowsfilter/incomplete");
        machine.flushes.push(super::names(&marks));
        let failure = if machine.flush_failures.is_empty() { None } else { machine.flush_failures.remove(0) };
        failure.map_or(Ok(()), |code| Err(Error::new("FlushFileBuffers", path.display().to_string(), code)))
    }

    fn file_system(&self, path: &Path) -> Result<String> {
        self.call("GetVolumeInformation", path.display().to_string())?;
        Ok(self.machine().file_system.to_owned())
    }

    fn enable_process_privileges(&self, privileges: &[Privilege]) -> Result<()> {
        self.call("EnableProcessPrivileges", privilege_names(privileges))?;
        self.machine().privileges += 1;
        Ok(())
    }

    fn disable_process_privileges(&self, privileges: &[Privilege]) -> Result<()> {
        self.call("DisableProcessPrivileges", privilege_names(privileges))?;
        self.machine().privileges -= 1;
        Ok(())
    }

    fn thread_privileges(&self, privileges: &[Privilege]) -> Result<Privileges> {
        self.call("ThreadPrivileges", privilege_names(privileges))?;
        self.machine().privileges += 1;
        Ok(Privileges(self.clone()))
    }

    fn open_tree(&self, path: &Path) -> Result<FakeTree> {
        FakeTree::open(self, path)
    }

    fn tie_to_this_process(&self, _: &Child) -> Result<()> {
        self.call("AssignProcessToJobObject", "")
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call("MoveFileEx", format!("{}, {}", from.display(), to.display()))?;
        fs::rename(from, to).unwrap();
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> Result<()> {
        self.call("remove directory", path.display().to_string())?;
        if path.exists() {
            fs::remove_dir_all(path).unwrap();
        }
        Ok(())
    }

    fn holders(&self, path: &Path) -> Result<Vec<String>> {
        self.call("RmGetList", path.display().to_string())?;
        Ok(self.machine().holders.clone())
    }

    fn os_build(&self) -> Result<u32> {
        Ok(self.machine().build)
    }

    fn boot(&self) -> String {
        self.machine().boot.clone()
    }

    fn pause(&self, duration: Duration) {
        self.machine().calls.push(format!("pause({} ms)", duration.as_millis()));
    }
}
