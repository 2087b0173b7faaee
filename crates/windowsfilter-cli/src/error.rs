//! Failures as the user meets them: one line, its causes, a hint what to do, and an exit code by kind.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use wclayer::tar::MAX_SPECIAL_SIZE;
use windowsfilter::{ErrorKind, LayerId};

use crate::interrupt;
use crate::stderr::{Report, Stderr};

/// Exit code of wrong usage; clap's too.
pub(crate) const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Store(#[from] windowsfilter::Error),
    #[error(transparent)]
    Image(#[from] windowsfilter_image::Error),
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Containerd(#[from] windowsfilter_containerd::Error),
    #[error("no image or layer {name:?}")]
    NoSuchTarget { name: String, similar: Option<String> },
    #[error("no sandbox or layer {name:?}")]
    NoSuchLayer { name: String, similar: Option<String> },
    #[error("{name} is an image, not a sandbox")]
    NotASandbox { name: String },
    #[error("{name} is not an image but a {kind}")]
    NotAnImage { name: String, id: LayerId, kind: &'static str },
    #[error("nothing of this store is mounted at {}", path.display())]
    NothingMounted { path: PathBuf },
    #[error("no {path} in {target}")]
    NoSuchPath { target: String, path: String, raw: bool },
    #[error("{path} in {target} has no stream {stream:?}")]
    NoSuchStream { target: String, path: String, stream: String, streams: Vec<String> },
    #[error("{path}: Windows has no streams of the type {kind:?} here; the only one is $DATA")]
    StreamType { path: String, kind: String },
    #[error("will not write {}: it is inside the store that the plan is for", path.display())]
    PlanInStore { path: PathBuf },
    #[error("name a layer, or --all")]
    NothingToVerify,
    #[error("the variable {name} is {value:?}")]
    Variable { name: &'static str, value: String, source: jiff::Error },
    #[error("{path} in {target} is a {actual}, not a file")]
    NotAFile { target: String, path: String, actual: &'static str },
    #[error("{path} in {target} is a directory")]
    IsDirectory { target: String, path: String },
    #[error("cannot remove layer {id}: it is the top of {}", references.join(", "))]
    TopOfImage { id: String, references: Vec<String> },
    #[cfg(target_os = "linux")]
    #[error("cannot remove {id}: containerd uses it, as {snapshot}")]
    OfContainerd { id: String, snapshot: windowsfilter_containerd::Snapshot },
    #[error("will not write outside the destination: {name:?} is not the name of a file")]
    UnsafeName { name: String },
    #[error("will not replace {path}: it is not a file; `windowsfilter cat` writes to standard output")]
    NotReplaced { path: PathBuf },
    #[error("{path} is not a directory, or is a link")]
    NotADirectory { path: PathBuf },
    #[error("{} is not a removed layer: its name does not end in -removing", dir.display())]
    NotRemoved { dir: PathBuf },
    #[error("layer data from a terminal: give a FILE, or pipe a tar in")]
    TerminalInput,
    #[error("cannot read in {id}: it is a sandbox, whose changes are visible only while it is mounted")]
    SandboxView { id: LayerId, parent: Option<LayerId> },
    #[error("will not write a tar to a terminal")]
    TerminalOutput,
    #[error("{command} prints the content itself and has no --json")]
    NoJson { command: &'static str },
    #[error("the store has {count} {}", if *count == 1 { "problem" } else { "problems" })]
    Findings { count: usize, leftovers: bool },
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    #[error("cannot read {path} in {target}")]
    Content { target: String, path: String, source: io::Error },
}

impl Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Image(error) => error.kind(),
            #[cfg(target_os = "linux")]
            Self::Containerd(error) => containerd_kind(error),
            Self::NoSuchTarget { .. }
            | Self::NoSuchLayer { .. }
            | Self::NoSuchPath { .. }
            | Self::NoSuchStream { .. }
            | Self::NotAnImage { .. }
            | Self::NothingMounted { .. } => ErrorKind::NotFound,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::TopOfImage { .. } => ErrorKind::InUse,
            #[cfg(target_os = "linux")]
            Self::OfContainerd { .. } => ErrorKind::InUse,
            Self::TerminalInput
            | Self::TerminalOutput
            | Self::NoJson { .. }
            | Self::NotRemoved { .. }
            | Self::StreamType { .. }
            | Self::NothingToVerify
            | Self::PlanInStore { .. }
            | Self::Variable { .. } => ErrorKind::Usage,
            Self::Findings { .. } => ErrorKind::Verify,
            _ => ErrorKind::Failed,
        }
    }

    /// Whether it only says that the user interrupted the command.
    pub(crate) fn is_interruption(&self) -> bool {
        match self {
            Self::Store(error) | Self::Image(windowsfilter_image::Error::Store(error)) => {
                windowsfilter::cancel::is_cancelled(error)
            }
            other => windowsfilter::cancel::is_cancelled(other),
        }
    }

    fn exit_code(&self) -> u8 {
        match self.kind() {
            ErrorKind::Usage => USAGE,
            ErrorKind::NotFound => 3,
            ErrorKind::InUse => 4,
            ErrorKind::Verify => 5,
            _ => 1,
        }
    }

    /// Prints it on standard error and returns its exit code.
    pub(crate) fn report_to(&self, stderr: Stderr) -> ExitCode {
        if let Self::Stdout(source) = self
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            // The reader has seen enough, as with `| head`.
            return ExitCode::SUCCESS;
        }
        if self.is_interruption() {
            let code = interrupt::exit_code().unwrap_or(1);
            stderr.report(&Report { error: "interrupted".into(), causes: Vec::new(), hint: None, code });
            return ExitCode::FAILURE;
        }
        let code = self.exit_code();
        let (error, causes) = (self.to_string(), self.causes());
        stderr.report(&Report { error, causes, hint: self.hint(), code: code.into() });
        ExitCode::from(code)
    }

    /// Its causes, outermost first. Errors that only pass on what another says are no cause.
    fn causes(&self) -> Vec<String> {
        let mut texts = vec![self.to_string()];
        let mut cause = std::error::Error::source(self);
        while let Some(current) = cause {
            texts.push(current.to_string());
            cause = current.source();
        }
        texts.dedup();
        texts.split_off(1)
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Store(error) | Self::Image(windowsfilter_image::Error::Store(error)) => {
                return store_hint(error);
            }
            #[cfg(target_os = "linux")]
            Self::Containerd(error) => return containerd_hint(error),
            Self::Image(windowsfilter_image::Error::NoSuchImage { .. }) => {
                "`windowsfilter image ls` lists images"
            }
            Self::Image(error) if image_hint(error).is_some() => return image_hint(error),
            Self::NoSuchTarget { similar: Some(similar), .. }
            | Self::NoSuchLayer { similar: Some(similar), .. } => {
                return Some(format!("did you mean {similar:?}?"));
            }
            Self::NoSuchTarget { .. } => {
                "`windowsfilter image ls` lists images, `windowsfilter layer ls` layers and sandboxes"
            }
            Self::NoSuchLayer { .. } => "`windowsfilter layer ls` lists layers and sandboxes",
            Self::IsDirectory { .. } => "`cp -r` copies directories, `ls` lists them",
            Self::TopOfImage { .. } => {
                "`windowsfilter image rm` removes an image with the layers only it needs"
            }
            #[cfg(target_os = "linux")]
            Self::OfContainerd { snapshot, .. } => {
                return Some(format!(
                    "remove its image in containerd, or the snapshot: `{}`",
                    snapshot.removal()
                ));
            }
            Self::SandboxView { id, parent } => return Some(sandbox_hint(id, parent.as_ref())),
            Self::TerminalOutput => "name a file, or redirect standard output",
            Self::Findings { leftovers: true, .. } => {
                "`windowsfilter cleanup` removes the leftovers of interrupted work"
            }
            Self::Findings { .. } => "`windowsfilter fsck --repair` repairs what it can without loss",
            Self::NotASandbox { name } => {
                return Some(format!("`windowsfilter create {name}` makes a sandbox on it"));
            }
            Self::NotAnImage { id, .. } => {
                return Some(format!("`windowsfilter layer inspect {id}` shows it"));
            }
            Self::NothingMounted { .. } => "`windowsfilter layer ls` shows what is mounted",
            Self::NoSuchPath { path, raw: false, .. } if is_tar_name(path) => {
                "with --raw, paths are names in the layers' tars: Files/\u{2026}, Hives/\u{2026}, UtilityVM/\u{2026}"
            }
            Self::NoSuchStream { streams, .. } if streams.is_empty() => "it has no named streams",
            Self::NoSuchStream { streams, .. } => return Some(format!("it has {}", streams.join(", "))),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Whether the path begins as those in layer tars do.
fn is_tar_name(path: &str) -> bool {
    let first = path.split(['/', '\\']).next().unwrap_or_default();
    ["Files", "Hives", "UtilityVM"].iter().any(|area| area.eq_ignore_ascii_case(first))
}

fn sandbox_hint(id: &LayerId, parent: Option<&LayerId>) -> String {
    let below = parent.map_or_else(String::new, |parent| format!(", or read the layer below it: {parent}"));
    format!("`windowsfilter mount {id}` mounts it{below}")
}

#[cfg(target_os = "linux")]
fn containerd_kind(error: &windowsfilter_containerd::Error) -> ErrorKind {
    use windowsfilter_containerd::Error as Server;
    match error {
        Server::Store(error) => error.kind(),
        Server::Image(error) => error.kind(),
        Server::Listening { .. } => ErrorKind::InUse,
        error if error.is_damaged_records() => ErrorKind::Verify,
        Server::NothingLost { .. }
        | Server::Name { .. }
        | Server::SocketPath { .. }
        | Server::ContainerdVersion { .. } => ErrorKind::Usage,
        _ => ErrorKind::Failed,
    }
}

#[cfg(target_os = "linux")]
fn containerd_hint(error: &windowsfilter_containerd::Error) -> Option<String> {
    use windowsfilter_containerd::Error as Server;
    Some(match error {
        Server::Store(error) => return store_hint(error),
        Server::Listening { .. } | Server::Records { .. } => {
            "stop the other server, or give this one another --address and --set".to_owned()
        }
        error if error.is_damaged_records() => {
            "restore the file that belongs to this store; or start with --start-anew, which drops all snapshots of this set and \
             removes their sandboxes with all files"
                .to_owned()
        }
        Server::NothingLost { .. } => "start without --start-anew".to_owned(),
        Server::NotASocket { .. } => "give another --address, or remove that file".to_owned(),
        _ => return None,
    })
}

fn image_hint(error: &windowsfilter_image::Error) -> Option<String> {
    use windowsfilter_image::Error as Image;
    Some(match error {
        Image::NotAnImage { path, is_layer: true } => {
            format!("this looks like one layer: windowsfilter layer apply ID {path}")
        }
        Image::SeveralImages { reference, names, .. } => {
            let call = reference.as_ref().map_or_else(String::new, |reference| format!(" --ref {reference}"));
            format!("choose with --select {}{call}", names.first().map_or("NAME", String::as_str))
        }
        Image::NotInSource { names, .. } => {
            format!("choose with --select {}", names.first().map_or("NAME", String::as_str))
        }
        _ => return None,
    })
}

/// How a limit is raised, if it can be.
fn limit_hint(exceeded: &windowsfilter::limits::Exceeded) -> String {
    let option = exceeded.limit.name();
    match exceeded.limit {
        windowsfilter::limits::Limit::Sandbox => {
            return "holes in files count too; `windowsfilter layer expand` makes the sandbox larger"
                .to_owned();
        }
        windowsfilter::limits::Limit::Disk => return "free space on the file system of the store".to_owned(),
        _ => {}
    }
    if exceeded.limit == windowsfilter::limits::Limit::Header && exceeded.allowed >= MAX_SPECIAL_SIZE {
        return "no reader of layers takes longer headers, Docker's own neither".to_owned();
    }
    format!("if you trust it, --{option} raises the limit and `--{option} none` lifts it")
}

/// Advice for a tar that is no layer.
fn no_layer_hint(looks_like: windowsfilter::support::TarContent) -> String {
    use windowsfilter::support::TarContent;
    let what = match looks_like {
        TarContent::LinuxImage => "Windows cannot run it",
        TarContent::ImageArchive => "`windowsfilter image import` takes image archives",
        _ => {
            "a layer has its files below Files/: pack them so, or copy them into a mounted sandbox and commit it"
        }
    };
    format!("{what}; --force imports it as an empty layer")
}

fn store_hint(error: &windowsfilter::Error) -> Option<String> {
    use windowsfilter::Error as Store;
    if let Some(exceeded) = error.exceeded() {
        return Some(limit_hint(exceeded));
    }
    Some(match error {
        Store::NoSuchLayer { .. } => "`windowsfilter layer ls` lists layers and sandboxes".to_owned(),
        Store::AmbiguousId { .. } => "give more of its characters".to_owned(),
        Store::NoStore { .. } => "--root or WINDOWSFILTER_ROOT name a store; `windowsfilter image import` and `windowsfilter layer apply` \
                                 create one"
            .to_owned(),
        Store::ForeignStore { .. } => "run as its owner, or choose a store of your own with --root".to_owned(),
        Store::Exposed { .. } => "look at its content first; then run the command as an administrator".to_owned(),
        Store::LayerExists { .. } => {
            "choose another ID, or remove that one with `windowsfilter layer rm`".to_owned()
        }
        Store::TargetTaken { target, .. } => {
            format!("`windowsfilter umount {}` unmounts that", target.display())
        }
        Store::WrongKind { id, expected: "sandbox", actual: "layer" } => {
            format!("`windowsfilter create {}` makes a sandbox on it", id.short())
        }
        Store::MissingParent { parent, .. } => format!("apply {parent} first"),
        Store::HasChildren { children, .. } => {
            format!("remove {} first", children.first().map_or("them", LayerId::as_str))
        }
        Store::MaybeNeeded { unreadable, .. } => format!(
            "`windowsfilter fsck` shows the damage; `windowsfilter layer rm {}` removes the damaged layer",
            unreadable.first().map_or("ID", LayerId::as_str)
        ),
        Store::NotMounted { .. } => "`windowsfilter layer ls` shows what is mounted".to_owned(),
        Store::Mounted { id, .. } => format!("`windowsfilter umount {id}` unmounts it"),
        Store::Damaged { .. } | Store::Index { .. } => {
            "`windowsfilter fsck` shows the damage; with --repair it rebuilds indexes".to_owned()
        }
        Store::NotPortable { .. } => {
            "rename or remove these in the mounted sandbox, then try again".to_owned()
        }
        Store::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "run as root, or choose a store of your own with --root".to_owned()
        }
        Store::NoLayer { looks_like, .. } => no_layer_hint(*looks_like),
        Store::Intake { source, .. } => return store_hint(source),
        Store::Undo { first, .. } => return store_hint(first),
        _ => return None,
    })
}

/// Adds the action and the path to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.into(), source: source.into() })
    }
}
