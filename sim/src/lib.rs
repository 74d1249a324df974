//! The simulated ends: MuJoCo physics, tasks with their rewards, headless cameras, and the loop's two ends over them.
//!
//! ```text
//! Physics (MuJoCo, dm_control's step order) x Task (one a file) -> Environment -> Camera -> FrameSource / Actuator
//! ```
//!
//! Depends on `foresee-runtime` (the contract) alone. The same seed gives the episode that the Python original gives.

mod actuators;
mod camera;
mod dmc;
mod ends;
mod environment;
mod error;
mod fit;
mod gymnasium_robotics;
mod measure;
mod metaworld;
mod mjcf;
mod numeric;
mod observed;
mod physics;
mod random;
mod randomisation;
mod randomise;
mod recorded;
mod reward;
mod table;
mod task;
mod tasks;
mod units;
mod user_model;
mod vector;
mod verify;

pub use camera::{Camera, CameraOptions, CameraView, FREE_CAMERA, Quality, Segment};
pub use ends::{EpisodePlan, EpisodePlayer, SimActuator, SimSource, in_process_ends, render_extra};
pub use environment::{Autoreset, Environment, EnvironmentOptions, Transition};
pub use error::SimError;
pub use fit::{CommandMap, JointMisfit, toml_number};
pub use measure::{
    MemoryFigure, RenderingFigure, Seconds, SteppingFigure, SteppingMode, SteppingOptions, SteppingRace,
    VectorRendering, measure_memory, measure_rendering, measure_vector_rendering,
};
pub use observed::{Channel, Element, ObservedEnvironment, Sight, Space, Values};
pub use physics::{
    ActuatorId, Assets, BodyId, CameraId, GeomId, JointId, MUJOCO_VERSION, ModelSource, Physics, PhysicsWarning,
    SensorId, SiteId, Textures, load_plugins,
};
pub use random::RandomState;
pub use randomisation::{Randomisation, SensorFaults};
pub use recorded::{EpisodeStart, RecordedRow, RecordedStates};
pub use reward::{Sigmoid, Tolerance};
pub use table::calibration::Checkerboard;
pub use task::{ActionSpec, ObservationSpec, ObservationWriter, Quantity, Task, TaskEntry, TaskParts, TaskSpec};
pub use tasks::TASKS;
pub use user_model::{UserGoal, UserModel};
pub use vector::{Batch, VectorEnvironment, VectorOptions};
pub use verify::{Inexactness, REWARD_TOLERANCE, TaskReport, VerifyReport, verify_directory, verify_file};
