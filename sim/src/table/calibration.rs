//! Scenes for calibration: a checkerboard on the table before the camera on the wrist, or in the hand before the fixed one.
//! Each episode is one view: the arm stands where the camera sees the whole board.

use std::f64::consts::PI;

use nalgebra::{Isometry3, Point3, Translation3, UnitQuaternion, Vector3, Vector6};

use crate::error::SimError;
use crate::physics::{Assets, BodyId, Physics};
use crate::random::RandomState;
use crate::table::arm::{Arm, pose};
use crate::table::{CONTROL_TIMESTEP_SECONDS, load};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 2.0;
const MAX_DRAWS: usize = 500;
/// Where the search for joint angles begins, radians.
const READY: Vector6<f64> = Vector6::new(0.0, 0.3, 1.5, 0.0, PI - 1.8, 0.0);
/// Where the board lies on the table, metres.
const ON_TABLE: [f64; 3] = [0.34, 0.0, 0.005];
/// Where it is in the hand.
const IN_HAND: [f64; 3] = [0.0, 0.0, 0.11];
/// How far the printed squares stand out, metres.
const INK_METRES: f64 = 1e-4;

/// The checkerboard of the tasks `table/calibrate-*`, as OpenCV counts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checkerboard {
    /// Inner corners in a row.
    pub columns: usize,
    /// Rows of inner corners.
    pub rows: usize,
    /// Side of a square, metres.
    pub square_metres: f64,
}

impl Checkerboard {
    /// The one in the scenes: 10 by 7 squares of 20 mm.
    pub const SCENE: Self = Self { columns: 9, rows: 6, square_metres: 0.02 };

    /// The inner corners in the board's frame (origin in the middle, z out of the print), metres: row by row.
    pub fn corners(&self) -> impl Iterator<Item = [f64; 3]> {
        let Self { columns, rows, square_metres } = *self;
        let along = move |index: usize, number: usize| (index as f64 - (number - 1) as f64 / 2.0) * square_metres;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [along(column, columns), along(row, rows), 0.0]))
    }

    /// A body named `board` with the print's face at z = 0.
    fn body(&self, position: [f64; 3]) -> String {
        let Self { columns, rows, square_metres } = *self;
        let half = square_metres / 2.0;
        let [x, y, z] = position;
        let [width, height] = [columns + 2, rows + 2].map(|number| number as f64 * half);
        let middle = |index: usize, number: usize| (index as f64 - number as f64 / 2.0) * square_metres;
        let mut body = format!(
            r#"<body name="board" pos="{x} {y} {z}"><geom name="board" type="box" size="{width} {height} 0.002" pos="0 0 {}"
                rgba="0.95 0.95 0.95 1" contype="0" conaffinity="0" mass="0"/>"#,
            -0.002 - INK_METRES
        );
        for row in 0..=rows {
            for column in (0..=columns).filter(|column| (row + column) % 2 == 0) {
                body += &format!(
                    r#"<geom type="box" size="{half} {half} {}" pos="{} {} {}" rgba="0.04 0.04 0.04 1"
                        contype="0" conaffinity="0" mass="0"/>"#,
                    INK_METRES / 2.0,
                    middle(column, columns),
                    middle(row, rows),
                    -INK_METRES / 2.0
                );
            }
        }
        body + "</body>"
    }
}

/// The board lies on the table, the camera on the wrist looks at it: for hand-eye calibration, eye in hand.
pub(crate) fn wrist(_assets: Assets<'_>) -> Result<TaskParts, SimError> {
    let physics = load("table/calibrate-wrist", &Checkerboard::SCENE.body(ON_TABLE), "")?;
    make(physics, Place::OnTable)
}

/// The hand holds the board before the fixed camera: for hand-eye calibration, eye to hand.
pub(crate) fn fixed(_assets: Assets<'_>) -> Result<TaskParts, SimError> {
    let physics = load("table/calibrate-fixed", "", &Checkerboard::SCENE.body(IN_HAND))?;
    make(physics, Place::InHand)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OnTable,
    InHand,
}

fn make(physics: Physics, place: Place) -> Result<TaskParts, SimError> {
    let camera = |name: &str| {
        let id = physics.camera(name)?.0;
        let model = physics.model();
        Ok::<_, SimError>(pose(model.cam_pos()[id], model.cam_quat()[id]) * optical_from_gl())
    };
    let seen_by = if place == Place::OnTable { "wrist" } else { "fixed" };
    let fovy_degrees = physics.model().cam_fovy()[physics.camera(seen_by)?.0];
    let task = Calibration {
        half_height: (fovy_degrees.to_radians() / 2.0).tan(),
        arm: Arm::new(&physics)?,
        board: physics.body("board")?,
        hand: physics.body("hand")?,
        place,
        hand_from_camera: camera("wrist")?,
        world_from_camera: camera("fixed")?,
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: None,
    })
}

/// MuJoCo's cameras look along -z with y up; ours along z with y down.
fn optical_from_gl() -> UnitQuaternion<f64> {
    UnitQuaternion::from_axis_angle(&Vector3::x_axis(), PI)
}

struct Calibration {
    arm: Arm,
    board: BodyId,
    hand: BodyId,
    place: Place,
    hand_from_camera: Isometry3<f64>,
    world_from_camera: Isometry3<f64>,
    /// Half the image's height at a distance of 1.
    half_height: f64,
}

impl Calibration {
    /// The board before the camera: some way off, from the side, turned.
    fn draw(&self, random: &mut RandomState) -> Isometry3<f64> {
        let tilt = random.uniform(0.1, 0.6);
        let azimuth = random.uniform(-PI, PI);
        let roll = random.uniform(-0.8, 0.8);
        let [across, down] = [random.uniform(-0.1, 0.1), random.uniform(-0.15, 0.05)];
        let distance = match self.place {
            Place::OnTable => random.uniform(0.2, 0.32),
            Place::InHand => random.uniform(0.35, 0.6),
        };
        // It faces the camera, is tilted about some axis of its plane and turned about its normal.
        let facing = UnitQuaternion::from_axis_angle(&Vector3::x_axis(), PI);
        let tilted = UnitQuaternion::from_scaled_axis(Vector3::new(azimuth.cos(), azimuth.sin(), 0.0) * tilt);
        let turned = UnitQuaternion::from_scaled_axis(Vector3::z() * roll);
        let at = Translation3::new(across * distance, down * distance, distance);
        Isometry3::from_parts(at, facing * tilted * turned)
    }

    /// Whether every inner corner is well within an image of four by three; the fingers are at the lower edge of the wrist's.
    fn shows_all(&self, camera_from_board: &Isometry3<f64>) -> bool {
        let lowest = if self.place == Place::OnTable { 0.7 } else { 0.95 };
        Checkerboard::SCENE.corners().all(|corner| {
            let point = camera_from_board * Point3::from(corner);
            let [right, down] = [point.x, point.y].map(|metres| metres / point.z / self.half_height);
            right.abs() < 0.95 * 4.0 / 3.0 && (-0.95..lowest).contains(&down)
        })
    }

    /// The hand's pose that puts the board there.
    fn world_from_hand(&self, camera_from_board: &Isometry3<f64>) -> Isometry3<f64> {
        match self.place {
            Place::OnTable => {
                let world_from_board = Isometry3::translation(ON_TABLE[0], ON_TABLE[1], ON_TABLE[2]);
                world_from_board * camera_from_board.inverse() * self.hand_from_camera.inverse()
            }
            Place::InHand => {
                let hand_from_board = Isometry3::translation(IN_HAND[0], IN_HAND[1], IN_HAND[2]);
                self.world_from_camera * camera_from_board * hand_from_board.inverse()
            }
        }
    }
}

impl Task for Calibration {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        for _ in 0..MAX_DRAWS {
            let camera_from_board = self.draw(random);
            if !self.shows_all(&camera_from_board) {
                continue;
            }
            if let Some(angles) = self.arm.reach(&self.world_from_hand(&camera_from_board), &READY) {
                return self.arm.put(physics, &angles, 0.0);
            }
        }
        let problem = format!("none of {MAX_DRAWS} views is within the arm's reach");
        Err(SimError::Reset { task: "table/calibrate".to_string(), problem })
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("joint_positions", self.arm.angles(physics).as_slice());
        for (name, body) in [("hand", self.hand), ("board", self.board)] {
            observation.vector(&format!("{name}_position"), &physics.xpos(body));
            observation.vector(&format!("{name}_orientation"), &physics.xquat(body));
        }
    }

    /// There is nothing to win.
    fn reward(&self, _physics: &Physics) -> f64 {
        0.0
    }
}
