//! Swimmer: a planar chain of links swims to a target (`suite/swimmer.py`, after Coulom 2002).

use crate::dmc::{load_mjcf, read_domain};
use crate::error::SimError;
use crate::mjcf::Mjcf;
use crate::numeric::{difference, in_frame, norm};
use crate::physics::{Assets, BodyId, GeomId, Physics};
use crate::random::RandomState;
use crate::randomise::randomise_limited_and_rotational_joints;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 30.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.03;
/// Sensor values before the first link's velocities: nose, target and two axes of the head.
const FIRST_VELOCITY: usize = 12;
/// The light over the target is the model's second.
const TARGET_LIGHT: usize = 1;

/// Six links.
pub(crate) fn swimmer6(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 6)
}

/// Fifteen links.
pub(crate) fn swimmer15(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 15)
}

fn make(assets: Assets<'_>, num_links: u32) -> Result<TaskParts, SimError> {
    let physics = load_mjcf(assets, &chain(assets, num_links)?)?;
    let task = Swimmer { head: physics.body("head")?, nose: physics.geom("nose")?, target: physics.geom("target")? };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: Some("the nose is in the target (reward 1); of an episode: in its last state"),
    })
}

/// The model with its head, and links behind it that each have a motor and two sensors.
fn chain(assets: Assets<'_>, num_links: u32) -> Result<Mjcf, SimError> {
    let mut mjcf = read_domain(assets, "swimmer")?;
    let limit_degrees = 360.0 / f64::from(num_links);
    let (mut links, mut motors, mut sensors) = (String::new(), String::new(), String::new());
    for link in 0..num_links - 1 {
        links += &format!(
            r#"<body name="segment_{link}" pos="0 .1 0"><geom class="visual" name="visual_{link}"/><geom class="inertial" name="inertial_{link}"/><site name="site_{link}"/><joint name="joint_{link}" range="{} {limit_degrees}"/>"#,
            -limit_degrees
        );
        motors += &format!(r#"<motor name="motor_{link}" joint="joint_{link}"/>"#);
        sensors += &format!(
            r#"<velocimeter name="velocimeter_{link}" site="site_{link}"/><gyro name="gyro_{link}" site="site_{link}"/>"#
        );
    }
    links += &"</body>".repeat(num_links as usize - 1);
    mjcf.append(("body", "head"), &links)?;
    mjcf.append(("mujoco", ""), &format!("<actuator>{motors}</actuator><sensor>{sensors}</sensor>"))?;
    let scale = f64::from(num_links) / 6.0;
    for (camera, [x, y, z]) in [("tracking1", [0.0, -0.2, 0.5]), ("tracking2", [-0.9, 0.5, 0.15])] {
        mjcf.set(("camera", camera), "pos", &format!("{} {} {}", x * scale, y * scale, z * scale))?;
    }
    Ok(mjcf)
}

struct Swimmer {
    head: BodyId,
    nose: GeomId,
    target: GeomId,
}

impl Swimmer {
    /// In the head's plane.
    fn nose_to_target(&self, physics: &Physics) -> [f64; 2] {
        let offset = difference(physics.geom_xpos(self.target), physics.geom_xpos(self.nose));
        let [x, y, _] = in_frame(offset, physics.xmat(self.head));
        [x, y]
    }
}

impl Task for Swimmer {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        randomise_limited_and_rotational_joints(physics, random);
        let half_side = if random.sample() < 0.2 { 0.3 } else { 2.0 };
        let [x, y] = [random.uniform(-half_side, half_side), random.uniform(-half_side, half_side)];
        let model = physics.model_mut();
        model.geom_pos_mut()[self.target.0][..2].copy_from_slice(&[x, y]);
        model.light_pos_mut()[TARGET_LIGHT][..2].copy_from_slice(&[x, y]);
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("joints", &physics.qpos()[3..]);
        observation.vector("to_target", &self.nose_to_target(physics));
        // Of each link: linear velocity in the plane, angular velocity about its normal.
        let (links, _) = physics.data().sensordata()[FIRST_VELOCITY..].as_chunks::<6>();
        observation.collected("body_velocities", links.iter().flat_map(|link| [link[0], link[1], link[5]]));
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let size = physics.model().geom_size()[self.target.0][0];
        let near = Tolerance::within(0.0, size).margin(5.0 * size).sigmoid(Sigmoid::LongTail, 0.1);
        near.of(norm(&self.nose_to_target(physics)))
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward(physics) == 1.0
    }
}
