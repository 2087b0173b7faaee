//! Logs on standard error: plain lines that can stand between other messages.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging: errors only when `quiet`, else also notes for users, and with `verbose` 1 or 2 debug or
/// trace messages. With `json`, each event is a JSON object on a line of its own, with its time.
pub(crate) fn start(quiet: bool, verbose: u8, json: bool) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::INFO,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        // Else it panics when standard error cannot be written.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    if json {
        logs.json().flatten_event(true).finish().with(targets(level)).init();
    } else {
        logs.event_format(Plain).finish().with(targets(level)).init();
    }
}

/// Only errors and warnings of HTTP: its frames would hide our own messages.
fn targets(level: LevelFilter) -> Targets {
    let http = ["h2", "hyper", "hyper_util", "tonic", "tower"];
    Targets::new().with_default(level).with_targets(http.map(|name| (name, level.min(LevelFilter::WARN))))
}

/// `note: …`, `warning: …`, and so on.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let label = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "note",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(out, "{label}: ")?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_http_only_what_goes_wrong_is_logged() {
        let verbose = targets(LevelFilter::DEBUG);
        assert!(verbose.would_enable("windowsfilter_containerd::call", &Level::DEBUG));
        assert!(!verbose.would_enable("h2::codec::framed_read", &Level::DEBUG));
        assert!(verbose.would_enable("h2::codec::framed_read", &Level::WARN));
        assert!(!targets(LevelFilter::ERROR).would_enable("h2::codec::framed_read", &Level::WARN));
    }
}
