//! The packets and decoded pictures of one video stream.

use std::fs::File;
use std::path::{Path, PathBuf};

use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::{Dictionary, Error, Packet, codec, decoder, format, frame, media};

use crate::picture::{JpegCheck, Upright};
use crate::preprocess::MAX_FRAME_PIXELS;

/// Largest image that is decoded, in pixels.
const MAX_PIXELS: i64 = 64 << 20;
/// `AV_PKT_FLAG_DISCARD`: decoded for others' sake and not shown, as an edit list has it.
const DISCARD: i32 = 0x0004;
/// Microseconds.
const TICKS_OF_SEEKS: i128 = 1_000_000;

/// The video stream of a file that FFmpeg plays first.
pub(super) struct Stream {
    path: PathBuf,
    input: Input,
    stream_idx: usize,
    decoder: decoder::Video,
    packet: Packet,
    /// Whether `packet` is still to be decoded.
    is_waiting: bool,
    is_drained: bool,
    picture: frame::Video,
    upright: Upright,
    size: [usize; 2],
    /// Seconds of a tick, as a fraction.
    time_base: [i32; 2],
    rate_hertz: f64,
    codec: codec::Id,
    jpeg: JpegCheck,
    /// Packets that the container names, if it does.
    pub(super) claimed: usize,
}

/// A packet without its data.
pub(super) struct PacketFacts {
    /// When it is shown, in ticks.
    pub(super) time: Option<i64>,
    /// Whether that is said, and not when it is decoded.
    pub(super) has_shown_time: bool,
    pub(super) is_key: bool,
    /// Whether a picture of it is shown.
    pub(super) is_shown: bool,
    pub(super) is_cut: bool,
}

impl Stream {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        ffmpeg_next::init().map_err(|error| format!("FFmpeg cannot be used ({error})"))?;
        // What is wrong is told here.
        ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
        let broken = |error: Error| format!("cannot be decoded ({error}); is it a whole video?");
        let file = File::open(path).map_err(|error| format!("cannot be read ({error})"))?;
        let input = StreamIo::from_read_seek(file).map_err(broken)?;
        // Play lists could name other files and addresses.
        let mut options = Dictionary::new();
        options.set("protocol_whitelist", "none");
        let input = format::input_from_stream(input, path.to_str(), Some(options)).map_err(broken)?;
        let stream = input.streams().best(media::Type::Video);
        let stream = stream.ok_or_else(|| "holds no video stream; is it a video?".to_owned())?;
        let stream_idx = stream.index();
        let parameters = stream.parameters();
        let codec = parameters.id();
        let mut context = codec::Context::from_parameters(parameters).map_err(broken)?;
        // Whoever reads videos reads several at once.
        context.set_threading(codec::threading::Config::count(1));
        let decoder = context
            .decoder()
            .video()
            .map_err(|error| format!("has video of codec {} that this FFmpeg cannot decode ({error})", codec.name()))?;
        check_size([decoder.width(), decoder.height()].map(i64::from))?;
        let matrix = stream.side_data().find(|data| data.kind() == side_data::Type::DisplayMatrix);
        let upright = matrix.map_or(Upright::default(), |matrix| Upright::of_display_matrix(matrix.data()));
        let rate = stream.avg_frame_rate();
        let rate_hertz =
            if rate.denominator() > 0 { f64::from(rate.numerator()) / f64::from(rate.denominator()) } else { 0.0 };
        let time_base = [stream.time_base().numerator(), stream.time_base().denominator().max(1)];
        let claimed = usize::try_from(stream.frames()).unwrap_or(0);
        let size = [decoder.width(), decoder.height()].map(|side| side as usize);
        Ok(Self {
            path: path.to_path_buf(),
            input,
            stream_idx,
            decoder,
            packet: Packet::empty(),
            is_waiting: false,
            is_drained: false,
            picture: frame::Video::empty(),
            upright,
            size,
            time_base,
            rate_hertz,
            codec,
            jpeg: JpegCheck::default(),
            claimed,
        })
    }

    /// As opened.
    pub(super) fn rewind(&mut self) -> Result<(), String> {
        let claimed = self.claimed;
        *self = Self::open(&self.path)?;
        self.claimed = claimed;
        Ok(())
    }

    pub(super) fn upright(&self) -> Upright {
        self.upright
    }

    /// Width and height as stored.
    pub(super) fn size(&self) -> [usize; 2] {
        self.size
    }

    pub(super) fn rate_hertz(&self) -> f64 {
        self.rate_hertz
    }

    pub(super) fn codec(&self) -> &'static str {
        self.codec.name()
    }

    pub(super) fn seconds_per_tick(&self) -> f64 {
        f64::from(self.time_base[0]) / f64::from(self.time_base[1])
    }

    /// The picture that [`Stream::next`] gave last.
    pub(super) fn picture(&self) -> &frame::Video {
        &self.picture
    }

    /// Whether the decoder had all of it.
    pub(super) fn is_whole(&self) -> bool {
        !self.picture.is_corrupt() && !self.picture.has_decode_errors()
    }

    /// Whether pictures are shown in another order than they are sent, as far as the codec's header has it.
    pub(super) fn is_reordered(&self) -> bool {
        self.decoder.has_b_frames()
    }

    /// Whether each packet that is shown gives one picture.
    pub(super) fn has_a_picture_in_each_packet(&self) -> bool {
        use codec::Id;
        matches!(
            self.codec,
            Id::H264
                | Id::HEVC
                | Id::VP8
                | Id::VP9
                | Id::AV1
                | Id::MJPEG
                | Id::PNG
                | Id::FFV1
                | Id::HUFFYUV
                | Id::RAWVIDEO
        )
    }

    /// The next packet's facts, not decoded.
    pub(super) fn next_packet(&mut self) -> Option<PacketFacts> {
        self.read_packet().then(|| self.facts())
    }

    /// The next picture in the order in which they are shown: its time, if it has one.
    pub(super) fn next(&mut self) -> Result<Option<Option<i64>>, String> {
        loop {
            match self.decoder.receive_frame(&mut self.picture) {
                Ok(()) => {
                    return Ok(Some(self.picture.pts().or_else(|| self.picture.timestamp())));
                }
                Err(Error::Eof) => return Ok(None),
                // Of a broken picture, too: the next one may be whole.
                Err(_) if self.is_drained => return Ok(None),
                Err(_) => {}
            }
            if std::mem::take(&mut self.is_waiting) || self.read_packet() {
                // A packet that is refused gives no picture, which is found out by its time. FFmpeg fills what a JPEG lacks.
                let data = self.packet.data().unwrap_or_default();
                if self.codec != codec::Id::MJPEG || self.jpeg.check(data).is_ok() {
                    let _ = self.decoder.send_packet(&self.packet);
                }
            } else {
                self.is_drained = true;
                self.decoder.send_eof().map_err(|error| format!("cannot be decoded ({error})"))?;
            }
        }
    }

    /// Goes to the key frame at `key`, or to one before it; false where it came to one that is shown after `wanted`, or to none.
    pub(super) fn seek(&mut self, key: i64, wanted: i64) -> bool {
        let [numerator, denominator] = self.time_base.map(i128::from);
        let microseconds = i128::from(key) * numerator * TICKS_OF_SEEKS;
        // Not before the tick, of which a seek takes the one below.
        let place = microseconds.div_euclid(denominator) + i128::from(microseconds.rem_euclid(denominator) > 0);
        let Ok(place) = i64::try_from(place) else { return false };
        if self.input.seek(place, ..place.saturating_add(1)).is_err() {
            return false;
        }
        self.decoder.flush();
        (self.is_waiting, self.is_drained) = (false, false);
        while self.read_packet() {
            let facts = self.facts();
            if facts.is_key {
                self.is_waiting = true;
                return facts.time.is_some_and(|time| time <= wanted);
            }
        }
        false
    }

    /// Reads the stream's next packet; false at the end of what can be read.
    fn read_packet(&mut self) -> bool {
        loop {
            match self.packet.read(&mut self.input) {
                Ok(()) if self.packet.stream() == self.stream_idx => return true,
                // Demuxers go on behind broken data.
                Ok(()) | Err(Error::InvalidData) => {}
                Err(_) => return false,
            }
        }
    }

    #[expect(unsafe_code, reason = "the wrapper of FFmpeg leaves this flag of a packet out")]
    fn facts(&self) -> PacketFacts {
        use ffmpeg_next::packet::Ref;
        // SAFETY: the pointer is that of a packet that lives as long as this borrow.
        let flags = unsafe { (*self.packet.as_ptr()).flags };
        let data = self.packet.data().unwrap_or_default();
        PacketFacts {
            time: self.packet.pts().or_else(|| self.packet.dts()),
            has_shown_time: self.packet.pts().is_some(),
            is_key: self.packet.is_key(),
            is_shown: flags & DISCARD == 0 && is_shown(self.codec, data),
            is_cut: self.packet.is_corrupt(),
        }
    }
}

/// Whether a packet's picture is for the eye and not for other pictures alone.
fn is_shown(codec: codec::Id, data: &[u8]) -> bool {
    match (codec, data) {
        // RFC 6386, 9.1.
        (codec::Id::VP8, [first, ..]) => first >> 4 & 1 == 1,
        // VP9 bitstream, B.2: of a superframe the last one is shown; else 6.2.
        (codec::Id::VP9, [.., last]) if last & 0xe0 == 0xc0 => true,
        (codec::Id::VP9, [first, ..]) => {
            let is_wide = first >> 4 & 3 == 3;
            let bits = if is_wide { first << 1 } else { *first };
            // show_existing_frame, frame_type, show_frame.
            bits >> 3 & 1 == 1 || bits >> 1 & 1 == 1
        }
        (_, data) => !data.is_empty(),
    }
}

/// Refuses what would take too much memory.
pub(super) fn check_size([width, height]: [i64; 2]) -> Result<(), String> {
    let side = i64::from(MAX_FRAME_PIXELS);
    if (1..=side).contains(&width) && (1..=side).contains(&height) && width * height <= MAX_PIXELS {
        return Ok(());
    }
    Err(format!("is of {width}x{height} pixels; at most {side} a side and {MAX_PIXELS} in all are decoded"))
}
