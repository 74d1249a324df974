//! Reference episodes that are replayed from their seeds.

use super::file::Arrays;

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

    pub(super) fn parse(arrays: &Arrays<'_>, seed: u64) -> Result<Self, String> {
        let tensor = |name: &str, num_axes| Tensor::parse(arrays, &format!("seed{seed}.{name}"), num_axes);
        let actions = tensor("actions", 3)?;
        let [num_episodes, num_steps, _] = actions.shape;
        let episodes = Self {
            seed,
            num_episodes,
            num_steps,
            actions,
            observations: tensor("observations", 3)?,
            rewards: tensor("rewards", 2)?,
            discounts: tensor("discounts", 2)?,
            qpos: tensor("qpos", 3)?,
            qvel: tensor("qvel", 3)?,
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
    fn parse(arrays: &Arrays<'_>, name: &str, num_axes: usize) -> Result<Self, String> {
        let array = arrays.get(name, num_axes)?;
        let shape = [array.shape[0], array.shape[1], array.shape.get(2).copied().unwrap_or(1)];
        Ok(Self { shape, values: array.values })
    }

    /// Rows are in range: the shapes of all tensors were checked against each other.
    fn row(&self, episode: usize, row: usize) -> &[f64] {
        let [_, rows, length] = self.shape;
        let start = (episode * rows + row) * length;
        &self.values[start..start + length]
    }
}
