//! Progress of long work: bytes, entries, rate and remaining time, on a terminal only and not before the user
//! could begin to wonder.

use std::io::IsTerminal;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use windowsfilter::LayerId;
use windowsfilter_image::ImageProgress;

use crate::human;
use crate::output::Output;

/// Work that ends sooner needs no bar.
const DELAY: Duration = Duration::from_millis(250);

const WITH_TOTAL: &str =
    "{prefix} {bytes} of {total_bytes} {wide_bar} {msg}{binary_bytes_per_sec}, {eta} left";
const WITHOUT_TOTAL: &str = "{prefix} {bytes}, {msg}{binary_bytes_per_sec}";

/// A bar on standard error; gone when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// The bars it stands among.
    group: MultiProgress,
    wanted: bool,
    started: Instant,
    shown: Once,
    entries: AtomicU64,
}

impl Progress {
    /// Progress of `action` over `total` bytes, where that is known.
    pub(crate) fn new(output: Output, action: &str, total: Option<u64>) -> Self {
        Self::within(&MultiProgress::new(), output, action, total)
    }

    fn within(group: &MultiProgress, output: Output, action: &str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = if total.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(action.to_owned());
        Self {
            bar,
            group: group.clone(),
            wanted: !output.is_quiet() && std::io::stderr().is_terminal(),
            started: Instant::now(),
            shown: Once::new(),
            entries: AtomicU64::new(0),
        }
    }

    /// Counts `n` more bytes.
    pub(crate) fn bytes(&self, n: u64) {
        if !self.wanted {
            return;
        }
        if self.started.elapsed() > DELAY {
            self.shown.call_once(|| drop(self.group.add(self.bar.clone())));
        }
        // Exports copy tars without looking into them.
        match self.entries.load(Ordering::Relaxed) {
            0 => {}
            entries => self.bar.set_message(format!("{entries} entries, ")),
        }
        self.bar.inc(n);
    }
}

impl windowsfilter::import::Progress for Progress {
    fn blob_bytes(&self, n: u64) {
        self.bytes(n);
    }

    fn entries(&self, n: u64) {
        self.entries.fetch_add(n, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for each layer of an image that is being read.
pub(crate) struct ImageBars {
    output: Output,
    group: MultiProgress,
}

impl ImageBars {
    /// No bar yet.
    pub(crate) fn new(output: Output) -> Self {
        Self { output, group: MultiProgress::new() }
    }
}

impl ImageProgress for ImageBars {
    fn present(&self, id: &LayerId) {
        tracing::debug!("layer {id} is there already");
    }

    fn begin<'s>(&'s self, id: &LayerId, bytes: u64) -> Box<dyn windowsfilter::import::Progress + 's> {
        let action = format!("layer {}", human::short_id(id.as_str()));
        Box::new(Progress::within(&self.group, self.output, &action, Some(bytes)))
    }
}
