//! Logs: MCAP with the same messages as on the wire, that opens after a kill at any moment.

mod reader;
mod recorder;
mod recording;
mod scan;
mod sink;
mod source;
mod topics;
mod writer;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::reader::{LogEntry, LogReader};
pub use self::recorder::{CommandTap, FactTap, RecordedActuator, Recorder, RecorderOptions, RecorderSummary};
pub use self::source::{CommandRecorder, LogSource, RecordedCommand};
pub use self::topics::LogTopics;
pub use self::writer::LogWriter;
use crate::encoder::EngineReport;
use crate::wire::MessageKind;

/// Name of the MCAP metadata record that holds the [`LogHeader`].
const HEADER_RECORD: &str = "foresee";
/// Name of the MCAP metadata record that a recorder leaves at the end.
const RECORDER_RECORD: &str = "foresee_recorder";
/// Name of the MCAP metadata record of models that took over while the log was written: what runs `encoder` and `policy`.
const MODELS_RECORD: &str = "foresee_models";
/// A chunk is closed when it holds this much, uncompressed.
const CHUNK_BYTES: usize = 1 << 20;
/// Larger records and chunks are refused on reading, whatever length they claim; the largest frame that is decoded fits.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// What a log was made with; an MCAP metadata record at its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogHeader {
    /// The robot's name, as in its zenoh keys.
    pub robot: String,
    /// The device profile's name.
    pub profile: String,
    /// Joint names in command order.
    pub joints: Vec<String>,
    /// Names of the cameras beside the first one.
    pub cameras: Vec<String>,
    /// What ran the encoder, if one ran.
    pub encoder: Option<EngineReport>,
    /// What ran the policy, if one ran.
    pub policy: Option<EngineReport>,
    /// Git revision of the code.
    pub git_revision: String,
    /// Anything else worth knowing, such as task, seeds and the MuJoCo version.
    pub facts: BTreeMap<String, String>,
}

/// The key of the facts under which the profile lies, as TOML with all that it inherits.
const PROFILE_FACT: &str = "profile_toml";

impl LogHeader {
    /// With the profile's TOML, so that a replay needs no file.
    #[must_use]
    pub fn with_profile(mut self, toml: String) -> Self {
        self.facts.insert(PROFILE_FACT.to_owned(), toml);
        self
    }

    /// The profile's TOML, if the log holds it.
    pub fn profile_toml(&self) -> Option<&str> {
        self.facts.get(PROFILE_FACT).map(String::as_str)
    }
}

/// The two command topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommandTopic {
    /// What was executed.
    #[default]
    JointCommand,
    /// What the expert would have done, when something else was executed.
    ExpertCommand,
}

/// The topics of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Image,
    JointStates,
    JointCommand,
    ExpertCommand,
    Episode,
}

impl Topic {
    const ALL: [Self; 5] = [Self::Image, Self::JointStates, Self::JointCommand, Self::ExpertCommand, Self::Episode];

    fn name(self) -> &'static str {
        match self {
            Self::Image => "camera/image",
            Self::JointStates => "joint_states",
            Self::JointCommand => "joint_command",
            Self::ExpertCommand => "expert_command",
            Self::Episode => "episode",
        }
    }

    fn kind(self) -> MessageKind {
        match self {
            Self::Image => MessageKind::Image,
            Self::JointStates => MessageKind::JointState,
            Self::JointCommand | Self::ExpertCommand => MessageKind::JointCommand,
            Self::Episode => MessageKind::Episode,
        }
    }
}

impl From<CommandTopic> for Topic {
    fn from(topic: CommandTopic) -> Self {
        match topic {
            CommandTopic::JointCommand => Self::JointCommand,
            CommandTopic::ExpertCommand => Self::ExpertCommand,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::ends::{Episode, Observation};
    use crate::error::RuntimeError;
    use crate::frame::Frame;
    use crate::joints::JointState;
    use crate::safety::SafetyFilter;
    use crate::time::Stamp;
    use crate::wire::EpisodePhase;
    use foresee_firmware_config::{DeviceProfile, PixelEncoding};

    fn profile() -> DeviceProfile {
        foresee_firmware_config::load("desktop-sim").unwrap()
    }

    fn header() -> LogHeader {
        LogHeader {
            robot: "reacher".to_owned(),
            profile: "desktop-sim".to_owned(),
            joints: vec!["shoulder".to_owned(), "wrist".to_owned()],
            cameras: vec!["side".to_owned()],
            encoder: Some(EngineReport {
                provider: foresee_firmware_config::Provider::Tract,
                engine: "tract 0.23.9".to_owned(),
                reason: "asked for".to_owned(),
                intra_threads: 1,
                precision: "f32".to_owned(),
                nodes: [("tract".to_owned(), 3)].into(),
                images: 1,
                signed_by: None,
                model_sha256: "00ff".to_owned(),
            }),
            policy: None,
            git_revision: "abc".to_owned(),
            facts: [("seeds".to_owned(), "0..20".to_owned())].into(),
        }
    }

    fn entries(num_ticks: u64) -> Vec<LogEntry> {
        let names = header().joints;
        let mut entries = Vec::new();
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / f64::from(1 << 24)
        };
        for tick in 0..num_ticks {
            let stamp = Stamp { nanos: (tick % 4) * 20_000_000 };
            let episode =
                Episode { index: (tick / 4) as u32, task: "dmc/reacher-easy".to_owned(), ..Episode::default() };
            if tick % 4 == 0 {
                entries.push(LogEntry::Episode { phase: EpisodePhase::Started, stamp, episode: episode.clone() });
            }
            let mut frame = Frame::black(7, 5, PixelEncoding::Rgb8);
            (frame.stamp, frame.sequence) = (stamp, tick);
            frame.data.iter_mut().for_each(|byte| *byte = (noise() * 256.0) as u8);
            entries.push(LogEntry::ExtraFrame { camera: "side".to_owned(), frame: frame.clone() });
            entries.push(LogEntry::Frame(frame));
            let state = JointState { stamp, positions: vec![noise(), noise()], velocities: vec![noise(), noise()] };
            entries.push(LogEntry::Joints { names: names.clone(), state });
            for topic in [CommandTopic::JointCommand, CommandTopic::ExpertCommand] {
                entries.push(LogEntry::Command { topic, names: names.clone(), stamp, values: vec![noise(), noise()] });
            }
            if tick % 4 == 3 {
                entries.push(LogEntry::Episode { phase: EpisodePhase::Ended, stamp, episode });
            }
        }
        entries
    }

    fn write(writer: &mut LogWriter, entry: &LogEntry) {
        match entry {
            LogEntry::Frame(frame) => writer.write_frame(frame),
            LogEntry::ExtraFrame { camera: _, frame } => writer.write_extra_frame(0, frame),
            LogEntry::Joints { names, state } => writer.write_joints(names, state),
            LogEntry::Command { topic, names, stamp, values } => writer.write_command(*topic, names, (*stamp, values)),
            LogEntry::Episode { phase, stamp, episode } => writer.write_episode(*stamp, *phase, episode),
        }
        .unwrap();
    }

    /// Everything that can be read, and why the log ends early if it does.
    fn read(path: &Path) -> Result<(Vec<LogEntry>, Option<String>), RuntimeError> {
        let mut reader = LogReader::open(path)?;
        assert_eq!(*reader.header(), header());
        let entries = reader.by_ref().collect::<Result<_, _>>()?;
        Ok((entries, reader.truncation().map(str::to_owned)))
    }

    #[test]
    fn a_log_gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let mut writer = LogWriter::create(&path, &header()).unwrap();
        let entries = entries(10);
        entries.iter().for_each(|entry| write(&mut writer, entry));
        writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), (entries, None));
    }

    /// A reader that knows nothing of us and forgives nothing.
    fn open_strictly(bytes: &[u8]) -> usize {
        mcap::MessageStream::new(bytes).unwrap().inspect(|message| assert!(message.is_ok(), "{message:?}")).count()
    }

    #[test]
    fn the_file_is_whole_after_every_flush_and_time_never_turns_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let mut writer = LogWriter::create(&path, &header()).unwrap();
        let entries = entries(9);
        for (entry_idx, entry) in entries.iter().enumerate() {
            write(&mut writer, entry);
            writer.flush().unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(open_strictly(&bytes), entry_idx + 1);
            let (read, truncation) = read(&path).unwrap();
            assert_eq!(read, entries[..=entry_idx]);
            assert!(truncation.unwrap().contains("not closed"));
        }
        drop(writer);
        let bytes = fs::read(&path).unwrap();
        let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
        assert_eq!(summary.stats.unwrap().message_count, entries.len() as u64);
        let times: Vec<u64> =
            mcap::MessageStream::new(&bytes).unwrap().map(|message| message.unwrap().log_time).collect();
        assert!(times.is_sorted(), "{times:?}");
    }

    /// A reader without an index takes messages as they lie in the file, and refuses those that turn back in time.
    #[test]
    fn messages_lie_in_the_order_of_log_time_whatever_their_stamps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let mut writer = LogWriter::create(&path, &header()).unwrap();
        // Joints before and after their image, a clock that is set back by a minute and goes on, joints of another clock.
        let millis = |image: bool, millis: u64| (image, millis * 1_000_000);
        let stamps = [
            millis(true, 80_000),
            millis(false, 79_700),
            millis(false, 80_300),
            millis(true, 90_000),
            millis(true, 24_000),
            millis(true, 24_100),
            millis(true, 25_000),
            millis(false, 1_700_000_000_000),
            millis(false, 0),
        ];
        for (is_image, nanos) in stamps {
            if is_image {
                let mut frame = Frame::black(4, 4, PixelEncoding::Rgb8);
                frame.stamp = Stamp { nanos };
                writer.write_frame(&frame).unwrap();
            } else {
                let state = JointState { stamp: Stamp { nanos }, positions: vec![0.0; 2], velocities: vec![0.0; 2] };
                writer.write_joints(&header().joints, &state).unwrap();
            }
            // A chunk each.
            writer.flush().unwrap();
        }
        let bytes = fs::read(&path).unwrap();
        let messages: Vec<_> = mcap::MessageStream::new(&bytes).unwrap().map(|message| message.unwrap()).collect();
        let times: Vec<u64> = messages.iter().map(|message| message.log_time / 1_000_000).collect();
        assert_eq!(times, [80_000, 80_000, 80_300, 90_000, 90_000, 90_100, 91_000, 91_000, 91_000]);
        assert!(messages.is_sorted_by_key(|message| message.log_time));
        assert_eq!(messages[1].publish_time, stamps[1].1);
    }

    #[test]
    fn a_log_cut_at_any_byte_gives_its_whole_chunks_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (path, cut) = (folder.path().join("log.mcap"), folder.path().join("cut.mcap"));
        let mut writer = LogWriter::create(&path, &header()).unwrap();
        let header_length = fs::read(&path).unwrap().len();
        let entries = entries(6);
        for (entry_idx, entry) in entries.iter().enumerate() {
            write(&mut writer, entry);
            if entry_idx % 5 == 4 {
                writer.flush().unwrap();
            }
        }
        writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&cut, &bytes).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&cut).unwrap();
        let mut least = entries.len();
        for length in (0..bytes.len()).rev() {
            file.set_len(length as u64).unwrap();
            if length < header_length {
                // Without a whole header there may be nothing to tell; it must not panic.
                let _ = LogReader::open(&cut).map(Iterator::count);
                continue;
            }
            let (read, truncation) = read(&cut).unwrap();
            assert!(read.len() <= least && read == entries[..read.len()], "cut at {length}");
            assert!(truncation.is_some() || read.len() == entries.len(), "cut at {length}");
            least = read.len();
        }
        assert_eq!(least, 0);
    }

    #[test]
    fn what_is_no_log_is_a_named_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        assert!(LogReader::open(&path).unwrap_err().to_string().contains("log.mcap"));
        for bytes in
            [&b""[..], b"hello, this is a text and no log at all", &[0x89, b'M', b'C', b'A', b'P', b'0', b'\r', b'\n']]
        {
            fs::write(&path, bytes).unwrap();
            let message = LogReader::open(&path).unwrap_err().to_string();
            assert!(message.contains("is no log of Foresee") && !message.contains('\n'), "{message}");
        }
        let nowhere = folder.path().join("nowhere").join("log.mcap");
        assert!(LogWriter::create(&nowhere, &header()).unwrap_err().to_string().contains("nowhere"));
    }

    #[test]
    fn a_recorder_writes_or_counts_every_observation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let profile = profile();
        let writer = LogWriter::create(&path, &header()).unwrap();
        let options = RecorderOptions { num_slots: 2, ..RecorderOptions::default() };
        let recorder = Recorder::start(writer, &profile, options).unwrap();
        let mut observation = Observation::blank(128, 128, 2);
        for sequence in 0..300 {
            observation.frame.sequence = sequence;
            observation.frame.stamp.nanos = sequence * 1_000_000;
            recorder.observe(&observation);
        }
        recorder.episode(observation.frame.stamp, EpisodePhase::Ended, &Episode::default());
        let summary = recorder.finish().unwrap();
        assert_eq!(summary.num_written + summary.num_dropped, 300);
        let mut reader = LogReader::open(&path).unwrap();
        let frames = reader.by_ref().filter(|entry| matches!(entry, Ok(LogEntry::Frame(_)))).count();
        assert_eq!((frames as u64, reader.num_dropped()), (summary.num_written, Some(summary.num_dropped)));
        assert_eq!(reader.truncation(), None);
    }

    /// What stands in a log, in a word and a time each.
    fn outline(path: &Path) -> Vec<(&'static str, u64)> {
        let word = |entry: Result<LogEntry, RuntimeError>| match entry.unwrap() {
            LogEntry::Frame(frame) => ("frame", frame.stamp.nanos),
            LogEntry::ExtraFrame { frame, .. } => ("extra", frame.stamp.nanos),
            LogEntry::Joints { state, .. } => ("joints", state.stamp.nanos),
            LogEntry::Command { stamp, .. } => ("command", stamp.nanos),
            LogEntry::Episode { stamp, .. } => ("episode", stamp.nanos),
        };
        LogReader::open(path).unwrap().map(word).collect()
    }

    #[test]
    fn every_command_that_was_sent_is_recorded_behind_the_frame_that_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let profile = profile();
        let writer = LogWriter::create(&path, &header()).unwrap();
        let mut recorder = Recorder::start(writer, &profile, RecorderOptions::default()).unwrap();
        let tap = recorder.take_command_tap().unwrap();
        assert!(recorder.take_command_tap().is_none());
        let mut filter = SafetyFilter::new(&profile.joints, profile.pace.period());
        let mut send = |nanos| tap.record(filter.hold(Stamp { nanos }, crate::safety::Hold::StaleFrame));
        let mut observation = Observation::blank(128, 128, 2);
        let mut observe = |nanos| {
            (observation.frame.stamp.nanos, observation.joints.stamp.nanos) = (nanos, nanos);
            recorder.observe(&observation);
        };
        recorder.episode(Stamp { nanos: 3 }, EpisodePhase::Started, &Episode::default());
        send(10);
        observe(10);
        // Frames stop, a watchdog stops the joints, and a frame comes again.
        (11..14).for_each(&mut send);
        send(20);
        observe(20);
        send(30);
        // Whoever sends may live on.
        let summary = recorder.finish().unwrap();
        assert_eq!((summary.num_written, summary.num_dropped), (2, 0));
        let mut expected = vec![("episode", 10), ("frame", 10), ("joints", 10), ("command", 10)];
        expected.extend((11..14).map(|nanos| ("command", nanos)));
        expected.extend([("frame", 20), ("joints", 20), ("command", 20), ("command", 30)]);
        assert_eq!(outline(&path), expected);
        send(40);
    }

    #[test]
    fn a_log_that_is_as_large_as_it_may_be_ends_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let writer = LogWriter::create(&path, &header()).unwrap();
        let options = RecorderOptions { max_bytes: 3 << 20, ..RecorderOptions::default() };
        let recorder = Recorder::start(writer, &profile(), options).unwrap();
        let mut observation = Observation::blank(128, 128, 2);
        let began = std::time::Instant::now();
        while !recorder.is_full() {
            observation.frame.sequence += 1;
            let mut state = observation.frame.sequence;
            for byte in &mut observation.frame.data {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            recorder.observe(&observation);
            assert!(began.elapsed().as_secs() < 60, "never full");
        }
        (0..100).for_each(|_| recorder.observe(&observation));
        let summary = recorder.finish().unwrap();
        assert!(summary.num_dropped >= 100, "{summary:?}");
        // A chunk more at most, and the index.
        assert!((3 << 20..5 << 20).contains(&fs::metadata(&path).unwrap().len()));
        let mut reader = LogReader::open(&path).unwrap();
        let num_frames = reader.by_ref().filter(|entry| matches!(entry, Ok(LogEntry::Frame(_)))).count();
        assert_eq!((num_frames as u64, reader.truncation()), (summary.num_written, None));
    }

    proptest::proptest! {
        #[test]
        fn no_damage_makes_the_reader_panic(
            damage in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 1..6),
        ) {
            static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log.mcap");
            let mut bytes = WHOLE.get_or_init(|| {
                let mut writer = LogWriter::create(&path, &header()).unwrap();
                entries(3).iter().for_each(|entry| write(&mut writer, entry));
                writer.finish().unwrap();
                fs::read(&path).unwrap()
            }).clone();
            for (at, byte) in damage {
                let length = bytes.len();
                bytes[at % length] = byte;
            }
            fs::write(&path, &bytes).unwrap();
            if let Ok(reader) = LogReader::open(&path) {
                // A bad message is one error, and the next follows: at most one result a message.
                proptest::prop_assert!(reader.count() <= 3 * 6);
            }
        }
    }
}
