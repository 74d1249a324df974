//! ONNX Runtime, loaded from its shared library once a process: CPU, CUDA and TensorRT.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use foresee_firmware_config::Provider;
use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, Session};
use ort::value::{Outlet, Tensor, TensorElementType, ValueType};

use super::{EngineOptions, GraphTensor, InferenceSession, Refusal, check_tensors, one_line};
use crate::card::ModelCard;

/// The name that the system's loader knows the library by.
const LIBRARY_NAME: &str = "libonnxruntime.so";

/// The library of this process.
#[derive(Clone)]
pub(super) struct Library {
    pub(super) path: PathBuf,
    /// Such as `onnxruntime 1.31.1`.
    pub(super) engine: String,
    environment: Environment,
}

/// ONNX Runtime allows one library and one environment a process.
static LIBRARY: Mutex<Option<Library>> = Mutex::new(None);

/// Loads the library, or gives the one that is loaded.
pub(super) fn load_library(path: Option<&Path>) -> Result<Library, String> {
    let wanted = match path {
        // Relative paths would be taken from the folder of the executable.
        Some(path) => std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => PathBuf::from(LIBRARY_NAME),
    };
    let mut loaded = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.as_ref() {
        if path.is_some() && library.path != wanted {
            let (has, wanted) = (library.path.display(), wanted.display());
            return Err(format!(
                "this process has loaded {has} and cannot load {wanted} as well; start another process"
            ));
        }
        return Ok(library.clone());
    }
    let fix = "give the path of libonnxruntime.so, or use the provider tract, which needs none";
    if path.is_some() && !wanted.is_file() {
        return Err(format!("there is no {}; {fix}", wanted.display()));
    }
    let builder = ort::init_from(&wanted).map_err(|error| format!("{}; {fix}", one_line(&error)))?;
    let environment = builder.with_name("foresee").with_telemetry(false).build();
    let environment = environment.map_err(|error| format!("{}; {fix}", one_line(&error)))?;
    let engine = engine_of(&wanted, ort::info());
    let library = Library { path: wanted, engine, environment };
    *loaded = Some(library.clone());
    Ok(library)
}

/// `onnxruntime 1.31.1` by the library's file name behind all links; without a version there, the commit that it was built of.
fn engine_of(path: &Path, build_info: &str) -> String {
    let file = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let version = file.as_deref().and_then(|file| file.split_once(".so.")).map(|(_, version)| version.to_owned());
    let commit = || {
        let (_, rest) = build_info.split_once("git-commit-id=")?;
        Some(format!("of commit {}", rest.split(',').next()?.trim()))
    };
    format!("onnxruntime {}", version.or_else(commit).unwrap_or_else(|| "of unknown version".to_owned()))
}

/// Loads a model on this provider and no other.
pub(super) fn open(
    card: &ModelCard,
    bytes: &[u8],
    provider: Provider,
    options: &EngineOptions,
) -> Result<(Box<dyn InferenceSession>, String), Refusal> {
    let library = load_library(options.library.as_deref()).map_err(Refusal::Provider)?;
    let builder = session_builder(&library, provider, options.intra_threads).map_err(Refusal::Provider)?;
    let session = OrtSession::new(builder, card, bytes, provider).map_err(Refusal::Model)?;
    Ok((Box::new(session), library.engine))
}

/// A builder on which the provider has come up, without a way back to the CPU.
pub(super) fn session_builder(library: &Library, provider: Provider, threads: usize) -> Result<SessionBuilder, String> {
    let build = || -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&library.environment)?.with_intra_threads(threads)?;
        // A spinning thread pool takes the cores from the rest of the loop.
        let builder = builder.with_intra_op_spinning(false)?;
        Ok(match execution_provider(provider) {
            Some(provider) => builder.with_execution_providers([provider])?.with_disable_cpu_fallback()?,
            None => builder,
        })
    };
    build().map_err(|error| {
        let beside = library.path.parent().unwrap_or(Path::new(".")).display();
        format!(
            "{} does not come up: {}; it needs the GPU build of ONNX Runtime with its provider library in {beside}, and NVIDIA's libraries and driver",
            provider.name(),
            one_line(&error)
        )
    })
}

fn execution_provider(provider: Provider) -> Option<ExecutionProviderDispatch> {
    match provider {
        Provider::Cuda => Some(ep::CUDA::default().build().error_on_failure()),
        Provider::Tensorrt => Some(ep::TensorRT::default().build().error_on_failure()),
        Provider::Cpu | Provider::Tract => None,
    }
}

struct OrtSession {
    session: Session,
    binding: IoBinding,
    /// Names and tensors in the card's order; bound once, filled before each run.
    inputs: Vec<(String, Tensor<f32>)>,
    outputs: Vec<Tensor<f32>>,
    /// On a GPU, binding is what copies an input there.
    is_on_device: bool,
}

impl OrtSession {
    fn new(mut builder: SessionBuilder, card: &ModelCard, bytes: &[u8], provider: Provider) -> Result<Self, String> {
        let explain = |error: ort::Error| format!("onnxruntime cannot run this graph: {}", one_line(&error));
        let session = builder.commit_from_memory(bytes).map_err(explain)?;
        check_tensors("inputs", &tensors_of(session.inputs())?, &card.inputs)?;
        check_tensors("outputs", &tensors_of(session.outputs())?, &card.outputs)?;
        let mut binding = session.create_binding().map_err(explain)?;
        let tensor = |shape: &[usize]| Tensor::<f32>::new(session.allocator(), shape).map_err(explain);
        let mut inputs = Vec::with_capacity(card.inputs.len());
        for input in &card.inputs {
            let mut tensor = tensor(&input.shape)?;
            tensor.extract_tensor_mut().1.fill(0.0);
            binding.bind_input(input.name.as_str(), &tensor).map_err(explain)?;
            inputs.push((input.name.clone(), tensor));
        }
        let mut outputs = Vec::with_capacity(card.outputs.len());
        for output in &card.outputs {
            let mut tensor = tensor(&output.shape)?;
            binding.bind_output(output.name.as_str(), &mut tensor).map_err(explain)?;
            outputs.push(tensor);
        }
        Ok(Self { session, binding, inputs, outputs, is_on_device: provider != Provider::Cpu })
    }

    fn run_bound(&mut self) -> ort::Result<()> {
        if self.is_on_device {
            for (name, tensor) in &self.inputs {
                self.binding.bind_input(name.as_str(), tensor)?;
            }
            self.binding.synchronize_inputs()?;
        }
        drop(self.session.run_binding(&self.binding)?);
        if self.is_on_device { self.binding.synchronize_outputs() } else { Ok(()) }
    }
}

impl InferenceSession for OrtSession {
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), String> {
        for ((_, tensor), values) in self.inputs.iter_mut().zip(inputs) {
            copy(values, tensor.extract_tensor_mut().1)?;
        }
        self.run_bound().map_err(|error| one_line(&error))?;
        for (tensor, values) in self.outputs.iter().zip(outputs) {
            copy(tensor.extract_tensor().1, values)?;
        }
        Ok(())
    }

    fn run_bare(&mut self) -> Result<(), String> {
        let inputs: Vec<_> = self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
        self.session.run(inputs).map(drop).map_err(|error| one_line(&error))
    }
}

fn copy(from: &[f32], to: &mut [f32]) -> Result<(), String> {
    if from.len() != to.len() {
        return Err(format!("a tensor of {} values where its card says {}", from.len(), to.len()));
    }
    to.copy_from_slice(from);
    Ok(())
}

/// A graph's tensors, which must be f32.
fn tensors_of(outlets: &[Outlet]) -> Result<Vec<GraphTensor>, String> {
    let tensor = |outlet: &Outlet| match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
            Ok((outlet.name().to_owned(), shape.iter().map(|size| usize::try_from(*size).ok()).collect()))
        }
        other => {
            Err(format!("`{}` is {other}, and f32 tensors are understood; export the model in f32", outlet.name()))
        }
    };
    outlets.iter().map(tensor).collect()
}
