//! Runs the rows, with everything they share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use hcs::windows::System;
use hcs::{AccessControl as _, DriverInfo, Host as _};
use windowsfilter::hcs_engine::ImportProcess;
use windowsfilter::{Driver as _, LayerId, LayerStore, StorageOptions};

use super::calls::Calls;
use super::private::Private;
use super::process::Part;
use super::report::{Machine, Outcome, Report};
use super::{Args, ROWS};
use programs::error::{Error, IoContext as _, Result, chain};
use programs::process::output;

/// A row's result, or why it does not hold.
pub(super) type Verdict = std::result::Result<String, Failure>;
/// Why a row does not hold, or was not asked.
pub(super) type Failure = Box<dyn std::error::Error>;

/// The size of sandboxes, distinct from the default; a small one is as quick to make as a large one.
pub(super) const SIZE: u64 = 30 << 30;

/// This machine lacks something that a row needs.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotAsked(pub(super) String);

pub(super) fn run(args: &Args) -> Result<()> {
    let calls = Calls::collect();
    let check = Check::new(args)?;
    let mut report = Report::new(&args.report, check.private(args), check.machine(args))?;
    let (mut failed, mut not_asked) = (Vec::new(), 0);
    for row in &ROWS {
        report.begin(row)?;
        calls.take();
        let start = Instant::now();
        let verdict = check.row(row.name);
        let (took, calls) = (start.elapsed(), calls.take());
        let name = row.name;
        let (outcome, answer) = match verdict {
            Ok(answer) => (Outcome::Holds, answer),
            Err(error) if error.is::<NotAsked>() => (Outcome::NotAsked, error.to_string()),
            Err(error) => (Outcome::DoesNot, chain(&*error)),
        };
        let shown = match outcome {
            Outcome::Holds => "holds    ",
            Outcome::NotAsked => "not asked",
            Outcome::DoesNot | Outcome::Unfinished => "DOES NOT ",
        };
        println!("{shown}  {name}: {answer}");
        match outcome {
            Outcome::NotAsked => not_asked += 1,
            Outcome::DoesNot => failed.push(name),
            Outcome::Holds | Outcome::Unfinished => {}
        }
        report.end(outcome, &answer, took, &calls)?;
    }
    if let Err(error) = fs::remove_dir_all(&args.dir)
        && args.dir.exists()
    {
        println!("{} is left: {error}", args.dir.display());
    }
    println!("what was asked and answered is in {}", args.report.display());
    if failed.is_empty() {
        println!("{} rows hold, {not_asked} were not asked", ROWS.len() - not_asked);
        return Ok(());
    }
    Err(Error::Unexpected(format!(
        "{} of {} rows do not hold: {}",
        failed.len(),
        ROWS.len(),
        failed.join(", ")
    )))
}

/// An ID of a layer.
pub(super) fn id(text: &str) -> std::result::Result<LayerId, windowsfilter::Error> {
    LayerId::new(text)
}

/// Fails with `text` unless `holds`.
pub(super) fn expect(holds: bool, text: impl Into<String>) -> std::result::Result<(), Failure> {
    if holds { Ok(()) } else { Err(text.into().into()) }
}

/// The Windows under test, and the check's own home.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) system: System,
    dir: PathBuf,
    program: PathBuf,
    library: Option<PathBuf>,
}

impl Host {
    pub(super) fn new(dir: &Path, program: &Path, library: Option<&Path>) -> Result<Self> {
        let unusable = |error: hcs::Error| Error::Unexpected(error.to_string());
        let system = library.map_or_else(|| Ok(System::new()), System::with_stand_in).map_err(unusable)?;
        Ok(Self {
            system,
            dir: dir.to_owned(),
            program: program.to_owned(),
            library: library.map(Path::to_owned),
        })
    }

    pub(super) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    fn library_arguments(&self) -> impl Iterator<Item = String> {
        let library = self.library.iter();
        library.flat_map(|path| ["--hcs-library".to_owned(), path.to_string_lossy().into_owned()])
    }

    /// Lets the command fill layers, with its calls logged.
    pub(super) fn import(&self) -> ImportProcess {
        let arguments = std::iter::once("-vv".to_owned()).chain(self.library_arguments()).collect();
        ImportProcess::Child { program: self.program.clone(), arguments }
    }

    /// Lets a part of this check fill layers (`process.rs`).
    pub(super) fn import_in(&self, part: Part) -> ImportProcess {
        let program = std::env::current_exe().unwrap_or_default();
        ImportProcess::Child { program, arguments: self.process_arguments(part) }
    }

    fn process_arguments(&self, part: Part) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let first =
            ["process", "--dir", &text(&self.dir), "--program", &text(&self.program)].map(str::to_owned);
        first.into_iter().chain(self.library_arguments()).chain([part.name().to_owned()]).collect()
    }

    /// A part of this check in a process of its own, for the layer `id`.
    pub(super) fn process(&self, part: Part, id: &str) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.process_arguments(part)).arg(id);
        Ok(command)
    }

    pub(super) fn store_with(
        &self,
        import: ImportProcess,
    ) -> std::result::Result<LayerStore, windowsfilter::Error> {
        self.store_in(&self.home(), import)
    }

    pub(super) fn store_in(
        &self,
        home: &Path,
        import: ImportProcess,
    ) -> std::result::Result<LayerStore, windowsfilter::Error> {
        LayerStore::open_hcs(home, StorageOptions::default(), self.system.clone(), import)
    }

    pub(super) fn store(&self) -> std::result::Result<LayerStore, windowsfilter::Error> {
        self.store_with(self.import())
    }

    pub(super) fn info(&self) -> DriverInfo {
        DriverInfo::filter(&self.home())
    }

    /// A sandbox on `parent`.
    pub(super) fn sandbox(&self, name: &str, parent: &str) -> std::result::Result<LayerStore, Failure> {
        let store = self.store()?;
        store.create_read_write(&id(name)?, Some(&id(parent)?), StorageOptions { size: Some(SIZE) }, "")?;
        Ok(store)
    }
}

pub(super) struct Check {
    pub(super) host: Host,
    pub(super) base: PathBuf,
    pub(super) dir: PathBuf,
}

impl Check {
    fn new(args: &Args) -> Result<Self> {
        let program = args.program.clone().map_or_else(program_beside, Ok)?;
        let host = Host::new(&args.dir, &program, args.hcs_library.as_deref())?;
        Ok(Self { host, base: args.base.clone(), dir: args.dir.clone() })
    }

    fn row(&self, row: &str) -> Verdict {
        match row {
            "functions" => self.functions(),
            "privileges" => self.privileges(),
            "file system" => self.file_system(),
            "guid" => self.guid(),
            "base layer" => self.base_layer(),
            "paths" => self.paths(),
            "sandbox" => self.sandbox(),
            "mount" => self.mount(),
            "second get" => self.second_get(),
            "second prepare" => self.second_prepare(),
            "expand while mounted" => self.expand_while_mounted(),
            "diff" => self.diff(),
            "delta" => self.delta(),
            "delta mount" => self.delta_mount(),
            "base diff" => self.base_diff(),
            "read-only layer" => self.read_only_layer(),
            "create then apply" => self.create_then_apply(),
            "no re-exec" => self.no_re_exec(),
            "long paths" => self.long_paths(),
            "utility VM" => self.utility_vm(),
            "tombstones" => self.tombstones(),
            "tombstones mount" => self.tombstones_mount(),
            "streams" => self.streams(),
            "streams by name" => self.streams_by_name(),
            "extended attributes" => self.extended_attributes(),
            "sparse files" => self.sparse_files(),
            "reparse tags" => self.reparse_tags(),
            "stuck disk" => self.stuck_disk(),
            "killed child" => self.killed_child(),
            "killed parent" => self.killed_parent(),
            "two processes" => self.two_processes(),
            "exposed store" => self.exposed_store(),
            "docker layer" => self.docker_layer(),
            "docker container" => self.docker_container(),
            "removal" => self.removal(),
            "open file" => self.open_file(),
            "replace" => self.replace(),
            other => Err(format!("there is no row {other}").into()),
        }
    }

    fn machine(&self, args: &Args) -> Machine {
        let system = &self.host.system;
        let said = |program: &str, arguments: &[&str]| {
            output(Command::new(program).args(arguments)).unwrap_or_else(|error| chain(&error))
        };
        let defender = said("sc.exe", &["query", "WinDefend"]);
        let state = defender.lines().find(|line| line.trim_start().starts_with("STATE"));
        Machine {
            windows: said("cmd.exe", &["/d", "/c", "ver"]).trim().to_owned(),
            build: system.os_build().unwrap_or_default(),
            architecture: std::env::consts::ARCH,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            stand_in: args.hcs_library.is_some(),
            administrator: system.user().is_ok_and(|user| user.is_administrator),
            defender: state.map_or("unknown", str::trim).to_owned(),
            starts: system.boot().split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// The names and paths to hide in the report.
    fn private(&self, args: &Args) -> Private {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let absolute = |given: &Path| {
            std::path::absolute(given)
                .map_or_else(|_| path(given), |path| path.to_string_lossy().into_owned())
        };
        let exe = std::env::current_exe().unwrap_or_default();
        let mut texts = vec![
            (path(&args.dir), "<dir>"),
            (absolute(&args.dir), "<dir>"),
            (path(&args.base), "<base>"),
            (absolute(&args.base), "<base>"),
            (path(&self.host.program), "<windowsfilter.exe>"),
            (absolute(&self.host.program), "<windowsfilter.exe>"),
            (path(&exe), "<windows-host-check.exe>"),
            (absolute(&args.report), "<report>"),
        ];
        if let Some(library) = &args.hcs_library {
            texts.push((path(library), "<stand-in>"));
        }
        for (variable, word) in [
            ("USERNAME", "<user>"),
            ("USERDOMAIN", "<domain>"),
            ("USERDNSDOMAIN", "<domain>"),
            ("COMPUTERNAME", "<machine>"),
            ("USERPROFILE", "<home>"),
            ("TEMP", "<temp>"),
        ] {
            texts.extend(std::env::var(variable).ok().map(|value| (value, word)));
        }
        Private::new(texts)
    }
}

/// The command in this program's directory, where both are built or copied to.
fn program_beside() -> Result<PathBuf> {
    let program = std::env::current_exe().at("this program")?.with_file_name("windowsfilter.exe");
    if program.is_file() {
        return Ok(program);
    }
    Err(Error::Missing(format!("there is no {}; give --program", program.display())))
}
