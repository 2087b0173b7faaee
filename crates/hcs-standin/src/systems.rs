//! Compute systems, as `control.json` has them. Source: hcsshim `internal/vmcompute/vmcompute.go`,
//! `internal/hcs/callback.go`.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::call::call;
use crate::code::Code;
use crate::state::{control, parse_code};
use crate::text::{allocated, shown};

/// Gets the event, its context, the status, and details.
type Callback = unsafe extern "system" fn(u32, *const c_void, i32, *const u16);

const SYSTEM_EXITED: u32 = 1;

#[derive(Default)]
struct Systems {
    next: usize,
    /// Open systems, by handle.
    open: BTreeMap<usize, String>,
    /// By callback handle: the system's handle, the function, its context's address.
    callbacks: BTreeMap<usize, (usize, Callback, usize)>,
    /// IDs of terminated systems.
    ended: Vec<String>,
    /// Callbacks that are running: unregistering waits for them, as the service does.
    running: usize,
}

static SYSTEMS: Mutex<Option<Systems>> = Mutex::new(None);
static IDLE: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Option<Systems>> {
    let mut guard = SYSTEMS.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_default();
    guard
}

fn with<T>(work: impl FnOnce(&mut Systems) -> T) -> T {
    work(lock().get_or_insert_default())
}

/// The ID of an open system.
fn id_of(handle: *mut c_void) -> Option<String> {
    with(|systems| systems.open.get(&(handle as usize)).cloned())
}

/// Systems of the control file that have not ended.
fn living() -> Vec<Value> {
    let ended = with(|systems| systems.ended.clone());
    let lives = |system: &Value| !ended.iter().any(|id| system["Id"] == **id);
    control().systems.into_iter().filter(lives).collect()
}

/// Sets the details to null: nothing here has any.
///
/// # Safety
/// `result` is null or leads to a pointer.
unsafe fn no_details(result: *mut *mut u16) {
    if !result.is_null() {
        // SAFETY: the caller guarantees it.
        unsafe { *result = ptr::null_mut() };
    }
}

/// # Safety
/// As the function of vmcompute.dll: texts end in zero, pointers are valid for their types. This holds for
/// all of these functions.
#[unsafe(no_mangle)]
unsafe extern "system" fn HcsEnumerateComputeSystems(
    query: *const u16,
    systems: *mut *mut u16,
    result: *mut *mut u16,
) -> i32 {
    // SAFETY: see the function.
    let query = unsafe {
        no_details(result);
        shown(query)
    };
    call("HcsEnumerateComputeSystems", json!({"query": query}), || {
        let mut found = living();
        for system in &mut found {
            if let Some(fields) = system.as_object_mut() {
                fields.remove("standin");
            }
        }
        // SAFETY: see the function.
        unsafe { *systems = allocated(&Value::Array(found).to_string()) };
        Ok(())
    })
}

/// # Safety
/// See [`HcsEnumerateComputeSystems`].
#[unsafe(no_mangle)]
unsafe extern "system" fn HcsOpenComputeSystem(
    id: *const u16,
    handle: *mut *mut c_void,
    result: *mut *mut u16,
) -> i32 {
    // SAFETY: see the function.
    let id = unsafe {
        no_details(result);
        shown(id)
    };
    call("HcsOpenComputeSystem", json!({"id": id}), || {
        if !living().iter().any(|system| system["Id"] == *id) {
            return Err(Code::SYSTEM_NOT_FOUND);
        }
        let new = with(|systems| {
            systems.next += 1;
            systems.open.insert(systems.next, id.clone());
            systems.next
        });
        // SAFETY: see the function.
        unsafe { *handle = new as *mut c_void };
        Ok(())
    })
}

/// # Safety
/// See [`HcsEnumerateComputeSystems`].
#[unsafe(no_mangle)]
unsafe extern "system" fn HcsTerminateComputeSystem(
    handle: *mut c_void,
    options: *const u16,
    result: *mut *mut u16,
) -> i32 {
    // SAFETY: see the function.
    let options = unsafe {
        no_details(result);
        shown(options)
    };
    let id = id_of(handle);
    call("HcsTerminateComputeSystem", json!({"id": id, "options": options}), || {
        let id = id.ok_or(Code::INVALID_PARAMETER)?;
        let Some(system) = living().into_iter().find(|system| system["Id"] == *id) else {
            return Err(Code::SYSTEM_ALREADY_STOPPED);
        };
        let exit = system["standin"]["exit"].as_str().map_or(0, |code| parse_code(code).cast_signed());
        with(|systems| systems.ended.push(id));
        let handle = handle as usize;
        match system["standin"]["terminate"].as_str().unwrap_or("done") {
            "done" => {
                notify(handle, exit);
                Ok(())
            }
            "pending" => {
                std::thread::spawn(move || notify(handle, exit));
                Err(Code::OPERATION_PENDING)
            }
            "already-stopped" => Err(Code::SYSTEM_ALREADY_STOPPED),
            other => crate::state::fatal(&format!(
                "terminate: {other:?} is none of done, pending, already-stopped"
            )),
        }
    })
}

/// Runs the callbacks that are registered for the system's end.
fn notify(handle: usize, status: i32) {
    let callbacks = with(|systems| {
        systems.running += 1;
        systems.callbacks.values().filter(|(of, ..)| *of == handle).copied().collect::<Vec<_>>()
    });
    for (_, function, context) in callbacks {
        // SAFETY: the caller keeps the context until the callback is unregistered, which waits for this.
        unsafe { function(SYSTEM_EXITED, context as *const c_void, status, ptr::null()) };
    }
    with(|systems| systems.running -= 1);
    IDLE.notify_all();
}

/// # Safety
/// See [`HcsEnumerateComputeSystems`].
#[unsafe(no_mangle)]
unsafe extern "system" fn HcsCloseComputeSystem(handle: *mut c_void) -> i32 {
    let id = id_of(handle);
    call("HcsCloseComputeSystem", json!({"id": id}), || {
        let closed = with(|systems| systems.open.remove(&(handle as usize)));
        closed.map(drop).ok_or(Code::INVALID_PARAMETER)
    })
}

/// # Safety
/// See [`HcsEnumerateComputeSystems`]; `context` is valid until the callback is unregistered.
#[unsafe(no_mangle)]
unsafe extern "system" fn HcsRegisterComputeSystemCallback(
    handle: *mut c_void,
    callback: Callback,
    context: *const c_void,
    callback_handle: *mut *mut c_void,
) -> i32 {
    let id = id_of(handle);
    call("HcsRegisterComputeSystemCallback", json!({"id": id}), || {
        id.as_ref().ok_or(Code::INVALID_PARAMETER)?;
        let new = with(|systems| {
            systems.next += 1;
            systems.callbacks.insert(systems.next, (handle as usize, callback, context as usize));
            systems.next
        });
        // SAFETY: see the function.
        unsafe { *callback_handle = new as *mut c_void };
        Ok(())
    })
}

/// # Safety
/// See [`HcsEnumerateComputeSystems`].
#[unsafe(no_mangle)]
unsafe extern "system" fn HcsUnregisterComputeSystemCallback(callback_handle: *mut c_void) -> i32 {
    let removed = with(|systems| systems.callbacks.remove(&(callback_handle as usize)));
    let id = removed.and_then(|(handle, ..)| id_of(handle as *mut c_void));
    call("HcsUnregisterComputeSystemCallback", json!({"id": id}), || {
        let mut systems = lock();
        while systems.as_ref().is_some_and(|systems| systems.running > 0) {
            systems = IDLE.wait(systems).unwrap_or_else(PoisonError::into_inner);
        }
        removed.map(drop).ok_or(Code::INVALID_PARAMETER)
    })
}
