//! Every decoder of bytes that come from elsewhere, by name, with seeds: one list for the bounded test and for the fuzzer (`tests/fuzz`).

mod data_sets;
mod media;
mod trained;

use std::path::{Path, PathBuf};

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{
    CommandTopic, Episode, EpisodePhase, Frame, JointState, LogHeader, LogReader, LogWriter, ModelCard, OnnxSummary,
    RuntimeError, Stamp, decode_every_message, read_onnx_constants,
};
use foresee_sim::{Randomisation, verify_file};

use crate::root;

/// A decoder and files that it reads.
pub struct Decoder {
    /// The name of the fuzz target.
    pub name: &'static str,
    /// Decodes the bytes; whether it took them. A refusal is as good as a success; a panic is not. The folder is for decoders of files.
    pub decode: fn(&[u8], &Path) -> bool,
    /// Bytes that it takes, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every decoder. One line a decoder.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "profile", decode: profile, seeds: profile_seeds },
    Decoder { name: "recipe", decode: recipe, seeds: recipe_seeds },
    Decoder { name: "card", decode: card, seeds: card_seeds },
    Decoder { name: "message", decode: message, seeds: message_seeds },
    Decoder { name: "log", decode: log, seeds: || vec![log_bytes()] },
    Decoder { name: "checkpoint", decode: checkpoint, seeds: || made(trained::checkpoint) },
    Decoder { name: "weights", decode: weights, seeds: || made(trained::weights) },
    Decoder { name: "policy", decode: policy, seeds: || made(trained::policy) },
    Decoder { name: "golden", decode: golden, seeds: golden_seeds },
    Decoder { name: "onnx", decode: onnx, seeds: onnx_seeds },
    Decoder { name: "onnx_constants", decode: onnx_constants, seeds: onnx_seeds },
    Decoder { name: "import_zip", decode: import, seeds: || files(&["tests/fixtures/import/rsp_tiny.pth"]) },
    Decoder { name: "import_legacy", decode: import, seeds: || files(&["tests/fixtures/import/mae_tiny_legacy.pth"]) },
    Decoder { name: "mat", decode: data_sets::mat, seeds: data_sets::mat_seeds },
    Decoder { name: "mask", decode: data_sets::mask, seeds: data_sets::mask_seeds },
    Decoder { name: "picture", decode: media::picture, seeds: media::picture_seeds },
    Decoder { name: "loop_picture", decode: media::loop_picture, seeds: media::picture_seeds },
    Decoder { name: "video", decode: media::video, seeds: media::video_seeds },
    Decoder { name: "reference", decode: reference, seeds: reference_seeds },
    Decoder { name: "randomisation", decode: randomisation, seeds: || files(&["launch/doc/randomise.toml"]) },
];

/// Hands the bytes to the decoder of that name, as a fuzz target does.
///
/// # Panics
/// When there is no decoder of that name, or no folder for it.
pub fn fuzz(name: &str, bytes: &[u8]) {
    let folder = std::env::temp_dir().join(format!("foresee-fuzz-{}", std::process::id()));
    let made = std::fs::create_dir_all(&folder);
    assert!(made.is_ok(), "{}: {made:?}", folder.display());
    let decoder = DECODERS.iter().find(|decoder| decoder.name == name);
    assert!(decoder.is_some(), "no decoder {name}");
    if let Some(decoder) = decoder {
        (decoder.decode)(bytes, &folder);
    }
}

fn profile(bytes: &[u8], _: &Path) -> bool {
    let profile = std::str::from_utf8(bytes).ok().and_then(|text| foresee_firmware_config::parse("fuzz", text).ok());
    if let Some(profile) = &profile {
        // What is admitted can be written out.
        let _ = foresee_firmware_config::zenoh_pico_header(profile);
        let _ = foresee_firmware_config::power_script(profile);
    }
    profile.is_some()
}

fn profile_seeds() -> Vec<Vec<u8>> {
    foresee_firmware_config::BUILT_IN_PROFILES.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}

fn recipe(bytes: &[u8], _: &Path) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| foresee_models::Recipe::parse("fuzz", text).is_ok())
}

fn recipe_seeds() -> Vec<Vec<u8>> {
    foresee_models::RECIPES.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}

fn card(bytes: &[u8], _: &Path) -> bool {
    ModelCard::parse(bytes).is_ok()
}

fn card_seeds() -> Vec<Vec<u8>> {
    files(&["models/zoo/mae-64.card.json", "models/zoo/reacher-easy-bc.card.json"])
}

fn onnx(bytes: &[u8], _: &Path) -> bool {
    OnnxSummary::parse(bytes).is_ok()
}

fn onnx_constants(bytes: &[u8], _: &Path) -> bool {
    read_onnx_constants(bytes).is_ok()
}

fn onnx_seeds() -> Vec<Vec<u8>> {
    files(&["models/zoo/mae-64.onnx", "models/zoo/reacher-easy-bc.onnx"])
}

fn message(bytes: &[u8], _: &Path) -> bool {
    decode_every_message(bytes).contains(&true)
}

fn message_seeds() -> Vec<Vec<u8>> {
    let log = log_bytes();
    let messages = mcap::MessageStream::new(&log).into_iter().flatten().filter_map(Result::ok);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for message in messages {
        if seeds.iter().all(|seed| seed.len() != message.data.len()) {
            seeds.push(message.data.to_vec());
        }
    }
    seeds
}

fn log(bytes: &[u8], folder: &Path) -> bool {
    let Some(Ok(reader)) = write(bytes, folder, "fuzz.mcap").map(|file| LogReader::open(&file)) else { return false };
    // A log that never ends would be a hang.
    reader.take(100_000).filter(Result::is_err).count() == 0
}

/// A short log with a message of every kind.
fn log_bytes() -> Vec<u8> {
    let file = std::env::temp_dir().join(format!("foresee-seed-{}.mcap", std::process::id()));
    let bytes = write_log(&file).ok().and_then(|()| std::fs::read(&file).ok()).unwrap_or_default();
    // Nothing reads it again.
    let _ = std::fs::remove_file(&file);
    bytes
}

fn write_log(file: &Path) -> Result<(), RuntimeError> {
    let names = ["shoulder".to_owned(), "wrist".to_owned()];
    let header = LogHeader { robot: "reacher".to_owned(), joints: names.to_vec(), ..LogHeader::default() };
    let mut writer = LogWriter::create(file, &header)?;
    let stamp = Stamp { nanos: 20_000_000 };
    writer.write_episode(stamp, EpisodePhase::Started, &Episode { task: "task".to_owned(), ..Episode::default() })?;
    for sequence in 0..3 {
        writer.write_frame(&Frame { sequence, stamp, ..Frame::black(7, 5, PixelEncoding::Rgb8) })?;
        let state = JointState { stamp, positions: vec![0.1, 0.2], velocities: vec![0.3, 0.4] };
        writer.write_joints(&names, &state)?;
        writer.write_command(CommandTopic::JointCommand, &names, (stamp, &[0.5, 0.6]))?;
    }
    writer.finish().map(drop)
}

fn checkpoint(bytes: &[u8], folder: &Path) -> bool {
    let file = write(bytes, folder, "fuzz.safetensors");
    file.is_some_and(|file| foresee_models::Checkpoint::load(&file).is_ok())
}

fn weights(bytes: &[u8], folder: &Path) -> bool {
    let file = write(bytes, folder, "fuzz.safetensors");
    file.is_some_and(|file| foresee_models::EncoderWeights::load(&file).is_ok())
}

fn policy(bytes: &[u8], folder: &Path) -> bool {
    let file = write(bytes, folder, "fuzz.safetensors");
    file.is_some_and(|file| foresee_policies::PolicyCheckpoint::load(&file).is_ok())
}

/// As the two kinds whose sizes lie in names and numbers of the file.
fn golden(bytes: &[u8], folder: &Path) -> bool {
    let folder = folder.join("golden");
    let made = std::fs::create_dir_all(&folder);
    let written = |kind: &str| write(bytes, &folder, &format!("{kind}_fuzz.safetensors")).is_some();
    if made.is_err() || !["units", "labelprop"].map(written).contains(&true) {
        return false;
    }
    let report = foresee_models::verify_golden(&folder);
    report.is_ok_and(|report| report.checks.iter().any(|check| check.problem.is_none()))
}

/// A position table that is stretched: small, so that a change of a byte is soon tried.
fn golden_seeds() -> Vec<Vec<u8>> {
    let header = br#"{"interp.in_1x1":{"dtype":"F32","shape":[1,2,4],"data_offsets":[0,32]},"interp.util_2x2":{"dtype":"F32","shape":[1,5,4],"data_offsets":[32,112]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&[0; 112]);
    vec![bytes]
}

fn import(bytes: &[u8], folder: &Path) -> bool {
    let Some(file) = write(bytes, folder, "fuzz.pth") else { return false };
    let options = foresee_models::ImportOptions { file, heads: Some(3), ..Default::default() };
    foresee_models::import(&options).is_ok()
}

/// Recorded episodes are replayed or put, as far as they can be read.
fn reference(bytes: &[u8], folder: &Path) -> bool {
    let Some(file) = write(bytes, folder, "fuzz.safetensors") else { return false };
    verify_file(&file, &root().join("target/native")).is_ok_and(|report| report.rows > 0)
}

/// One whose seed is replayed, one whose states are put.
fn reference_seeds() -> Vec<Vec<u8>> {
    files(&["tests/fixtures/dmc/pendulum-swingup.safetensors", "tests/fixtures/metaworld/reach.safetensors"])
}

fn randomisation(bytes: &[u8], _: &Path) -> bool {
    let text = std::str::from_utf8(bytes);
    text.is_ok_and(|text| Randomisation::parse(Path::new("fuzz.toml"), text).is_ok())
}

/// What is made in a folder that is gone afterwards.
fn made(make: fn(&Path) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("foresee-seeds-{}", std::process::id()));
    let bytes = std::fs::create_dir_all(&folder).ok().and_then(|()| make(&folder));
    // Nothing reads it again.
    let _ = std::fs::remove_dir_all(&folder);
    bytes.into_iter().collect()
}

fn files(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().filter_map(|name| std::fs::read(root().join(name)).ok()).collect()
}

fn write(bytes: &[u8], folder: &Path, name: &str) -> Option<PathBuf> {
    let file = folder.join(name);
    std::fs::write(&file, bytes).ok().map(|()| file)
}
