//! Compute systems (containers and utility VMs): finding and ending those that are in the way.
//!
//! Source: hcsshim `internal/hcs/system.go`, `callback.go`, `waithelper.go`.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::core::{HRESULT, PCWSTR};

use super::strings::{TaskString, wide};
use super::table::Table;
use crate::error::{Code, Error, Result};
use crate::host::{ComputeSystem, Termination};

/// `HCS_NOTIFICATION_CALLBACK`: the event, the context, the status, the details (JSON or null).
pub(super) type NotificationCallback = unsafe extern "system" fn(u32, *const c_void, HRESULT, PCWSTR);

/// `HcsNotificationSystemExited`.
const SYSTEM_EXITED: u32 = 1;
/// `HcsNotificationServiceDisconnect`.
const SERVICE_DISCONNECT: u32 = 0x0100_0000;

/// Checks a result of the service: its code, and its own message.
fn check(result: HRESULT, call: &'static str, arguments: &str, details: TaskString) -> Result<()> {
    let Some(code) = Code::of_hresult(result) else { return Ok(()) };
    let mut error = Error::new(call, arguments, code);
    if let Some(details) = details.take().filter(|details| !details.is_empty()) {
        error.text = format!("{}: {details}", error.text);
    }
    Err(error)
}

pub(super) fn enumerate(table: &Table, query: &str) -> Result<String> {
    const CALL: &str = "HcsEnumerateComputeSystems";
    let function = table.HcsEnumerateComputeSystems.get()?;
    let units = wide(CALL, query)?;
    let (mut found, mut details) = (TaskString::empty(), TaskString::empty());
    // SAFETY: the text ends in zero; their owners free both results.
    let result = unsafe { function(units.as_ptr(), found.out(), details.out()) };
    check(result, CALL, query, details)?;
    found.take().ok_or_else(|| Error::invalid(CALL, query, "it gave no list"))
}

/// The result of a system, once it has ended.
#[derive(Default)]
struct Exit {
    result: Mutex<Option<Result<(), Code>>>,
    known: Condvar,
}

/// An open compute system.
pub(super) struct OpenSystem {
    table: Arc<Table>,
    id: String,
    handle: HANDLE,
    callback: HANDLE,
    /// Shared with the callback, which gets the address of this.
    exit: Arc<Exit>,
}

/// Called by the service on a thread of its own.
///
/// # Safety
/// `context` is the address of an [`Exit`] that lives until the callback has been unregistered.
unsafe extern "system" fn notified(kind: u32, context: *const c_void, status: HRESULT, _: PCWSTR) {
    let result = match kind {
        SYSTEM_EXITED => Code::of_hresult(status).map_or(Ok(()), Err),
        SERVICE_DISCONNECT => Err(Code::SERVICE_DISCONNECTED),
        _ => return,
    };
    // SAFETY: see above: the owner unregisters the callback before it drops its reference.
    let exit = unsafe { &*context.cast::<Exit>() };
    exit.result.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(result);
    exit.known.notify_all();
}

pub(super) fn open(table: &Arc<Table>, id: &str) -> Result<OpenSystem> {
    const CALL: &str = "HcsOpenComputeSystem";
    let function = table.HcsOpenComputeSystem.get()?;
    let units = wide(CALL, id)?;
    let (mut handle, mut details) = (ptr::null_mut(), TaskString::empty());
    // SAFETY: the text ends in zero; the details are freed by their owner.
    let result = unsafe { function(units.as_ptr(), &raw mut handle, details.out()) };
    check(result, CALL, id, details)?;
    let mut system = OpenSystem {
        table: Arc::clone(table),
        id: id.to_owned(),
        handle,
        callback: ptr::null_mut(),
        exit: Arc::default(),
    };
    system.register()?;
    Ok(system)
}

impl OpenSystem {
    /// Registers the callback for the system's end.
    fn register(&mut self) -> Result<()> {
        const CALL: &str = "HcsRegisterComputeSystemCallback";
        let function = self.table.HcsRegisterComputeSystemCallback.get()?;
        let context = Arc::as_ptr(&self.exit).cast();
        // SAFETY: the handle is open; the context lives until `drop` has unregistered the callback.
        let result = unsafe { function(self.handle, notified, context, &raw mut self.callback) };
        check(result, CALL, &self.id, TaskString::empty())
    }

    fn close(&mut self) -> Result<()> {
        if !self.callback.is_null() {
            let function = self.table.HcsUnregisterComputeSystemCallback.get()?;
            // SAFETY: registered, and not yet unregistered. After the function returns, the service no longer
            // calls back.
            let result = unsafe { function(self.callback) };
            check(result, "HcsUnregisterComputeSystemCallback", &self.id, TaskString::empty())?;
            self.callback = ptr::null_mut();
        }
        let function = self.table.HcsCloseComputeSystem.get()?;
        // SAFETY: the handle is open and closed here only.
        let result = unsafe { function(self.handle) };
        check(result, "HcsCloseComputeSystem", &self.id, TaskString::empty())
    }
}

impl ComputeSystem for OpenSystem {
    fn terminate(&self) -> Result<Termination> {
        const CALL: &str = "HcsTerminateComputeSystem";
        let function = self.table.HcsTerminateComputeSystem.get()?;
        let options = wide(CALL, "")?;
        let mut details = TaskString::empty();
        // SAFETY: the handle is open, the text ends in zero, the details are freed by their owner.
        let result = unsafe { function(self.handle, options.as_ptr(), details.out()) };
        match check(result, CALL, &self.id, details) {
            Ok(()) => Ok(Termination::Done),
            Err(error) if error.code == Code::OPERATION_PENDING => Ok(Termination::Pending),
            Err(error) if error.code.is_already_stopped() => Ok(Termination::AlreadyStopped),
            Err(error) => Err(error),
        }
    }

    fn wait(&self) -> Result<()> {
        let mut result = self.exit.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *result {
                // It has ended, which is all that matters.
                Some(Ok(()) | Err(Code::UNEXPECTED_EXIT)) => return Ok(()),
                Some(Err(code)) => {
                    return Err(Error::new("wait for the end of the compute system", &self.id, code));
                }
                None => result = self.exit.known.wait(result).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Drop for OpenSystem {
    fn drop(&mut self) {
        if self.close().is_err() && !self.callback.is_null() {
            // The service may still call back, so keep the context alive.
            std::mem::forget(Arc::clone(&self.exit));
        }
    }
}
