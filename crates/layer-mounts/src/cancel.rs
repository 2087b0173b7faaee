//! Cancelling long work from outside. Cancelled work undoes what it did and returns [`Cancelled`].
//!
//! All clones of a [`Cancel`] share one state. Its streams check it on every read, and it ends waits for
//! locks, pipes and children.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, select};

/// Bytes of a chunk that is read from a pipe.
const CHUNK: usize = 256 << 10;
/// Chunks in the channel.
const CHUNKS: usize = 4;

/// Cancels the work of a store. Clones share one state.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<State>);

#[derive(Debug)]
struct State {
    cancelled: AtomicBool,
    /// Nothing is ever sent. Dropping the sender wakes all waiting receivers.
    wake: Receiver<()>,
    sender: Mutex<Option<Sender<()>>>,
}

impl Default for Cancel {
    fn default() -> Self {
        let (sender, wake) = bounded(0);
        Self(Arc::new(State { cancelled: AtomicBool::new(false), wake, sender: Mutex::new(Some(sender)) }))
    }
}

/// The error of cancelled work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        Self::other(cancelled)
    }
}

impl Cancel {
    /// Cancels for good. Further calls change nothing.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        *self.0.sender.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether this was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// To be called between steps of long work.
    ///
    /// # Errors
    /// [`Cancelled`] after [`Self::cancel`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Wraps a source, so that every read fails once this is cancelled. A read that is waiting for its source
    /// goes on waiting; for such sources use [`Self::pipe`].
    pub fn reader<R: Read>(&self, source: R) -> CancelReader<R> {
        CancelReader { source, cancel: self.clone() }
    }

    /// Reads a source that may block, such as a pipe, on a thread of its own. The thread also calls `open`:
    /// opening a named pipe waits for a writer. The thread of a cancelled read goes on waiting, and ends with
    /// the process.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn pipe<R: Read>(
        &self,
        open: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<PipeReader> {
        let (sender, chunks) = bounded(CHUNKS);
        let read = move || match open() {
            Ok(mut source) => while send_chunk(&mut source, &sender) {},
            Err(error) => _ = sender.send(Err(error)),
        };
        thread::Builder::new().name("pipe".into()).spawn(read)?;
        Ok(PipeReader { chunks, chunk: Cursor::default(), cancel: self.clone() })
    }

    /// Opens a file for reading: regular files directly, pipes and devices through [`Self::pipe`].
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self, path: &std::path::Path) -> io::Result<Box<dyn Read + Send>> {
        if path.metadata()?.is_file() {
            return Ok(Box::new(File::open(path)?));
        }
        let path = path.to_owned();
        Ok(Box::new(self.pipe(move || File::open(path))?))
    }

    /// The next message from `receiver`; `None` if its senders are gone.
    ///
    /// # Errors
    /// [`Cancelled`] if this is cancelled before a message comes.
    pub fn receive<T>(&self, receiver: &Receiver<T>) -> Result<Option<T>, Cancelled> {
        self.check()?;
        select! {
            recv(receiver) -> received => Ok(received.ok()),
            recv(self.0.wake) -> _ => Err(Cancelled),
        }
    }

    /// Runs `blocking`, which cannot be interrupted, on a thread of its own and waits for it. If this is
    /// cancelled first, the thread goes on waiting alone.
    ///
    /// # Errors
    /// [`Cancelled`] if that comes first, those of `blocking`, or the thread cannot be started.
    pub fn wait<T: Send + 'static>(
        &self,
        blocking: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.check()?;
        let (sender, done) = bounded(1);
        thread::Builder::new().name("wait".into()).spawn(move || sender.send(blocking()))?;
        select! {
            recv(done) -> result => {
                result.unwrap_or_else(|_| Err(io::Error::other("the thread that waited has panicked")))
            }
            recv(self.0.wake) -> _ => Err(Cancelled.into()),
        }
    }
}

/// Reads and sends one chunk. Returns whether to go on.
fn send_chunk(source: &mut impl Read, sender: &Sender<io::Result<Vec<u8>>>) -> bool {
    let mut chunk = vec![0; CHUNK];
    match source.read(&mut chunk) {
        Ok(0) => false,
        Ok(count) => {
            chunk.truncate(count);
            sender.send(Ok(chunk)).is_ok()
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
        Err(error) => {
            // A receiver that is gone does not need the error.
            _ = sender.send(Err(error));
            false
        }
    }
}

/// A reader that fails once it is cancelled.
pub struct CancelReader<R> {
    source: R,
    cancel: Cancel,
}

impl<R: fmt::Debug> fmt::Debug for CancelReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl<R: Read> Read for CancelReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.source.read(buffer)
    }
}

/// The reader of [`Cancel::pipe`].
#[derive(Debug)]
pub struct PipeReader {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Cursor<Vec<u8>>,
    cancel: Cancel,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.cancel.receive(&self.chunks)? {
                Some(chunk) => self.chunk = Cursor::new(chunk?),
                None => return Ok(0),
            }
        }
    }
}

/// Whether `error` or one of its causes is [`Cancelled`].
pub fn is_cancelled(error: &(dyn std::error::Error + 'static)) -> bool {
    any_cause(error, &|error| {
        #[cfg(target_os = "linux")]
        if let Some(crate::linux::LinuxError::Cancelled(_)) = error.downcast_ref() {
            return true;
        }
        error.is::<Cancelled>()
    })
}

/// Whether `is` holds for `error` or one of its causes, including errors inside I/O errors, which `source`
/// skips.
pub fn any_cause(
    error: &(dyn std::error::Error + 'static),
    is: &dyn Fn(&(dyn std::error::Error + 'static)) -> bool,
) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if is(error) || inner.is_some_and(|inner| any_cause(inner, is)) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_stream_fails_at_the_next_read() {
        let cancel = Cancel::default();
        let mut stream = cancel.reader(io::repeat(7));
        stream.read_exact(&mut [0; 10]).unwrap();
        cancel.clone().cancel();
        let error = stream.read(&mut [0; 10]).unwrap_err();
        assert!(is_cancelled(&error) && !is_cancelled(&io::Error::other("x")));
    }

    #[test]
    fn a_read_that_waits_for_a_pipe_ends() {
        let cancel = Cancel::default();
        let (read_end, mut write_end) = io::pipe().unwrap();
        let mut stream = cancel.pipe(move || Ok(read_end)).unwrap();
        write_end.write_all(b"abc").unwrap();
        let mut start = [0; 3];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"abc");
        let (answer, answered) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || answer.send(stream.read(&mut [0; 1])));
            cancel.cancel();
            assert!(is_cancelled(&answered.recv().unwrap().unwrap_err()));
        });
        drop(write_end);
    }

    #[test]
    fn a_pipe_gives_all_bytes_and_its_error() {
        let cancel = Cancel::default();
        let mut stream = cancel.pipe(|| Ok(io::repeat(7).take(1 << 20))).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes == vec![7; 1 << 20]);
        let failing = cancel.pipe(|| Err::<File, _>(io::Error::from(io::ErrorKind::NotFound)));
        assert_eq!(failing.unwrap().read(&mut [0]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn waiting_ends_when_it_is_cancelled() {
        let cancel = Cancel::default();
        let (release, wait) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| cancel.wait(move || Ok(wait.recv().is_ok())));
            cancel.cancel();
            assert!(is_cancelled(&waiting.join().unwrap().unwrap_err()));
        });
        drop(release);
        assert_eq!(Cancel::default().wait(|| Ok(5)).unwrap(), 5);
    }
}
