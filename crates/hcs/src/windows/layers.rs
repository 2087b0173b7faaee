//! The layer functions of `vmcompute.dll`.
//!
//! A layer is named as hcsshim names it today: flavour 1, an empty home, and the layer's whole path for an ID
//! (`internal/wclayer/layerutils.go`, `stdDriverInfo`; `layer.go`, `layerPath`). Separate home and ID are the
//! older form of the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::ptr;

use windows_sys::core::{HRESULT, PCWSTR};

use super::handle::{answered, check_result};
use super::strings::{TaskString, plain, text, wide};
use super::table::Table;
use crate::error::{Error, Result};
use crate::guid::Guid;
use crate::layer::{DriverInfo, LayerDescriptor};
use crate::long_path;

/// `struct DriverInfo`.
#[repr(C)]
pub(super) struct RawDriverInfo {
    flavour: u32,
    home: PCWSTR,
}

/// `WC_LAYER_DESCRIPTOR`.
#[repr(C)]
pub(super) struct RawDescriptor {
    id: Guid,
    flags: u32,
    path: PCWSTR,
}
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<RawDescriptor>() == 32 && size_of::<RawDriverInfo>() == 16);

/// A layer's path as the function `call` gets it.
fn layer_path(call: &str, path: &Path) -> OsString {
    path.to_str()
        .map_or_else(|| path.as_os_str().to_owned(), |text| long_path::for_layer_function(call, text).into())
}

/// A layer as an argument of the functions.
struct Layer {
    flavour: u32,
    path: OsString,
    wide: Vec<u16>,
}

impl Layer {
    fn new(call: &'static str, info: &DriverInfo, id: &str) -> Result<Self> {
        let path = layer_path(call, &info.layer(id));
        Ok(Self { flavour: info.flavour, wide: wide(call, &path)?, path })
    }

    fn id(&self) -> PCWSTR {
        self.wide.as_ptr()
    }

    fn info(&self) -> RawDriverInfo {
        RawDriverInfo { flavour: self.flavour, home: EMPTY.as_ptr() }
    }

    fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }
}

const EMPTY: [u16; 1] = [0];

/// Parents as an argument of the functions. The paths live as long as the descriptors that point to them.
struct Descriptors {
    raw: Vec<RawDescriptor>,
    _paths: Vec<Vec<u16>>,
}

impl Descriptors {
    fn new(call: &'static str, parents: &[LayerDescriptor]) -> Result<Self> {
        let paths =
            parents.iter().map(|parent| wide(call, plain(&parent.path))).collect::<Result<Vec<_>>>()?;
        let raw = parents
            .iter()
            .zip(&paths)
            .map(|(parent, path)| RawDescriptor { id: parent.id, flags: parent.flags, path: path.as_ptr() })
            .collect();
        Ok(Self { raw, _paths: paths })
    }

    /// Null without parents, as in hcsshim.
    fn first(&self) -> *const RawDescriptor {
        if self.raw.is_empty() { ptr::null() } else { self.raw.as_ptr() }
    }
}

fn shown(parents: &[LayerDescriptor]) -> String {
    let parents = parents.iter().map(|parent| format!("{} {}", parent.id, parent.path.display()));
    format!("[{}]", parents.collect::<Vec<_>>().join(", "))
}

/// A function that takes a layer and nothing else.
macro_rules! layer_call {
    ($(#[$doc:meta])* $function:ident, $name:ident) => {
        $(#[$doc])*
        pub(super) fn $function(table: &Table, info: &DriverInfo, id: &str) -> Result<()> {
            const CALL: &str = stringify!($name);
            let function = table.$name.get()?;
            let layer = Layer::new(CALL, info, id)?;
            // SAFETY: both arguments have the function's types and outlive the call; the text ends in zero.
            let result = unsafe { function(&layer.info(), layer.id()) };
            check_result(result, CALL, || layer.name())
        }
    };
}

layer_call!(activate, ActivateLayer);
layer_call!(deactivate, DeactivateLayer);
layer_call!(unprepare, UnprepareLayer);
layer_call!(destroy, DestroyLayer);

pub(super) fn prepare(table: &Table, info: &DriverInfo, id: &str, parents: &[LayerDescriptor]) -> Result<()> {
    const CALL: &str = "PrepareLayer";
    let function = table.PrepareLayer.get()?;
    let (layer, chain) = (Layer::new(CALL, info, id)?, Descriptors::new(CALL, parents)?);
    // SAFETY: the count of descriptors is right, and they and their targets outlive the call.
    let result = unsafe { function(&layer.info(), layer.id(), chain.first(), chain.raw.len()) };
    check_result(result, CALL, || format!("{}, {}", layer.name(), shown(parents)))
}

pub(super) fn create(table: &Table, info: &DriverInfo, id: &str, parent: &str) -> Result<()> {
    const CALL: &str = "CreateLayer";
    let function = table.CreateLayer.get()?;
    let (layer, parent_id) = (Layer::new(CALL, info, id)?, wide(CALL, parent)?);
    // SAFETY: all arguments are of the function's types and outlive the call; texts end in zero.
    let result = unsafe { function(&layer.info(), layer.id(), parent_id.as_ptr()) };
    check_result(result, CALL, || format!("{}, {parent}", layer.name()))
}

pub(super) fn create_sandbox(
    table: &Table,
    info: &DriverInfo,
    id: &str,
    parents: &[LayerDescriptor],
) -> Result<()> {
    const CALL: &str = "CreateSandboxLayer";
    let function = table.CreateSandboxLayer.get()?;
    let (layer, chain) = (Layer::new(CALL, info, id)?, Descriptors::new(CALL, parents)?);
    // SAFETY: the count of descriptors is right, and they and their targets outlive the call. The parent is
    // null, as in hcsshim: the descriptors name it.
    let result = unsafe { function(&layer.info(), layer.id(), ptr::null(), chain.first(), chain.raw.len()) };
    check_result(result, CALL, || format!("{}, {}", layer.name(), shown(parents)))
}

pub(super) fn expand(table: &Table, info: &DriverInfo, id: &str, size: u64) -> Result<()> {
    const CALL: &str = "ExpandSandboxSize";
    let function = table.ExpandSandboxSize.get()?;
    let layer = Layer::new(CALL, info, id)?;
    // SAFETY: all arguments are of the function's types and outlive the call; the text ends in zero.
    let result = unsafe { function(&layer.info(), layer.id(), size) };
    check_result(result, CALL, || format!("{}, {size}", layer.name()))
}

/// `ExportLayer` or `ImportLayer`.
type TransferFunction =
    unsafe extern "system" fn(*const RawDriverInfo, PCWSTR, PCWSTR, *const RawDescriptor, usize) -> HRESULT;

fn transfer(
    call: &'static str,
    function: TransferFunction,
    info: &DriverInfo,
    id: &str,
    folder: &Path,
    parents: &[LayerDescriptor],
) -> Result<()> {
    let (layer, chain) = (Layer::new(call, info, id)?, Descriptors::new(call, parents)?);
    let path = wide(call, plain(folder))?;
    // SAFETY: the count of descriptors is right, and all arguments and their targets outlive the call; texts
    // end in zero.
    let result =
        unsafe { function(&layer.info(), layer.id(), path.as_ptr(), chain.first(), chain.raw.len()) };
    check_result(result, call, || format!("{}, {}, {}", layer.name(), folder.display(), shown(parents)))
}

pub(super) fn export(
    table: &Table,
    info: &DriverInfo,
    id: &str,
    target: &Path,
    parents: &[LayerDescriptor],
) -> Result<()> {
    transfer("ExportLayer", table.ExportLayer.get()?, info, id, target, parents)
}

pub(super) fn import(
    table: &Table,
    info: &DriverInfo,
    id: &str,
    source: &Path,
    parents: &[LayerDescriptor],
) -> Result<()> {
    transfer("ImportLayer", table.ImportLayer.get()?, info, id, source, parents)
}

/// Calls the function twice: for the length, and for the path.
pub(super) fn mount_path(table: &Table, info: &DriverInfo, id: &str) -> Result<Option<PathBuf>> {
    const CALL: &str = "GetLayerMountPath";
    let function = table.GetLayerMountPath.get()?;
    let layer = Layer::new(CALL, info, id)?;
    let mut length = 0;
    // SAFETY: all arguments are of the function's types and outlive the call; without a buffer only the
    // length is written.
    let result = unsafe { function(&layer.info(), layer.id(), &raw mut length, ptr::null_mut()) };
    check_result(result, CALL, || format!("{}, first call", layer.name()))?;
    if length == 0 {
        answered(CALL, "no path");
        return Ok(None);
    }
    let mut buffer = vec![0; length];
    // SAFETY: the buffer has `length` units.
    let result = unsafe { function(&layer.info(), layer.id(), &raw mut length, buffer.as_mut_ptr()) };
    check_result(result, CALL, || format!("{}, second call", layer.name()))?;
    let path = text(&buffer);
    answered(CALL, &path.to_string_lossy());
    Ok((!path.is_empty()).then(|| path.into()))
}

pub(super) fn exists(table: &Table, info: &DriverInfo, id: &str) -> Result<bool> {
    const CALL: &str = "LayerExists";
    let function = table.LayerExists.get()?;
    let layer = Layer::new(CALL, info, id)?;
    let mut exists = 0;
    // SAFETY: all arguments are of the function's types and outlive the call.
    let result = unsafe { function(&layer.info(), layer.id(), &raw mut exists) };
    check_result(result, CALL, || layer.name())?;
    answered(CALL, &exists.to_string());
    Ok(exists != 0)
}

pub(super) fn base_images(table: &Table) -> Result<String> {
    const CALL: &str = "GetBaseImages";
    let function = table.GetBaseImages.get()?;
    let mut images = TaskString::empty();
    // SAFETY: the function fills in text that its owner frees.
    let result = unsafe { function(images.out()) };
    check_result(result, CALL, String::new)?;
    images.take().ok_or_else(|| Error::invalid(CALL, "", "it gave no text"))
}

pub(super) fn name_to_guid(table: &Table, name: &str) -> Result<Guid> {
    const CALL: &str = "NameToGuid";
    let function = table.NameToGuid.get()?;
    let units = wide(CALL, name)?;
    let mut guid = Guid::default();
    // SAFETY: the text ends in zero, and the GUID has Windows' layout.
    let result = unsafe { function(units.as_ptr(), &raw mut guid) };
    check_result(result, CALL, || name.to_owned())?;
    answered(CALL, &guid.to_string());
    Ok(guid)
}

fn process(
    call: &'static str,
    function: unsafe extern "system" fn(PCWSTR) -> HRESULT,
    path: &Path,
) -> Result<()> {
    let units = wide(call, layer_path(call, path))?;
    // SAFETY: the text ends in zero and outlives the call.
    let result = unsafe { function(units.as_ptr()) };
    check_result(result, call, || path.display().to_string())
}

pub(super) fn process_base_image(table: &Table, path: &Path) -> Result<()> {
    process("ProcessBaseImage", table.ProcessBaseImage.get()?, path)
}

pub(super) fn process_utility_image(table: &Table, path: &Path) -> Result<()> {
    process("ProcessUtilityImage", table.ProcessUtilityImage.get()?, path)
}

pub(super) fn grant_vm_access(table: &Table, vm: &str, path: &Path) -> Result<()> {
    const CALL: &str = "GrantVmAccess";
    let function = table.GrantVmAccess.get()?;
    let (vm_id, file) = (wide(CALL, vm)?, wide(CALL, plain(path))?);
    // SAFETY: both texts end in zero and outlive the call.
    let result = unsafe { function(vm_id.as_ptr(), file.as_ptr()) };
    check_result(result, CALL, || format!("{vm}, {}", path.display()))
}
