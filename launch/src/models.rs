//! Which models run, and on what: the arguments that several verbs share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use foresee_firmware_config::{DeviceProfile, Provider};
use foresee_runtime::{
    Encoder, EngineOptions, EngineReport, ModelCard, ModelPair, Policy, ProviderChoice, RuntimeError, SwapHandle,
    SwapNews, Trust, VerifyingKey, open_encoder, open_policy, swappable, watch_models,
};

use crate::fitness::Machine;
use crate::places;
use crate::words::{say, say_later};

/// The engine to run models with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProviderArgument {
    /// The first of the profile's list that is there; what runs, and why, is said.
    Auto,
    /// ONNX Runtime with TensorRT.
    Tensorrt,
    /// ONNX Runtime with CUDA.
    Cuda,
    /// ONNX Runtime on the CPU.
    Cpu,
    /// tract: pure Rust, nothing to install.
    Tract,
}

impl ProviderArgument {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What runs the models.
#[derive(Args, Clone, Debug)]
pub(crate) struct EngineArguments {
    /// What runs the models; anything but `auto` that is not there is an error.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) provider: ProviderArgument,
    /// ONNX Runtime's shared library [default: ORT_DYLIB_PATH, else the one that launch/setup unpacked]
    #[arg(long, value_name = "FILE.so")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Threads inside one inference [default: the profile's]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Let a provider that takes only a part of a model leave the rest to the CPU; otherwise that is an error.
    #[arg(long)]
    pub(crate) allow_partial: bool,
    /// Folder of the engines that TensorRT builds [default: foresee/engines in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) engine_cache: Option<PathBuf>,
    /// Serve only models signed by this key (64 hex digits, or a .pub file); several may be given.
    #[arg(long, value_name = "KEY")]
    pub(crate) trust: Vec<String>,
}

/// Encoder, and what runs it.
#[derive(Args, Clone, Debug)]
pub(crate) struct EncoderArguments {
    /// Encoder: an ONNX file with its card beside it [default: the zoo's]
    #[arg(long, value_name = "FILE.onnx")]
    pub(crate) encoder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

/// Encoder and policy, and what runs them.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArguments {
    #[command(flatten)]
    pub(crate) encoder: EncoderArguments,
    /// Policy: an ONNX file with its card beside it [default: the zoo's]
    #[arg(long, value_name = "FILE.onnx")]
    pub(crate) policy: Option<PathBuf>,
}

/// More threads than this inside one inference help nobody.
const MAX_THREADS: usize = 256;
/// File stem of the zoo's encoder.
const ZOO_ENCODER: &str = "mae-64.onnx";
/// File stem of the zoo's policy for the demo's task.
const ZOO_POLICY: &str = "reacher-easy-bc.onnx";

impl EngineArguments {
    /// The engine options that these arguments and the profile mean.
    ///
    /// # Errors
    /// No threads, or a key that is none.
    pub(crate) fn options(&self, profile: &DeviceProfile) -> anyhow::Result<EngineOptions> {
        if let Some(threads) = self.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads)) {
            bail!("--threads {threads}: give 1 to {MAX_THREADS}");
        }
        let trusted = |key: &String| {
            VerifyingKey::parse(key).map_err(|error| {
                anyhow::anyhow!("--trust {key}: {error}; give 64 hex digits, or the .pub file of `foresee card keygen`")
            })
        };
        let choice = match self.provider {
            ProviderArgument::Auto => ProviderChoice::Auto(profile.inference.providers.clone()),
            ProviderArgument::Tensorrt => ProviderChoice::Exactly(Provider::Tensorrt),
            ProviderArgument::Cuda => ProviderChoice::Exactly(Provider::Cuda),
            ProviderArgument::Cpu => ProviderChoice::Exactly(Provider::Cpu),
            ProviderArgument::Tract => ProviderChoice::Exactly(Provider::Tract),
        };
        if let Some(library) = self.onnxruntime.as_deref().filter(|library| !library.is_file()) {
            bail!("--onnxruntime {}: is no file; give the path of libonnxruntime.so", library.display());
        }
        Ok(EngineOptions {
            choice,
            intra_threads: self.threads.unwrap_or(profile.inference.intra_threads),
            library: places::onnxruntime(self.onnxruntime.as_deref()),
            allow_partial: self.allow_partial,
            engine_cache: Some(places::engine_cache(self.engine_cache.as_deref())),
            trust: Trust { keys: self.trust.iter().map(trusted).collect::<anyhow::Result<_>>()? },
            num_cameras: 1 + profile.extra_cameras.len(),
            camera_order: profile.rates.cameras,
        })
    }
}

/// What runs a model, on one line: provider, engine, precision, nodes, threads, why.
pub(crate) fn describe(report: &EngineReport) -> String {
    let nodes =
        report.nodes.iter().map(|(name, count)| format!("{count} nodes on {name}")).collect::<Vec<_>>().join(", ");
    let EngineReport { provider, engine, precision, intra_threads, reason, .. } = report;
    let threads = if *intra_threads == 1 { "1 thread".to_owned() } else { format!("{intra_threads} threads") };
    let images = if report.images > 1 { format!(", {} images at a time", report.images) } else { String::new() };
    let signed = report.signed_by.as_ref().map_or_else(String::new, |key| format!("; signed by {key}"));
    format!("{} ({engine}, {precision}, {nodes}, {threads}{images}); {reason}{signed}", provider.name())
}

impl EncoderArguments {
    /// The engine options that these arguments and the profile mean.
    ///
    /// # Errors
    /// As [`EngineArguments::options`].
    pub(crate) fn options(&self, profile: &DeviceProfile) -> anyhow::Result<EngineOptions> {
        self.engine.options(profile)
    }

    /// The encoder's file: given, else the zoo's.
    pub(crate) fn path(&self) -> PathBuf {
        self.encoder.clone().unwrap_or_else(|| places::zoo().join(ZOO_ENCODER))
    }

    /// Opens and proves the encoder.
    ///
    /// # Errors
    /// One line that names the model and the fix.
    pub(crate) fn open(&self, profile: &DeviceProfile) -> anyhow::Result<Box<dyn Encoder>> {
        let path = self.path();
        must_fit(&path, "--encoder")?;
        open_encoder(&path, &self.options(profile)?).map_err(Into::into)
    }
}

impl ModelArguments {
    /// Opens and proves encoder and policy, which must fit each other and the profile's joints.
    ///
    /// # Errors
    /// One line that names the model and the fix.
    pub(crate) fn open(&self, profile: &DeviceProfile) -> anyhow::Result<(Box<dyn Encoder>, Box<dyn Policy>)> {
        let encoder = self.encoder.open(profile)?;
        let path = self.policy_path();
        must_fit(&path, "--policy")?;
        let joint_names: Vec<String> = profile.joints.iter().map(|joint| joint.name.clone()).collect();
        let policy = open_policy(&path, encoder.card(), &joint_names, &self.encoder.options(profile)?)?;
        if let Some(conditions) = ModelCard::load(&path)?.conditions() {
            conditions.check(profile).map_err(|problem| anyhow::anyhow!("policy {}: {problem}", path.display()))?;
        }
        other_precision(profile, encoder.report()).iter().for_each(|line| say(line));
        Ok((encoder, policy))
    }

    /// The policy's file: given, else the zoo's.
    pub(crate) fn policy_path(&self) -> PathBuf {
        self.policy.clone().unwrap_or_else(|| places::zoo().join(ZOO_POLICY))
    }
}

/// What there is to say when an encoder's weights are of another type than the device is to run; a policy is too small to matter.
fn other_precision(profile: &DeviceProfile, encoder: &EngineReport) -> Option<String> {
    let (wanted, found) = (profile.inference.precision?.name(), &encoder.precision);
    (found != wanted).then(|| {
        format!(
            "encoder: its weights are {found}, and profile {} has inference.precision = \"{wanted}\": slower or less exact than the device is meant to run; export it with --precision {wanted}, or change the key",
            profile.name
        )
    })
}

/// Whether there is such a file, and memory for it: found out before anything is loaded.
fn must_fit(path: &Path, argument: &str) -> anyhow::Result<()> {
    let file = std::fs::metadata(path)
        .with_context(|| format!("{}: no such model; give one with {argument} FILE.onnx", path.display()))?;
    match Machine::here().does_not_fit(file.len()) {
        Some(problem) => bail!("{}: {problem}", path.display()),
        None => Ok(()),
    }
}

/// Models that are exchanged when their files change.
pub(crate) struct Watched {
    pub(crate) pair: ModelPair,
    pub(crate) handle: SwapHandle,
    /// What became of those that came.
    pub(crate) news: Receiver<SwapNews>,
}

/// Opens encoder and policy; a thread takes up their files again whenever these change, until `stop`.
///
/// # Errors
/// As [`ModelArguments::open`].
pub(crate) fn open_watched(
    arguments: &ModelArguments,
    profile: &DeviceProfile,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Watched> {
    let (encoder, policy) = arguments.open(profile)?;
    let (pair, handle) = swappable(ModelPair { encoder, policy });
    let files = vec![arguments.encoder.path(), arguments.policy_path()];
    let (again, profile) = (arguments.clone(), profile.clone());
    let open = move || {
        let opened = again.open(&profile).map(|(encoder, policy)| ModelPair { encoder, policy });
        opened.map_err(|error| RuntimeError::End { name: "models".to_owned(), problem: crate::words::joined(&error) })
    };
    let (sender, receiver) = channel();
    let tell = move |news: SwapNews| {
        match &news {
            SwapNews::Switched(models) => {
                say_later(&format!("models: switched to encoder {}", models.encoder.model_sha256))
            }
            SwapNews::Kept => say_later("models: the new ones are kept"),
            SwapNews::Back { reason, .. } => say_later(&format!("models: back to the old ones: {reason}")),
            SwapNews::Refused(problem) => say_later(&format!("models: the new ones are refused: {problem}")),
        }
        // Whoever listened may be gone.
        let _ = sender.send(news);
    };
    // The thread looks at `stop` twice a second and holds nothing that must be given back.
    drop(watch_models(handle.clone(), files, (open, tell), Arc::clone(stop))?);
    Ok(Watched { pair, handle, news: receiver })
}

#[cfg(test)]
mod tests {
    use foresee_runtime::RawPixels;

    use super::*;

    #[test]
    fn weights_of_another_type_than_the_profile_wants_are_told() {
        let report = RawPixels::new(4, 4).report().clone();
        let jetson = foresee_firmware_config::load("jetson-orin-nano").unwrap();
        let told = other_precision(&jetson, &report).unwrap();
        assert!(told.contains("are f32") && told.contains("--precision f16"), "{told}");
        let half = EngineReport { precision: "f16".to_owned(), ..report.clone() };
        assert_eq!(other_precision(&jetson, &half), None);
        let desktop = foresee_firmware_config::load("desktop-cpu").unwrap();
        assert_eq!(other_precision(&desktop, &report), None);
    }
}
