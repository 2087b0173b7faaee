//! The layer functions of `vmcompute.dll`. Source of the signatures: hcsshim `internal/wclayer/wclayer.go`,
//! `layerutils.go`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::call::{Outcome, call};
use crate::code::Code;
use crate::disks;
use crate::sandbox::{self, DISK, State};
use crate::state::control;
use crate::text::{allocated, read, shown, wide};
use crate::{long_paths, privileges, transport, tree, volumes};

/// `struct DriverInfo`.
#[repr(C)]
struct DriverInfo {
    flavour: u32,
    home: *const u16,
}

/// `GUID`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Guid {
    data1: u32,
    data2: u16,
    data3: u16,
    data4: [u8; 8],
}

/// `WC_LAYER_DESCRIPTOR`.
#[repr(C)]
struct Descriptor {
    id: Guid,
    flags: u32,
    path: *const u16,
}

impl Guid {
    fn shown(self) -> String {
        let Self { data1, data2, data3, data4 } = self;
        format!(
            "{data1:08x}-{data2:04x}-{data3:04x}-{}-{}",
            hex::encode(&data4[..2]),
            hex::encode(&data4[2..])
        )
    }
}

/// A layer from the arguments of a function: its directory, and the arguments for the record.
struct Layer {
    dir: PathBuf,
    args: Map<String, Value>,
}

impl Layer {
    /// # Safety
    /// `info` leads to a `DriverInfo`, its home and `id` are texts.
    unsafe fn new(info: *const DriverInfo, id: *const u16) -> Self {
        // SAFETY: the caller guarantees it.
        let (flavour, home, id) = unsafe { ((*info).flavour, read((*info).home), read(id)) };
        let mut args = Map::new();
        args.insert("flavour".into(), json!(flavour));
        args.insert("home".into(), json!(home.to_string_lossy()));
        args.insert("id".into(), json!(id.to_string_lossy()));
        Self { dir: Path::new(&home).join(id), args }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.args.insert(name.into(), value);
        self
    }

    fn call(self, name: &str, work: impl FnOnce(&Path) -> Outcome) -> i32 {
        let Self { dir, args } = self;
        call(name, Value::Object(args), || work(&dir))
    }
}

/// The parents for the record, and their paths.
///
/// # Safety
/// There are `count` descriptors, whose paths are texts.
unsafe fn parents(first: *const Descriptor, count: usize) -> (Value, Vec<PathBuf>) {
    // SAFETY: the caller guarantees it.
    let all = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(first, count) } };
    let mut paths = Vec::new();
    let mut args = Vec::new();
    for parent in all {
        // SAFETY: the caller guarantees it.
        let path = unsafe { read(parent.path) };
        args.push(json!({"id": parent.id.shown(), "flags": parent.flags, "path": path.to_string_lossy()}));
        paths.push(path.into());
    }
    (Value::Array(args), paths)
}

/// The state of an existing layer; `None` for a read-only one.
fn state(layer: &Path) -> Result<Option<State>, Code> {
    if !layer.is_dir() {
        return Err(Code::PATH_NOT_FOUND);
    }
    Ok(State::load(layer)?)
}

fn sandbox_state(layer: &Path) -> Result<State, Code> {
    state(layer)?.ok_or(Code::INVALID_STATE)
}

fn refuse_unless(is_so: bool, code: Code) -> Outcome {
    if is_so { Ok(()) } else { Err(code) }
}

/// # Safety
/// As the function of vmcompute.dll: pointers are valid for their types, texts end in zero. This holds for
/// all of these functions.
#[unsafe(no_mangle)]
unsafe extern "system" fn ActivateLayer(info: *const DriverInfo, id: *const u16) -> i32 {
    // SAFETY: see the function.
    unsafe { Layer::new(info, id) }.call("ActivateLayer", |layer| {
        let Some(state) = state(layer)? else { return Ok(()) };
        refuse_unless(!state.active, Code::SHARING_VIOLATION)?;
        volumes::show(layer)?;
        Ok(State { active: true, ..state }.store(layer)?)
    })
}

/// # Safety
/// See [`ActivateLayer`].
#[unsafe(no_mangle)]
unsafe extern "system" fn DeactivateLayer(info: *const DriverInfo, id: *const u16) -> i32 {
    // SAFETY: see the function.
    unsafe { Layer::new(info, id) }.call("DeactivateLayer", |layer| {
        let Some(state) = state(layer)? else { return Ok(()) };
        refuse_unless(state.active && !state.prepared, Code::INVALID_STATE)?;
        volumes::hide(layer)?;
        Ok(State { active: false, ..state }.store(layer)?)
    })
}

/// # Safety
/// See [`ActivateLayer`]; there are `count` descriptors.
#[unsafe(no_mangle)]
unsafe extern "system" fn PrepareLayer(
    info: *const DriverInfo,
    id: *const u16,
    first: *const Descriptor,
    count: usize,
) -> i32 {
    // SAFETY: see the function.
    let (args, parents) = unsafe { parents(first, count) };
    // SAFETY: see the function.
    unsafe { Layer::new(info, id) }.with("parents", args).call("PrepareLayer", |layer| {
        let Some(state) = state(layer)? else { return Ok(()) };
        refuse_unless(state.active && !state.prepared, Code::INVALID_STATE)?;
        if !state.filled {
            sandbox::fill(layer, &parents)?;
        }
        Ok(State { prepared: true, filled: true, ..state }.store(layer)?)
    })
}

/// # Safety
/// See [`ActivateLayer`].
#[unsafe(no_mangle)]
unsafe extern "system" fn UnprepareLayer(info: *const DriverInfo, id: *const u16) -> i32 {
    // SAFETY: see the function.
    unsafe { Layer::new(info, id) }.call("UnprepareLayer", |layer| {
        let Some(state) = state(layer)? else { return Ok(()) };
        refuse_unless(state.prepared, Code::INVALID_STATE)?;
        Ok(State { prepared: false, ..state }.store(layer)?)
    })
}

/// # Safety
/// See [`ActivateLayer`].
#[unsafe(no_mangle)]
unsafe extern "system" fn CreateLayer(info: *const DriverInfo, id: *const u16, parent: *const u16) -> i32 {
    // SAFETY: see the function.
    let (parent, layer) = unsafe { (shown(parent), Layer::new(info, id)) };
    layer.with("parent", json!(parent)).call("CreateLayer", |layer| Ok(fs::create_dir(layer)?))
}

/// # Safety
/// See [`ActivateLayer`]; there are `count` descriptors.
#[unsafe(no_mangle)]
unsafe extern "system" fn CreateSandboxLayer(
    info: *const DriverInfo,
    id: *const u16,
    parent: *const u16,
    first: *const Descriptor,
    count: usize,
) -> i32 {
    // SAFETY: see the function.
    let ((args, parents), parent, layer) =
        unsafe { (parents(first, count), shown(parent), Layer::new(info, id)) };
    layer.with("parent", json!(parent)).with("parents", args).call("CreateSandboxLayer", |layer| {
        refuse_unless(parents.iter().all(|parent| parent.is_dir()), Code::PATH_NOT_FOUND)?;
        fs::create_dir(layer)?;
        Ok(fs::write(layer.join(DISK), b"")?)
    })
}

/// # Safety
/// See [`ActivateLayer`].
#[unsafe(no_mangle)]
unsafe extern "system" fn ExpandSandboxSize(info: *const DriverInfo, id: *const u16, size: u64) -> i32 {
    // SAFETY: see the function.
    unsafe { Layer::new(info, id) }.with("size", json!(size)).call("ExpandSandboxSize", |layer| {
        let state = sandbox_state(layer)?;
        refuse_unless(size >= state.size, Code::INVALID_PARAMETER)?;
        Ok(State { size, ..state }.store(layer)?)
    })
}

/// # Safety
/// See [`ActivateLayer`].
#[unsafe(no_mangle)]
unsafe extern "system" fn DestroyLayer(info: *const DriverInfo, id: *const u16) -> i32 {
    // SAFETY: see the function.
    unsafe { Layer::new(info, id) }.call("DestroyLayer", |layer| {
        let active = state(layer)?.is_some_and(|state| state.active);
        refuse_unless(!active, Code::SHARING_VIOLATION)?;
        volumes::remove(layer)?;
        Ok(tree::remove(layer, true)?)
    })
}

/// # Safety
/// See [`ActivateLayer`]; there are `count` descriptors.
#[unsafe(no_mangle)]
unsafe extern "system" fn ExportLayer(
    info: *const DriverInfo,
    id: *const u16,
    path: *const u16,
    first: *const Descriptor,
    count: usize,
) -> i32 {
    // SAFETY: see the function.
    let ((args, parents), path, layer) = unsafe { (parents(first, count), read(path), Layer::new(info, id)) };
    let layer = layer.with("path", json!(path.to_string_lossy())).with("parents", args);
    layer.call("ExportLayer", |layer| {
        privileges::need_backup()?;
        let prepared = state(layer)?.is_some_and(|state| state.prepared);
        refuse_unless(!prepared, Code::INVALID_STATE)?;
        transport::export(layer, Path::new(&path), &parents)?;
        long_paths::check_process(Path::new(&path))
    })
}

/// # Safety
/// See [`ActivateLayer`]; there are `count` descriptors.
#[unsafe(no_mangle)]
unsafe extern "system" fn ImportLayer(
    info: *const DriverInfo,
    id: *const u16,
    path: *const u16,
    first: *const Descriptor,
    count: usize,
) -> i32 {
    // SAFETY: see the function.
    let ((args, parents), path, layer) = unsafe { (parents(first, count), read(path), Layer::new(info, id)) };
    let layer = layer.with("path", json!(path.to_string_lossy())).with("parents", args);
    layer.call("ImportLayer", |layer| {
        privileges::need_backup_and_restore()?;
        refuse_unless(parents.iter().all(|parent| parent.is_dir()), Code::PATH_NOT_FOUND)?;
        long_paths::check_process(Path::new(&path))?;
        transport::import(layer, Path::new(&path), &parents)?;
        long_paths::check(layer)
    })
}

/// # Safety
/// See [`ActivateLayer`]; `length` points to a number, `buffer` is null or has that many units.
#[unsafe(no_mangle)]
unsafe extern "system" fn GetLayerMountPath(
    info: *const DriverInfo,
    id: *const u16,
    length: *mut usize,
    buffer: *mut u16,
) -> i32 {
    // SAFETY: see the function.
    let layer = unsafe { Layer::new(info, id) }.with("buffer", json!(!buffer.is_null()));
    layer.call("GetLayerMountPath", |layer| {
        let path = match (control().mount_path, state(layer)?) {
            (Some(path), _) => path,
            (None, None) => layer.to_string_lossy().into_owned(),
            (None, Some(state)) if state.active || disks::is_attached(layer) => {
                volumes::show(layer)?;
                volumes::name(layer)?
            }
            (None, Some(_)) => return Err(Code::NOT_FOUND),
        };
        let units = if path.is_empty() { Vec::new() } else { wide(&path) };
        // SAFETY: see the function.
        unsafe {
            if !buffer.is_null() {
                let count = units.len().min(*length);
                buffer.copy_from_nonoverlapping(units.as_ptr(), count);
            }
            *length = units.len();
        }
        Ok(())
    })
}

/// # Safety
/// See [`ActivateLayer`]; `exists` leads to a number.
#[unsafe(no_mangle)]
unsafe extern "system" fn LayerExists(info: *const DriverInfo, id: *const u16, exists: *mut u32) -> i32 {
    // SAFETY: see the function.
    unsafe { Layer::new(info, id) }.call("LayerExists", |layer| {
        // SAFETY: see the function.
        unsafe { *exists = u32::from(layer.is_dir()) };
        Ok(())
    })
}

/// # Safety
/// `images` leads to a pointer, which gets a text to free.
#[unsafe(no_mangle)]
unsafe extern "system" fn GetBaseImages(images: *mut *mut u16) -> i32 {
    call("GetBaseImages", json!({}), || {
        let text = control().base_images.unwrap_or_else(|| r#"{"Images":[]}"#.into());
        // SAFETY: see the function.
        unsafe { *images = allocated(&text) };
        Ok(())
    })
}

/// The same name always gives the same GUID, and another name another.
///
/// # Safety
/// `name` is a text, `guid` leads to a GUID.
#[unsafe(no_mangle)]
unsafe extern "system" fn NameToGuid(name: *const u16, guid: *mut Guid) -> i32 {
    // SAFETY: see the function.
    let name = unsafe { shown(name) };
    call("NameToGuid", json!({"name": name}), || {
        // FNV-1a, 128 bits.
        let hash =
            name.to_lowercase().bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
            });
        let [data1 @ .., _, _, _, _, _, _, _, _, _, _, _, _] = hash.to_be_bytes();
        let [_, _, _, _, a, b, c, d, data4 @ ..] = hash.to_be_bytes();
        let new = Guid {
            data1: u32::from_be_bytes(data1),
            data2: u16::from_be_bytes([a, b]),
            data3: u16::from_be_bytes([c, d]),
            data4,
        };
        // SAFETY: see the function.
        unsafe { guid.write(new) };
        Ok(())
    })
}

/// Makes those files that do not exist yet.
fn make(dir: &Path, names: &[&str]) -> Outcome {
    names.iter().try_for_each(|name| Ok(fs::write(dir.join(name), b"")?))
}

/// # Safety
/// `path` is a text.
#[unsafe(no_mangle)]
unsafe extern "system" fn ProcessBaseImage(path: *const u16) -> i32 {
    // SAFETY: see the function.
    let path = PathBuf::from(unsafe { read(path) });
    call("ProcessBaseImage", json!({"path": path.to_string_lossy()}), || {
        privileges::need_backup_and_restore()?;
        refuse_unless(path.join("Files").is_dir(), Code::PATH_NOT_FOUND)?;
        long_paths::check(&path)?;
        make(&path, &["blank-base.vhdx", "blank.vhdx", "layout"])
    })
}

/// # Safety
/// `path` is a text.
#[unsafe(no_mangle)]
unsafe extern "system" fn ProcessUtilityImage(path: *const u16) -> i32 {
    // SAFETY: see the function.
    let path = PathBuf::from(unsafe { read(path) });
    call("ProcessUtilityImage", json!({"path": path.to_string_lossy()}), || {
        privileges::need_backup_and_restore()?;
        refuse_unless(path.join("Files").is_dir(), Code::PATH_NOT_FOUND)?;
        long_paths::check(&path)?;
        make(&path, &["SystemTemplateBase.vhdx", "SystemTemplate.vhdx"])
    })
}

/// # Safety
/// Both are texts.
#[unsafe(no_mangle)]
unsafe extern "system" fn GrantVmAccess(vm: *const u16, path: *const u16) -> i32 {
    // SAFETY: see the function.
    let (vm, path) = unsafe { (shown(vm), shown(path)) };
    call("GrantVmAccess", json!({"vm": vm, "path": path}), || {
        refuse_unless(Path::new(&path).exists(), Code::FILE_NOT_FOUND)
    })
}
