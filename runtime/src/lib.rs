//! What happens each tick: the contract between the parts, the loop, the safety filter, and the adapters at the edge.
//!
//! ```text
//! FrameSource -Frame-> preprocess -EncoderInput-> Encoder -Features-> Policy -Action-> SafetyFilter -SafeCommand-> Actuator
//! ```
//!
//! Depends on `foresee-firmware-config` alone. Without features it is pure Rust with no native library; `ort`, `tract`,
//! `zenoh`, `log` and `camera` add one adapter each.

mod admission;
mod budget;
#[cfg(feature = "camera")]
mod camera;
mod card;
mod chunk;
mod command;
mod control_loop;
mod data_set;
mod encoder;
mod ends;
mod engine;
mod error;
mod faults;
mod files;
mod frame;
mod health;
mod interval;
mod joints;
#[cfg(feature = "log")]
mod log;
mod onnx;
mod picture;
mod policy;
mod preprocess;
mod raw_pixels;
mod rest;
mod rig;
mod run;
mod safety;
mod schedule;
mod stamps;
mod statistics;
mod swap;
mod thermal;
mod time;
#[cfg(feature = "camera")]
mod video;
mod vitals;
mod watchdog;
#[cfg(feature = "wire")]
mod wire;
#[cfg(feature = "zenoh")]
mod zenoh;

#[cfg(feature = "camera")]
pub use camera::{
    Calibration, CalibrationView, CameraDevice, CameraFinding, CameraMode, CameraOptions, CameraSource, CamerasBeside,
    Checkerboard, HandEye, HandEyeView, LiveCamera, Mounting, Spread, board_pose, calibrate, disagreement,
    find_checkerboard, hand_eye, list_cameras,
};
pub use card::{
    CARD_FORMAT, CameraConditions, CardSignature, ClassToken, Crop, ElementType, EncoderInterface, ExternalFile,
    Golden, ImageLayout, ModelCard, ModelKind, PolicyConditions, PreprocessingCard, Provenance, Resize, SigningKey,
    TensorCard, TensorData, TokenLayout, Trust, VerifyingKey,
};
pub use chunk::{ChunkPlayer, ChunkSummary};
pub use command::Action;
pub use control_loop::{ControlLoop, Stage, TickReport};
pub use data_set::{DataSet, Skipped, has_ending, is_data};
pub use encoder::{Encoder, EncoderInput, EngineReport, Features};
pub use ends::{Actuator, Episode, FrameSource, Observation, SourceEvent};
#[cfg(feature = "ort")]
pub use engine::measure_operators;
pub use engine::{
    AdmitOptions, Admitted, CacheState, ClassTokenChoice, EngineBuild, EngineCache, EngineKey, EngineOptions,
    MeasureOptions, OperatorTime, PolicyAdmitOptions, ProviderChoice, ProviderProbe, ServingMeasure, admit_encoder,
    admit_policy, check_model, copy_model, declared_image_size, measure_serving, open_encoder, open_policy,
    probe_providers,
};
pub use error::RuntimeError;
pub use faults::{FaultRow, Lateness, run_faults};
pub use files::{sha256_file, write_atomically};
pub use frame::Frame;
pub use health::{HealthFacts, HealthServer};
pub use interval::{mean_and_half_width, wilson_interval};
pub use joints::JointState;
#[cfg(feature = "log")]
pub use log::{
    CommandRecorder, CommandTap, CommandTopic, FactTap, LogEntry, LogHeader, LogReader, LogSource, LogTopics,
    LogWriter, RecordedActuator, RecordedCommand, Recorder, RecorderOptions, RecorderSummary,
};
pub use onnx::{
    ONNX_OPSET, OnnxAttribute, OnnxAxis, OnnxConstant, OnnxDim, OnnxFilter, OnnxGraph, OnnxNorm, OnnxSummary,
    OnnxTensor, OnnxType, OnnxValue, QuantisedWeight, read_onnx_constants, write_model,
};
pub use picture::{JpegCheck, JpegFault, PICTURE_ENDINGS, Part, PictureFault, decode_picture, read_picture};
pub use policy::Policy;
pub use preprocess::{Preprocessor, straighten, to_rgb};
pub use raw_pixels::RawPixels;
pub use rest::stop_patience;
pub use rig::{CameraAccount, CameraRig};
pub use run::{Ends, LoopEvent, RunEnd, run};
pub use safety::{Hold, Moment, SafeCommand, SafetyFilter, SafetyState, SharedFilter, Verdict};
pub use schedule::{ScheduleReport, Scheduled, lock_memory, schedule};
pub use stamps::stamp_fault;
pub use statistics::{LatencyHistogram, LoopStatistics};
pub use swap::{ModelPair, PairReport, SwapHandle, SwapNews, swappable, watch_models};
pub use thermal::{THERMAL_ZONES, ThermalWatch, ZoneTemperature};
pub use time::{Clock, Stamp};
#[cfg(feature = "camera")]
pub use video::{VideoFile, VideoIndex};
pub use vitals::{CameraVitals, VITAL_EDGES_MICROS, VitalHistogram, VitalState, Vitals};
pub use watchdog::{Watchdog, WatchdogSummary, Watched, WatchedActuator};
#[cfg(feature = "wire")]
pub use wire::{EpisodePhase, decode_every_message};
#[cfg(all(feature = "camera", feature = "zenoh"))]
pub use zenoh::CameraRobot;
#[cfg(feature = "zenoh")]
pub use zenoh::{
    CommandGate, CommandWait, Hearing, ZenohActuator, ZenohLink, ZenohRobot, ZenohRouter, ZenohSource,
    free_loopback_endpoint, show_joints,
};
#[cfg(all(feature = "log", feature = "zenoh"))]
pub use zenoh::{LiveCounts, LiveLimits, LiveLog};
