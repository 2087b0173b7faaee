//! `docker-store`: what is in a home of Docker's own, and what nothing needs.

use std::io::{self, Write};
use std::path::PathBuf;

use windowsfilter_image::docker_store::{self, DockerStore, Layer, State, Sum};

use crate::arguments::Global;
use crate::error::Error;
use crate::human;
use crate::output::{Align, Output, Table};
use crate::progress::Progress;

/// Look into the layer store of Docker on Windows: its layers, who needs them, and what is left over
///
/// PATH is Docker's data root (C:\ProgramData\docker), or its directory windowsfilter alone: of a Windows
/// disk that is mounted, or a copy. Nothing is ever written there, and no store of windowsfilter's is needed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Docker's data root, or its directory windowsfilter
    #[arg(value_hint = clap::ValueHint::DirPath)]
    path: PathBuf,
}

/// Reads and prints it.
pub(crate) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let output = Output::new(global.json, global.quiet);
    let progress = Progress::new(output, "count", None);
    let store = docker_store::read(&args.path, &progress)?;
    drop(progress);
    output.print(&store, |out| write(out, &store))
}

fn write(out: &mut dyn Write, store: &DockerStore) -> io::Result<()> {
    let columns = ["LAYER", "KIND", "STATE", "SIZE", "PARENTS", "WHY"].map(|name| match name {
        "SIZE" | "PARENTS" => (name, Align::Right),
        _ => (name, Align::Left),
    });
    let mut table = Table::new(&columns);
    for layer in &store.layers {
        table.row([
            short_name(&layer.id),
            layer.kind.as_str().to_owned(),
            layer.state.as_str().to_owned(),
            human::size(layer.size),
            layer.parents.len().to_string(),
            human::name(layer.why.as_bytes()),
        ]);
    }
    table.write(out)?;
    write_problems(out, store)?;
    write_summary(out, store)
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
    let mut lines = store.layers.iter().flat_map(of_layer).chain(lost).chain(others).peekable();
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
