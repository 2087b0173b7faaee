//! `docker-store`: the layers of a Docker on Windows, and which of them nothing needs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use windowsfilter_image::docker_store::{self, DockerStore, Layer, Plan, State, Sum};

use crate::error::{Error, IoContext};
use crate::file::OutputFile;
use crate::global::Global;
use crate::human;
use crate::output::{Align, Output, Table};
use crate::progress::Progress;

/// Inspect the layer store of Docker on Windows: its layers, what needs them, and which are orphaned
///
/// PATH is Docker's data root (C:\ProgramData\docker) or its windowsfilter directory, on a mounted Windows
/// disk or in a copy. A root of containerd on Windows is listed too. The command writes nothing there and
/// needs no store of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Docker's data root, or its directory windowsfilter
    #[arg(value_hint = clap::ValueHint::DirPath)]
    path: PathBuf,
    /// Write a PowerShell script to FILE (- for standard output) that removes orphaned and half-removed
    /// layers. Refused if any record cannot be read. Nothing is removed until you run the script
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    plan: Option<PathBuf>,
}

/// A script that was written.
#[derive(Serialize)]
struct Written {
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    path: PathBuf,
    /// How many layers it removes.
    layers: usize,
    bytes: u64,
}

/// The store, and its plan if one was asked for.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    store: &'a DockerStore,
    /// `null` if there is nothing to remove.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Option<Written>>,
}

/// Reads and prints it.
pub(crate) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let output = Output::new(global.json, global.quiet);
    let progress = Progress::new(output, "count", None);
    let store = docker_store::read(&args.path, &progress)?;
    drop(progress);
    let Some(path) = &args.plan else {
        return output.print(&Told { store: &store, plan: None }, |out| write(out, &store));
    };
    let plan = Plan::new(&store)?;
    if path.as_os_str() == "-" {
        output.no_json("docker-store --plan -")?;
        return io::stdout().lock().write_all(plan.script().as_bytes()).map_err(Error::Stdout);
    }
    let written = if plan.steps.is_empty() { None } else { Some(save(&plan, path, &args.path)?) };
    let told = Told { store: &store, plan: Some(written) };
    output.print(&told, |out| {
        write(out, &store)?;
        match told.plan.as_ref().and_then(Option::as_ref) {
            Some(Written { path, layers, .. }) => {
                let path = human::name(path.to_string_lossy().as_bytes());
                writeln!(out, "plan:         {layers:>5}  written to {path}")
            }
            None => writeln!(out, "plan:             0  there is nothing to remove, so none is written"),
        }
    })
}

/// Writes the script, but refuses to write it into Docker's store.
fn save(plan: &Plan<'_>, path: &Path, store: &Path) -> Result<Written, Error> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = dir.canonicalize().at("find", dir)?;
    if dir.starts_with(store.canonicalize().at("find", store)?) {
        return Err(Error::PlanInStore { path: path.to_owned() });
    }
    let mut file = OutputFile::create(path)?;
    file.write(plan.script().as_bytes())?;
    file.finish()?;
    Ok(Written { path: path.to_owned(), layers: plan.steps.len(), bytes: plan.bytes() })
}

fn write(out: &mut dyn Write, store: &DockerStore) -> io::Result<()> {
    // A root of containerd's alone has no others.
    if !store.layers.is_empty() || store.containerd.is_empty() {
        write_layers(out, &store.layers)?;
    }
    for (number, snapshotter) in store.containerd.iter().enumerate() {
        if number > 0 || !store.layers.is_empty() {
            writeln!(out)?;
        }
        let path = human::name(snapshotter.path.to_string_lossy().as_bytes());
        writeln!(out, "containerd, {}: {path}", human::name(snapshotter.name.as_bytes()))?;
        write_layers(out, &snapshotter.snapshots)?;
    }
    write_problems(out, store)?;
    write_summary(out, store)
}

fn write_layers(out: &mut dyn Write, layers: &[Layer]) -> io::Result<()> {
    let columns = ["LAYER", "KIND", "STATE", "SIZE", "PARENTS", "WHY"].map(|name| match name {
        "SIZE" | "PARENTS" => (name, Align::Right),
        _ => (name, Align::Left),
    });
    let mut table = Table::new(&columns);
    for layer in layers {
        table.row([
            short_name(&layer.id),
            layer.kind.as_str().to_owned(),
            layer.state.as_str().to_owned(),
            human::size(layer.size),
            layer.parents.len().to_string(),
            human::name(layer.why.as_bytes()),
        ]);
    }
    table.write(out)
}

/// The names of directories are IDs with what Docker appends to them.
fn short_name(name: &str) -> String {
    match name.split_once('-') {
        Some((id, rest)) => human::name(format!("{}-{rest}", human::short_id(id)).as_bytes()),
        None => human::name(human::short_id(name).as_bytes()),
    }
}

fn write_problems(out: &mut dyn Write, store: &DockerStore) -> io::Result<()> {
    let of_layer = |layer: &Layer| {
        let name = short_name(&layer.id);
        layer.problems.iter().map(move |problem| format!("{name}: {problem}")).collect::<Vec<_>>()
    };
    let lost = store.lost.iter().map(|lost| format!("{}: {}", lost.record, lost.why));
    let others =
        store.problems.iter().map(|problem| format!("{}: {}", problem.path.display(), problem.problem));
    let snapshots = store.containerd.iter().flat_map(|snapshotter| &snapshotter.snapshots);
    let mut lines =
        store.layers.iter().chain(snapshots).flat_map(of_layer).chain(lost).chain(others).peekable();
    if lines.peek().is_some() {
        writeln!(out, "\nPROBLEMS")?;
    }
    lines.try_for_each(|line| writeln!(out, "{}", human::name(line.as_bytes())))
}

fn write_summary(out: &mut dyn Write, store: &DockerStore) -> io::Result<()> {
    let summary = &store.summary;
    writeln!(out)?;
    for (state, Sum { layers, bytes }) in [
        (State::InUse, summary.in_use),
        (State::Orphan, summary.orphan),
        (State::HalfRemoved, summary.half_removed),
        (State::Unknown, summary.unknown),
    ] {
        if layers > 0 {
            writeln!(out, "{:<13} {layers:>5}  {:>10}", format!("{}:", state.as_str()), human::size(bytes))?;
        }
    }
    writeln!(out, "{:<13} {:>5}  {:>10}", "reclaimable:", "", human::size(summary.reclaimable))
}
