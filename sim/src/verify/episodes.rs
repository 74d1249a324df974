//! Reference episodes as they lie in a file.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::error::SimError;

/// Bytes above which a file is refused.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Every seed's episodes of one task.
pub(super) struct Episodes {
    pub(super) task: String,
    pub(super) seeds: Vec<SeedEpisodes>,
}

/// The episodes of one random stream.
pub(super) struct SeedEpisodes {
    pub(super) seed: u64,
    pub(super) num_episodes: usize,
    pub(super) num_steps: usize,
    actions: Tensor,
    observations: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    qpos: Tensor,
    qvel: Tensor,
}

/// One row of the state tensors.
pub(super) struct StateRow<'a> {
    pub(super) qpos: &'a [f64],
    pub(super) qvel: &'a [f64],
    pub(super) observation: &'a [f64],
}

impl Episodes {
    pub(super) fn read(path: &Path) -> Result<Self, SimError> {
        parse(path).map_err(|problem| SimError::Reference { path: path.to_path_buf(), problem })
    }
}

impl SeedEpisodes {
    pub(super) fn action(&self, episode: usize, step: usize) -> &[f64] {
        self.actions.row(episode, step)
    }

    pub(super) fn reward_and_discount(&self, episode: usize, step: usize) -> [f64; 2] {
        [self.rewards.row(episode, step)[0], self.discounts.row(episode, step)[0]]
    }

    pub(super) fn state(&self, episode: usize, row: usize) -> StateRow<'_> {
        StateRow {
            qpos: self.qpos.row(episode, row),
            qvel: self.qvel.row(episode, row),
            observation: self.observations.row(episode, row),
        }
    }

    fn parse(file: &SafeTensors<'_>, seed: u64) -> Result<Self, String> {
        let tensor = |name: &str| Tensor::parse(file, &format!("seed{seed}.{name}"));
        let actions = tensor("actions")?;
        let [num_episodes, num_steps, _] = actions.shape;
        let episodes = Self {
            seed,
            num_episodes,
            num_steps,
            actions,
            observations: tensor("observations")?,
            rewards: tensor("rewards")?,
            discounts: tensor("discounts")?,
            qpos: tensor("qpos")?,
            qvel: tensor("qvel")?,
        };
        for (name, tensor, rows) in [
            ("observations", &episodes.observations, num_steps + 1),
            ("rewards", &episodes.rewards, num_steps),
            ("discounts", &episodes.discounts, num_steps),
            ("qpos", &episodes.qpos, num_steps + 1),
            ("qvel", &episodes.qvel, num_steps + 1),
        ] {
            if tensor.shape[0] != num_episodes || tensor.shape[1] != rows {
                return Err(format!(
                    "seed{seed}.{name} has shape {:?}, but the actions ask for [{num_episodes}, {rows}]",
                    tensor.shape
                ));
            }
        }
        Ok(episodes)
    }
}

/// A float64 tensor `[episodes, rows, values]`.
struct Tensor {
    shape: [usize; 3],
    values: Vec<f64>,
}

impl Tensor {
    fn parse(file: &SafeTensors<'_>, name: &str) -> Result<Self, String> {
        let view = file.tensor(name).map_err(|_| format!("no tensor {name}"))?;
        let shape = match *view.shape() {
            [episodes, rows] => [episodes, rows, 1],
            [episodes, rows, values] => [episodes, rows, values],
            _ => return Err(format!("{name} has shape {:?}, but two or three axes are needed", view.shape())),
        };
        if view.dtype() != Dtype::F64 {
            return Err(format!("{name} is {:?}, but F64 is needed", view.dtype()));
        }
        let (words, _) = view.data().as_chunks::<8>();
        Ok(Self { shape, values: words.iter().map(|word| f64::from_le_bytes(*word)).collect() })
    }

    /// Rows are in range: the shapes of all tensors were checked against each other.
    fn row(&self, episode: usize, row: usize) -> &[f64] {
        let [_, rows, length] = self.shape;
        let start = (episode * rows + row) * length;
        &self.values[start..start + length]
    }
}

fn parse(path: &Path) -> Result<Episodes, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("{length} bytes; at most {MAX_FILE_BYTES} are read"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().as_ref().ok_or("no metadata")?;
    let task = metadata.get("task").ok_or("no task in the metadata")?.clone();
    let seeds: Vec<u64> = serde_json::from_str(metadata.get("seeds").ok_or("no seeds in the metadata")?)
        .map_err(|error| format!("seeds in the metadata: {error}"))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    let seeds = seeds.into_iter().map(|seed| SeedEpisodes::parse(&file, seed)).collect::<Result<_, _>>()?;
    Ok(Episodes { task, seeds })
}
