//! Which frames a video has, and when each is shown.

use super::decode::Stream;

/// Frames of one video.
const MAX_FRAMES: usize = 20_000_000;

/// The frames of a video in the order in which they are shown.
#[derive(Debug)]
pub struct VideoIndex {
    pub(super) times: Times,
    problem: Option<String>,
}

/// How a frame is told from the others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// By its time in ticks, rising.
    Shown {
        frames: Vec<i64>,
        /// Those from which decoding can begin, rising.
        keys: Vec<i64>,
    },
    /// By counting from the start: the container gives no times that tell.
    Counted { num_frames: usize },
}

impl VideoIndex {
    /// Reads every packet of a stream that is at its start; decodes where packets do not tell what is shown.
    pub(super) fn of(stream: &mut Stream) -> Result<Self, String> {
        let Packets { frames, keys, num_packets, is_clear } = of_packets(stream)?;
        let times = if is_clear {
            Times::Shown { frames, keys }
        } else {
            stream.rewind()?;
            of_pictures(stream, keys)?
        };
        let problem = (num_packets < stream.claimed)
            .then(|| format!("breaks off after {num_packets} of {} frames; what came before is used", stream.claimed));
        let index = Self { times, problem };
        if index.num_frames() == 0 {
            return Err("cannot be decoded (no frame in it); is it a whole video?".to_owned());
        }
        Ok(index)
    }

    /// Frames that are shown.
    pub fn num_frames(&self) -> usize {
        match &self.times {
            Times::Shown { frames, .. } => frames.len(),
            Times::Counted { num_frames } => *num_frames,
        }
    }

    /// What the file lacks of what its header names, in words.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// What the packets of a stream tell.
struct Packets {
    frames: Vec<i64>,
    keys: Vec<i64>,
    num_packets: usize,
    /// Whether each that is shown has a time of its own and gives a picture, and decoding can begin at the first.
    is_clear: bool,
}

fn of_packets(stream: &mut Stream) -> Result<Packets, String> {
    let (mut frames, mut keys) = (Vec::new(), Vec::new());
    let (mut num_packets, mut is_clear, mut first_key) = (0, stream.has_a_picture_in_each_packet(), None);
    while let Some(packet) = stream.next_packet() {
        num_packets += 1;
        if num_packets > MAX_FRAMES {
            return Err(format!("has more than {MAX_FRAMES} frames"));
        }
        let Some(time) = packet.time else {
            is_clear = false;
            continue;
        };
        if packet.is_key {
            first_key = first_key.or(Some(time));
            keys.push(time);
        }
        if packet.is_shown {
            frames.push(time);
        }
        is_clear &= !packet.is_cut && (packet.has_shown_time || !stream.is_reordered());
        // What comes before a key frame, or is led by the first, a decoder may leave out.
        is_clear &= first_key.is_some_and(|key| key <= time || !packet.is_shown);
    }
    frames.sort_unstable();
    keys.sort_unstable();
    is_clear &= frames.is_sorted_by(|first, second| first < second);
    Ok(Packets { frames, keys, num_packets, is_clear })
}

/// The times of the pictures that a decoder gives, if they tell; else how many there are.
fn of_pictures(stream: &mut Stream, mut keys: Vec<i64>) -> Result<Times, String> {
    let (mut frames, mut num_frames) = (Vec::new(), 0);
    while let Some(time) = stream.next()? {
        num_frames += 1;
        frames.extend(time);
    }
    let is_rising = frames.is_sorted_by(|first, second| first < second);
    if frames.len() != num_frames || !is_rising {
        return Ok(Times::Counted { num_frames });
    }
    keys.retain(|key| frames.binary_search(key).is_ok());
    Ok(Times::Shown { frames, keys })
}
