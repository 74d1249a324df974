//! What of each provider is on this machine: for diagnosis, not for running.

use std::path::{Path, PathBuf};

use foresee_firmware_config::Provider;
use serde::{Deserialize, Serialize};

/// One provider on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderProbe {
    /// Which.
    pub provider: Provider,
    /// Whether it really came up: a session was built on it.
    pub is_ready: bool,
    /// Engine and version, such as `onnxruntime 1.31.1`; empty when there is none.
    pub engine: String,
    /// The library, where there is one.
    pub library: Option<PathBuf>,
    /// What was found, or what is missing and how to mend it.
    pub detail: String,
}

/// Tries every provider with a tiny graph. `library` is the ONNX Runtime that models would be run with.
pub fn probe_providers(library: Option<&Path>) -> Vec<ProviderProbe> {
    Provider::ALL.into_iter().map(|provider| probe(provider, library)).collect()
}

fn probe(provider: Provider, library: Option<&Path>) -> ProviderProbe {
    if provider == Provider::Tract {
        let is_ready = cfg!(feature = "tract");
        let (engine, detail) = if is_ready {
            #[cfg(feature = "tract")]
            let engine = super::tract::ENGINE;
            #[cfg(not(feature = "tract"))]
            let engine = "";
            (engine, "built in")
        } else {
            ("", "this build has no tract; build with the feature `tract`")
        };
        return ProviderProbe {
            provider,
            is_ready,
            engine: engine.to_owned(),
            library: None,
            detail: detail.to_owned(),
        };
    }
    probe_onnxruntime(provider, library)
}

#[cfg(feature = "ort")]
fn probe_onnxruntime(provider: Provider, library: Option<&Path>) -> ProviderProbe {
    use super::onnxruntime::{BuilderOptions, load_library, session_builder};

    let library = match load_library(library) {
        Ok(library) => library,
        Err(detail) => {
            return ProviderProbe { provider, is_ready: false, engine: String::new(), library: None, detail };
        }
    };
    let built =
        session_builder(&library, &BuilderOptions { provider, intra_threads: 1, may_be_partial: false, engine: None })
            .and_then(|mut builder| {
                builder.commit_from_memory(&tiny_model()).map(|_| ()).map_err(|error| super::one_line(&error))
            });
    let (is_ready, detail) = match built {
        Ok(()) => (true, "a session was built on it".to_owned()),
        Err(problem) => (false, problem),
    };
    ProviderProbe { provider, is_ready, engine: library.engine, library: Some(library.path), detail }
}

#[cfg(not(feature = "ort"))]
fn probe_onnxruntime(provider: Provider, _library: Option<&Path>) -> ProviderProbe {
    let detail = "this build has no ONNX Runtime; build with the feature `ort`".to_owned();
    ProviderProbe { provider, is_ready: false, engine: String::new(), library: None, detail }
}

/// `y = x @ w`: an operator that every provider takes.
#[cfg(feature = "ort")]
fn tiny_model() -> Vec<u8> {
    use crate::onnx::{OnnxDim, OnnxGraph};

    let mut graph = OnnxGraph::new("probe");
    let x = graph.add_input("x", &[OnnxDim::Fixed(1), OnnxDim::Fixed(2)]);
    let weight = graph.add_constant("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let y = graph.matmul(&x, &weight);
    graph.add_output("y", &y, &[OnnxDim::Fixed(1), OnnxDim::Fixed(2)]);
    graph.to_bytes()
}
