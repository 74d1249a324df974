//! Films beside the loop: a thread of its own draws, from copies of frames that the loop leaves without waiting.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context;
use foresee_firmware_config::PixelEncoding;
use foresee_runtime::Frame;

use crate::film::Film;

/// Frames that may wait to be drawn; when all do, the film misses one.
const NUM_SLOTS: usize = 4;
/// Beginnings of episodes that may wait.
const NUM_BEGINNINGS: usize = 16;

/// The thread's handle.
pub(crate) struct Filming {
    free: Receiver<Box<Frame>>,
    shots: SyncSender<Shot>,
    thread: JoinHandle<Film>,
}

enum Shot {
    Begin,
    Frame(Box<Frame>),
}

impl Filming {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (give, free) = sync_channel(NUM_SLOTS);
        for _ in 0..NUM_SLOTS {
            // Grows to the camera's size with the first frame.
            let _ = give.try_send(Box::new(Frame::black(0, 0, PixelEncoding::Rgb8)));
        }
        let (shots, taken) = sync_channel(NUM_SLOTS + NUM_BEGINNINGS);
        let draw = move || {
            let mut film = Film::default();
            for shot in taken {
                match shot {
                    Shot::Begin => film.clear(),
                    Shot::Frame(frame) => {
                        film.add(&frame);
                        // Whoever lent it may be gone.
                        let _ = give.try_send(frame);
                    }
                }
            }
            film
        };
        let thread = std::thread::Builder::new().name("foresee-film".to_owned()).spawn(draw);
        Ok(Self { free, shots, thread: thread.context("no thread for the film")? })
    }

    /// Another episode begins; what was filmed is forgotten.
    pub(crate) fn begin(&self) {
        let _ = self.shots.try_send(Shot::Begin);
    }

    /// Leaves a copy of a frame, if there is room for one.
    pub(crate) fn show(&self, frame: &Frame) {
        if let Ok(mut copy) = self.free.try_recv() {
            copy.copy_from(frame);
            let _ = self.shots.try_send(Shot::Frame(copy));
        }
    }

    /// What was filmed.
    pub(crate) fn finish(self) -> Film {
        drop(self.shots);
        // A thread that panicked has told of itself and leaves no film.
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_episode_is_filmed_whatever_its_frames_are() {
        let filming = Filming::start().unwrap();
        filming.show(&Frame::black(8, 8, PixelEncoding::Jpeg));
        filming.begin();
        filming.show(&Frame::black(8, 8, PixelEncoding::Bgr8));
        let film = filming.finish();
        assert_eq!(film.undrawn().unwrap().0, 1);
        let folder = tempfile::tempdir().unwrap();
        film.write(folder.path()).unwrap();
        assert!(folder.path().join("episode.gif").is_file());
    }
}
