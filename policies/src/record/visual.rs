//! A policy that acts in a recording by what the cameras show.

use foresee_runtime::{
    Action, CameraRig, Encoder, EngineReport, Features, Frame, JointState, Observation, Policy, open_encoder,
    open_policy,
};

use super::PolicyActor;
use crate::error::PoliciesError;

/// Cameras, encoder and policy, as a loop has them.
pub(super) struct VisualActor {
    rig: CameraRig,
    encoder: Box<dyn Encoder>,
    policy: Box<dyn Policy>,
    features: Features,
    observation: Observation,
    action: Action,
}

/// What the policy sees: the frames of all cameras, and the joints.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) frame: &'a Frame,
    pub(super) extra: &'a [Frame],
    pub(super) joints: &'a JointState,
}

impl VisualActor {
    /// Opens both models.
    pub(super) fn new(actor: &PolicyActor) -> Result<Self, PoliciesError> {
        let names: Vec<_> = actor.device.joints.iter().map(|joint| joint.name.clone()).collect();
        let encoder = open_encoder(&actor.encoder, &actor.engine)?;
        let policy = open_policy(&actor.policy, encoder.card(), &names, &actor.engine)?;
        Ok(Self {
            rig: CameraRig::new(&actor.device, encoder.as_ref())?,
            encoder,
            policy,
            features: Features::zeros(0, 0),
            observation: Observation::of(&actor.device),
            action: Action { values: vec![0.0; names.len()] },
        })
    }

    /// What runs encoder and policy, for the log's header.
    pub(super) fn reports(&self) -> [Option<EngineReport>; 2] {
        [Some(self.encoder.report().clone()), self.policy.report().cloned()]
    }

    /// A new episode begins.
    pub(super) fn reset(&mut self) {
        self.rig.reset();
    }

    /// The policy's command, one value a joint of its profile, in the profile's units.
    pub(super) fn act(&mut self, shown: Shown<'_>) -> Result<&[f64], PoliciesError> {
        self.observation.frame.copy_from(shown.frame);
        self.observation.extra.iter_mut().zip(shown.extra).for_each(|(to, from)| to.copy_from(from));
        self.observation.joints.clone_from(shown.joints);
        self.rig.see(&self.observation, self.encoder.as_mut(), &mut self.features)?;
        self.policy.act(&self.features, &self.observation.joints, &mut self.action)?;
        Ok(&self.action.values)
    }
}
