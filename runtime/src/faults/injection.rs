//! The ends and models of a row, which fail when they are told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foresee_firmware_config::JointProfile;

use super::MAX_FRAME_AGE;
use super::judge::{Positions, Sent};
use crate::card::ModelCard;
use crate::command::Action;
use crate::encoder::{Encoder, EncoderInput, EngineReport, Features};
use crate::ends::{FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;
use crate::joints::JointState;
use crate::policy::Policy;
use crate::raw_pixels::RawPixels;
use crate::time::{Clock, Stamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Frozen,
    Black,
    StaleStamps,
    OutOfOrder,
    WrongSize,
    CutFrames,
    CameraGone,
    EncoderFails,
    EncoderHangs,
    EncoderSlow,
    FeaturesNan,
    PolicyNan,
    PolicyShort,
    PolicyOutOfRange,
    ClockJumps,
}

impl Fault {
    /// Whether a command makes it safe.
    pub(super) fn is_answered_by(self, sent: &Sent) -> bool {
        match self {
            // Every other frame is sound, and answered.
            Self::OutOfOrder => sent.is_held,
            // The policy is followed as far as the range goes.
            Self::PolicyOutOfRange => !sent.is_free,
            _ => sent.is_at_rest,
        }
    }
}

#[derive(Debug)]
pub(super) struct Injection {
    pub(super) fault: Fault,
    pub(super) is_on: AtomicBool,
}

impl Injection {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault && self.is_on.load(Ordering::SeqCst)
    }
}

/// A camera at the loop's rate.
pub(super) struct FaultySource {
    pub(super) injection: Arc<Injection>,
    pub(super) positions: Positions,
    pub(super) sequence: u64,
    pub(super) began: Instant,
}

impl FrameSource for FaultySource {
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        if self.injection.is(Fault::CameraGone) {
            std::thread::sleep(timeout);
            return Ok(SourceEvent::TimedOut);
        }
        let brightness = (self.began.elapsed().as_secs_f64() * 6.0).sin() * 100.0 + 128.0;
        let frame = &mut observation.frame;
        (frame.width, frame.height) = (64, 48);
        frame.data.resize(64 * 48 * 3, 0);
        frame.stamp = Clock::Wall.now();
        (frame.sequence, self.sequence) = (self.sequence, self.sequence + 1);
        if !self.injection.is(Fault::Frozen) {
            // A picture with the noise of a sensor.
            let noise = self.sequence;
            let bytes = (0_u64..).zip(&mut frame.data);
            bytes.for_each(|(at, byte)| *byte = brightness as u8 + ((at * 31 + noise * 17) % 23) as u8);
        }
        let back = |stamp: Stamp, by: Duration| Stamp { nanos: stamp.nanos.saturating_sub(by.as_nanos() as u64) };
        match self.injection.fault {
            _ if !self.injection.is_on.load(Ordering::SeqCst) => {}
            Fault::Black => frame.data.fill(0),
            Fault::StaleStamps => frame.stamp = back(frame.stamp, 3 * MAX_FRAME_AGE),
            Fault::OutOfOrder if self.sequence.is_multiple_of(2) => frame.stamp = back(frame.stamp, MAX_FRAME_AGE / 2),
            Fault::WrongSize => (frame.width, frame.height) = (48, 64),
            Fault::CutFrames => frame.data.truncate(1000),
            _ => {}
        }
        observation.joints.stamp = observation.frame.stamp;
        self.positions.read(&mut observation.joints.positions);
        Ok(SourceEvent::Observed)
    }

    fn num_dropped(&self) -> u64 {
        0
    }
}

pub(super) struct FaultyEncoder {
    pub(super) sound: RawPixels,
    pub(super) injection: Arc<Injection>,
}

impl Encoder for FaultyEncoder {
    fn card(&self) -> &ModelCard {
        self.sound.card()
    }

    fn report(&self) -> &EngineReport {
        self.sound.report()
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        match self.injection.fault {
            _ if !self.injection.is_on.load(Ordering::SeqCst) => {}
            Fault::EncoderFails => {
                let problem = "on purpose".to_owned();
                return Err(RuntimeError::Inference { model: self.card().name.clone(), problem });
            }
            Fault::EncoderHangs => {
                while self.injection.is(Fault::EncoderHangs) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Fault::EncoderSlow => std::thread::sleep(2 * MAX_FRAME_AGE),
            _ => {}
        }
        self.sound.encode(input, features)?;
        if self.injection.is(Fault::FeaturesNan) {
            features.cls.fill(f32::NAN);
        }
        Ok(())
    }
}

/// The image's brightness as a command inside every joint's range.
pub(super) struct FaultyPolicy {
    pub(super) joints: Vec<JointProfile>,
    pub(super) injection: Arc<Injection>,
}

impl Policy for FaultyPolicy {
    fn reset(&mut self) {}

    fn act(&mut self, features: &Features, _joints: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
        let brightness = features.cls.iter().sum::<f32>() / features.cls.len().max(1) as f32;
        let share = f64::from(brightness).clamp(0.0, 1.0);
        action.values.clear();
        action.values.extend(self.joints.iter().map(|joint| joint.minimum + share * (joint.maximum - joint.minimum)));
        match self.injection.fault {
            _ if !self.injection.is_on.load(Ordering::SeqCst) => {}
            Fault::PolicyNan => action.values.fill(f64::NAN),
            Fault::PolicyShort => action.values.truncate(self.joints.len().saturating_sub(1)),
            Fault::PolicyOutOfRange => action.values.fill(1e6),
            _ => {}
        }
        Ok(())
    }
}
