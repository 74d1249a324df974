//! The simulated world: a MuJoCo model with its state, dm_control's step order, and access by name.

mod access;
mod load;
mod plugins;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mujoco_rs::prelude::{MjData, MjModel};
use mujoco_rs::wrappers::mj_model::{MjtDisableBit, MjtEq, MjtIntegrator};

pub use access::{ActuatorId, BodyId, CameraId, GeomId, JointId, SensorId, SiteId};
pub(crate) use load::read_text;
pub use load::{Assets, MUJOCO_VERSION, ModelSource, Textures};
pub use plugins::load_plugins;

use crate::actuators::{controls, holding_activation, holding_control};
use crate::error::SimError;

/// What MuJoCo warns of when a state is not to be trusted; in the order of its `mjtWarning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysicsWarning {
    /// The inertia matrix is nearly singular.
    Inertia,
    /// More contacts than there is room for.
    ContactsFull,
    /// More constraints than there is room for.
    ConstraintsFull,
    /// NaN, infinite or huge positions.
    BadPosition,
    /// NaN, infinite or huge velocities.
    BadVelocity,
    /// NaN, infinite or huge accelerations.
    BadAcceleration,
    /// NaN, infinite or huge controls.
    BadControl,
    /// A reward or observation that is not finite.
    NotFinite,
}

impl PhysicsWarning {
    const BY_INDEX: [Self; 7] = [
        Self::Inertia,
        Self::ContactsFull,
        Self::ConstraintsFull,
        Self::BadPosition,
        Self::BadVelocity,
        Self::BadAcceleration,
        Self::BadControl,
    ];
}

impl fmt::Display for PhysicsWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Inertia => "the inertia matrix is nearly singular",
            Self::ContactsFull => "more contacts than the model has room for",
            Self::ConstraintsFull => "more constraints than the model has room for",
            Self::BadPosition => "positions are not finite or huge",
            Self::BadVelocity => "velocities are not finite or huge",
            Self::BadAcceleration => "accelerations are not finite or huge",
            Self::BadControl => "controls are not finite or huge",
            Self::NotFinite => "reward or observation is not finite",
        })
    }
}

/// A model and its state. Derived quantities (poses, sensors) belong to the present positions and velocities.
pub struct Physics {
    data: MjData<Box<MjModel>>,
    /// Tells textures apart; 0: as the model was made with.
    textures: u64,
}

impl fmt::Debug for Physics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Physics").field("time_seconds", &self.time_seconds()).finish_non_exhaustive()
    }
}

impl Physics {
    /// Compiles a model and computes its default state.
    ///
    /// # Errors
    /// [`SimError::Version`], [`SimError::Asset`], [`SimError::Model`].
    pub fn load(source: &ModelSource<'_>) -> Result<Self, SimError> {
        let mut physics = Self { data: MjData::new(Box::new(load::compile(source)?)), textures: 0 };
        physics.forward_without_actuation();
        Ok(physics)
    }

    /// Compiles a model from a file and what it names beside it.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_file(name: &str, path: &Path) -> Result<Self, SimError> {
        let mut physics = Self { data: MjData::new(Box::new(load::compile_file(name, path)?)), textures: 0 };
        physics.forward_without_actuation();
        Ok(physics)
    }

    /// As [`Self::load_file`], with a text in place of the file's own.
    pub(crate) fn load_text(name: &str, path: &Path, text: &str) -> Result<Self, SimError> {
        let mut physics = Self { data: MjData::new(Box::new(load::compile_text(name, path, text)?)), textures: 0 };
        physics.forward_without_actuation();
        Ok(physics)
    }

    /// Simulated seconds since the reset.
    pub fn time_seconds(&self) -> f64 {
        self.data.time()
    }

    /// Seconds of one physics step.
    pub fn timestep_seconds(&self) -> f64 {
        self.data.model_opt().timestep
    }

    /// Generalised positions, `nq` values.
    pub fn qpos(&self) -> &[f64] {
        self.data.qpos()
    }

    /// Generalised velocities, `nv` values.
    pub fn qvel(&self) -> &[f64] {
        self.data.qvel()
    }

    /// Controls, one an actuator.
    pub fn control(&self) -> &[f64] {
        self.data.ctrl()
    }

    /// Every MuJoCo state array, for what has no name here.
    pub fn data(&self) -> &MjData<Box<MjModel>> {
        &self.data
    }

    /// Every MuJoCo model array.
    pub fn model(&self) -> &MjModel {
        self.data.model()
    }

    /// The state for writing: positions, velocities, mocap poses. Call [`Self::forward`] before reading what follows from them.
    pub fn data_mut(&mut self) -> &mut MjData<Box<MjModel>> {
        &mut self.data
    }

    /// The model for writing values such as sizes, poses, damping or colours; sizes of arrays stay as they are.
    pub(crate) fn model_mut(&mut self) -> &mut MjModel {
        #[expect(unsafe_code, reason = "mujoco-rs has no safe way to the values of a model that its data owns")]
        // SAFETY: callers in this crate change values only and never swap the model, so sizes and addresses stay valid.
        unsafe {
            self.data.model_mut()
        }
    }

    /// Sets the control of every actuator.
    pub(crate) fn set_control(&mut self, action: &[f64]) {
        self.data.ctrl_mut().copy_from_slice(action);
    }

    /// Puts the whole state (`nq` positions, `nv` velocities) and computes what follows from it.
    ///
    /// # Errors
    /// [`SimError::BufferSize`] when a length is wrong.
    pub fn set_state(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), SimError> {
        for (what, expected, found) in
            [("qpos", self.qpos().len(), qpos.len()), ("qvel", self.qvel().len(), qvel.len())]
        {
            if expected != found {
                return Err(SimError::BufferSize { what, expected, found });
            }
        }
        self.data.qpos_mut().copy_from_slice(qpos);
        self.data.qvel_mut().copy_from_slice(qvel);
        self.data.forward();
        Ok(())
    }

    /// Computes everything that follows from positions, velocities and controls.
    pub fn forward(&mut self) {
        self.data.forward();
    }

    /// Back to the model's default state.
    pub(crate) fn reset(&mut self) {
        self.data.reset();
        self.forward_without_actuation();
    }

    /// The model's first keyframe, where it has one.
    pub(crate) fn reset_to_first_keyframe(&mut self) {
        // An error says that there is none: the state then stays the default one.
        let _ = self.data.reset_keyframe(0);
    }

    /// Lets position servos hold where they are until they are commanded: unless the state's controls and activations say
    /// otherwise, which those of a keyframe without `ctrl` and `act` do not.
    pub(crate) fn hold_positions(&mut self) {
        self.forward_without_actuation();
        let is_blank = |values: &[f64]| values.iter().all(|value| *value == 0.0);
        let [has_controls, has_activations] = [!is_blank(self.data.ctrl()), !is_blank(self.data.act())];
        for (index, control) in controls(self.model()).into_iter().enumerate() {
            let held = holding_control(self, control).filter(|_| !has_controls);
            let activation = holding_activation(self, control).filter(|_| !has_activations);
            if let Some((slot, held)) = self.data.ctrl_mut().get_mut(index).zip(held) {
                *slot = held;
            }
            if let Some((address, held)) = activation
                && let Some(slot) = self.data.act_mut().get_mut(address)
            {
                *slot = held;
            }
        }
    }

    /// Forward dynamics while controls mean nothing yet, as dm_control does around a reset.
    pub(crate) fn forward_without_actuation(&mut self) {
        let flags = self.data.model_opt().disableflags;
        self.data.model_opt_mut().disableflags = flags | MjtDisableBit::mjDSBL_ACTUATION as i32;
        self.data.forward();
        self.data.model_opt_mut().disableflags = flags;
    }

    /// Computes how fast the actuators' lengths change, which a forward pass without actuation leaves out.
    pub(crate) fn update_actuator_velocities(&mut self) {
        self.data.fwd_velocity();
    }

    /// `num_steps` physics steps that end with everything up to date with positions and velocities (dm_control's
    /// `legacy_step`: `mj_step2`, then whole steps, then `mj_step1`).
    pub(crate) fn step(&mut self, num_steps: u32) {
        if self.data.model_opt().integrator == MjtIntegrator::mjINT_RK4 as i32 {
            (0..num_steps).for_each(|_| self.data.step());
        } else {
            self.data.step2();
            (1..num_steps).for_each(|_| self.data.step());
        }
        self.data.step1();
    }

    /// Whole physics steps, which leave what follows from the state one step behind.
    pub(crate) fn whole_steps(&mut self, num_steps: u32) {
        (0..num_steps).for_each(|_| self.data.step());
    }

    /// Brings poses and velocities of bodies up to date, but no contacts and no forces.
    pub(crate) fn update_poses(&mut self) {
        self.data.forward_kinematics();
        self.data.com_vel();
    }

    /// Puts a state as whole steps leave it: poses and forces are those before the last physics step, whose positions follow
    /// from the velocities that it ended with.
    pub(crate) fn set_state_after_step(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), SimError> {
        self.set_state(qpos, qvel)?;
        let backwards: Vec<f64> = qvel.iter().map(|velocity| -velocity).collect();
        let mut before = qpos.to_vec();
        self.model().integrate_pos(&mut before, &backwards, self.timestep_seconds());
        self.data.qpos_mut().copy_from_slice(&before);
        self.data.forward();
        self.data.qpos_mut().copy_from_slice(qpos);
        Ok(())
    }

    /// Puts the places and rotations of every body and the places of every site into the model.
    pub(crate) fn place_model(
        &mut self,
        body_positions: &[[f64; 3]],
        body_quaternions: &[[f64; 4]],
        site_positions: &[[f64; 3]],
    ) -> Result<(), SimError> {
        let model = self.model();
        let expected = [model.body_pos().len(), model.body_quat().len(), model.site_pos().len()];
        let found = [body_positions.len(), body_quaternions.len(), site_positions.len()];
        for (what, (expected, found)) in
            ["body_pos", "body_quat", "site_pos"].into_iter().zip(expected.into_iter().zip(found))
        {
            if expected != found {
                return Err(SimError::BufferSize { what, expected, found });
            }
        }
        let model = self.model_mut();
        model.body_pos_mut().copy_from_slice(body_positions);
        model.body_quat_mut().copy_from_slice(body_quaternions);
        model.site_pos_mut().copy_from_slice(site_positions);
        Ok(())
    }

    /// Makes actuators hold positions with this gain.
    pub(crate) fn set_position_gains(&mut self, actuators: RangeInclusive<usize>, gain: f64) {
        let model = self.model_mut();
        #[expect(unsafe_code, reason = "mujoco-rs marks gains unsafe because some of them address other arrays")]
        // SAFETY: these are fixed gains of position actuators; they address nothing.
        let gains = unsafe { model.actuator_gainprm_mut() };
        gains[actuators.clone()].iter_mut().for_each(|values| values[..3].copy_from_slice(&[gain, 0.0, 0.0]));
        let biases = &mut model.actuator_biasprm_mut()[actuators];
        biases.iter_mut().for_each(|values| values[..3].copy_from_slice(&[0.0, -gain, 0.0]));
    }

    /// Puts every actuator's gains and biases, which must be those of this model times factors.
    pub(crate) fn set_gains(&mut self, gains: &[[f64; 10]], biases: &[[f64; 10]]) {
        let model = self.model_mut();
        #[expect(unsafe_code, reason = "mujoco-rs marks gains unsafe because some of them address other arrays")]
        // SAFETY: only what the model itself had, or that with its leading values scaled, comes here; addresses of plugins
        // and user gains are not among those.
        unsafe {
            model.actuator_gainprm_mut().copy_from_slice(gains);
        }
        model.actuator_biasprm_mut().copy_from_slice(biases);
    }

    /// Computes what the compiler derives from masses; what it derives for welds, rendering and statistics stays.
    pub(crate) fn follow_masses(&mut self) {
        let statistics = self.model().stat().clone();
        let equalities = self.model().eq_data().to_vec();
        self.data.set_const();
        let model = self.model_mut();
        *model.stat_mut() = statistics;
        #[expect(
            unsafe_code,
            reason = "mujoco-rs marks equality data unsafe because some of it addresses other arrays"
        )]
        // SAFETY: these are the model's own values.
        unsafe {
            model.eq_data_mut().copy_from_slice(&equalities);
        }
    }

    /// Says that the model's textures are no longer those that a camera has.
    pub(crate) fn mark_textures_changed(&mut self) {
        static LAST: AtomicU64 = AtomicU64::new(0);
        self.textures = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    }

    /// Which textures the model has now; equal numbers mean equal textures among environments of one task.
    pub(crate) fn textures(&self) -> u64 {
        self.textures
    }

    /// Lets every weld hold the bodies' present frames together, rather than those of the model's default pose.
    pub(crate) fn relax_welds(&mut self) {
        let welds = self.model().eq_type().iter().map(|kind| *kind == MjtEq::mjEQ_WELD).collect::<Vec<_>>();
        let values = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0];
        #[expect(
            unsafe_code,
            reason = "mujoco-rs marks equality data unsafe because some of it addresses other arrays"
        )]
        // SAFETY: a weld's data are an anchor, a relative pose and a scale; it addresses nothing.
        let data = unsafe { self.model_mut().eq_data_mut() };
        data.iter_mut().zip(welds).filter(|(_, weld)| *weld).for_each(|(data, _)| data[..11].copy_from_slice(&values));
    }

    /// The force of a constraint of the last forward pass; 0 for a contact that has none.
    pub(crate) fn constraint_force(&self, address: i32) -> f64 {
        #[expect(unsafe_code, reason = "mujoco-rs marks constraint forces unsafe until a forward pass has run")]
        // SAFETY: every public way to a state of this type ends with a forward pass.
        let forces = unsafe { self.data.efc_force() };
        usize::try_from(address).ok().and_then(|address| forces.get(address)).copied().unwrap_or(0.0)
    }

    /// How often MuJoCo warned so far, by kind.
    pub(crate) fn warning_counts(&self) -> [i32; 7] {
        std::array::from_fn(|index| self.data.warning()[index].number)
    }

    /// The first kind of warning that is new since `before`.
    pub(crate) fn new_warning(&self, before: &[i32; 7]) -> Option<PhysicsWarning> {
        let now = self.warning_counts();
        let index = now.iter().zip(before).position(|(now, before)| now > before)?;
        PhysicsWarning::BY_INDEX.get(index).copied()
    }
}
