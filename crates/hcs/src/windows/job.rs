//! Children that end with this process, even if it is killed.
//!
//! Source: Microsoft, "Job Objects": `JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE`; the system closes a process's
//! handles when it ends.

use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::process::Child;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};

use super::handle::{check, owned};
use crate::error::Result;

/// This process's job. Only the system closes it.
static JOB: Mutex<Option<OwnedHandle>> = Mutex::new(None);

/// Makes Windows end `child` with this process.
pub(super) fn add(child: &Child) -> Result<()> {
    let mut job = JOB.lock().unwrap_or_else(PoisonError::into_inner);
    let job = match &mut *job {
        Some(job) => job,
        none => none.insert(new_job()?),
    };
    // SAFETY: both handles are open.
    let assigned = unsafe { AssignProcessToJobObject(job.as_raw_handle(), child.as_raw_handle()) };
    check(assigned, "AssignProcessToJobObject", || format!("process {}", child.id()))
}

fn new_job() -> Result<OwnedHandle> {
    // SAFETY: no attributes and no name are passed, so no child inherits the handle and keeps the job open.
    let handle = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
    let job = owned(handle, "CreateJobObject", String::new)?;
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    // SAFETY: the class belongs to the structure, whose size is said.
    let set = unsafe {
        SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
        )
    };
    check(set, "SetInformationJobObject", String::new).map(|()| job)
}
