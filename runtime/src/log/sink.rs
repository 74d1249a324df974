//! The file under a log: whatever was flushed is followed by a valid end of file, which the next flush overwrites.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// A data-end record and a footer without summary (both without checksum), and the closing magic: any MCAP reader opens a
/// file that ends so.
const TAIL: [u8; 50] = {
    let mut tail = [0; 50];
    tail[0] = mcap::records::op::DATA_END;
    tail[1] = 4;
    tail[13] = mcap::records::op::FOOTER;
    tail[14] = 20;
    let mut magic_idx = 0;
    while magic_idx < mcap::MAGIC.len() {
        tail[42 + magic_idx] = mcap::MAGIC[magic_idx];
        magic_idx += 1;
    }
    tail
};

/// Collects what is written and puts it into the file in one call at each flush, with the tail behind it.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// Bytes of the file that stay; the tail lies behind them.
    committed: u64,
    /// What was written since, and room for the tail.
    pending: Vec<u8>,
}

impl Sink {
    pub(super) fn new(file: File) -> Self {
        Self { file, committed: 0, pending: Vec::new() }
    }

    /// Puts what is pending into the file as its very end: the writer has written its own tail.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.commit(&[])?;
        self.file.sync_all()
    }

    /// A kill between two calls finds the file whole; one in the middle of the write itself leaves a cut chunk at the end.
    fn commit(&mut self, tail: &[u8]) -> io::Result<()> {
        let length = self.pending.len();
        self.pending.extend_from_slice(tail);
        let written = self.file.write_all_at(&self.pending, self.committed);
        self.pending.truncate(length);
        if let Err(error) = written {
            // The disk may be full: cut back to what was whole. If that fails too, the cut chunk is the reader's to pass over.
            let _ = self.file.set_len(self.committed).and_then(|()| self.file.write_all_at(&TAIL, self.committed));
            return Err(error);
        }
        self.committed += length as u64;
        self.pending.clear();
        self.file.set_len(self.committed + tail.len() as u64)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.commit(&TAIL) }
    }
}

impl Seek for Sink {
    /// Only tells the position: the writer is set never to seek.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = self.committed + self.pending.len() as u64;
        match to {
            SeekFrom::Current(0) | SeekFrom::End(0) => Ok(end),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "a log is written front to back")),
        }
    }
}
