//! A blob's pieces on their way between async tasks and blocking threads.

use std::io::{self, Read, Write};

use tokio::sync::mpsc;

/// Pieces in flight: at containerd's megabyte each, this bounds the memory per blob.
pub(crate) const UNDER_WAY: usize = 4;
/// Bytes of a piece to send.
const PIECE: usize = 1 << 20;

/// A received piece of a blob.
pub(crate) enum Piece {
    /// The next bytes.
    Data(Vec<u8>),
    /// The end of the blob. A channel that closes without it was cut off.
    End,
}

/// A blob to read from a blocking thread.
pub(crate) struct PieceReader {
    pieces: mpsc::Receiver<Piece>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl PieceReader {
    pub(crate) fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, current: io::Cursor::default(), ended: false }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() || self.ended {
                return Ok(count);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => self.current = io::Cursor::new(data),
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob was cut off")),
            }
        }
    }
}

/// A blob to write from a blocking thread.
pub(crate) struct PieceWriter {
    pieces: mpsc::Sender<Vec<u8>>,
    current: Vec<u8>,
}

impl PieceWriter {
    pub(crate) fn new(pieces: mpsc::Sender<Vec<u8>>) -> Self {
        Self { pieces, current: Vec::with_capacity(PIECE) }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.current.len());
        self.current.extend_from_slice(&bytes[..count]);
        if self.current.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.current, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_is_cut_off_is_told_from_one_that_ends() {
        let (sender, receiver) = mpsc::channel(UNDER_WAY);
        for piece in [Piece::Data(vec![1, 2]), Piece::Data(Vec::new()), Piece::Data(vec![3]), Piece::End] {
            sender.blocking_send(piece).unwrap();
        }
        let mut bytes = Vec::new();
        PieceReader::new(receiver).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3]);
        let (sender, receiver) = mpsc::channel(UNDER_WAY);
        sender.blocking_send(Piece::Data(vec![1])).unwrap();
        drop(sender);
        let error = PieceReader::new(receiver).read_to_end(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_written_goes_out_in_pieces_of_a_megabyte() {
        let (sender, mut receiver) = mpsc::channel(UNDER_WAY);
        let mut writer = PieceWriter::new(sender);
        writer.write_all(&vec![7; PIECE + 5]).unwrap();
        writer.flush().unwrap();
        writer.flush().unwrap();
        drop(writer);
        let sizes: Vec<usize> =
            std::iter::from_fn(|| receiver.blocking_recv().map(|piece| piece.len())).collect();
        assert_eq!(sizes, [PIECE, 5]);
    }
}
