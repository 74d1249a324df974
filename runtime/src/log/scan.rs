//! What a log declares, before its messages are read: topics with their types, and the header.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use mcap::records::{Record, op};
use mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};

use super::topics::Declared;
use super::{HEADER_RECORD, MAX_RECORD_BYTES};
use crate::error::RuntimeError;

/// Libraries of this name write the log's tail before its end.
const OUR_LIBRARY: &str = "foresee";
/// A footer record, and the closing magic.
const FOOTER_BYTES: usize = 9 + 20 + 8;
/// Bytes that are asked for at a time, whatever length a record claims.
const READ_BYTES: usize = 1 << 20;

/// What a file declares.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) channels: Vec<Declared>,
    /// The facts of our header; empty for logs of other programs.
    pub(super) header: BTreeMap<String, String>,
    /// Whether Foresee wrote the file.
    pub(super) is_ours: bool,
}

/// A reader of records, from front to back.
pub(super) fn records() -> LinearReader {
    LinearReader::new_with_options(options())
}

fn options() -> LinearReaderOptions {
    LinearReaderOptions::default()
        .with_skip_end_magic(true)
        .with_prevalidate_chunk_crcs(true)
        .with_record_length_limit(MAX_RECORD_BYTES)
}

/// Feeds a reader with the bytes that it asks for. A request is as large as a record claims to be; a lie must not cost memory before the
/// bytes are there.
pub(super) fn feed(reader: &mut LinearReader, file: &mut File, num_bytes: usize) -> std::io::Result<()> {
    let room = reader.insert(num_bytes.min(READ_BYTES));
    let num_read = file.read(room)?;
    reader.notify_read(num_read);
    Ok(())
}

/// Reads the declarations: of our logs, from their start; of others, from the summary, or from the whole file if that has none.
///
/// # Errors
/// [`RuntimeError::File`] when the file cannot be opened. Damage is the reader's to find: here it ends the scan.
pub(super) fn scan(path: &Path) -> Result<Scan, RuntimeError> {
    let open = || File::open(path).map_err(|source| RuntimeError::File { path: path.to_path_buf(), source });
    let mut records = Scanner::new(records(), open()?);
    while records.step() == Step::Declared {}
    if records.scan.header.is_empty() {
        match summary(open()?) {
            Some(channels) => records.scan.channels = channels,
            None => while records.step() != Step::End {},
        }
    }
    Ok(records.scan)
}

#[derive(PartialEq, Eq)]
enum Step {
    Declared,
    Message,
    End,
}

struct Scanner {
    reader: LinearReader,
    file: File,
    scan: Scan,
    schemas: HashMap<u16, String>,
    /// As the summary's statistics have it.
    num_channels: Option<usize>,
}

impl Scanner {
    fn new(reader: LinearReader, file: File) -> Self {
        Self { reader, file, scan: Scan::default(), schemas: HashMap::new(), num_channels: None }
    }

    fn step(&mut self) -> Step {
        let (opcode, data) = match self.reader.next_event() {
            Some(Ok(LinearReadEvent::ReadRequest(num_bytes))) => {
                return match feed(&mut self.reader, &mut self.file, num_bytes) {
                    Ok(()) => Step::Declared,
                    Err(_) => Step::End,
                };
            }
            Some(Ok(LinearReadEvent::Record { opcode, data })) => (opcode, data),
            None | Some(Err(_)) => return Step::End,
        };
        let is_honest = match opcode {
            op::HEADER => are_lengths_honest(data, 0, 2),
            op::SCHEMA => are_lengths_honest(data, 2, 3),
            op::CHANNEL => are_lengths_honest(data, 4, 2),
            op::METADATA => are_lengths_honest(data, 0, 1),
            op::MESSAGE => return Step::Message,
            op::DATA_END | op::FOOTER => return Step::End,
            op::STATISTICS => true,
            _ => return Step::Declared,
        };
        match is_honest.then(|| mcap::parse_record(opcode, data)) {
            Some(Ok(Record::Header(header))) => self.scan.is_ours = header.library.starts_with(OUR_LIBRARY),
            Some(Ok(Record::Schema { header, .. })) => {
                self.schemas.insert(header.id, header.name);
            }
            Some(Ok(Record::Channel(channel))) if self.scan.channels.iter().all(|known| known.id != channel.id) => {
                let schema = self.schemas.get(&channel.schema_id).cloned().unwrap_or_default();
                let (topic, message_encoding) = (channel.topic, channel.message_encoding);
                self.scan.channels.push(Declared { id: channel.id, topic, message_encoding, schema });
            }
            Some(Ok(Record::Metadata(metadata))) if metadata.name == HEADER_RECORD => {
                self.scan.header = metadata.metadata
            }
            Some(Ok(Record::Statistics(statistics))) => self.num_channels = Some(statistics.channel_count as usize),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Step::End,
        }
        Step::Declared
    }
}

/// The channels of a summary that names all of them.
fn summary(mut file: File) -> Option<Vec<Declared>> {
    let mut footer = [0; FOOTER_BYTES];
    file.seek(SeekFrom::End(-(FOOTER_BYTES as i64))).ok()?;
    file.read_exact(&mut footer).ok()?;
    let [op::FOOTER, 20, 0, 0, 0, 0, 0, 0, 0, start @ ..] = footer else { return None };
    let start = u64::from_le_bytes(*start.first_chunk()?);
    if start == 0 {
        return None;
    }
    file.seek(SeekFrom::Start(start)).ok()?;
    let reader = LinearReader::new_with_options(options().with_skip_start_magic(true));
    let mut records = Scanner::new(reader, file);
    while records.step() != Step::End {}
    (records.num_channels == Some(records.scan.channels.len())).then_some(records.scan.channels)
}

/// Whether every text of a record (after `num_fixed` bytes: `num_texts` texts, then a map of texts) lies within it. The parser
/// reserves what a length claims before it looks.
pub(super) fn are_lengths_honest(data: &[u8], num_fixed: usize, num_texts: usize) -> bool {
    let Some(mut rest) = data.get(num_fixed..) else { return false };
    let mut num_seen = 0;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length > after.len() {
            return false;
        }
        let (inside, behind) = after.split_at(length);
        // The map's own length stands before its texts; what a later version appends behind it is not looked at.
        rest = if num_seen == num_texts { inside } else { behind };
        num_seen += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use foresee_firmware_config::PixelEncoding;
    use mcap::records::MessageHeader;

    use crate::frame::Frame;
    use crate::joints::JointState;
    use crate::log::{LogEntry, LogReader, LogTopics};
    use crate::time::Stamp;
    use crate::wire::{self, MessageKind};

    const NUM_FRAMES: u64 = 40;

    /// A recording as other programs write it: no checksum over the data section, none or all of the index.
    fn write(path: &PathBuf, options: mcap::WriteOptions, topics: &[(&str, MessageKind)]) {
        let options = options.library("lab").profile("ros2").calculate_data_section_crc(false);
        let mut mcap = options.create(std::fs::File::create(path).unwrap()).unwrap();
        let mut declare = |(topic, kind): &(&str, MessageKind)| {
            let schema = mcap.add_schema(kind.type_name(), "ros2msg", kind.definition().as_bytes()).unwrap();
            mcap.add_channel(schema, topic, "cdr", &Default::default()).unwrap()
        };
        let channels: Vec<u16> = topics.iter().map(&mut declare).collect();
        let mut message = Vec::new();
        for sequence in 0..NUM_FRAMES {
            let stamp = Stamp { nanos: 1_700_000_000_000_000_000 + sequence * 20_000_000 };
            for (channel_id, (topic, kind)) in channels.iter().zip(topics) {
                match kind {
                    MessageKind::Image => {
                        let mut frame = Frame::black(32, 24, PixelEncoding::Rgb8);
                        frame.stamp = stamp;
                        frame.data.fill(if topic.contains("rear") { 200 } else { 10 });
                        frame.data[0] = sequence as u8;
                        wire::encode_image(&frame, &mut message);
                    }
                    _ => {
                        let state = JointState { stamp, positions: vec![0.5], velocities: vec![0.0] };
                        wire::encode_joints(&["a".to_owned()], &state, &mut message);
                    }
                }
                let (log_time, publish_time) = (stamp.nanos, stamp.nanos);
                let header =
                    MessageHeader { channel_id: *channel_id, sequence: sequence as u32, log_time, publish_time };
                mcap.write_to_known_channel(&header, &message).unwrap();
            }
        }
        mcap.finish().unwrap();
    }

    fn first_bytes(path: &std::path::Path, topics: &LogTopics) -> (Vec<u8>, Option<String>) {
        let mut reader = LogReader::open_with(path, topics).unwrap();
        let frames = reader.by_ref().filter_map(|entry| match entry.unwrap() {
            LogEntry::Frame(frame) => Some((frame.data[0], frame.data[1])),
            _ => None,
        });
        let seen: Vec<(u8, u8)> = frames.collect();
        assert!(seen.iter().all(|(_, colour)| *colour == seen[0].1), "two cameras in one: {seen:?}");
        (seen.into_iter().map(|(number, _)| number).collect(), reader.truncation().map(str::to_owned))
    }

    fn kinds_of_writers() -> [(&'static str, mcap::WriteOptions); 5] {
        let options = mcap::WriteOptions::new;
        let unindexed = options()
            .use_chunks(false)
            .emit_statistics(false)
            .emit_summary_offsets(false)
            .emit_message_indexes(false)
            .repeat_channels(false)
            .repeat_schemas(false);
        [
            ("zstd", options().compression(Some(mcap::Compression::Zstd))),
            ("lz4", options().compression(Some(mcap::Compression::Lz4)).chunk_size(Some(5000))),
            ("plain", options().compression(None)),
            ("unchunked", options().use_chunks(false)),
            ("unindexed", unindexed),
        ]
    }

    #[test]
    fn a_whole_recording_of_another_writer_is_read_whole_and_a_cut_one_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let topics = [("/camera/image", MessageKind::Image), ("/joint_states", MessageKind::JointState)];
        for (name, options) in kinds_of_writers() {
            let path = folder.path().join(format!("{name}.mcap"));
            write(&path, options, &topics);
            let whole = (0..NUM_FRAMES as u8).collect::<Vec<_>>();
            assert_eq!(first_bytes(&path, &LogTopics::all()), (whole.clone(), None), "{name}");
            let bytes = std::fs::read(&path).unwrap();
            let cut = folder.path().join("cut.mcap");
            std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
            // One chunk alone is lost as a whole.
            if ["lz4", "unchunked", "unindexed"].contains(&name) {
                let (read, truncation) = first_bytes(&cut, &LogTopics::all());
                assert!(!read.is_empty() && read == whole[..read.len()] && read.len() < whole.len(), "{name}");
                assert!(truncation.is_some(), "{name}");
            }
        }
    }

    #[test]
    fn two_cameras_are_never_mixed_and_one_is_chosen_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for (name, options) in kinds_of_writers() {
            let path = folder.path().join(format!("{name}.mcap"));
            write(
                &path,
                options.clone(),
                &[("/rear_camera/image", MessageKind::Image), ("/camera/image", MessageKind::Image)],
            );
            assert_eq!(first_bytes(&path, &LogTopics::frames()).0.len(), NUM_FRAMES as usize, "{name}");
            let rear = LogTopics::frames().with_named(&["/rear_camera/image".to_owned()]);
            assert_eq!(first_bytes(&path, &rear).0.len(), NUM_FRAMES as usize, "{name}");
            write(
                &path,
                options,
                &[("/rear/camera/image", MessageKind::Image), ("/front/camera/image", MessageKind::Image)],
            );
            let problem = LogReader::open_with(&path, &LogTopics::frames()).unwrap_err().to_string();
            let needles = ["/rear/camera/image", "/front/camera/image", "--topic", ".mcap"];
            assert!(needles.iter().all(|needle| problem.contains(needle)), "{name}: {problem}");
        }
    }

    #[test]
    fn a_topic_of_another_type_is_passed_over_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bag.mcap");
        let topics = [("/camera/image", MessageKind::Image), ("/annotation/episode", MessageKind::JointState)];
        write(&path, mcap::WriteOptions::new(), &topics);
        let mut reader = LogReader::open_with(&path, &LogTopics::frames()).unwrap();
        assert_eq!(
            reader.by_ref().filter(|entry| matches!(entry, Ok(LogEntry::Frame(_)))).count(),
            NUM_FRAMES as usize
        );
        let passed = reader.passed_over();
        assert!(
            passed.len() == 1 && passed[0].contains("40 messages") && passed[0].contains("/annotation/episode"),
            "{passed:?}"
        );
    }
}
