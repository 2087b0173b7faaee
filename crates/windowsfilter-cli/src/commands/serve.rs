//! `serve`: containerd's snapshotter and differ.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use windowsfilter::{LayerStore, Limits, StorageOptions};
use windowsfilter_containerd::{Configured, ServeOptions, SnapshotterOptions, Version, configuration};

use crate::error::Error;
use crate::global::Global;
use crate::limits::LimitArguments;

/// Serve containerd's snapshotter and differ, so that containerd keeps Windows images in the store
///
/// Runs until SIGTERM, then ends the running calls. A socket from systemd (LISTEN_FDS) replaces --address.
/// docs/containerd.md shows the setup. With --json, logs are JSON lines.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Socket to listen on, for its owner only
    #[arg(long, value_name = "SOCKET", default_value = "/run/windowsfilter/windowsfilter.sock")]
    address: PathBuf,
    /// containerd's socket, to read layers from its content store and write them to it
    #[arg(long, value_name = "SOCKET", default_value = "/run/containerd/containerd.sock")]
    containerd: PathBuf,
    /// Show Prometheus metrics at http://ADDR/metrics, as in 127.0.0.1:9105
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Name for the snapshots of this containerd; each containerd on the same store needs its own
    #[arg(long, value_name = "NAME", default_value = "default")]
    set: String,
    /// Let containerd skip downloading and unpacking layers that the store has; containerd cannot push or
    /// export images with such layers
    #[arg(long)]
    skip_existing: bool,
    /// Give BuildKit, which uses this namespace of containerd, complete layers of base images, from the store
    /// or from containerd's content store. BuildKit's own unpacked layers lack Windows' metadata and are
    /// dropped
    #[arg(long, value_name = "NAMESPACE")]
    buildkit: Option<String>,
    /// Drop all snapshots of this set, because their records are lost, damaged or older than the store. Their
    /// sandboxes with all files, mounts, and layers that nothing else needs are removed. Refused if the
    /// records are intact
    #[arg(long)]
    start_anew: bool,
    /// Import layers with nothing in Files, Hives or UtilityVM, such as those of Linux images, as empty
    /// layers instead of refusing them
    #[arg(long)]
    foreign_layers: bool,
    /// Print the part of config.toml that this version of containerd needs for a server with these options,
    /// and exit
    #[arg(long, value_name = "VERSION")]
    print_config: Option<Version>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

/// Serves, or prints the configuration.
pub(crate) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    if let Some(version) = args.print_config {
        if global.json {
            return Err(Error::NoJson { command: "serve --print-config" });
        }
        let server =
            Configured { socket: &args.address, root: &global.root(), skip_existing: args.skip_existing };
        let text = configuration(version, &server);
        return io::stdout().write_all(text.as_bytes()).map_err(Error::Stdout);
    }
    // Freeing gigabytes takes a while that no caller should wait for.
    let store = LayerStore::open(&global.root(), StorageOptions::default())?;
    let limits = Limits { foreign_layers: args.foreign_layers, ..args.limits.into() };
    let store = store.with_limits(limits).reclaim_with(|doomed| {
        std::thread::spawn(move || {
            if let Err(error) = doomed.destroy() {
                tracing::warn!(error = &error as &dyn std::error::Error, "bytes of a removed layer stay");
            }
        });
        Ok(())
    });
    let options = ServeOptions {
        address: args.address.clone(),
        containerd: args.containerd.clone(),
        metrics: args.metrics,
        snapshots: SnapshotterOptions {
            set: args.set.clone(),
            skip_existing: args.skip_existing,
            buildkit: args.buildkit.clone(),
            start_anew: args.start_anew,
        },
    };
    Ok(windowsfilter_containerd::serve(store, options)?)
}
