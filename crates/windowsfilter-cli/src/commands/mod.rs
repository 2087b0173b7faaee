//! The commands, a file each: arguments with their help on top, one function below.

mod cat;
mod cleanup;
mod commit;
mod completions;
mod cp;
mod create;
mod docker_store;
pub(crate) mod fsck;
mod image;
mod layer;
mod ls;
mod mount;
mod prune;
pub(crate) mod reclaim;
#[cfg(target_os = "linux")]
mod serve;
mod several;
mod stat;
mod umount;
mod write_layer;

use windowsfilter::{Limits, StreamForm};

use crate::arguments::Arguments;
use crate::error::Error;
use crate::session::Session;

/// All commands.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "each command's help is at its arguments")]
pub(crate) enum Command {
    #[command(subcommand)]
    Image(image::Command),
    #[command(subcommand)]
    Layer(layer::Command),
    Create(create::Args),
    Mount(mount::Args),
    #[command(visible_alias = "unmount")]
    Umount(umount::Args),
    Commit(commit::Args),
    Ls(ls::Args),
    Stat(stat::Args),
    Cat(cat::Args),
    Cp(cp::Args),
    Fsck(fsck::Args),
    Cleanup(cleanup::Args),
    Prune(prune::Args),
    DockerStore(docker_store::Args),
    #[cfg(target_os = "linux")]
    Serve(serve::Args),
    Completions(completions::Args),
    Reclaim(reclaim::Args),
    #[command(name = "docker-windows-write-layer")]
    WriteLayer(write_layer::Args),
}

impl Command {
    /// Whether what it says on standard error is for programs to read, not for somebody who waits.
    pub(crate) fn is_a_service(&self) -> bool {
        #[cfg(target_os = "linux")]
        return matches!(self, Self::Serve(_));
        #[cfg(not(target_os = "linux"))]
        return false;
    }

    /// Whether it makes a store where there is none. All others have nothing to do there.
    fn makes_a_store(&self) -> bool {
        matches!(self, Self::Image(image::Command::Import(_)) | Self::Layer(layer::Command::Apply(_)))
    }

    /// What layers that come in may be at most, and what sandboxes have changed.
    fn limits(&self) -> Limits {
        let (arguments, foreign_layers) = match self {
            Self::Image(image::Command::Import(args)) => (args.limits, args.force),
            Self::Layer(layer::Command::Apply(args)) => (args.limits, args.force),
            Self::Layer(layer::Command::Diff(args)) => return args.limits.into(),
            Self::Layer(layer::Command::Changes(args)) => return args.limits.into(),
            Self::Commit(args) => (args.limits, false),
            _ => return Limits::default(),
        };
        Limits { foreign_layers, ..arguments.into() }
    }
}

impl Command {
    /// How streams are shown by what the command makes or mounts.
    fn streams(&self) -> StreamForm {
        match self {
            Self::Create(args) => args.streams,
            Self::Mount(args) => args.streams,
            _ => StreamForm::default(),
        }
    }
}

/// Runs what the command line asks for.
pub(crate) fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { global, command } = arguments;
    match &command {
        // These work where no store is, or open it in a way of their own.
        Command::Completions(args) => return completions::run(args, global.json),
        Command::Reclaim(args) => return reclaim::run(args),
        Command::DockerStore(args) => return docker_store::run(&global, args),
        Command::WriteLayer(args) => return write_layer::run(args, &global),
        #[cfg(target_os = "linux")]
        Command::Serve(args) => return serve::run(&global, args),
        _ => {}
    }
    if let Command::Layer(layer::Command::Verify(args)) = &command {
        args.check()?;
    }
    let make = command.makes_a_store();
    let session = Session::open(&global, command.limits(), command.streams(), make)?;
    match command {
        Command::Image(command) => image::run(&session, command),
        Command::Layer(command) => layer::run(&session, command),
        Command::Create(args) => create::run(&session, &args),
        Command::Mount(args) => mount::run(&session, &args),
        Command::Umount(args) => umount::run(&session, &args),
        Command::Commit(args) => commit::run(&session, args),
        Command::Ls(args) => ls::run(&session, &args),
        Command::Stat(args) => stat::run(&session, &args),
        Command::Cat(args) => cat::run(&session, &args),
        Command::Cp(args) => cp::run(&session, &args),
        Command::Fsck(args) => fsck::run(&session, &args),
        Command::Cleanup(args) => cleanup::run(&session, &args),
        Command::Prune(args) => prune::run(&session, &args),
        Command::Completions(_) | Command::Reclaim(_) | Command::DockerStore(_) | Command::WriteLayer(_) => {
            Ok(())
        }
        #[cfg(target_os = "linux")]
        Command::Serve(_) => Ok(()),
    }
}
