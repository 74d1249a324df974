//! Playing one episode into one log, with disturbed execution.

use std::path::Path;

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{CommandTopic, Episode, EpisodePhase, Frame, JointState, LogHeader, LogWriter, Stamp};
use foresee_sim::{
    Assets, Camera, CommandMap, Environment, EnvironmentOptions, MUJOCO_VERSION, Textures, render_extra,
};
use rand::Rng;
use rand::rngs::StdRng;

use super::visual::{Shown, VisualActor};
use super::{Behaviour, Disturbance, RecordOptions};
use crate::actor::{OrnsteinUhlenbeck, SmoothRandom, StateActor, UniformRandom, finite_range, seeded};
use crate::error::PoliciesError;
use crate::experts::expert_for;
use crate::progress::Watch;
use crate::statistics::EpisodeResult;

/// Everything that playing needs, set up once.
pub(super) struct Stage<'a> {
    options: &'a RecordOptions,
    environment: Environment,
    camera: Camera,
    extra_cameras: Vec<Camera>,
    actor: Actor,
    names: Vec<String>,
    frame: Frame,
    extra_frames: Vec<Frame>,
    joints: JointState,
    /// Of every actuator.
    all_joints: JointState,
    /// The profile's joints; `None`: commands are actions.
    map: Option<CommandMap>,
    commands: Vec<f64>,
    wanted: Vec<f64>,
    executed: Vec<f64>,
}

/// Who acts.
enum Actor {
    /// By the simulator's state.
    State(Box<dyn StateActor>),
    /// By what the cameras show.
    Visual(Box<VisualActor>),
}

/// How one episode is disturbed.
struct Disturbed {
    generator: StdRng,
    noise: OrnsteinUhlenbeck,
    start: SmoothRandom,
    num_start_steps: u32,
}

impl<'a> Stage<'a> {
    pub(super) fn new(options: &'a RecordOptions) -> Result<Self, PoliciesError> {
        let assets = Assets { native: &options.native, textures: Textures::Full };
        let played = EnvironmentOptions::default();
        let mut environment = Environment::of_task_or_model(&options.task, options.model.as_ref(), assets, played)?;
        if options.max_steps.is_none() && environment.spec().is_endless() {
            return Err(PoliciesError::Option {
                option: "max_steps",
                value: "none".to_owned(),
                rule: format!("{} has no time limit; give one with --max-steps STEPS", options.task),
            });
        }
        environment.reset(options.first_seed)?;
        let camera = Camera::new(&environment, &options.camera)?;
        let extra = options.extra_cameras.iter().map(|options| Camera::new(&environment, options));
        let extra_cameras = extra.collect::<Result<_, _>>()?;
        // A policy commands the joints of its own robot.
        let device = options.policy.as_ref().map(|policy| &policy.device).or(options.device.as_ref());
        let map = device.map(|device| CommandMap::new(&environment, device)).transpose()?;
        let actuators = environment.actuator_names();
        let names = map.as_ref().map_or_else(|| actuators.clone(), |map| map.names().to_vec());
        let actor = match (options.behaviour, &options.policy) {
            (Behaviour::Expert, _) => Actor::State(expert_for(&environment)?),
            (Behaviour::UniformRandom, _) => Actor::State(Box::new(UniformRandom::new())),
            (Behaviour::SmoothRandom, _) => Actor::State(Box::new(SmoothRandom::new())),
            (Behaviour::Policy, Some(policy)) => Actor::Visual(Box::new(VisualActor::new(policy)?)),
            (Behaviour::Policy, None) => {
                let (option, value, rule) = ("actor", "policy".to_owned(), "give the policy's ONNX file".to_owned());
                return Err(PoliciesError::Option { option, value, rule });
            }
        };
        Ok(Self {
            options,
            actor,
            frame: Frame::black(options.camera.width, options.camera.height, PixelEncoding::Rgb8),
            extra_frames: Vec::new(),
            joints: JointState::zeros(names.len()),
            all_joints: JointState::zeros(actuators.len()),
            wanted: vec![0.0; actuators.len()],
            executed: vec![0.0; actuators.len()],
            commands: Vec::new(),
            map,
            names,
            environment,
            camera,
            extra_cameras,
        })
    }

    /// Plays the episode of `seed` into the log `path`; `None` when asked to stop.
    pub(super) fn play(
        &mut self,
        seed: u64,
        path: &Path,
        watch: &Watch<'_>,
    ) -> Result<Option<EpisodeResult>, PoliciesError> {
        self.environment.reset(seed)?;
        match &mut self.actor {
            Actor::State(actor) => actor.reset(seed),
            Actor::Visual(actor) => actor.reset(),
        }
        let mut disturbed = Disturbed::draw(&self.options.disturbance, seed);
        let max_steps = self.options.max_steps.unwrap_or(u32::MAX);
        let mut episode = Episode { seed, task: self.options.task.clone(), ..Episode::default() };
        let mut log = LogWriter::create(path, &self.log_header(seed))?;
        log.write_episode(self.stamp(), EpisodePhase::Started, &episode)?;
        loop {
            if watch.stopped() {
                return Ok(None);
            }
            let is_written = episode.num_steps.is_multiple_of(self.options.stride);
            if is_written || matches!(self.actor, Actor::Visual(_)) {
                self.render(episode.num_steps)?;
            }
            self.choose(episode.num_steps, &mut disturbed)?;
            if is_written {
                self.write_step(&mut log)?;
            }
            let stamp = self.stamp();
            let transition = self.environment.step(&self.executed)?;
            if is_written {
                log.write_reward(stamp, transition.reward)?;
            }
            episode.episode_return += transition.reward;
            episode.num_steps += 1;
            episode.success = transition.success;
            if transition.is_last() || episode.num_steps >= max_steps {
                break;
            }
        }
        log.write_episode(self.stamp(), EpisodePhase::Ended, &episode)?;
        log.finish()?;
        let Episode { episode_return, num_steps, success, .. } = episode;
        Ok(Some(EpisodeResult { seed, episode_return, num_steps, success }))
    }

    /// Decides what is wanted and what is executed.
    fn choose(&mut self, step: u32, disturbed: &mut Disturbed) -> Result<(), PoliciesError> {
        match &mut self.actor {
            Actor::State(actor) => actor.act(&self.environment, &mut self.wanted)?,
            Actor::Visual(actor) => {
                let shown = Shown { frame: &self.frame, extra: &self.extra_frames, joints: &self.joints };
                let commands = actor.act(shown)?;
                match &self.map {
                    Some(map) => map.write_action(&self.options.task, commands, &mut self.wanted)?,
                    None => self.wanted.iter_mut().zip(commands).for_each(|(wanted, command)| *wanted = *command),
                }
            }
        }
        if step < disturbed.num_start_steps {
            return disturbed.start.act(&self.environment, &mut self.executed);
        }
        let noise = disturbed.noise.next(self.wanted.len(), &mut disturbed.generator);
        let actions = self.executed.iter_mut().zip(&self.wanted).zip(noise).zip(&self.environment.spec().actions);
        for (((executed, wanted), noise), spec) in actions {
            let (minimum, maximum) = finite_range(spec.minimum, spec.maximum);
            *executed = (wanted + noise * 0.5 * (maximum - minimum)).clamp(minimum, maximum);
        }
        Ok(())
    }

    /// What the cameras show and the joints measure before a step.
    fn render(&mut self, step: u32) -> Result<(), PoliciesError> {
        self.camera.render_frame(&mut self.environment, &mut self.frame)?;
        self.frame.sequence = u64::from(step);
        self.environment.write_joint_state(&mut self.all_joints);
        match &self.map {
            Some(map) => map.select_joints(&self.all_joints, &mut self.joints),
            None => self.joints.clone_from(&self.all_joints),
        }
        let shown = (self.frame.sequence, &mut self.extra_frames);
        render_extra(&mut self.extra_cameras, &mut self.environment, shown)?;
        Ok(())
    }

    fn write_step(&mut self, log: &mut LogWriter) -> Result<(), PoliciesError> {
        let stamp = self.frame.stamp;
        for (camera_idx, frame) in self.extra_frames.iter().enumerate() {
            log.write_extra_frame(camera_idx, frame)?;
        }
        log.write_frame(&self.frame)?;
        log.write_joints(&self.names, &self.joints)?;
        self.write_command(log, CommandTopic::JointCommand, stamp)?;
        if self.options.behaviour == Behaviour::Expert {
            self.write_command(log, CommandTopic::ExpertCommand, stamp)?;
        }
        Ok(())
    }

    /// Writes an action as the profile's commands.
    fn write_command(&mut self, log: &mut LogWriter, topic: CommandTopic, stamp: Stamp) -> Result<(), PoliciesError> {
        let action = if topic == CommandTopic::ExpertCommand { &self.wanted } else { &self.executed };
        match &self.map {
            Some(map) => map.write_commands(action, &mut self.commands),
            None => self.commands.clone_from(action),
        }
        Ok(log.write_command(topic, &self.names, (stamp, &self.commands))?)
    }

    fn stamp(&self) -> Stamp {
        Stamp::from_seconds(self.environment.physics().time_seconds())
    }

    fn log_header(&self, seed: u64) -> LogHeader {
        let manifest = serde_json::to_string(&self.options.manifest()).unwrap_or_default();
        let facts = [("recording", manifest), ("seed", seed.to_string()), ("mujoco", MUJOCO_VERSION.to_string())];
        let [encoder, policy] = match &self.actor {
            Actor::State(_) => [None, None],
            Actor::Visual(actor) => actor.reports(),
        };
        let header = LogHeader {
            encoder,
            policy,
            robot: self.options.robot.clone(),
            profile: self.options.profile.clone(),
            joints: self.names.clone(),
            cameras: match &self.options.device {
                Some(device) => device.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect(),
                None => self.options.extra_cameras.iter().map(|camera| camera.name.clone()).collect(),
            },
            git_revision: self.options.git_revision.clone(),
            facts: facts.map(|(key, value)| (key.to_owned(), value)).into(),
        };
        let toml = &self.options.profile_toml;
        if toml.is_empty() { header } else { header.with_profile(toml.clone()) }
    }
}

impl Disturbed {
    fn draw(disturbance: &Disturbance, seed: u64) -> Self {
        // Another stream than the actor's own of the same seed.
        let mut generator = seeded(!seed);
        let level = disturbance.noise * generator.random::<f64>();
        let begins_at_random = generator.random::<f64>() < disturbance.random_start_share;
        let most = disturbance.max_random_start_steps;
        let num_start_steps = if begins_at_random && most > 0 { generator.random_range(1..=most) } else { 0 };
        let mut start = SmoothRandom::new();
        start.reset(!seed);
        let noise = OrnsteinUhlenbeck::new(level, disturbance.noise_correlation_steps);
        Self { generator, noise, start, num_start_steps }
    }
}
