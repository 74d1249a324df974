//! Pick a cube up and put it onto a disc.

use std::f64::consts::{FRAC_PI_4, PI};

use nalgebra::Vector6;

use crate::error::SimError;
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, JointId, Physics};
use crate::random::RandomState;
use crate::table::arm::Arm;
use crate::table::{CONTROL_TIMESTEP_SECONDS, expert, load};
use crate::task::{ObservationWriter, Task, TaskParts};

const NAME: &str = "table/pick-place";
const TIME_LIMIT_SECONDS: f64 = 10.0;
/// Half a side of the cube, metres.
pub(super) const CUBE_METRES: f64 = 0.02;
/// How near the cube's centre must lie to the disc's, metres along the table.
const NEAR_METRES: f64 = 0.02;
/// Fingers further from the middle than this hold nothing.
const OPEN_METRES: f64 = 0.025;
/// Where cube and disc may lie: distance from the base's axis in metres, and angle in radians.
const RADIUS_METRES: [f64; 2] = [0.27, 0.41];
const ANGLE_RADIANS: f64 = 0.65;
/// Cube and disc are never nearer than this.
const APART_METRES: f64 = 0.13;

const WORLD: &str = r#"
    <body name="target"><geom type="cylinder" size="0.035 0.001" material="target" contype="0" conaffinity="0"/></body>
    <body name="cube" pos="0.35 0 0.02">
      <freejoint name="cube"/>
      <geom name="cube" type="box" size="0.02 0.02 0.02" material="object" density="900" condim="4"/>
    </body>"#;

/// Where an episode begins, radians: the hand over the table, fingers down.
pub(super) const HOME: Vector6<f64> = Vector6::new(0.0, 0.3, 1.5, 0.0, PI - 1.8, 0.0);

pub(crate) fn task(_assets: Assets<'_>) -> Result<TaskParts, SimError> {
    let physics = load(NAME, WORLD, "")?;
    let task = PickPlace {
        arm: Arm::new(&physics)?,
        cube: physics.body("cube")?,
        cube_joint: physics.joint("cube")?,
        target: physics.body("target")?,
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: Some(
            "the cube lies within 2 cm of the disc's centre and the gripper is open; of an episode: in its last state",
        ),
    })
}

/// The task, and what its expert looks at.
pub(super) struct PickPlace {
    pub(super) arm: Arm,
    pub(super) cube: BodyId,
    cube_joint: JointId,
    pub(super) target: BodyId,
}

impl PickPlace {
    /// From the cube to the disc, metres along the table.
    pub(super) fn cube_to_target(&self, physics: &Physics) -> f64 {
        norm(&difference(physics.xpos(self.target), physics.xpos(self.cube))[..2])
    }

    /// Whether the cube lies on the table on one of its faces.
    pub(super) fn is_down(&self, physics: &Physics) -> bool {
        (physics.xpos(self.cube)[2] - CUBE_METRES).abs() < 3e-3
    }

    fn place_on_table(random: &mut RandomState) -> [f64; 2] {
        let radius = random.uniform(RADIUS_METRES[0], RADIUS_METRES[1]);
        let angle = random.uniform(-ANGLE_RADIANS, ANGLE_RADIANS);
        [radius * angle.cos(), radius * angle.sin()]
    }
}

impl Task for PickPlace {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        let angles = HOME + Vector6::from_fn(|_, _| random.uniform(-0.05, 0.05));
        self.arm.put(physics, &angles, random.uniform(0.02, 0.04))?;
        let [cube, target] = loop {
            let places = [Self::place_on_table(random), Self::place_on_table(random)];
            if (places[0][0] - places[1][0]).hypot(places[0][1] - places[1][1]) > APART_METRES {
                break places;
            }
        };
        let half_turn = random.uniform(-FRAC_PI_4, FRAC_PI_4) / 2.0;
        let pose = [cube[0], cube[1], CUBE_METRES, half_turn.cos(), 0.0, 0.0, half_turn.sin()];
        physics.joint_qpos_mut(self.cube_joint).copy_from_slice(&pose);
        physics.model_mut().body_pos_mut()[self.target.0] = [target[0], target[1], 0.001];
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("joint_positions", self.arm.angles(physics).as_slice());
        observation.vector("joint_velocities", self.arm.speeds(physics).as_slice());
        observation.scalar("gripper_opening", self.arm.opening(physics));
        observation.vector("tool_position", &self.arm.tool_position(physics));
        observation.vector("cube_position", &physics.xpos(self.cube));
        observation.vector("cube_orientation", &physics.xquat(self.cube));
        observation.vector("target_position", &physics.xpos(self.target));
    }

    /// 1 on success; before that at most 0.9: a quarter for the hand at the cube, the rest for the cube at the disc, half of
    /// that only once it was lifted or is there.
    fn reward(&self, physics: &Physics) -> f64 {
        if self.success(physics) {
            return 1.0;
        }
        let cube = physics.xpos(self.cube);
        let near = |metres: f64| 1.0 - (metres / 0.1).tanh();
        let to_cube = norm(&difference(cube, self.arm.tool_position(physics)));
        let lifted = ((cube[2] - CUBE_METRES) / 0.05).clamp(0.0, 1.0);
        let to_target = near(self.cube_to_target(physics));
        0.25 * near(to_cube) + 0.325 * to_target + 0.325 * lifted.max(to_target)
    }

    fn success(&self, physics: &Physics) -> bool {
        self.cube_to_target(physics) < NEAR_METRES && self.is_down(physics) && self.arm.opening(physics) > OPEN_METRES
    }

    fn expert(&self, physics: &Physics) -> Option<Vec<f64>> {
        expert::act(self, physics)
    }
}
