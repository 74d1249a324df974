//! ONNX Runtime, loaded from its shared library once a process: CPU, CUDA and TensorRT.

mod operators;
mod tensor;
mod tensorrt;

use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use foresee_firmware_config::Provider;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ort::AsPointer as _;
use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, Session};
use ort::value::{DynValue, Outlet, TensorElementType, ValueType};

pub(super) use self::operators::operators;
use self::tensor::BoundTensor;
use super::assignment::{Assignment, RECORD_ENTRY};
use super::{
    EngineOptions, GraphTensor, InferenceSession, Loaded, Model, NamedTensor, Refusal, check_tensors, explain_operator,
    one_line,
};
use crate::card::{ElementType, TensorCard};
use crate::files::inside_folder;
use crate::onnx::{OnnxAxis, OnnxSummary, ShapeProbe};

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

/// Loads a model on this provider and no other, unless the options allow it to take a part.
pub(super) fn open(model: &Model<'_>, provider: Provider, options: &EngineOptions) -> Result<Loaded, Refusal> {
    let library = load_library(options.library.as_deref()).map_err(Refusal::Provider)?;
    let (intra_threads, may_be_partial) = (options.intra_threads, options.allow_partial);
    let bare = BuilderOptions { provider, intra_threads, may_be_partial, engine: None };
    let place = match (provider, &options.engine_cache) {
        (Provider::Tensorrt, Some(root)) => Some(tensorrt::place(&library, model, &bare, root)?),
        _ => None,
    };
    let engine = place.as_ref().map(|place| (place.folder(), model.summary.precision()));
    let what = BuilderOptions { engine, ..bare };
    let build = |what: &BuilderOptions<'_>| {
        let builder = session_builder(&library, what).map_err(Refusal::Provider)?;
        let builder = with_model(builder, model).map_err(|error| Refusal::Model(one_line(&error)))?;
        commit(builder, model).map_err(Refusal::Model)
    };
    let session = build(&what).map_err(|refusal| match refusal {
        // Built once more without the ban: the session then says which nodes the provider does not take.
        Refusal::Model(problem) if provider != Provider::Cpu && !options.allow_partial => {
            let allowed = build(&BuilderOptions { may_be_partial: true, ..what });
            let left = allowed.ok().and_then(|session| Assignment::of(&session).ok()?.left_by(ort_name(provider)));
            Refusal::Model(left.map_or(problem, |left| {
                format!("{} takes only a part of this graph: {left} would run on the CPU; export it without these, allow a part, or use another provider", provider.name())
            }))
        }
        other => other,
    })?;
    let assignment = Assignment::of(&session).map_err(|error| Refusal::Model(one_line(&error)))?;
    let nodes = assignment.num_nodes();
    let session = OrtSession::new(session, model, provider).map_err(Refusal::Model)?;
    let (note, build) = place.map(tensorrt::Place::into_parts).unzip();
    Ok(Loaded { session: Box::new(session), engine: library.engine, nodes, note, build: build.flatten() })
}

/// Runs a graph on each of these inputs in one session; gives every floating output and every probed shape, in graph order.
pub(super) fn explore(
    model: &Model<'_>,
    inputs: &[Vec<NamedTensor>],
    options: &EngineOptions,
) -> Result<Vec<Vec<NamedTensor>>, Refusal> {
    let library = load_library(options.library.as_deref()).map_err(Refusal::Provider)?;
    let what = BuilderOptions {
        provider: Provider::Cpu,
        intra_threads: options.intra_threads,
        may_be_partial: false,
        engine: None,
    };
    let builder = session_builder(&library, &what).map_err(Refusal::Provider)?;
    let builder = with_model(builder, model).map_err(|error| Refusal::Model(one_line(&error)))?;
    let mut session = commit(builder, model).map_err(Refusal::Model)?;
    let runs: ort::Result<Vec<_>> = inputs.iter().map(|inputs| run_once(&mut session, inputs)).collect();
    runs.map_err(|error| Refusal::Model(format!("onnxruntime cannot run this graph: {}", one_line(&error))))
}

fn run_once(session: &mut Session, inputs: &[NamedTensor]) -> ort::Result<Vec<NamedTensor>> {
    let mut given: Vec<(String, DynValue)> = Vec::with_capacity(inputs.len());
    for NamedTensor { card, values } in inputs {
        let mut tensor = BoundTensor::new(session, card)?;
        tensor.fill(values);
        given.push((card.name.clone(), tensor.into_value()));
    }
    let outputs = session.run(given)?;
    let mut found = Vec::new();
    for (name, value) in outputs.iter() {
        let shape = |shape: &[i64]| shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect::<Vec<_>>();
        if let Ok((sizes, values)) = value.try_extract_tensor::<f32>() {
            found.push(NamedTensor { card: TensorCard::f32(name, &shape(sizes)), values: values.to_vec() });
        } else if let Ok((sizes, values)) = value.try_extract_tensor::<f16>() {
            let card = TensorCard { element: ElementType::F16, ..TensorCard::f32(name, &shape(sizes)) };
            found.push(NamedTensor { card, values: values.to_f32_vec() });
        } else if ShapeProbe::is_probe(name)
            && let Ok((sizes, values)) = value.try_extract_tensor::<i64>()
        {
            let values = values.iter().map(|size| *size as f32).collect();
            found.push(NamedTensor { card: TensorCard::f32(name, &shape(sizes)), values });
        }
    }
    Ok(found)
}

/// What a session is built for.
#[derive(Clone, Copy)]
pub(super) struct BuilderOptions<'a> {
    pub(super) provider: Provider,
    pub(super) intra_threads: usize,
    /// Whether nodes that the provider does not take may run on the CPU.
    pub(super) may_be_partial: bool,
    /// Where TensorRT keeps its engine, and the model's precision.
    pub(super) engine: Option<(&'a Path, &'a str)>,
}

/// A builder on which the provider has come up, without a way back to the CPU unless that is allowed.
pub(super) fn session_builder(library: &Library, options: &BuilderOptions<'_>) -> Result<SessionBuilder, String> {
    let build = || -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&library.environment)?.with_intra_threads(options.intra_threads)?;
        // A spinning thread pool takes the cores from the rest of the loop.
        let builder = builder.with_intra_op_spinning(false)?.with_config_entry(RECORD_ENTRY, "1")?;
        let Some(provider) = execution_provider(options) else { return Ok(builder) };
        let builder = builder.with_execution_providers([provider])?;
        Ok(if options.may_be_partial { builder } else { builder.with_disable_cpu_fallback()? })
    };
    build().map_err(|error| {
        let beside = library.path.parent().unwrap_or(Path::new(".")).display();
        format!(
            "{} does not come up: {}; it needs the GPU build of ONNX Runtime with its provider library in {beside}, and NVIDIA's libraries and driver",
            options.provider.name(),
            one_line(&error).trim_end_matches('.')
        )
    })
}

fn execution_provider(options: &BuilderOptions<'_>) -> Option<ExecutionProviderDispatch> {
    match options.provider {
        Provider::Cuda => Some(ep::CUDA::default().build().error_on_failure()),
        Provider::Tensorrt => {
            let mut provider = ep::TensorRT::default();
            if let Some((folder, precision)) = options.engine {
                let folder = folder.display().to_string();
                provider = provider.with_engine_cache(true).with_engine_cache_path(&folder);
                provider = provider.with_timing_cache(true).with_timing_cache_path(&folder);
                // The graph's own types say where; these flags allow it.
                provider = provider.with_fp16(precision == "f16").with_int8(precision == "int8");
            }
            Some(provider.build().error_on_failure())
        }
        Provider::Cpu | Provider::Tract => None,
    }
}

/// ONNX Runtime's own name of a provider.
fn ort_name(provider: Provider) -> &'static str {
    match provider {
        Provider::Tensorrt => "TensorrtExecutionProvider",
        Provider::Cuda => "CUDAExecutionProvider",
        Provider::Cpu | Provider::Tract => "CPUExecutionProvider",
    }
}

/// Gives the builder what it must know of the model: sizes for its open dimensions, and external weights.
fn with_model(mut builder: SessionBuilder, model: &Model<'_>) -> ort::Result<SessionBuilder> {
    for (name, size) in open_dimensions(&model.summary, &model.card.inputs) {
        builder = builder.with_dimension_override(name, i64::try_from(size).unwrap_or(i64::MAX))?;
    }
    for (external, bytes) in model.card.external.iter().zip(model.external) {
        let bytes: Arc<[u8]> = Arc::from(bytes.as_slice());
        // By the names that the graph has for it, such as `./x.data`.
        let names = model.summary.external_files.iter();
        for name in names.filter(|name| inside_folder(name).as_deref() == Some(external.name.as_str())) {
            builder = builder.with_external_initializer_file_in_memory(name, bytes.clone())?;
        }
    }
    Ok(builder)
}

/// The names of open dimensions and what the card's shapes make of them: engines plan better with all sizes known.
fn open_dimensions(summary: &OnnxSummary, inputs: &[TensorCard]) -> Vec<(String, usize)> {
    let mut known = Vec::<(String, usize)>::new();
    for declared in &summary.inputs {
        let sizes = inputs.iter().find(|card| card.name == declared.name).map(|card| card.shape.as_slice());
        for (axis, size) in declared.shape.iter().flatten().zip(sizes.unwrap_or_default()) {
            match axis {
                OnnxAxis::Dynamic(name) if !name.is_empty() && known.iter().all(|(other, _)| other != name) => {
                    known.push((name.clone(), *size));
                }
                _ => {}
            }
        }
    }
    known
}

fn commit(mut builder: SessionBuilder, model: &Model<'_>) -> Result<Session, String> {
    builder.commit_from_memory(model.bytes).map_err(|error| {
        format!("onnxruntime cannot run this graph: {}{}", one_line(&error), explain_operator(&error.to_string()))
    })
}

struct OrtSession {
    session: Session,
    binding: IoBinding,
    /// Names and tensors in the card's order; bound once, filled before each run.
    inputs: Vec<(String, BoundTensor)>,
    outputs: Vec<BoundTensor>,
    /// On a GPU, binding is what copies an input there.
    is_on_device: bool,
}

impl OrtSession {
    fn new(session: Session, model: &Model<'_>, provider: Provider) -> Result<Self, String> {
        let explain = |error: ort::Error| format!("onnxruntime cannot run this graph: {}", one_line(&error));
        check_tensors("inputs", &tensors_of(session.inputs()), &model.card.inputs)?;
        check_tensors("outputs", &tensors_of(session.outputs()), &model.card.outputs)?;
        let mut binding = session.create_binding().map_err(explain)?;
        let mut inputs = Vec::with_capacity(model.card.inputs.len());
        for input in &model.card.inputs {
            let tensor = BoundTensor::new(&session, input).map_err(explain)?;
            bind_input(&mut binding, &input.name, &tensor).map_err(explain)?;
            inputs.push((input.name.clone(), tensor));
        }
        let mut outputs = Vec::with_capacity(model.card.outputs.len());
        for output in &model.card.outputs {
            let mut tensor = BoundTensor::new(&session, output).map_err(explain)?;
            match &mut tensor {
                BoundTensor::F32(tensor) => binding.bind_output(output.name.as_str(), tensor),
                BoundTensor::F16(tensor) => binding.bind_output(output.name.as_str(), tensor),
            }
            .map_err(explain)?;
            outputs.push(tensor);
        }
        Ok(Self { session, binding, inputs, outputs, is_on_device: provider != Provider::Cpu })
    }

    fn run_bound(&mut self) -> ort::Result<()> {
        if self.is_on_device {
            for (name, tensor) in &self.inputs {
                bind_input(&mut self.binding, name, tensor)?;
            }
            self.binding.synchronize_inputs()?;
        }
        self.run_in_place()?;
        if self.is_on_device { self.binding.synchronize_outputs() } else { Ok(()) }
    }
}

fn bind_input(binding: &mut IoBinding, name: &str, tensor: &BoundTensor) -> ort::Result<()> {
    match tensor {
        BoundTensor::F32(tensor) => binding.bind_input(name, tensor),
        BoundTensor::F16(tensor) => binding.bind_input(name, tensor),
    }
}

impl OrtSession {
    /// `run_binding` of ort, without what that makes of the outputs (four allocations a call): they lie in tensors that were bound.
    #[expect(unsafe_code, reason = "ort wraps this call only together with allocations")]
    fn run_in_place(&mut self) -> ort::Result<()> {
        // SAFETY: session and binding are alive and borrowed mutably, the binding is of this session, no options are allowed, and a
        // status is released by `Error`.
        unsafe {
            let run = ort::api().RunWithBinding;
            let status = run(self.session.ptr_mut(), ptr::null(), self.binding.ptr());
            ort::Error::result_from_status(status)
        }
    }
}

impl InferenceSession for OrtSession {
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), String> {
        for ((_, tensor), values) in self.inputs.iter_mut().zip(inputs) {
            check_length(values.len(), tensor)?;
            tensor.fill(values);
        }
        self.run_bound().map_err(|error| one_line(&error))?;
        for (tensor, values) in self.outputs.iter().zip(outputs) {
            check_length(values.len(), tensor)?;
            tensor.read(values);
        }
        Ok(())
    }

    fn run_bare(&mut self) -> Result<(), String> {
        let inputs: Vec<_> = self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
        self.session.run(inputs).map(drop).map_err(|error| one_line(&error))
    }
}

fn check_length(given: usize, tensor: &BoundTensor) -> Result<(), String> {
    let wanted = tensor.num_values();
    if given == wanted { Ok(()) } else { Err(format!("{given} values for a tensor of {wanted}")) }
}

/// A graph's tensors; the type is `None` where the loop does not understand it.
fn tensors_of(outlets: &[Outlet]) -> Vec<GraphTensor> {
    let tensor = |outlet: &Outlet| {
        let (element, shape) = match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => {
                let element = match ty {
                    TensorElementType::Float32 => Some(ElementType::F32),
                    TensorElementType::Float16 => Some(ElementType::F16),
                    _ => None,
                };
                (element, shape.iter().map(|size| usize::try_from(*size).ok()).collect())
            }
            _ => (None, Vec::new()),
        };
        GraphTensor { name: outlet.name().to_owned(), shape, element: Some(element) }
    };
    outlets.iter().map(tensor).collect()
}
