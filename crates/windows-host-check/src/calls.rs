//! A row's calls of Microsoft's functions, as `hcs` and the engine log them.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Log lines since the last `take`.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    /// Collects this process' log from now on. It includes the logs of children that fill layers, because
    /// the engine logs their error output.
    pub(super) fn collect() -> Self {
        let calls = Self::default();
        // If another subscriber exists, the report shows no calls.
        _ = tracing_subscriber::registry().with(calls.clone().with_filter(LevelFilter::TRACE)).try_init();
        calls
    }

    /// Takes the lines since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Calls {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let Message(text) = message;
        let line = if event.metadata().target() == hcs::CALL_LOG {
            text
        } else if let Some((_, call)) = text.split_once(": trace: ") {
            format!("child: {call}")
        } else {
            format!("{}: {text}", event.metadata().level().as_str().to_lowercase())
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
