//! A model of the user's own, MJCF or URDF, with a task that needs no code.

mod urdf;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::environment::{Environment, EnvironmentOptions};
use crate::error::SimError;
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::random::RandomState;
use crate::task::{ObservationWriter, Task, TaskParts};

/// What is rewarded in a user's model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UserGoal {
    /// Nothing: the reward is 0 and there is no success.
    #[default]
    Still,
    /// That two things meet: the reward is minus the distance of their middles, metres.
    Distance {
        /// A body, or else a site, or else a geom of this name.
        from: String,
        /// As `from`.
        to: String,
    },
}

impl UserGoal {
    /// Reads `still` or `distance:NAME:NAME`. A name with a `:` stands in single or double quotes, or has `\\:` in place of `:`;
    /// a backslash before any character stands for that character.
    ///
    /// # Errors
    /// [`SimError::Option`] for anything else.
    pub fn parse(text: &str) -> Result<Self, SimError> {
        let parts = parts(text).unwrap_or_default();
        match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["still"] => Ok(Self::Still),
            ["distance", from, to] if !from.is_empty() && !to.is_empty() => {
                Ok(Self::Distance { from: (*from).to_string(), to: (*to).to_string() })
            }
            _ => Err(SimError::Option { name: "task", value: format!("{text:?}"), allowed: GOALS }),
        }
    }
}

/// What a goal can be.
const GOALS: &str = "`still` or `distance:NAME:NAME`; a name with a `:` goes in quotes, as in \"distance:'robot0:grip':'goal:0'\", or has `\\:` for `:`";

/// Parts between colons that are neither quoted nor escaped; `None` where a quote is not closed.
fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            (':', None) => parts.push(String::new()),
            ('\\', _) => parts.last_mut()?.push(characters.next()?),
            (mark, Some(open)) if mark == open => quote = None,
            // A quote within a name is a part of it.
            ('\'' | '"', None) if parts.last()?.is_empty() => quote = Some(character),
            _ => parts.last_mut()?.push(character),
        }
    }
    quote.is_none().then_some(parts)
}

/// A file and how it is played.
#[derive(Clone, Debug, PartialEq)]
pub struct UserModel {
    /// MJCF, or URDF; what it names is looked for beside it. An MJCF file takes a URDF in through `<asset><model/></asset>`
    /// and `<attach/>`.
    pub path: PathBuf,
    /// Folders of the ROS packages that a URDF names as `package://NAME/`.
    pub packages: BTreeMap<String, PathBuf>,
    /// What is rewarded.
    pub goal: UserGoal,
    /// Seconds between actions; a multiple of the model's timestep.
    pub control_timestep_seconds: f64,
    /// Simulated seconds after which an episode is cut off.
    pub time_limit_seconds: f64,
}

/// Things nearer than this have met, metres.
const NEAR_METRES: f64 = 0.02;

impl Environment {
    /// The environment of a model of the user's own, or else of a task of the list.
    ///
    /// # Errors
    /// As [`Self::of_user_model`] and [`Self::with_options`].
    pub fn of_task_or_model(
        task: &str,
        model: Option<&UserModel>,
        assets: Assets<'_>,
        options: EnvironmentOptions,
    ) -> Result<Self, SimError> {
        match model {
            Some(model) => Self::of_user_model(model, options),
            None => Self::with_options(task, assets, options),
        }
    }

    /// The timestep of the user's model, seconds.
    ///
    /// # Errors
    /// As [`Self::of_user_model`].
    pub fn timestep_of_user_model(model: &UserModel) -> Result<f64, SimError> {
        let name = model.path.display().to_string();
        let timestep = load(&name, model)?.timestep_seconds();
        check_timestep_itself(timestep).map_err(|problem| SimError::Model { name, problem })?;
        Ok(timestep)
    }

    /// An environment of the user's own model, called `mjcf/` and the file's stem. An episode begins in the model's first
    /// keyframe, or else in its default state, whatever the seed; actions are the actuators' controls; observed are `qpos`,
    /// `qvel` and, where there are sensors, `sensordata`. There is no termination.
    ///
    /// # Errors
    /// [`SimError::Model`] with what MuJoCo's compiler says, for a file that is not there, and for a control timestep that is no
    /// multiple of the model's; [`SimError::UnknownName`] for a name that the model lacks; [`SimError::Option`].
    pub fn of_user_model(model: &UserModel, options: EnvironmentOptions) -> Result<Self, SimError> {
        let name = model.path.display().to_string();
        std::fs::metadata(&model.path)
            .map_err(|error| SimError::Model { name: name.clone(), problem: error.to_string() })?;
        if !(model.time_limit_seconds.is_finite() && model.time_limit_seconds > 0.0) {
            let value = model.time_limit_seconds.to_string();
            return Err(SimError::Option { name: "time limit", value, allowed: "a finite number of seconds above 0" });
        }
        let physics = load(&name, model)?;
        check_timestep(&physics, model.control_timestep_seconds)
            .map_err(|problem| SimError::Model { name, problem })?;
        let (goal, success_criterion) = match &model.goal {
            UserGoal::Still => (None, None),
            UserGoal::Distance { from, to } => {
                let criterion = "the two things are within 2 cm of each other; of an episode: in its last state";
                (Some([Anchor::find(&physics, from)?, Anchor::find(&physics, to)?]), Some(criterion))
            }
        };
        let parts = TaskParts {
            physics,
            task: Box::new(UserTask { goal }),
            time_limit_seconds: model.time_limit_seconds,
            control_timestep_seconds: Some(model.control_timestep_seconds),
            success_criterion,
        };
        let stem = model.path.file_stem().unwrap_or(Path::new("model").as_os_str()).to_string_lossy();
        Self::from_parts(&format!("mjcf/{stem}"), parts, options)
    }
}

/// Compiles the file; a URDF with its packages' folders in place of their names.
fn load(name: &str, model: &UserModel) -> Result<Physics, SimError> {
    let is_urdf = model.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("urdf"));
    if is_urdf {
        let text = crate::physics::read_text(&model.path)?;
        let resolved = urdf::resolve(&model.path, &text, &model.packages)
            .map_err(|problem| SimError::Model { name: name.to_owned(), problem })?;
        if let Some(text) = resolved {
            return Physics::load_text(name, &model.path, &text);
        }
    }
    Physics::load_file(name, &model.path)
}

/// The model's timestep must be a time, and an action must last a whole number of them.
fn check_timestep(physics: &Physics, control_timestep: f64) -> Result<(), String> {
    let timestep = physics.timestep_seconds();
    check_timestep_itself(timestep)?;
    crate::environment::num_substeps(control_timestep, timestep).map(|_| ()).map_err(|problem| {
        let nearest = (control_timestep / timestep).round().max(1.0) * timestep * 1e3;
        format!("{problem}; write pace.period_millis = {} in the profile", crate::fit::toml_number(nearest))
    })
}

fn check_timestep_itself(timestep: f64) -> Result<(), String> {
    if timestep.is_finite() && timestep > 0.0 {
        return Ok(());
    }
    Err(format!("option timestep is {timestep}; give seconds above 0, such as 0.002"))
}

/// Something with a place.
#[derive(Clone, Copy)]
enum Anchor {
    Body(BodyId),
    Site(SiteId),
    Geom(GeomId),
}

impl Anchor {
    fn find(physics: &Physics, name: &str) -> Result<Self, SimError> {
        let body = physics.body(name).map(Self::Body);
        let found =
            body.or_else(|_| physics.site(name).map(Self::Site)).or_else(|_| physics.geom(name).map(Self::Geom));
        found.map_err(|_| SimError::UnknownName { kind: "body, site or geom", name: name.to_string() })
    }

    fn position(self, physics: &Physics) -> [f64; 3] {
        match self {
            Self::Body(body) => physics.xpos(body),
            Self::Site(site) => physics.site_xpos(site),
            Self::Geom(geom) => physics.geom_xpos(geom),
        }
    }
}

struct UserTask {
    goal: Option<[Anchor; 2]>,
}

impl UserTask {
    fn distance(&self, physics: &Physics) -> Option<f64> {
        let [from, to] = self.goal?;
        Some(norm(&difference(to.position(physics), from.position(physics))))
    }
}

impl Task for UserTask {
    fn initialise_episode(&mut self, physics: &mut Physics, _random: &mut RandomState) -> Result<(), SimError> {
        physics.reset_to_first_keyframe();
        physics.hold_positions();
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("qpos", physics.qpos());
        observation.vector("qvel", physics.qvel());
        if !physics.data().sensordata().is_empty() {
            observation.vector("sensordata", physics.data().sensordata());
        }
    }

    fn reward(&self, physics: &Physics) -> f64 {
        self.distance(physics).map_or(0.0, |distance| -distance)
    }

    fn success(&self, physics: &Physics) -> bool {
        self.distance(physics).is_some_and(|distance| distance < NEAR_METRES)
    }
}
