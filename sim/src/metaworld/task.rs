//! What every Meta-World task does alike: layout of an episode, offsets of the hand, observation of 39 values.

use foresee_runtime::JointState;
use mujoco_rs::wrappers::mj_model::MjtObjBase;

use crate::error::SimError;
use crate::metaworld::arm::{Action, Arm, EFFORT_INDEX, Look, Verdict};
use crate::physics::Physics;
use crate::random::RandomState;
use crate::recorded::{EpisodeStart, RecordedRow, RecordedStates, other_suite};
use crate::task::{ActionSpec, ObservationWriter, Task};

/// Metres that the hand moves for an action of 1.
const ACTION_SCALE: f64 = 1.0 / 100.0;
/// Control steps in which the hand goes to where an episode begins.
const NUM_HAND_STEPS: u32 = 50;
const FRAME_SKIP: u32 = 5;
const MOCAP_QUATERNION: [f64; 4] = [1.0, 0.0, 1.0, 0.0];
/// Hand, gripper and objects of one moment.
const MOMENT: usize = 18;
/// Where the hand is observed at all.
const HAND_SPACE: [[f64; 3]; 2] = [[-0.525, 0.348, -0.0525], [0.525, 1.025, 0.7]];
const MAX_DRAWS: u32 = 10_000;

/// What is fixed about a task's scene.
#[derive(Debug)]
pub(super) struct Scene {
    /// File among the scenes.
    pub(super) model: &'static str,
    /// What success is.
    pub(super) success: &'static str,
    /// Where the hand begins.
    pub(super) hand_start: [f64; 3],
    /// Lowest and highest place of the hand that actions lead to.
    pub(super) hand_space: [[f64; 3]; 2],
    /// Lowest and highest goal that is observed.
    pub(super) goal_space: [[f64; 3]; 2],
    /// Lowest and highest of every value that a layout is drawn from.
    pub(super) layout_space: &'static [[f64; 2]],
}

/// The rules of one task.
pub(super) trait Manipulation: Send {
    /// Whether a drawn layout is kept; otherwise another is drawn.
    fn accepts(&self, _layout: &[f64]) -> bool {
        true
    }

    /// Lays the scene out, with the hand at its start: moves what is to be moved, and sets the arm's target and object start.
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]);

    /// Positions and rotations of the objects.
    fn objects(&self, physics: &Physics) -> [f64; 14];

    /// The reward of the state that an action led to.
    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict;

    /// What the scripted expert does.
    fn expert(&self, look: &Look) -> Action;

    /// Whether the reward or success reads contact forces.
    fn reads_forces(&self) -> bool {
        false
    }

    /// Takes over what the original keeps of an episode's first observation, which may be of the layout before.
    fn recall(&mut self, _first: &Look) {}

    /// What the original's expert adds to the object's place inside the observation that it is given, and that is recorded.
    fn expert_shift(&self) -> [f64; 3] {
        [0.0; 3]
    }
}

/// One object's position and rotation.
pub(super) fn one_object(position: [f64; 3], quaternion: [f64; 4]) -> [f64; 14] {
    let mut objects = [0.0; 14];
    objects[..3].copy_from_slice(&position);
    objects[3..7].copy_from_slice(&quaternion);
    objects
}

/// Two objects' positions and rotations.
pub(super) fn two_objects(first: ([f64; 3], [f64; 4]), second: ([f64; 3], [f64; 4])) -> [f64; 14] {
    let mut objects = one_object(first.0, first.1);
    objects[7..10].copy_from_slice(&second.0);
    objects[10..].copy_from_slice(&second.1);
    objects
}

/// A task with what an episode needs to remember.
pub(super) struct SawyerTask<T> {
    scene: &'static Scene,
    arm: Arm,
    rules: T,
    /// Places of bodies and sites as the scene's file has them.
    places: [Vec<[f64; 3]>; 2],
    previous: [f64; MOMENT],
    look: Look,
    verdict: Verdict,
    /// The expert and the reward know the goal all the same.
    hides_goal: bool,
}

impl<T: Manipulation> SawyerTask<T> {
    pub(super) fn new(physics: &Physics, scene: &'static Scene, rules: T) -> Result<Self, SimError> {
        let look = Look { observation: [0.0; 39], action: [0.0; 4] };
        let places = [physics.model().body_pos().to_vec(), physics.model().site_pos().to_vec()];
        let (previous, verdict) = ([0.0; MOMENT], Verdict::default());
        Ok(Self { scene, arm: Arm::new(physics)?, rules, places, previous, look, verdict, hides_goal: false })
    }

    fn draw_layout(&self, random: &mut RandomState) -> Result<Vec<f64>, SimError> {
        for _ in 0..MAX_DRAWS {
            let values = self.scene.layout_space.iter().map(|[low, high]| random.uniform(*low, *high));
            let layout: Vec<f64> = values.collect();
            if self.rules.accepts(&layout) {
                return Ok(layout);
            }
        }
        let problem = format!("no acceptable layout in {MAX_DRAWS} draws");
        Err(SimError::Reset { task: self.scene.model.to_string(), problem })
    }

    fn lay_out(&mut self, physics: &mut Physics, layout: &[f64]) {
        // An episode must not depend on the layout before it, which the hand could meet on its way.
        let [bodies, sites] = &self.places;
        physics.model_mut().body_pos_mut().copy_from_slice(bodies);
        physics.model_mut().site_pos_mut().copy_from_slice(sites);
        for _ in 0..NUM_HAND_STEPS {
            self.move_mocap(physics, self.scene.hand_start);
            physics.set_control(&[-1.0, 1.0]);
            physics.whole_steps(FRAME_SKIP);
        }
        self.arm.start = self.arm.centre(physics);
        self.rules.lay_out(&mut self.arm, physics, layout);
        physics.forward();
        self.verdict = Verdict::default();
        self.observe_first(physics);
    }

    fn observe_first(&mut self, physics: &Physics) {
        let moment = self.moment(physics);
        self.previous = moment;
        self.set_observation(&moment);
    }

    fn move_mocap(&self, physics: &mut Physics, position: [f64; 3]) {
        // Every scene has one mocap body, the hand's handle.
        if let Some(place) = physics.data_mut().mocap_pos_mut().first_mut() {
            *place = position;
        }
        if let Some(rotation) = physics.data_mut().mocap_quat_mut().first_mut() {
            *rotation = MOCAP_QUATERNION;
        }
    }

    fn put_state(&self, physics: &mut Physics, row: RecordedRow<'_>) -> Result<(), SimError> {
        if let Some(place) = row.mocap {
            self.move_mocap(physics, place);
        }
        physics.set_state(row.qpos, row.qvel)
    }

    fn moment(&self, physics: &Physics) -> [f64; MOMENT] {
        let mut moment = [0.0; MOMENT];
        moment[..3].copy_from_slice(&self.arm.hand_position(physics));
        moment[3] = self.arm.opening(physics);
        moment[4..].copy_from_slice(&self.rules.objects(physics));
        moment
    }

    fn set_observation(&mut self, moment: &[f64; MOMENT]) {
        let observation = &mut self.look.observation;
        observation[..MOMENT].copy_from_slice(moment);
        observation[MOMENT..2 * MOMENT].copy_from_slice(&self.previous);
        observation[2 * MOMENT..].copy_from_slice(&self.arm.target);
    }

    /// The original clips every observation but an episode's first into its space.
    fn clip_observation(&mut self) {
        let observation = &mut self.look.observation;
        for start in [0, MOMENT] {
            for axis in 0..3 {
                let value = &mut observation[start + axis];
                *value = value.clamp(HAND_SPACE[0][axis], HAND_SPACE[1][axis]);
            }
            observation[start + 3] = observation[start + 3].clamp(-1.0, 1.0);
        }
        for axis in 0..3 {
            let [low, high] = [0, 1].map(|end| self.scene.goal_space[end][axis]);
            let value = &mut observation[2 * MOMENT + axis];
            *value = value.max(low).min(high);
        }
    }

    fn evaluate(&mut self, physics: &mut Physics, action: &[f64]) {
        if self.rules.reads_forces() {
            physics.forward();
        } else {
            // The original computes contacts and forces as well, which nothing reads and which the next step computes anew.
            physics.update_poses();
        }
        let moment = self.moment(physics);
        self.set_observation(&moment);
        self.previous = moment;
        self.clip_observation();
        self.look.action.copy_from_slice(action);
        self.verdict = self.rules.evaluate(&self.arm, physics, &self.look);
    }
}

impl<T: Manipulation> Task for SawyerTask<T> {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        let layout = self.draw_layout(random)?;
        self.lay_out(physics, &layout);
        Ok(())
    }

    fn actions(&self, _physics: &Physics) -> Option<Vec<ActionSpec>> {
        let action = |(name, unit, scale): (&str, &'static str, f64)| ActionSpec {
            unit,
            scale,
            ..ActionSpec::share(name.to_string(), [-1.0, 1.0])
        };
        let moved = |axis| (axis, "m", ACTION_SCALE);
        Some([moved("x"), moved("y"), moved("z"), ("gripper", "1", 1.0)].map(action).into())
    }

    fn before_step(&mut self, physics: &mut Physics, action: &[f64]) {
        let place = physics.data().mocap_pos().first().copied().unwrap_or_default();
        let moved = |axis: usize| {
            let place = place[axis] + action[axis].clamp(-1.0, 1.0) * ACTION_SCALE;
            place.clamp(self.scene.hand_space[0][axis], self.scene.hand_space[1][axis])
        };
        self.move_mocap(physics, std::array::from_fn(moved));
        physics.set_control(&[action[EFFORT_INDEX], -action[EFFORT_INDEX]]);
    }

    fn advance(&self, physics: &mut Physics, num_steps: u32) {
        physics.whole_steps(num_steps);
    }

    fn after_step(&mut self, physics: &mut Physics, action: &[f64]) {
        self.evaluate(physics, action);
    }

    fn hide_goal(&mut self) {
        self.hides_goal = true;
    }

    fn observe(&self, _physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let mut values = self.look.observation;
        if self.hides_goal {
            values[2 * MOMENT..].fill(0.0);
        }
        observation.vector("observation", &values);
    }

    fn reward(&self, _physics: &Physics) -> f64 {
        self.verdict.reward
    }

    fn success(&self, _physics: &Physics) -> bool {
        self.verdict.success
    }

    fn expert(&self, _physics: &Physics) -> Option<Vec<f64>> {
        Some(self.rules.expert(&self.look).to_vec())
    }

    /// The hand's place and the gripper's opening; the hand's velocity and how fast the fingers part.
    fn write_joints(&self, physics: &Physics, joints: &mut JointState) -> bool {
        joints.positions.extend(self.arm.hand_position(physics));
        joints.positions.push(self.arm.opening(physics));
        let hand = self.arm.hand().0;
        let [_, _, _, x, y, z] = physics.data().object_velocity(MjtObjBase::mjOBJ_BODY, hand, false);
        joints.velocities.extend([x, y, z, self.arm.opening_speed(physics)]);
        true
    }

    fn recorded_states(&mut self) -> Option<&mut dyn RecordedStates> {
        Some(self)
    }
}

impl<T: Manipulation> RecordedStates for SawyerTask<T> {
    fn begin(
        &mut self,
        physics: &mut Physics,
        start: &EpisodeStart,
        (row, observation): (RecordedRow<'_>, &[f64]),
    ) -> Result<(), SimError> {
        let EpisodeStart::Layout { layout, target, object_start, start } = start else {
            return Err(other_suite(self.scene.model));
        };
        let [expected, found] = [self.scene.layout_space.len(), layout.len()];
        if expected != found {
            return Err(SimError::BufferSize { what: "last_rand_vec", expected, found });
        }
        physics.reset();
        self.lay_out(physics, layout);
        (self.arm.target, self.arm.object_start, self.arm.start) = (*target, *object_start, *start);
        self.put_state(physics, row)?;
        self.observe_first(physics);
        // The original makes the first observation before it brings poses up to date: it is taken over as it is, unless
        // the expert's shift is in it.
        if self.rules.expert_shift() == [0.0; 3] {
            for (value, recorded) in self.look.observation.iter_mut().zip(observation) {
                *value = *recorded;
            }
            self.previous.copy_from_slice(&self.look.observation[..MOMENT]);
        }
        self.rules.recall(&self.look);
        Ok(())
    }

    fn put(&mut self, physics: &mut Physics, row: RecordedRow<'_>, action: &[f64]) -> Result<(), SimError> {
        if action.len() != self.look.action.len() {
            return Err(SimError::BufferSize { what: "action", expected: self.look.action.len(), found: action.len() });
        }
        self.put_state(physics, row)?;
        self.evaluate(physics, action);
        Ok(())
    }

    fn compares_first(&self) -> bool {
        false
    }

    fn expert_shift(&self) -> [f64; 3] {
        self.rules.expert_shift()
    }
}
