//! `stat`: all that Windows knows about a file inside an image or layer.

use std::io::{self, Write};

use wclayer::attributes;
use wclayer::filetime::FileTime;
use wclayer::security::SecurityDescriptor;
use windowsfilter::support::JsonName;
use windowsfilter::{Follow, View};

use crate::error::Error;
use crate::human;
use crate::location::{Found, Location, LocationArguments};
use crate::node;
use crate::output::write_fields;
use crate::session::Session;

/// Show all that Windows knows about a file inside an image or layer
///
/// For a link, shows the link itself and not its target.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    location: LocationArguments,
}

#[derive(serde::Serialize)]
struct Stat {
    path: JsonName,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    attributes: Vec<String>,
    times: Times,
    sddl: Option<String>,
    /// Where a link leads, as Windows shows it.
    target: Option<JsonName>,
    streams: Vec<Stream>,
    eas: Vec<ExtendedAttribute>,
    /// The layer it comes from.
    layer: Option<String>,
}

/// RFC 3339.
#[derive(serde::Serialize)]
struct Times {
    created: Option<String>,
    modified: String,
    accessed: Option<String>,
    changed: Option<String>,
}

#[derive(serde::Serialize)]
struct Stream {
    name: JsonName,
    size: u64,
}

#[derive(serde::Serialize)]
struct ExtendedAttribute {
    name: JsonName,
    flags: u8,
    size: usize,
}

/// Prints it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let location = Location::parse(session, &args.location)?;
    let view = location.view(session)?;
    let found = location.find(&view, Follow::OnTheWay)?;
    let stat = stat(&view, &found)?;
    session.output.print(&stat, |out| write(out, &stat))
}

fn stat(view: &View, found: &Found) -> Result<Stat, Error> {
    let node = &found.node;
    let metadata = view.metadata(node)?;
    let whole = Stat {
        path: found.path.clone().into(),
        kind: node::type_of(node, &metadata),
        size: node.size(),
        attributes: metadata.attributes.map(attributes::names).unwrap_or_default(),
        times: Times {
            created: shown_time(metadata.created),
            modified: human::unix_time(node.modified().0, node.modified().1),
            accessed: shown_time(metadata.accessed),
            changed: shown_time(metadata.changed),
        },
        sddl: metadata.security.as_deref().map(sddl),
        target: node::link_target(view, node, &metadata)?,
        streams: metadata
            .streams
            .iter()
            .map(|stream| Stream { name: stream.name.clone().into(), size: stream.content.size() })
            .collect(),
        eas: metadata
            .eas
            .iter()
            .map(|ea| ExtendedAttribute {
                name: ea.name.clone().into(),
                flags: ea.flags,
                size: ea.value.len(),
            })
            .collect(),
        layer: view.layer_of(node).map(ToString::to_string),
    };
    Ok(match &found.stream {
        // What Windows knows of a stream besides its length is its file's.
        Some(stream) => Stat {
            kind: "stream",
            size: stream.content.size(),
            target: None,
            streams: Vec::new(),
            eas: Vec::new(),
            ..whole
        },
        None => whole,
    })
}

fn shown_time(time: Option<FileTime>) -> Option<String> {
    time.filter(|time| time.0 != 0).map(human::filetime)
}

/// The descriptor as text. Data from an image may be anything: other bytes are reported as no descriptor.
fn sddl(security: &[u8]) -> String {
    match SecurityDescriptor::parse(security).map(|descriptor| descriptor.to_sddl()) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => format!("({} bytes without a text form: {error})", security.len()),
        Err(error) => format!("({} bytes that are not a security descriptor: {error})", security.len()),
    }
}

fn write(out: &mut dyn Write, stat: &Stat) -> io::Result<()> {
    let none = || "-".to_owned();
    let text = |name: &JsonName| human::name(name.as_bytes());
    let mut fields = vec![
        ("path", text(&stat.path)),
        ("type", stat.kind.to_owned()),
        ("size", stat.size.to_string()),
        ("attributes", if stat.attributes.is_empty() { none() } else { stat.attributes.join(", ") }),
        ("created", stat.times.created.clone().unwrap_or_else(none)),
        ("modified", stat.times.modified.clone()),
        ("accessed", stat.times.accessed.clone().unwrap_or_else(none)),
        ("changed", stat.times.changed.clone().unwrap_or_else(none)),
        ("sddl", stat.sddl.clone().unwrap_or_else(none)),
    ];
    if let Some(target) = &stat.target {
        fields.push(("target", text(target)));
    }
    for stream in &stat.streams {
        fields.push(("stream", format!("{}, {} bytes", text(&stream.name), stream.size)));
    }
    for ea in &stat.eas {
        fields.push(("ea", format!("{}, {} bytes", text(&ea.name), ea.size)));
    }
    fields.push(("layer", stat.layer.clone().unwrap_or_else(none)));
    write_fields(out, &fields)
}
