//! Parts of the check that run in processes of their own: some to be killed, others to run concurrently.

use std::path::PathBuf;

use programs::error::{Error, Result};

/// A part of windows-host-check that needs a process of its own.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The check's directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The windowsfilter.exe that imports layers.
    #[arg(long)]
    pub(crate) program: PathBuf,
    /// A stand-in for Microsoft's side.
    #[arg(long)]
    pub(crate) hcs_library: Option<PathBuf>,
    /// What to do.
    #[arg(value_enum)]
    pub(crate) part: Part,
    /// The layer; for the imports the arguments of the process whose place this one takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Fills a layer, is killed half-way.
    KilledImport,
    /// Fills a layer, stands still half-way.
    StalledImport,
    /// Imports `stalled.tar` as a layer on `base`, with a child that stands still.
    Apply,
    /// Mounts a sandbox and takes it off again, several times.
    Mount,
}

impl Part {
    /// Its name on the command line.
    #[cfg(windows)]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KilledImport => "killed-import",
            Self::StalledImport => "stalled-import",
            Self::Apply => "apply",
            Self::Mount => "mount",
        }
    }
}

/// Names in the check's directory by which the processes communicate.
#[cfg(windows)]
pub(crate) mod file {
    /// The tar that [`super::Part::Apply`] imports.
    pub(crate) const TAR: &str = "stalled.tar";
    /// Exists as soon as [`super::Part::StalledImport`] has stalled.
    pub(crate) const STALLED: &str = "stalled";
    /// Locked as long as [`super::Part::StalledImport`] lives.
    pub(crate) const LIVES: &str = "stalled.lock";
}

/// Runs the part.
///
/// # Errors
/// If it fails, or was killed as intended.
#[cfg(not(windows))]
pub fn run(args: &Args) -> Result<()> {
    let Args { dir, program, hcs_library, part, rest } = args;
    let what = format!("{part:?} {rest:?} in {} with {program:?}, {hcs_library:?}", dir.display());
    Err(Error::Missing(format!("{what} needs Windows")))
}

/// Runs the part.
///
/// # Errors
/// If it fails, or was killed as intended.
#[cfg(windows)]
pub fn run(args: &Args) -> Result<()> {
    match args.part {
        Part::KilledImport => windows::killed_import(args),
        Part::StalledImport => windows::stalled_import(args),
        Part::Apply => windows::apply(args),
        Part::Mount => windows::mount(args),
    }
}

#[cfg(windows)]
mod windows {
    use std::fs::{self, File};
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};

    use windowsfilter::{Driver, LayerId};

    use super::super::check::{Host, id};
    use super::{Args, Error, Part, Result, file};
    use programs::error::IoContext;

    /// Repetitions in [`mount`].
    const ROUNDS: u32 = 5;

    fn unexpected(error: impl std::error::Error) -> Error {
        Error::Unexpected(programs::error::chain(&error))
    }

    fn layer(args: &Args) -> Result<LayerId> {
        id(args.rest.first().map_or("", String::as_str)).map_err(unexpected)
    }

    /// A process that fills a layer, has read half of the tar and waits for the rest.
    fn half_an_import(args: &Args) -> Result<Child> {
        let mut tar = Vec::new();
        std::io::stdin().read_to_end(&mut tar).at("standard input")?;
        let mut command = Command::new(&args.program);
        if let Some(library) = &args.hcs_library {
            command.arg("--hcs-library").arg(library);
        }
        let mut child = command
            .args(&args.rest)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program: args.program.display().to_string(), source })?;
        if let Some(input) = &mut child.stdin {
            // A pipe holds far less, so a finished write means that it was read.
            input.write_all(&tar[..tar.len() / 2]).at("the child's input")?;
        }
        Ok(child)
    }

    pub(super) fn killed_import(args: &Args) -> Result<()> {
        let mut child = half_an_import(args)?;
        child.kill().at("the child")?;
        let status = child.wait().at("the child")?;
        Err(Error::Unexpected(format!("killed half-way on purpose: {status}")))
    }

    pub(super) fn stalled_import(args: &Args) -> Result<()> {
        let path = args.dir.join(file::LIVES);
        let lives = File::create(&path).at(&path)?;
        lives.lock().at(&path)?;
        let mut child = half_an_import(args)?;
        // Keep it open: closing would mean the end of the tar.
        let input = child.stdin.take();
        let path = args.dir.join(file::STALLED);
        fs::write(&path, "").at(&path)?;
        let status = child.wait().at("the child")?;
        drop(input);
        Err(Error::Unexpected(format!("the child ended although it was to wait: {status}")))
    }

    pub(super) fn apply(args: &Args) -> Result<()> {
        let host = Host::new(&args.dir, &args.program, args.hcs_library.as_deref())?;
        let store = host.store_with(host.import_in(Part::StalledImport)).map_err(unexpected)?;
        let path = args.dir.join(file::TAR);
        let mut tar = File::open(&path).at(&path)?;
        let base = id("base").map_err(unexpected)?;
        store.apply_diff(&layer(args)?, Some(&base), &mut tar).map_err(unexpected)?;
        Ok(())
    }

    pub(super) fn mount(args: &Args) -> Result<()> {
        let host = Host::new(&args.dir, &args.program, args.hcs_library.as_deref())?;
        let (store, id) = (host.store().map_err(unexpected)?, layer(args)?);
        for _ in 0..ROUNDS {
            let view = store.get(&id, "").map_err(unexpected)?;
            let shown = view.join("Windows").is_dir();
            store.put(&id).map_err(unexpected)?;
            if !shown {
                return Err(Error::Unexpected(format!("{} shows no Windows", view.display())));
            }
        }
        Ok(())
    }
}
