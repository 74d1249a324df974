//! Where a session's time goes, by ONNX Runtime's own trace.

use std::collections::BTreeMap;
use std::path::Path;

use foresee_firmware_config::Provider;
use serde::Deserialize;

use super::{BuilderOptions, OrtSession, commit, load_library, one_line, session_builder, with_model};
use crate::engine::measure::OperatorTime;
use crate::engine::{EngineOptions, InferenceSession as _, Model, Refusal};

/// An event of the trace; nodes have an operator.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    name: String,
    /// Microseconds.
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    op_name: Option<String>,
}

/// Runs the model on the CPU so many times; `folder` takes the trace.
pub(in crate::engine) fn operators(
    model: &Model<'_>,
    (options, num_runs): (&EngineOptions, usize),
    folder: &Path,
) -> Result<Vec<OperatorTime>, Refusal> {
    let library = load_library(options.library.as_deref()).map_err(Refusal::Provider)?;
    let intra_threads = options.intra_threads;
    let what = BuilderOptions { provider: Provider::Cpu, intra_threads, may_be_partial: false, engine: None };
    let explain = |error: ort::Error| Refusal::Model(one_line(&error));
    let builder = with_model(session_builder(&library, &what).map_err(Refusal::Provider)?, model).map_err(explain)?;
    let builder = builder.with_profiling(folder.join("trace")).map_err(|error| explain(error.into()))?;
    let session = commit(builder, model).map_err(Refusal::Model)?;
    let mut session = OrtSession::new(session, model, Provider::Cpu).map_err(Refusal::Model)?;
    for _ in 0..num_runs.max(1) {
        session.run_bare().map_err(Refusal::Model)?;
    }
    let trace = session.session.end_profiling().map_err(explain)?;
    read_trace(Path::new(&trace)).map_err(|problem| Refusal::Model(format!("{trace}: {problem}")))
}

/// Of each operator the sum over its nodes of their median, longest first.
fn read_trace(path: &Path) -> Result<Vec<OperatorTime>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let events: Vec<Event> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let mut nodes: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for event in events.into_iter().filter(|event| event.cat == "Node") {
        if let Some(operator) = event.args.op_name {
            nodes.entry((operator, event.name)).or_default().push(event.dur);
        }
    }
    let mut operators: BTreeMap<String, f64> = BTreeMap::new();
    for ((operator, _), mut times) in nodes {
        times.sort_by(f64::total_cmp);
        *operators.entry(operator).or_default() += times.get(times.len() / 2).copied().unwrap_or(0.0);
    }
    let mut times: Vec<_> = operators.into_iter().map(|(operator, micros)| OperatorTime { operator, micros }).collect();
    times.sort_by(|a, b| b.micros.total_cmp(&a.micros));
    Ok(times)
}
