//! Options that every command takes.

use std::ffi::OsString;
use std::path::PathBuf;

/// Names the store where `--root` does not.
const ROOT_VARIABLE: &str = "WINDOWSFILTER_ROOT";
/// Where the store is by default.
#[cfg(not(windows))]
const DEFAULT_ROOT: &str = "/var/lib/windowsfilter";
/// Where the store is by default.
#[cfg(windows)]
const DEFAULT_ROOT: &str = r"C:\ProgramData\windowsfilter";

/// The options themselves.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    // Read by clap, the variable would be shown in every usage line as if it had been typed.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        value_hint = clap::ValueHint::DirPath,
        help = format!("Directory of the store [env: {ROOT_VARIABLE}] [default: {DEFAULT_ROOT}]")
    )]
    root: Option<PathBuf>,
    /// Engine that keeps the layers
    #[arg(
        long,
        value_name = "ENGINE",
        global = true,
        value_enum,
        default_value_t = EngineChoice::Auto,
        // Elsewhere there is no choice.
        hide = cfg!(not(windows))
    )]
    pub(crate) engine: EngineChoice,
    /// Import in this process instead of a child; any text but the empty one (hcs engine)
    #[arg(long, value_name = "TEXT", global = true, hide = true)]
    #[cfg_attr(not(windows), allow(dead_code, reason = "a store of Windows' own engine imports so"))]
    no_reexec: Option<String>,
    /// Take the compute service's functions from this library, as far as it has them: for tests (hcs engine)
    #[arg(long, value_name = "DLL", global = true, hide = true)]
    pub(crate) hcs_library: Option<PathBuf>,
    /// Print one JSON document instead of text, and errors as JSON too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no progress and no notes, only errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print each step; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The engine that keeps the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EngineChoice {
    /// The engine that made the store; for a new one the portable engine
    Auto,
    /// Layers as their tars, on any system
    Portable,
    /// Windows' Host Compute Service, also on what Docker has in its windowsfilter directory
    Hcs,
}

impl Global {
    /// The store's directory.
    pub(crate) fn root(&self) -> PathBuf {
        let from_variable = || variable(ROOT_VARIABLE).map(PathBuf::from);
        self.root.clone().or_else(from_variable).unwrap_or_else(|| DEFAULT_ROOT.into())
    }

    /// Whether layers are imported in this process.
    #[cfg(windows)]
    pub(crate) fn imports_here(&self) -> bool {
        let from_variable = || variable("DOCKER_WINDOWSFILTER_NOREEXEC").is_some();
        self.no_reexec.as_ref().map_or_else(from_variable, |text| !text.is_empty())
    }
}

/// The variable of the environment, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
