//! Scanners of viruses and indexers on Windows: they open what was just written, and for as long it cannot be
//! renamed, replaced or removed. What can be done any number of times is tried again until they are done.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long to wait before each further attempt: 1.5 s in all, in which a scanner has read what it wanted.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(750),
];

/// Does what can be repeated until it is not locked any more, or for as long as scanners take.
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

/// Gives a file its name, be there one of that name or not.
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let is_locked = |error: &io::Error| cfg!(windows) && is_locked_on_windows(error);
    outlast(&to.display().to_string(), std::thread::sleep, is_locked, || fs::rename(from, to))
}

/// `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION`. Other systems have other numbers.
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
