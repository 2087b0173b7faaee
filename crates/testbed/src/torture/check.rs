//! Checks after a fault, the same for every operation and point.
//!
//! 1. The operation's report is true: on success all of it is done; on failure it said why and left nothing
//!    behind.
//! 2. `cleanup` (if the store was damaged before: `fsck --repair`) removes the leftovers of killed
//!    processes; then `fsck` finds nothing wrong.
//! 3. Every fact is as before the operation or as after it, and every layer verifies.
//! 4. The operation can be run again and leads to the state after it, and everything can be unmounted.
//! 5. There is no file that an undisturbed run does not leave, and no mount or loop device is left.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::calls;
use super::operations::{BOX, Operation, Place};
use super::state::{self, State};
use super::tracer::{Call, Fault, Traced};
use programs::error::{Error, IoContext, Result};
use programs::mounts;
use programs::process::output;

/// The result of an undisturbed run.
pub struct Reference {
    /// The store before it.
    pub before: State,
    /// The store after it.
    pub after: State,
    /// The store's files after it, once everything is unmounted and cleaned up.
    pub files: State,
    /// Its calls that change something.
    pub calls: Vec<Call>,
    /// Whether mounts are compared: they do not survive a reboot.
    pub mounts_count: bool,
}

impl Reference {
    /// The same after a reboot.
    #[must_use]
    pub fn rebooted(mut self) -> Self {
        self.mounts_count = false;
        (self.before, self.after) = (unmounted(self.before), unmounted(self.after));
        self
    }

    /// The facts to compare with this.
    fn facts(&self, place: &Place<'_>, operation: &Operation) -> Result<State> {
        let state = state::read(&place.root, !operation.writes)?;
        Ok(if self.mounts_count { state } else { unmounted(state) })
    }
}

fn unmounted(mut state: State) -> State {
    state.retain(|name, _| !name.starts_with("mounted "));
    state
}

/// How much a struck operation had done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Before,
    /// Some of it.
    Between,
    /// All of it.
    After,
}

fn problem<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Unexpected(text.into()))
}

fn no_differences(what: &str, differences: &[String]) -> Result<()> {
    if differences.is_empty() { Ok(()) } else { problem(format!("{what}: {}", differences.join("; "))) }
}

/// Runs a command of the tool; returns its exit code and output.
///
/// # Errors
/// If it cannot be started.
pub fn tool(command: &[String]) -> Result<(i32, String)> {
    // A command that hangs is a finding, too.
    let mut limited = Command::new("timeout");
    limited.args(["--signal=KILL", "60"]).args(command).stdin(Stdio::null());
    let out = limited.output().map_err(|source| Error::Start { program: command.join(" "), source })?;
    let text = [out.stdout, out.stderr].concat();
    Ok((out.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).trim_end().replace('\n', " | ")))
}

fn ask(place: &Place<'_>, args: &[&str]) -> Result<(i32, String)> {
    tool(&place.inputs.command(&place.root, args))
}

/// Runs a command of the tool that must succeed.
///
/// # Errors
/// If it fails.
pub fn must(place: &Place<'_>, args: &[&str]) -> Result<()> {
    match ask(place, args)? {
        (0, _) => Ok(()),
        (code, text) => problem(format!("`{}` ends with {code}: {text}", args.join(" "))),
    }
}

/// Runs all checks.
///
/// # Errors
/// The first violated check.
pub fn after_fault(
    place: &Place<'_>,
    operation: &Operation,
    reference: &Reference,
    (traced, fault): (&Traced, Fault),
    log: &Path,
) -> Result<Outcome> {
    what_it_said(place, operation, reference, (traced, fault), log)?;
    let tidy: &[&str] = if operation.whole { &["cleanup"] } else { &["fsck", "--repair"] };
    must(place, tidy)?;
    must(place, &["fsck"])?;
    no_process_is_stuck(place)?;
    let reached = reference.facts(place, operation)?;
    let Reference { before, after, .. } = reference;
    no_differences("after cleanup", &state::neither(&reached, before, after))?;
    state::verify(&place.root)?;
    again(place, operation, reference)?;
    finish(place, reference)?;
    Ok(match reached {
        reached if reached == *before => Outcome::Before,
        reached if reached == *after => Outcome::After,
        _ => Outcome::Between,
    })
}

/// Checks that an operation did what it reported, or left nothing behind.
///
/// # Errors
/// If it did not, or failed without a message.
pub fn what_it_said(
    place: &Place<'_>,
    operation: &Operation,
    reference: &Reference,
    (traced, fault): (&Traced, Fault),
    log: &Path,
) -> Result<()> {
    let said = fs::read_to_string(log).at(log)?.trim_end().replace('\n', " | ");
    if said.contains("panicked at") {
        return problem(format!("it panicked: {said}"));
    }
    let Some(code) = traced.code else { return Ok(()) };
    if code == 0 {
        let state = reference.facts(place, operation)?;
        return no_differences("it claims to be done", &state::difference(&state, &reference.after));
    }
    if !operation.writes && !said.contains("error:") && operation.whole {
        return problem(format!("it ended with {code} and did not say why: {said}"));
    }
    let removal = traced.struck.as_ref().is_some_and(|call| calls::is_removal(call.name));
    if fault.is_error() && operation.whole && !removal {
        let (code, text) = ask(place, &["fsck"])?;
        if code != 0 {
            return problem(format!("it failed ({said}) and left things behind: {text}"));
        }
    }
    Ok(())
}

/// A sandbox left frozen would block every writer for ever, even against signals.
fn no_process_is_stuck(place: &Place<'_>) -> Result<()> {
    let storage = place.root.join("mounts").join(BOX).join("storage");
    if storage.exists() && thaw(&storage) {
        return problem("the sandbox was left frozen");
    }
    Ok(())
}

/// Thaws a file system. Returns whether it was frozen.
pub fn thaw(dir: &Path) -> bool {
    output(Command::new("fsfreeze").arg("--unfreeze").arg(dir)).is_ok()
}

fn again(place: &Place<'_>, operation: &Operation, reference: &Reference) -> Result<()> {
    let read = || reference.facts(place, operation);
    let after = &reference.after;
    let was_done = read()? == *after;
    let (code, text) = tool(&(operation.command)(place))?;
    let known = operation.again.contains(&code);
    if code != 0 && !(known && (was_done || operation.finish.is_some())) {
        return problem(format!("run again, it ends with {code}: {text}"));
    }
    if let Some(command) = operation.finish {
        must(place, command)?;
    }
    no_differences("after running it again", &state::difference(&read()?, after))
}

/// Unmounts everything, cleans up and looks for leftovers.
fn finish(place: &Place<'_>, reference: &Reference) -> Result<()> {
    let files = rest(place)?;
    no_differences("files", &state::difference(&files, &reference.files))
}

/// Unmounts everything and cleans up; returns the remaining files.
///
/// # Errors
/// If something cannot be unmounted, or the remains are wrong.
pub fn rest(place: &Place<'_>) -> Result<State> {
    unmount_all(place)?;
    wait_for_reclaimers(&place.root)?;
    must(place, &["cleanup"])?;
    must(place, &["fsck"])?;
    nothing_is_mounted(place)?;
    state::files(&place.root)
}

/// Unmounts everything, each mount as often as it is counted.
///
/// # Errors
/// If something cannot be unmounted.
pub fn unmount_all(place: &Place<'_>) -> Result<()> {
    for id in mounted(place)? {
        must(place, &["umount", &id])?;
    }
    Ok(())
}

/// Like [`unmount_all`], after a lost write: the first attempt reports it, the second unmounts.
///
/// # Errors
/// If something cannot be unmounted.
pub fn unmount_all_with_losses(place: &Place<'_>) -> Result<()> {
    for id in mounted(place)? {
        match ask(place, &["umount", &id])? {
            (0, _) => {}
            (_, text) if text.contains("some of what was written here cannot be saved") => {
                must(place, &["umount", &id])?;
            }
            (code, text) => return problem(format!("`umount {id}` ends with {code}: {text}")),
        }
    }
    Ok(())
}

/// All mounts, each as often as it is counted.
fn mounted(place: &Place<'_>) -> Result<Vec<String>> {
    let store = state::open(&place.root)?;
    let failed = |e: windowsfilter::Error| Error::Unexpected(e.to_string());
    let mut ids = Vec::new();
    for id in store.layers().map_err(failed)? {
        let count = store.mounts(&id).map_err(failed)?.count;
        ids.extend((0..count).map(|_| id.to_string()));
    }
    Ok(ids)
}

/// Waits for background deletions: commands that remove layers do not, and the deleting process holds a
/// lock.
fn wait_for_reclaimers(root: &Path) -> Result<()> {
    let layers = root.join("layers");
    for entry in fs::read_dir(&layers).at(&layers)? {
        let path = entry.at(&layers)?.path();
        let removed = path.to_string_lossy().ends_with("-removing");
        if let (true, Ok(dir)) = (removed, fs::File::open(&path)) {
            dir.lock().at(&path)?;
        }
    }
    Ok(())
}

/// Checks that no mount and no loop device of the store is left.
fn nothing_is_mounted(place: &Place<'_>) -> Result<()> {
    // The kernel frees a loop device a moment after its file system was unmounted.
    let start = Instant::now();
    loop {
        let left = [mounts::below(&place.root)?, loop_devices(&place.root)?].concat();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(2) {
            return problem(format!("still mounted or attached: {}", left.join(", ")));
        }
        std::thread::yield_now();
    }
}

fn loop_devices(root: &Path) -> Result<Vec<String>> {
    let block = Path::new("/sys/block");
    let mut found = Vec::new();
    for device in fs::read_dir(block).at(block)? {
        let device = device.at(block)?;
        // A detached device has no such file.
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(file.trim_end()).starts_with(root) {
            found.push(format!("{} of {}", device.file_name().to_string_lossy(), file.trim_end()));
        }
    }
    Ok(found)
}
