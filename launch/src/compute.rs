//! `--device` and `--arithmetic`: what a training step runs on.

use anyhow::bail;
use clap::Args;
use foresee_models::{Arithmetic, Compute, Recipe, TrainingDevice, parameter_specs};

use crate::counts::check_counts;
use crate::fitness::Machine;

/// Shards on this CPU where nobody says how many.
const CPU_SHARDS: usize = 2;

/// More threads than any machine that trains has.
pub(crate) const MOST_THREADS: usize = 1024;

/// Arguments of what trains.
#[derive(Args, Clone)]
pub(crate) struct ComputeArguments {
    /// Where it runs: flex (this CPU), tch:cpu, tch:N (CUDA card N, a build with the feature tch), vulkan:N (feature vulkan); several
    /// with commas share each batch
    #[arg(long, default_value = "flex", value_delimiter = ',', value_name = "DEVICE")]
    device: Vec<TrainingDevice>,
    /// Numbers of the matrix products: f32, or bf16 (weights, moments, norms and losses stay f32; not on flex)
    #[arg(long, default_value = "f32", value_name = "NUMBERS")]
    arithmetic: Arithmetic,
}

impl ComputeArguments {
    /// As the models take it.
    pub(crate) fn compute(&self) -> Compute {
        Compute { devices: self.device.clone(), arithmetic: self.arithmetic }
    }

    /// How many shards a batch is cut into: as asked, else 2 where there is only this CPU, else one a device.
    ///
    /// # Errors
    /// Fewer shards than devices, or more than any machine has threads.
    pub(crate) fn shards(&self, asked: Option<usize>) -> anyhow::Result<usize> {
        let num_devices = self.device.len();
        match asked {
            Some(shards) if shards < num_devices => {
                bail!("--threads {shards}: there are {num_devices} devices, and each needs a shard; give {num_devices}")
            }
            Some(shards) => check_counts(&[("--threads", shards, MOST_THREADS)]).map(|()| shards),
            None if self.device.iter().all(|device| device.is_flex()) => Ok(CPU_SHARDS.max(num_devices)),
            None => Ok(num_devices),
        }
    }

    /// The same arguments for another process.
    pub(crate) fn to_words(&self) -> Vec<String> {
        vec!["--device".to_owned(), self.device_words(), "--arithmetic".to_owned(), self.arithmetic.to_string()]
    }

    /// The devices as they were asked for.
    pub(crate) fn device_words(&self) -> String {
        self.device.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Whether this machine's memory holds what is trained by a recipe: found out before anything is allocated.
///
/// # Errors
/// Names the recipe as it was asked for, and both sizes.
pub(crate) fn must_fit(name: &str, recipe: &Recipe) -> anyhow::Result<()> {
    let num_values = parameter_specs(recipe).iter().map(|spec| spec.shape.iter().product::<usize>() as u64).sum();
    match Machine::here().cannot_train(num_values) {
        Some(problem) => bail!("recipe {name}: {problem}"),
        None => Ok(()),
    }
}

/// `--micro-batch`, for [`check_counts`].
pub(crate) fn micro_batch(count: usize) -> (&'static str, usize, usize) {
    ("--micro-batch", count, usize::MAX)
}
