//! Stacker: a planar arm stacks boxes (`suite/stacker.py`).

use std::f64::consts::PI;

use crate::dmc::planar_arm::{PlanarArm, joint_velocities, planar_pose, site_distance};
use crate::dmc::{load_mjcf, read_domain};
use crate::error::SimError;
use crate::numeric::log1p;
use crate::physics::{Assets, BodyId, GeomId, JointId, Physics, SiteId};
use crate::random::RandomState;
use crate::reward::Tolerance;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 10.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.01;
/// Metres below which things count as close.
const CLOSE: f64 = 0.01;
/// Boxes in the model's file.
const MAX_BOXES: usize = 4;

/// Two boxes.
pub(crate) fn stack_2(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 2)
}

/// Four boxes.
pub(crate) fn stack_4(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, MAX_BOXES)
}

fn make(assets: Assets<'_>, num_boxes: usize) -> Result<TaskParts, SimError> {
    let mut mjcf = read_domain(assets, "stacker")?;
    for unused in num_boxes..MAX_BOXES {
        mjcf.remove("body", &format!("box{unused}"))?;
    }
    let physics = load_mjcf(assets, &mjcf)?;
    let task = Stacker {
        arm: PlanarArm::new(&physics)?,
        boxes: (0..num_boxes).map(|index| StackedBox::new(&physics, index)).collect::<Result<_, _>>()?,
        target: physics.body("target")?,
        target_geom: physics.geom("target")?,
        target_site: physics.site("target")?,
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: None,
    })
}

struct StackedBox {
    body: BodyId,
    site: SiteId,
    /// x, y (the angle), z.
    joints: [JointId; 3],
}

impl StackedBox {
    fn new(physics: &Physics, index: usize) -> Result<Self, SimError> {
        let joint = |axis: &str| physics.joint(&format!("box{index}_{axis}"));
        let name = format!("box{index}");
        let joints = [joint("x")?, joint("y")?, joint("z")?];
        Ok(Self { body: physics.body(&name)?, site: physics.site(&name)?, joints })
    }

    fn randomise(&self, physics: &mut Physics, random: &mut RandomState) {
        let [x, angle, z] = self.joints;
        physics.joint_qpos_mut(x)[0] = random.uniform(0.1, 0.3);
        physics.joint_qpos_mut(z)[0] = random.uniform(0.0, 0.7);
        physics.joint_qpos_mut(angle)[0] = random.uniform(0.0, 2.0 * PI);
    }
}

struct Stacker {
    arm: PlanarArm,
    boxes: Vec<StackedBox>,
    target: BodyId,
    target_geom: GeomId,
    target_site: SiteId,
}

impl Task for Stacker {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        loop {
            self.arm.randomise(physics, random);
            let level = 2 * random.integer(0, self.boxes.len() as i64) + 1;
            let box_size = physics.model().geom_size()[self.target_geom.0][0];
            let position = &mut physics.model_mut().body_pos_mut()[self.target.0];
            position[2] = box_size * level as f64;
            position[0] = random.uniform(-0.37, 0.37);
            self.boxes.iter().for_each(|stacked| stacked.randomise(physics, random));
            physics.forward_without_actuation();
            if physics.data().ncon() == 0 {
                return Ok(());
            }
        }
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        self.arm.observe(physics, observation);
        observation.collected("touch", physics.data().sensordata().iter().map(|force| log1p(*force)));
        observation.vector("hand_pos", &planar_pose(physics, self.arm.hand));
        let poses = self.boxes.iter().flat_map(|stacked| planar_pose(physics, stacked.body));
        observation.shaped("box_pos", &[self.boxes.len(), 4], poses);
        let velocities = self.boxes.iter().flat_map(|stacked| joint_velocities(physics, &stacked.joints));
        observation.collected("box_vel", velocities);
        let [x, z, ..] = planar_pose(physics, self.target);
        observation.vector("target_pos", &[x, z]);
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let box_size = physics.model().geom_size()[self.target_geom.0][0];
        let distances = self.boxes.iter().map(|stacked| site_distance(physics, stacked.site, self.target_site));
        let box_is_close = Tolerance::at_zero().margin(2.0 * box_size).of(distances.fold(f64::INFINITY, f64::min));
        let hand_is_far = Tolerance::at_least(0.1).margin(CLOSE);
        box_is_close * hand_is_far.of(site_distance(physics, self.arm.grasp, self.target_site))
    }
}
