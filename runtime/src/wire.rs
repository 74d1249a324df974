//! Messages between processes and in logs: ROS 2 messages in little-endian CDR, with the 4-byte encapsulation header.
//!
//! Encoders write into a lent buffer and decoders into lent values, so that neither allocates once its buffers have grown.
//! Decoders never panic and refuse what is larger than any robot of ours.

use foresee_firmware_config::PixelEncoding;
use hiroz_cdr::{CdrReader, CdrWriter, LittleEndian};

use crate::ends::Episode;
use crate::frame::Frame;
use crate::joints::JointState;
use crate::preprocess::MAX_FRAME_PIXELS;
use crate::time::Stamp;

/// CDR, little-endian, no options.
const ENCAPSULATION: [u8; 4] = [0, 1, 0, 0];
const MAX_JOINTS: usize = 1024;
const MAX_TEXT_BYTES: usize = 1024;

/// The messages that Foresee speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Image,
    JointState,
    JointCommand,
    Episode,
    /// Written to logs, and not read here: for training elsewhere.
    Reward,
}

/// The topic of a camera beside the first.
pub(crate) fn extra_image(camera: &str) -> String {
    format!("camera/{camera}/image")
}

impl MessageKind {
    /// Those that are read.
    #[cfg(feature = "log")]
    pub(crate) const ALL: [Self; 4] = [Self::Image, Self::JointState, Self::JointCommand, Self::Episode];

    /// The ROS 2 type name.
    #[cfg(feature = "log")]
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Image => "sensor_msgs/msg/Image",
            Self::JointState => "sensor_msgs/msg/JointState",
            Self::JointCommand => "foresee_msgs/msg/JointCommand",
            Self::Episode => "foresee_msgs/msg/Episode",
            Self::Reward => "foresee_msgs/msg/Reward",
        }
    }

    /// The definition with all that it refers to, in MCAP's `ros2msg` form.
    #[cfg(feature = "log")]
    pub(crate) fn definition(self) -> String {
        let own = match self {
            Self::Image => include_str!("../msg/Image.msg"),
            Self::JointState => include_str!("../msg/JointState.msg"),
            Self::JointCommand => include_str!("../msg/JointCommand.msg"),
            Self::Episode => include_str!("../msg/Episode.msg"),
            Self::Reward => include_str!("../msg/Reward.msg"),
        };
        let line = "=".repeat(80);
        let (header, time) = (include_str!("../msg/Header.msg"), include_str!("../msg/Time.msg"));
        format!("{own}{line}\nMSG: std_msgs/Header\n{header}{line}\nMSG: builtin_interfaces/Time\n{time}")
    }
}

/// Where an episode is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpisodePhase {
    /// It begins.
    #[default]
    Started,
    /// It is over.
    Ended,
    /// The environment has no more.
    Finished,
}

/// Joint names and states as they came, in the sender's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NamedJoints {
    pub(crate) names: Vec<String>,
    pub(crate) state: JointState,
}

/// Joint names and commands as they came, in the sender's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NamedCommand {
    pub(crate) names: Vec<String>,
    pub(crate) stamp: Stamp,
    pub(crate) values: Vec<f64>,
}

/// Everything of a `sensor_msgs/Image` but its pixels, which follow directly.
pub(crate) fn encode_image_prefix(frame: &Frame, bytes: &mut Vec<u8>) {
    // ROS 2's `sensor_msgs/image_encodings` where it has a name.
    let encoding = match frame.encoding {
        PixelEncoding::Rgb8 => "rgb8",
        PixelEncoding::Bgr8 => "bgr8",
        PixelEncoding::Yuyv => "yuv422_yuy2",
        PixelEncoding::Nv12 => "nv12",
        PixelEncoding::Jpeg => "jpeg",
    };
    encode(frame.stamp, bytes, |writer| {
        writer.write_u32(frame.height);
        writer.write_u32(frame.width);
        writer.write_string(encoding);
        writer.write_u8(0);
        writer.write_u32(row_bytes(frame.encoding) * frame.width);
        writer.write_sequence_length(frame.data.len());
    });
}

/// Bytes of a row for each pixel of it (of the first plane, when there are planes); 0 when there are no rows.
fn row_bytes(encoding: PixelEncoding) -> u32 {
    match encoding {
        PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => 3,
        PixelEncoding::Yuyv => 2,
        PixelEncoding::Nv12 => 1,
        PixelEncoding::Jpeg => 0,
    }
}

/// `sensor_msgs/Image`.
pub(crate) fn encode_image(frame: &Frame, bytes: &mut Vec<u8>) {
    encode_image_prefix(frame, bytes);
    bytes.extend_from_slice(&frame.data);
}

/// `sensor_msgs/JointState` without effort.
pub(crate) fn encode_joints(names: &[String], state: &JointState, bytes: &mut Vec<u8>) {
    encode(state.stamp, bytes, |writer| {
        write_names(writer, names);
        write_values(writer, &state.positions);
        write_values(writer, &state.velocities);
        write_values(writer, &[]);
    });
}

/// `foresee_msgs/JointCommand`.
pub(crate) fn encode_command(names: &[String], stamp: Stamp, values: &[f64], bytes: &mut Vec<u8>) {
    encode(stamp, bytes, |writer| {
        write_names(writer, names);
        write_values(writer, values);
    });
}

/// `foresee_msgs/Episode`.
pub(crate) fn encode_episode(stamp: Stamp, phase: EpisodePhase, episode: &Episode, bytes: &mut Vec<u8>) {
    encode(stamp, bytes, |writer| {
        writer.write_u8(match phase {
            EpisodePhase::Started => 0,
            EpisodePhase::Ended => 1,
            EpisodePhase::Finished => 2,
        });
        writer.write_u32(episode.index);
        writer.write_u64(episode.seed);
        writer.write_string(&episode.task);
        writer.write_f64(episode.episode_return);
        writer.write_u32(episode.num_steps);
        writer.write_bool(episode.success);
    });
}

/// `foresee_msgs/Reward`.
#[cfg(feature = "log")]
pub(crate) fn encode_reward(stamp: Stamp, reward: f64, bytes: &mut Vec<u8>) {
    encode(stamp, bytes, |writer| writer.write_f64(reward));
}

/// Reads a `sensor_msgs/Image` of an encoding that preprocessing takes; the frame's sequence is left alone, it travels beside the message.
/// On an error the frame stays as it was.
pub(crate) fn decode_image(bytes: &[u8], frame: &mut Frame) -> Result<(), String> {
    let mut reader = decode(bytes)?;
    let stamp = reader.stamp()?;
    let (height, width) = (reader.u32()?, reader.u32()?);
    let encoding = match reader.text()? {
        "rgb8" => PixelEncoding::Rgb8,
        "bgr8" => PixelEncoding::Bgr8,
        "yuv422_yuy2" => PixelEncoding::Yuyv,
        "nv12" => PixelEncoding::Nv12,
        "jpeg" => PixelEncoding::Jpeg,
        other => {
            return Err(format!("encoding {other:?} where rgb8, bgr8, yuv422_yuy2, nv12 or jpeg is understood"));
        }
    };
    if !(1..=MAX_FRAME_PIXELS).contains(&width) || !(1..=MAX_FRAME_PIXELS).contains(&height) {
        return Err(format!("{width}x{height} must lie within 1..={MAX_FRAME_PIXELS} pixels"));
    }
    let (_is_bigendian, step) = (reader.u8()?, reader.u32()?);
    let wanted = row_bytes(encoding) * width;
    if step != wanted {
        return Err(format!("step {step} where rows of {width} pixels without padding have {wanted}"));
    }
    let pixels = reader.0.read_byte_sequence().map_err(|error| error.to_string())?;
    let num_pixels = width as usize * height as usize;
    let wanted = match encoding {
        PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => Some(3 * num_pixels),
        PixelEncoding::Yuyv => Some(2 * num_pixels),
        PixelEncoding::Nv12 => Some(num_pixels + num_pixels / 2),
        PixelEncoding::Jpeg => None,
    };
    if let Some(wanted) = wanted.filter(|wanted| pixels.len() != *wanted) {
        return Err(format!("{} bytes of pixels where {width}x{height} of {encoding:?} needs {wanted}", pixels.len()));
    }
    (frame.stamp, frame.width, frame.height, frame.encoding) = (stamp, width, height, encoding);
    frame.data.clear();
    frame.data.extend_from_slice(pixels);
    Ok(())
}

/// Reads a `sensor_msgs/JointState`; positions and velocities must be as many as names.
pub(crate) fn decode_joints(bytes: &[u8], joints: &mut NamedJoints) -> Result<(), String> {
    let mut reader = decode(bytes)?;
    joints.state.stamp = reader.stamp()?;
    let num_joints = reader.names(&mut joints.names)?;
    reader.values("positions", num_joints, &mut joints.state.positions)?;
    reader.values("velocities", num_joints, &mut joints.state.velocities)?;
    // Efforts are not used; they may be left out.
    reader.length("efforts").map(|_| ())
}

/// Reads a `foresee_msgs/JointCommand`; there must be as many values as names.
pub(crate) fn decode_command(bytes: &[u8], command: &mut NamedCommand) -> Result<(), String> {
    let mut reader = decode(bytes)?;
    command.stamp = reader.stamp()?;
    let num_joints = reader.names(&mut command.names)?;
    reader.values("commands", num_joints, &mut command.values)
}

/// Reads a `foresee_msgs/Episode`.
pub(crate) fn decode_episode(bytes: &[u8]) -> Result<(Stamp, EpisodePhase, Episode), String> {
    let mut reader = decode(bytes)?;
    let stamp = reader.stamp()?;
    let phase = match reader.u8()? {
        0 => EpisodePhase::Started,
        1 => EpisodePhase::Ended,
        2 => EpisodePhase::Finished,
        other => return Err(format!("phase {other} where 0 (started), 1 (ended) or 2 (finished) is understood")),
    };
    let episode = Episode {
        index: reader.u32()?,
        seed: reader.0.read_u64().map_err(|error| error.to_string())?,
        task: reader.text()?.to_owned(),
        episode_return: reader.0.read_f64().map_err(|error| error.to_string())?,
        num_steps: reader.u32()?,
        success: reader.0.read_bool().map_err(|error| error.to_string())?,
    };
    Ok((stamp, phase, episode))
}

/// Hands the bytes to the decoder of every message, as a fuzzer does; whether each took them.
pub fn decode_every_message(bytes: &[u8]) -> [bool; 4] {
    let mut frame = Frame::black(1, 1, PixelEncoding::Rgb8);
    [
        decode_image(bytes, &mut frame).is_ok(),
        decode_joints(bytes, &mut NamedJoints::default()).is_ok(),
        decode_command(bytes, &mut NamedCommand::default()).is_ok(),
        decode_episode(bytes).is_ok(),
    ]
}

type Writer<'a> = CdrWriter<'a, LittleEndian, Vec<u8>>;

/// Clears `bytes`, writes the encapsulation, a header of `stamp` with an empty frame, and what `body` writes.
fn encode(stamp: Stamp, bytes: &mut Vec<u8>, body: impl FnOnce(&mut Writer<'_>)) {
    bytes.clear();
    bytes.extend_from_slice(&ENCAPSULATION);
    let mut writer = Writer::new(bytes);
    // ROS 2 counts seconds in 32 bits: until 2038, as every ROS 2 clock.
    writer.write_i32(i32::try_from(stamp.nanos / 1_000_000_000).unwrap_or(i32::MAX));
    writer.write_u32((stamp.nanos % 1_000_000_000) as u32);
    writer.write_string("");
    body(&mut writer);
}

fn write_names(writer: &mut Writer<'_>, names: &[String]) {
    writer.write_sequence_length(names.len());
    names.iter().for_each(|name| writer.write_string(name));
}

fn write_values(writer: &mut Writer<'_>, values: &[f64]) {
    writer.write_sequence_length(values.len());
    values.iter().for_each(|value| writer.write_f64(*value));
}

struct Reader<'a>(CdrReader<'a, LittleEndian>);

/// Takes the encapsulation off.
fn decode(bytes: &[u8]) -> Result<Reader<'_>, String> {
    match bytes.split_at_checked(ENCAPSULATION.len()) {
        Some(([0, 1, _, _], body)) => Ok(Reader(CdrReader::new(body))),
        Some((header, _)) => Err(format!("starts with {header:02x?} where little-endian CDR starts with 00 01")),
        None => Err(format!("{} bytes are no CDR message", bytes.len())),
    }
}

impl<'a> Reader<'a> {
    /// The header: its stamp, and a frame name that is passed over.
    fn stamp(&mut self) -> Result<Stamp, String> {
        let seconds = self.0.read_i32().map_err(|error| error.to_string())?;
        let nanos = self.u32()?;
        self.text()?;
        let Ok(seconds) = u64::try_from(seconds) else {
            return Err(format!("stamp of {seconds} s: time before the epoch"));
        };
        if nanos >= 1_000_000_000 {
            return Err(format!("stamp with {nanos} ns past the second"));
        }
        Ok(Stamp { nanos: seconds * 1_000_000_000 + u64::from(nanos) })
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.0.read_u8().map_err(|error| error.to_string())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.0.read_u32().map_err(|error| error.to_string())
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let text = self.0.read_str().map_err(|error| error.to_string())?;
        if text.len() > MAX_TEXT_BYTES {
            return Err(format!("text of {} bytes, more than the {MAX_TEXT_BYTES} allowed", text.len()));
        }
        Ok(text)
    }

    fn length(&mut self, of: &str) -> Result<usize, String> {
        let length = self.u32()? as usize;
        if length > MAX_JOINTS {
            return Err(format!("{length} {of}, more than the {MAX_JOINTS} allowed"));
        }
        Ok(length)
    }

    /// Reads names into strings that are kept when they are the same as last time; gives how many.
    fn names(&mut self, names: &mut Vec<String>) -> Result<usize, String> {
        let num_names = self.length("names")?;
        names.resize_with(num_names, String::new);
        for name in names {
            let read = self.text()?;
            if name != read {
                name.clear();
                name.push_str(read);
            }
        }
        Ok(num_names)
    }

    fn values(&mut self, of: &str, num_names: usize, values: &mut Vec<f64>) -> Result<(), String> {
        let num_values = self.length(of)?;
        if num_values != num_names {
            return Err(format!("{num_values} {of} for {num_names} joints"));
        }
        values.clear();
        for _ in 0..num_values {
            values.push(self.0.read_f64().map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let data = (0..2 * 3 * 3).collect();
        let stamp = Stamp { nanos: 12_345_678_901 };
        Frame { stamp, sequence: 0, width: 3, height: 2, encoding: PixelEncoding::Bgr8, data }
    }

    fn names() -> Vec<String> {
        vec!["shoulder".to_owned(), "wrist".to_owned()]
    }

    /// Every message once, and the decoder that takes it.
    type Row = (Vec<u8>, fn(&[u8]) -> Result<(), String>);

    fn rows() -> [Row; 4] {
        let mut messages = [const { Vec::new() }; 4];
        let [image, joints, command, episode] = &mut messages;
        let state =
            JointState { stamp: Stamp { nanos: 7 }, positions: vec![1.0, -2.0], velocities: vec![0.5, f64::NAN] };
        encode_image(&frame(), image);
        encode_joints(&names(), &state, joints);
        encode_command(&names(), Stamp { nanos: 9 }, &[0.25, 1e300], command);
        encode_episode(Stamp { nanos: 1 }, EpisodePhase::Ended, &Episode::default(), episode);
        let [image, joints, command, episode] = messages;
        [
            (image, |bytes| decode_image(bytes, &mut Frame::black(1, 1, PixelEncoding::Rgb8))),
            (joints, |bytes| decode_joints(bytes, &mut NamedJoints::default())),
            (command, |bytes| decode_command(bytes, &mut NamedCommand::default())),
            (episode, |bytes| decode_episode(bytes).map(|_| ())),
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut bytes = Vec::new();
        let mut image = Frame::black(1, 1, PixelEncoding::Rgb8);
        encode_image(&frame(), &mut bytes);
        decode_image(&bytes, &mut image).unwrap();
        assert_eq!(image, frame());

        let state = JointState { stamp: Stamp { nanos: 7 }, positions: vec![1.0, -2.0], velocities: vec![0.5, 1e-300] };
        let mut joints = NamedJoints::default();
        encode_joints(&names(), &state, &mut bytes);
        decode_joints(&bytes, &mut joints).unwrap();
        assert_eq!(joints, NamedJoints { names: names(), state });

        let mut command = NamedCommand::default();
        encode_command(&names(), Stamp { nanos: 9 }, &[0.25, -1.0], &mut bytes);
        decode_command(&bytes, &mut command).unwrap();
        assert_eq!(command, NamedCommand { names: names(), stamp: Stamp { nanos: 9 }, values: vec![0.25, -1.0] });

        let task = "dmc/reacher-easy".to_owned();
        let episode = Episode { index: 3, seed: u64::MAX, task, episode_return: 1.5, num_steps: 1000, success: true };
        encode_episode(Stamp { nanos: 1 }, EpisodePhase::Finished, &episode, &mut bytes);
        assert_eq!(decode_episode(&bytes).unwrap(), (Stamp { nanos: 1 }, EpisodePhase::Finished, episode));
    }

    /// Bytes as `rosbags` 0.11 writes `JointState(header.stamp=1 s 2 ns, name=["a"], position=[1.0], velocity=[2.0])`.
    #[test]
    fn the_layout_is_that_of_ros() {
        let mut bytes = Vec::new();
        let state = JointState { stamp: Stamp { nanos: 1_000_000_002 }, positions: vec![1.0], velocities: vec![2.0] };
        encode_joints(&["a".to_owned()], &state, &mut bytes);
        let expected = "000100000100000002000000010000000000000001000000020000006100000001000000\
                        000000000000f03f0100000000000000000000000000004000000000";
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn every_prefix_of_every_message_is_an_error() {
        for (message, decode) in rows() {
            decode(&message).unwrap();
            for length in 0..message.len() {
                let problem = decode(&message[..length]).unwrap_err();
                assert!(!problem.is_empty() && !problem.contains('\n'), "{problem}");
            }
        }
    }

    #[test]
    fn what_is_too_large_or_foreign_is_refused() {
        let check = |change: fn(&mut Vec<u8>), expected: &str| {
            let mut bytes = Vec::new();
            encode_image(&frame(), &mut bytes);
            change(&mut bytes);
            let problem = decode_image(&bytes, &mut Frame::black(1, 1, PixelEncoding::Rgb8)).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        };
        check(|bytes| bytes[1] = 0, "little-endian");
        check(|bytes| bytes[27] = 0xff, "must lie within");
        check(|bytes| bytes[32] = b'm', "mgr8");
        check(|bytes| bytes[40] = 10, "step 10");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(change in proptest::collection::vec((0_usize..200, proptest::num::u8::ANY), 0..8)) {
            for (mut message, decode) in rows() {
                for (at, byte) in &change {
                    let length = message.len();
                    message[at % length] = *byte;
                }
                let _ = decode(&message);
            }
        }

        #[test]
        fn random_bytes_make_no_decoder_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for (_, decode) in rows() {
                let _ = decode(&bytes);
            }
            if let Some(header) = bytes.first_chunk_mut::<4>() {
                *header = ENCAPSULATION;
            }
            for (_, decode) in rows() {
                let _ = decode(&bytes);
            }
        }
    }
}
