//! Windows as a [`Host`].

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::disks::{self, AttachedDisk};
use super::files::{self, Directory};
use super::privileges::{self, ThreadPrivileges};
use super::table::Table;
use super::{holders, job, layers, machine, systems};
use crate::access::{AccessControl, User};
use crate::error::Result;
use crate::guid::Guid;
use crate::host::{ComputeSystem, Host, Privilege};
use crate::layer::{DriverInfo, LayerDescriptor};

/// The running Windows.
#[derive(Clone, Debug)]
pub struct System {
    table: Arc<Table>,
}

impl System {
    /// Uses the functions of Windows' own libraries. A missing function is an error only when it is called.
    ///
    /// Lets this process use paths of more than 260 characters, as every Go program does.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Table::system())
    }

    fn with(table: Table) -> Self {
        machine::take_long_paths();
        Self { table: Arc::new(table) }
    }

    /// Names of the functions that this Windows does not have; calling one fails.
    #[must_use]
    pub fn missing_functions(&self) -> Vec<&'static str> {
        self.table.missing()
    }

    /// Uses the functions of the library at `path`, as far as it has them: for tests.
    ///
    /// # Errors
    /// The library cannot be loaded.
    pub fn with_stand_in(path: &Path) -> Result<Self> {
        Ok(Self::with(Table::stand_in(path)?))
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl AccessControl for System {
    fn create_directory(&self, path: &Path, sddl: &str) -> Result<()> {
        Access.create_directory(path, sddl)
    }

    fn security_descriptor(&self, path: &Path) -> Result<Vec<u8>> {
        Access.security_descriptor(path)
    }

    fn user(&self) -> Result<User> {
        Access.user()
    }
}

impl Host for System {
    type Tree = Directory;
    type Privileges = ThreadPrivileges;
    type Disk = AttachedDisk;

    fn activate_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        layers::activate(&self.table, info, id)
    }

    fn deactivate_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        layers::deactivate(&self.table, info, id)
    }

    fn prepare_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()> {
        layers::prepare(&self.table, info, id, parents)
    }

    fn unprepare_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        layers::unprepare(&self.table, info, id)
    }

    fn create_layer(&self, info: &DriverInfo, id: &str, parent: &str) -> Result<()> {
        layers::create(&self.table, info, id, parent)
    }

    fn create_sandbox_layer(&self, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()> {
        layers::create_sandbox(&self.table, info, id, parents)
    }

    fn expand_sandbox_size(&self, info: &DriverInfo, id: &str, size: u64) -> Result<()> {
        layers::expand(&self.table, info, id, size)
    }

    fn destroy_layer(&self, info: &DriverInfo, id: &str) -> Result<()> {
        layers::destroy(&self.table, info, id)
    }

    fn export_layer(
        &self,
        info: &DriverInfo,
        id: &str,
        target: &Path,
        parents: &[LayerDescriptor],
    ) -> Result<()> {
        layers::export(&self.table, info, id, target, parents)
    }

    fn import_layer(
        &self,
        info: &DriverInfo,
        id: &str,
        source: &Path,
        parents: &[LayerDescriptor],
    ) -> Result<()> {
        layers::import(&self.table, info, id, source, parents)
    }

    fn layer_mount_path(&self, info: &DriverInfo, id: &str) -> Result<Option<PathBuf>> {
        layers::mount_path(&self.table, info, id)
    }

    fn layer_exists(&self, info: &DriverInfo, id: &str) -> Result<bool> {
        layers::exists(&self.table, info, id)
    }

    fn base_images(&self) -> Result<String> {
        layers::base_images(&self.table)
    }

    fn name_to_guid(&self, name: &str) -> Result<Guid> {
        layers::name_to_guid(&self.table, name)
    }

    fn process_base_image(&self, path: &Path) -> Result<()> {
        layers::process_base_image(&self.table, path)
    }

    fn process_utility_image(&self, path: &Path) -> Result<()> {
        layers::process_utility_image(&self.table, path)
    }

    fn grant_vm_access(&self, vm: &str, path: &Path) -> Result<()> {
        layers::grant_vm_access(&self.table, vm, path)
    }

    fn enumerate_compute_systems(&self, query: &str) -> Result<String> {
        systems::enumerate(&self.table, query)
    }

    fn open_compute_system(&self, id: &str) -> Result<Box<dyn ComputeSystem>> {
        Ok(Box::new(systems::open(&self.table, id)?))
    }

    fn detach_virtual_disk(&self, path: &Path) -> Result<()> {
        disks::detach(&self.table, path)
    }

    fn attach_virtual_disk(&self, path: &Path) -> Result<AttachedDisk> {
        disks::attach(&self.table, path)
    }

    fn is_directory(&self, path: &Path) -> Result<bool> {
        files::is_directory(&self.table, path)
    }

    fn extend_volume(&self, volume: &Path) -> Result<()> {
        disks::extend_volume(&self.table, volume)
    }

    fn flush_volume(&self, path: &Path) -> Result<()> {
        disks::flush_volume(&self.table, path)
    }

    fn file_system(&self, path: &Path) -> Result<String> {
        disks::file_system(path)
    }

    fn enable_process_privileges(&self, privileges: &[Privilege]) -> Result<()> {
        privileges::set_for_process(privileges, true)
    }

    fn disable_process_privileges(&self, privileges: &[Privilege]) -> Result<()> {
        privileges::set_for_process(privileges, false)
    }

    fn thread_privileges(&self, privileges: &[Privilege]) -> Result<ThreadPrivileges> {
        ThreadPrivileges::enable(privileges)
    }

    fn open_tree(&self, path: &Path) -> Result<Directory> {
        Directory::open(Arc::clone(&self.table), path)
    }

    fn tie_to_this_process(&self, child: &Child) -> Result<()> {
        job::add(child)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        files::rename(&self.table, from, to)
    }

    fn remove_directory(&self, path: &Path) -> Result<()> {
        files::remove_directory(path)
    }

    fn holders(&self, path: &Path) -> Result<Vec<String>> {
        holders::of(&self.table, path)
    }

    fn os_build(&self) -> Result<u32> {
        machine::os_build()
    }

    fn boot(&self) -> String {
        machine::boot().unwrap_or_default()
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
