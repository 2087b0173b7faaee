//! The commands, a file each: arguments with their help on top, one function below.

mod cat;
mod cleanup;
mod commit;
mod completions;
mod cp;
mod create;
mod docker_store;
mod fsck;
mod image;
mod layer;
mod ls;
mod mount;
mod prune;
mod reclaim;
#[cfg(target_os = "linux")]
mod serve;
mod several;
mod stat;
mod umount;
mod write_layer;

use crate::error::Error;
use crate::global::Global;
use crate::session::Opening;

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
    Commit(Box<commit::Args>),
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
    /// Whether it runs until it is stopped: with `--json` its logs are JSON too.
    pub(crate) fn is_a_service(&self) -> bool {
        #[cfg(target_os = "linux")]
        return matches!(self, Self::Serve(_));
        #[cfg(not(target_os = "linux"))]
        return false;
    }
}

/// Runs a command. Each opens the store as it needs it, or no store at all.
pub(crate) fn run(global: &Global, command: Command) -> Result<(), Error> {
    let store = Opening::new(global);
    match command {
        Command::Image(command) => image::run(store, command),
        Command::Layer(command) => layer::run(store, command),
        Command::Create(args) => create::run(&store.streams(args.streams).open()?, &args),
        Command::Mount(args) => mount::run(&store.streams(args.streams).open()?, &args),
        Command::Umount(args) => umount::run(&store.open()?, &args),
        Command::Commit(args) => commit::run(&store.limits(args.limits).open()?, *args),
        Command::Ls(args) => ls::run(&store.open()?, &args),
        Command::Stat(args) => stat::run(&store.open()?, &args),
        Command::Cat(args) => cat::run(&store.open()?, &args),
        Command::Cp(args) => cp::run(&store.open()?, &args),
        Command::Fsck(args) => fsck::run(&store.open()?, &args),
        Command::Cleanup(args) => cleanup::run(&store.open()?, &args),
        Command::Prune(args) => prune::run(&store.open()?, &args),
        Command::DockerStore(args) => docker_store::run(global, &args),
        #[cfg(target_os = "linux")]
        Command::Serve(args) => serve::run(global, &args),
        Command::Completions(args) => completions::run(&args, global.json),
        Command::Reclaim(args) => reclaim::run(&args),
        Command::WriteLayer(args) => write_layer::run(&args, global),
    }
}
