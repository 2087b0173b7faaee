//! Virus scanners and indexers on Windows open files that were just written, and meanwhile the files cannot
//! be renamed, replaced or removed. Operations that can be repeated are retried until the scanner is done.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Pauses before each retry: 1.5 s in total, enough for a scanner to read a file.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(750),
];

/// Retries `attempt` while its error says that the file is locked, for at most the sum of [`PAUSES`].
pub(crate) fn outlast<T, E: Display>(
    what: &str,
    pause: impl Fn(Duration),
    is_locked: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for wait in PAUSES {
        match attempt() {
            Err(error) if is_locked(&error) => {
                tracing::warn!("{what}: {error}; trying again in {} ms", wait.as_millis());
                pause(wait);
            }
            other => return other,
        }
    }
    attempt()
}

/// Renames a file, replacing an existing one.
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let is_locked = |error: &io::Error| cfg!(windows) && is_locked_on_windows(error);
    outlast(&to.display().to_string(), std::thread::sleep, is_locked, || fs::rename(from, to))
}

/// `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION`. The numbers mean other errors on other systems.
fn is_locked_on_windows(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(5 | 32))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn run(locked: usize, error: i32) -> (Result<(), i32>, usize, Duration) {
        let (tries, waited) = (Cell::new(0), RefCell::new(Duration::ZERO));
        let attempt = || {
            tries.set(tries.get() + 1);
            if tries.get() <= locked { Err(error) } else { Ok(()) }
        };
        let result = outlast("file", |pause| *waited.borrow_mut() += pause, |code| *code == 32, attempt);
        (result, tries.get(), waited.into_inner())
    }

    #[test]
    fn what_is_locked_for_a_while_is_tried_again_and_what_stays_locked_is_an_error() {
        assert_eq!(run(0, 32), (Ok(()), 1, Duration::ZERO));
        assert_eq!(run(3, 32), (Ok(()), 4, Duration::from_millis(350)));
        assert_eq!(run(5, 32), (Ok(()), 6, Duration::from_millis(1500)));
        assert_eq!(run(6, 32), (Err(32), 6, Duration::from_millis(1500)));
    }

    #[test]
    fn what_fails_for_another_reason_is_tried_once() {
        assert_eq!(run(1, 112), (Err(112), 1, Duration::ZERO));
    }

    #[test]
    fn only_the_codes_of_locks_are_locks() {
        assert!(is_locked_on_windows(&io::Error::from_raw_os_error(5)));
        assert!(is_locked_on_windows(&io::Error::from_raw_os_error(32)));
        assert!(!is_locked_on_windows(&io::Error::from_raw_os_error(112)));
    }
}
