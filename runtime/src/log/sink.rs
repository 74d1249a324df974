//! The file under a log: a valid MCAP file at every instant, whenever the process is killed.
//!
//! ```text
//! committed data | padding record ................................ | data end, footer, magic
//! ```
//!
//! New data is written into the body of the padding record, which every reader passes over, with the header of a shorter
//! padding record behind it. Only then are the nine bytes of the old header overwritten: with those the data is there. A larger
//! file is made in the same way: first the end of file at its new place, then the header of a longer padding record. The
//! padding is a hole that takes no room on the disk, and is gone once the log is closed.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opcode and length.
const HEADER_BYTES: usize = 9;
/// The first of the opcodes that MCAP leaves to applications, and that readers must pass over.
const PADDING: u8 = 0x80;
/// How much longer than needed a file is made.
const SLACK_BYTES: u64 = 4 << 20;
const TAIL_BYTES: u64 = TAIL.len() as u64;

/// A data-end record and a footer without summary (both without checksum), and the closing magic.
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

/// Collects what is written and commits it to the file at each flush.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// Bytes of data in the file; padding and tail lie behind them.
    committed: u64,
    /// Bytes of the file, with its tail.
    end: u64,
    /// What was written since the last commit.
    pending: Vec<u8>,
    /// `committed`, for whoever gave the sink away.
    count: Arc<AtomicU64>,
}

impl Sink {
    /// On an empty file.
    pub(super) fn new(file: File) -> Self {
        Self { file, committed: 0, end: 0, pending: Vec::new(), count: Arc::default() }
    }

    /// Counts the bytes of data in the file.
    pub(super) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }

    /// Commits what is pending as the very end of the file: the writer has written its own tail.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.commit()?;
        self.file.set_len(self.committed)?;
        self.file.sync_all()
    }

    fn commit(&mut self) -> io::Result<()> {
        let num_bytes = self.pending.len() as u64;
        let Some((header, body)) = self.pending.split_first_chunk::<HEADER_BYTES>() else { return Ok(()) };
        if self.end == 0 {
            // The first few bytes of a log, before anything is recorded.
            let mut whole = self.pending.clone();
            whole.extend_from_slice(&TAIL);
            self.file.write_all_at(&whole, 0)?;
            self.end = whole.len() as u64;
        } else {
            let needed = self.committed + num_bytes + HEADER_BYTES as u64 + TAIL_BYTES;
            if needed > self.end {
                let end = needed + SLACK_BYTES;
                self.file.write_all_at(&TAIL, end - TAIL_BYTES)?;
                self.file.write_all_at(&padding_header(self.committed, end), self.committed)?;
                self.end = end;
            }
            let behind = self.committed + num_bytes;
            let mut hidden = Vec::with_capacity(body.len() + HEADER_BYTES);
            hidden.extend_from_slice(body);
            hidden.extend_from_slice(&padding_header(behind, self.end));
            self.file.write_all_at(&hidden, self.committed + HEADER_BYTES as u64)?;
            self.file.write_all_at(header, self.committed)?;
        }
        self.committed += num_bytes;
        self.count.store(self.committed, Ordering::Relaxed);
        self.pending.clear();
        Ok(())
    }
}

/// The header of a padding record that reaches from `from` to the tail of a file that is `end` bytes long.
fn padding_header(from: u64, end: u64) -> [u8; HEADER_BYTES] {
    let mut header = [PADDING; HEADER_BYTES];
    let length = end.saturating_sub(from + HEADER_BYTES as u64 + TAIL_BYTES);
    header[1..].copy_from_slice(&length.to_le_bytes());
    header
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.commit()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The states of the file between the writes of a commit, as a kill would leave them.
    #[test]
    fn the_file_is_whole_between_any_two_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let record = |opcode: u8, length: usize| {
            let mut bytes = vec![opcode];
            bytes.extend_from_slice(&(length as u64).to_le_bytes());
            bytes.resize(9 + length, 7);
            bytes
        };
        let mut sink = Sink::new(File::create(&path).unwrap());
        sink.write_all(mcap::MAGIC).unwrap();
        // A header record of two empty texts.
        sink.write_all(&[1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        sink.flush().unwrap();
        for length in [0, 1, 50, 5000, 6 << 20, 3] {
            let before = std::fs::read(&path).unwrap();
            sink.write_all(&record(0x90, length)).unwrap();
            let pending = sink.pending.clone();
            // As far as the writes into the padding came, nothing is seen of them.
            if let Some(room) = (sink.end - TAIL_BYTES).checked_sub(sink.committed + pending.len() as u64 + 9)
                && room > 0
            {
                for cut in [1, pending.len() / 2, pending.len()] {
                    let mut killed = before.clone();
                    let at = sink.committed as usize + HEADER_BYTES;
                    let written = &pending[HEADER_BYTES.min(pending.len())..cut.max(HEADER_BYTES)];
                    killed[at..at + written.len()].copy_from_slice(written);
                    assert_eq!(count(&killed), count(&before));
                }
            }
            sink.flush().unwrap();
            assert_eq!(count(&std::fs::read(&path).unwrap()), count(&before) + 1);
        }
    }

    /// Records of opcode 0x90 in a file that must be whole.
    fn count(bytes: &[u8]) -> usize {
        let records = mcap::read::LinearReader::new(bytes).unwrap().map(|record| record.unwrap().opcode());
        let opcodes: Vec<u8> = records.collect();
        assert_eq!(opcodes.last(), Some(&mcap::records::op::FOOTER));
        opcodes.iter().filter(|opcode| **opcode == 0x90).count()
    }
}
