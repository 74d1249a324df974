//! Which of ONNX Runtime's providers took which nodes, as the session itself says after it was built.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::ptr;

use ort::AsPointer as _;
use ort::session::Session;
use ort::sys::OrtStatusPtr;

/// The configuration entry that makes a session keep the account.
pub(super) const RECORD_ENTRY: &str = "session.record_ep_graph_assignment_info";

/// Who runs what of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assignment {
    /// Operators by ONNX Runtime's name of the provider, such as `CPUExecutionProvider`, one entry a node.
    pub(super) operators: BTreeMap<String, Vec<String>>,
}

impl Assignment {
    /// Reads the account of a session that was built with [`RECORD_ENTRY`] set to 1.
    #[expect(
        unsafe_code,
        reason = "ort wraps no call for it; every pointer belongs to the session, which outlives this"
    )]
    pub(super) fn of(session: &Session) -> ort::Result<Self> {
        let api = ort::api();
        let mut operators = BTreeMap::<String, Vec<String>>::new();
        // SAFETY: the calls write the pointers that they are given, and what these point to lives as long as the session.
        unsafe {
            let (mut subgraphs, mut num_subgraphs) = (ptr::null(), 0);
            check((api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &raw mut subgraphs, &raw mut num_subgraphs))?;
            for subgraph in array(subgraphs, num_subgraphs) {
                let mut provider = ptr::null();
                check((api.EpAssignedSubgraph_GetEpName)(*subgraph, &raw mut provider))?;
                let (mut nodes, mut num_nodes) = (ptr::null(), 0);
                check((api.EpAssignedSubgraph_GetNodes)(*subgraph, &raw mut nodes, &raw mut num_nodes))?;
                let taken = operators.entry(text(provider)).or_default();
                for node in array(nodes, num_nodes) {
                    let mut operator = ptr::null();
                    check((api.EpAssignedNode_GetOperatorType)(*node, &raw mut operator))?;
                    taken.push(text(operator));
                }
            }
        }
        Ok(Self { operators })
    }

    /// Nodes by provider.
    pub(super) fn num_nodes(&self) -> BTreeMap<String, usize> {
        self.operators.iter().map(|(provider, operators)| (provider.clone(), operators.len())).collect()
    }

    /// What of the graph `provider` leaves to others, such as `3 of 120 nodes (Foo 2, Bar 1)`; `None` when it takes all.
    pub(super) fn left_by(&self, provider: &str) -> Option<String> {
        let mut left = BTreeMap::<&str, usize>::new();
        for operators in self.operators.iter().filter(|(name, _)| *name != provider).map(|(_, operators)| operators) {
            operators.iter().for_each(|operator| *left.entry(operator).or_default() += 1);
        }
        let (num_left, num_nodes): (usize, usize) = (left.values().sum(), self.operators.values().map(Vec::len).sum());
        let names = left.iter().map(|(operator, count)| format!("{operator} {count}")).collect::<Vec<_>>().join(", ");
        (num_left > 0).then(|| format!("{num_left} of {num_nodes} nodes ({names})"))
    }
}

#[expect(unsafe_code, reason = "a status of the C interface; it is released by `Error`")]
fn check(status: OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: the status is fresh from a call of ONNX Runtime.
    unsafe { ort::Error::result_from_status(status) }
}

/// # Safety
/// `start` points to `count` values, or `count` is 0.
#[expect(unsafe_code, reason = "a counted array of the C interface")]
unsafe fn array<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: by the contract.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// # Safety
/// `text` is null or ends with a zero.
#[expect(unsafe_code, reason = "a string of the C interface")]
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_leaves_is_counted_by_operator() {
        let operators = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let assignment = Assignment {
            operators: BTreeMap::from([
                ("CPUExecutionProvider".to_owned(), operators(&["Shape", "NonZero", "Shape"])),
                ("CUDAExecutionProvider".to_owned(), operators(&["MatMul"; 5])),
            ]),
        };
        let left = assignment.left_by("CUDAExecutionProvider");
        assert_eq!(left.as_deref(), Some("3 of 8 nodes (NonZero 1, Shape 2)"));
        let whole = Assignment { operators: [("CPUExecutionProvider".to_owned(), operators(&["Add"]))].into() };
        assert_eq!(whole.left_by("CPUExecutionProvider"), None);
    }
}
