//! A tar that one thread writes while another reads it.

use std::io::{self, Cursor, Read, Write};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cancel::Cancel;
use crate::error::Error;

/// Bytes handed from the writing thread to the reader at once.
const CHUNK: usize = 256 << 10;
/// Number of chunks in the channel.
const CHUNKS: usize = 4;

/// Runs `write` on a thread called `name` and returns a stream of its output. An error of `write` ends the
/// stream after the bytes written before it.
///
/// The stream ends only after `write` has returned. Dropping the stream half-way makes the thread's writes
/// and flushes fail, then waits for `write` to return. So after the end or the drop, everything that `write`
/// undoes at its end is undone. Once `cancel` is cancelled, reading fails.
///
/// # Errors
/// When the thread cannot be started; `write` is not called then.
pub(crate) fn piped(
    name: &str,
    cancel: &Cancel,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send + 'static,
) -> io::Result<Box<dyn Read + Send>> {
    let (sender, receiver) = bounded(CHUNKS);
    let work = move || {
        let mut out = io::BufWriter::with_capacity(CHUNK, ChunkWriter(sender.clone()));
        let written = write(&mut out).and_then(|()| {
            out.flush().map_err(|source| Error::Io { action: "write", path: "the diff".into(), source })
        });
        // Discard the buffer without flushing it: it has data only if writing failed.
        drop(out.into_parts());
        if let Err(error) = written {
            // Fails only if the stream was dropped, and then the error does not matter.
            _ = sender.send(Err(io::Error::other(error)));
        }
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(Box::new(ChunkReader {
        receiver: Some(receiver),
        cancel: cancel.clone(),
        chunk: Cursor::default(),
        thread: Some(thread),
    }))
}

struct ChunkWriter(Sender<io::Result<Vec<u8>>>);

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(Ok(bytes.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    /// Fails if the stream was dropped, so that a writer can check while it has nothing to write.
    fn flush(&mut self) -> io::Result<()> {
        self.write(&[]).map(drop)
    }
}

struct ChunkReader {
    receiver: Option<Receiver<io::Result<Vec<u8>>>>,
    cancel: Cancel,
    chunk: Cursor<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.chunk.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let Some(receiver) = &self.receiver else { return Ok(0) };
            match self.cancel.receive(receiver)? {
                Some(chunk) => self.chunk = Cursor::new(chunk?),
                None => return Ok(0),
            }
        }
    }
}

impl Drop for ChunkReader {
    fn drop(&mut self) {
        // Closing the channel makes the thread's writes fail, which stops it.
        self.receiver = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that wrote a diff has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_is_written_is_read_and_an_error_comes_behind_it() {
        let mut stream = piped("test", &Cancel::default(), |out| {
            out.write_all(&[7; 1 << 20]).map_err(|source| Error::Io {
                action: "write",
                path: "x".into(),
                source,
            })?;
            Err(Error::NoSuchLayer { id: "gone".into() })
        })
        .unwrap();
        let mut read = vec![0; 1 << 20];
        stream.read_exact(&mut read[..CHUNK * 2]).unwrap();
        assert!(stream.read_to_end(&mut read).unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn a_stream_that_is_dropped_waits_for_its_writer() {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let mut stream = piped("test", &Cancel::default(), move |out| {
            while out.write_all(&[7; CHUNK]).is_ok() {}
            seen.store(true, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        drop(stream);
        assert!(ended.load(Ordering::SeqCst));
    }

    #[test]
    fn a_writer_that_has_written_nothing_yet_learns_that_nobody_reads() {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let stream = piped("test", &Cancel::default(), move |out| {
            while out.flush().is_ok() {}
            seen.store(true, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        drop(stream);
        assert!(ended.load(Ordering::SeqCst));
    }
}
