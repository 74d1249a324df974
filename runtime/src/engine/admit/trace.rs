//! Follows the image through a graph: which operators make the patches and on what grid, and which dimension holds the channels.
//!
//! Shapes come from the engine: the graph is run once with a `Shape` node on every value on the way, so that nothing is guessed from
//! sizes that happen to divide each other.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::onnx::{OnnxNode, OnnxSummary, ShapeProbe};

/// Most class, distillation and register tokens before the patches'.
pub(super) const MAX_PREFIX_TOKENS: usize = 16;
/// Nodes that are followed backwards from an output before the channels count as unknown.
const MAX_STEPS: usize = 10_000;

/// A graph seen from its image.
pub(super) struct Trace<'a> {
    summary: &'a OnnxSummary,
    producers: HashMap<&'a str, &'a OnnxNode>,
    /// Values that depend on the image's pixels, and not only on its size.
    from_image: HashSet<&'a str>,
    image: &'a str,
}

/// Patches down and across, and the operator that makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PatchGrid {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Such as ``Conv `patch_embed` ``.
    operator: String,
}

/// Shapes of values on the way from the image to an output.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

impl<'a> Trace<'a> {
    pub(super) fn new(summary: &'a OnnxSummary, image: &'a str) -> Self {
        let mut from_image = HashSet::from([image]);
        for node in &summary.nodes {
            let is_size = matches!(node.operator.as_str(), "Shape" | "Size");
            if !is_size && node.reads().iter().any(|value| from_image.contains(value)) {
                from_image.extend(node.outputs.iter().map(String::as_str));
            }
        }
        Self { summary, producers: summary.producers(), from_image, image }
    }

    pub(super) fn summary(&self) -> &'a OnnxSummary {
        self.summary
    }

    /// The image's dimension that the first convolution takes as channels; nothing where the way there is not plain.
    pub(super) fn channels_of_image(&self) -> Option<usize> {
        let is_patching = |node: &&OnnxNode| {
            matches!(node.operator.as_str(), "Conv" | "SpaceToDepth" | "MaxPool" | "AveragePool" | "QLinearConv")
        };
        let nodes = self.summary.nodes.iter().filter(is_patching);
        let first = nodes.into_iter().find(|node| self.data_input(node).is_some())?;
        let (mut value, mut axis) = (self.data_input(first)?, 1);
        for _ in 0..MAX_STEPS {
            if value == self.image {
                return Some(axis);
            }
            let node = self.producers.get(value)?;
            match node.operator.as_str() {
                "Transpose" => axis = source_axis(node, axis)?,
                "Reshape" | "Einsum" | "MatMul" | "Gemm" | "Flatten" | "Squeeze" | "Unsqueeze" => return None,
                _ => {}
            }
            value = self.data_input(node)?;
        }
        None
    }

    /// The graph's own bytes with a `Shape` node on every value on the way to this output.
    pub(super) fn probes(&self, output: &str) -> ShapeProbe {
        let way = self.way_to(output);
        let mut values: Vec<&str> = vec![self.image];
        values.extend(way.iter().flat_map(|node| &node.outputs).map(String::as_str).filter(|value| !value.is_empty()));
        ShapeProbe::new(&values)
    }

    /// The dimension of this output that holds the channels.
    pub(super) fn channels_of(&self, output: &str, shapes: &Shapes) -> Option<usize> {
        // Back from the output through what keeps or moves dimensions, then forth again.
        let (mut value, mut way) = (output, Vec::new());
        let mut axis = loop {
            let node = *self.producers.get(value).filter(|_| way.len() < MAX_STEPS)?;
            if let Some(axis) = self.channels_made_by(node, shapes.get(value)?.len()) {
                break axis;
            }
            let input = match node.operator.as_str() {
                "Transpose" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.data_input(node)?,
                "Einsum" | "MatMul" | "Gemm" => return None,
                _ => self.same_rank_input(node, shapes.get(value)?.len(), shapes)?,
            };
            way.push((node, input, value));
            value = input;
        };
        for (node, input, value) in way.into_iter().rev() {
            axis = match node.operator.as_str() {
                "Transpose" => (0..shapes.get(value)?.len()).find(|to| source_axis(node, *to) == Some(axis))?,
                "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => moved(shapes.get(input)?, shapes.get(value)?, axis)?,
                _ => axis,
            };
        }
        Some(axis)
    }

    /// The channels' dimension, where the operator itself decides it.
    fn channels_made_by(&self, node: &OnnxNode, rank: usize) -> Option<usize> {
        let last = rank.checked_sub(1)?;
        match node.operator.as_str() {
            "Conv"
            | "ConvTranspose"
            | "ConvInteger"
            | "QLinearConv"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "MaxPool"
            | "AveragePool"
            | "LRN"
            | "DepthToSpace"
            | "SpaceToDepth" => Some(1),
            "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
                let axis = node.integers.get("axis").and_then(|axis| axis.first()).copied().unwrap_or(-1);
                let is_last = axis == -1 || usize::try_from(axis) == Ok(last);
                is_last.then_some(last)
            }
            "MatMul" | "Gemm" | "MatMulInteger" | "QLinearMatMul" => {
                let weight = if node.operator == "QLinearMatMul" { 3 } else { 1 };
                let is_weight =
                    node.inputs.get(weight).is_some_and(|weight| !self.from_image.contains(weight.as_str()));
                is_weight.then_some(last)
            }
            _ => None,
        }
    }

    /// Grids of patches that operators on the way to this output make of the image.
    fn grids(&self, output: &str, shapes: &Shapes) -> Vec<PatchGrid> {
        let mut grids: Vec<PatchGrid> = Vec::new();
        for node in self.way_to(output) {
            let shape_of = |value: Option<&str>| value.and_then(|value| shapes.get(value)).map(Vec::as_slice);
            let given = shape_of(self.data_input(node)).unwrap_or_default();
            let made = shape_of(node.outputs.first().map(String::as_str)).unwrap_or_default();
            let grid = match (node.operator.as_str(), given, made) {
                (
                    "Conv" | "ConvInteger" | "QLinearConv" | "MaxPool" | "AveragePool" | "SpaceToDepth",
                    _,
                    &[_, _, rows, columns],
                ) => [rows, columns],
                // The image cut into patches: `h p` and `w p` out of the height and the width.
                ("Reshape", &[_, 3, height, width], &[_, 3, rows, down, columns, across])
                | ("Reshape", &[_, height, width, 3], &[_, rows, down, columns, across, 3])
                    if rows * down == height && columns * across == width =>
                {
                    [rows, columns]
                }
                // PyTorch's `unfold`: positions in a patch, then patches.
                ("Gather", &[_, 3, _, _, _], &[_, 3, _, rows, _, columns]) => [rows, columns],
                _ => continue,
            };
            let [rows, columns] = grid;
            let operator = format!("{} `{}`", node.operator, node.label());
            if rows * columns > 0 && grids.iter().all(|known| [known.rows, known.columns] != grid) {
                grids.push(PatchGrid { rows, columns, operator });
            }
        }
        grids
    }

    /// How many rows of the output come before the patches', and the patches' grid.
    ///
    /// # Errors
    /// Why the graph leaves it open, and what to give.
    pub(super) fn prefix_of(
        &self,
        output: &str,
        num_rows: usize,
        shapes: &Shapes,
    ) -> Result<(usize, PatchGrid), String> {
        let ask = "give --prefix-tokens N, the number of class, distillation and register tokens before the patches (0 when every row is a patch)";
        let grids = self.grids(output, shapes);
        let named = |grids: &[PatchGrid]| grids.iter().map(PatchGrid::describe).collect::<Vec<_>>().join(", ");
        let mut fitting = Vec::new();
        for grid in &grids {
            let Some(prefix) = num_rows.checked_sub(grid.rows * grid.columns) else { continue };
            match self.joined(output, grid.rows * grid.columns, shapes) {
                _ if prefix == 0 => fitting.push((prefix, grid.clone())),
                Some(Joined::After) => {
                    return Err(format!(
                        "output `{output}` has {num_rows} rows, and the graph puts tokens behind the patches ({}); export it with the patches last, or give out the patches alone",
                        grid.describe()
                    ));
                }
                Some(Joined::Before) if prefix <= MAX_PREFIX_TOKENS => fitting.push((prefix, grid.clone())),
                _ => {}
            }
        }
        match fitting.as_slice() {
            [only] => Ok(only.clone()),
            [] if grids.is_empty() => Err(format!(
                "output `{output}` has {num_rows} rows, and no operator of the graph that cuts the image into patches (Conv with a stride, SpaceToDepth, Reshape) was found on the way to it; {ask}"
            )),
            [] => Err(format!(
                "output `{output}` has {num_rows} rows, which do not follow from the patches of the graph ({}); {ask}",
                named(&grids)
            )),
            several => {
                let grids: Vec<PatchGrid> = several.iter().map(|(_, grid)| grid.clone()).collect();
                Err(format!(
                    "output `{output}` has {num_rows} rows, and several grids of patches fit ({}); {ask}",
                    named(&grids)
                ))
            }
        }
    }

    /// The grid of this many patches, when the graph has one.
    pub(super) fn grid_of(&self, output: &str, num_patches: usize, shapes: &Shapes) -> Option<PatchGrid> {
        self.grids(output, shapes).into_iter().rev().find(|grid| grid.rows * grid.columns == num_patches)
    }

    /// Where an operator puts further rows to so many patches; nothing when none does.
    fn joined(&self, output: &str, num_patches: usize, shapes: &Shapes) -> Option<Joined> {
        let rows_of = |value: &str| match shapes.get(value).map(Vec::as_slice) {
            Some(&[1, rows, _] | &[rows, 1, _]) => Some(rows),
            _ => None,
        };
        for node in self.way_to(output).into_iter().filter(|node| matches!(node.operator.as_str(), "Concat" | "Pad")) {
            let made = node.outputs.first().and_then(|value| rows_of(value));
            let patches = node.inputs.iter().position(|value| rows_of(value) == Some(num_patches));
            let (Some(made), Some(patches)) = (made, patches) else { continue };
            if made > num_patches {
                let is_last = node.operator == "Pad" || patches + 1 == node.inputs.len();
                return Some(if is_last { Joined::Before } else { Joined::After });
            }
        }
        None
    }

    /// Nodes between the image and this output, in graph order.
    fn way_to(&self, output: &str) -> Vec<&'a OnnxNode> {
        let (mut values, mut needed) = (vec![output], HashSet::new());
        while let Some(value) = values.pop() {
            if let Some(node) = self.producers.get(value).filter(|_| needed.insert(value.to_owned())) {
                values.extend(node.reads());
            }
        }
        let is_on_way = |node: &&OnnxNode| {
            node.outputs.iter().any(|value| needed.contains(value) && self.from_image.contains(value.as_str()))
        };
        self.summary.nodes.iter().filter(is_on_way).collect()
    }

    /// The first input that depends on the image.
    fn data_input(&self, node: &'a OnnxNode) -> Option<&'a str> {
        node.inputs.iter().map(String::as_str).find(|value| self.from_image.contains(value))
    }

    fn same_rank_input(&self, node: &'a OnnxNode, rank: usize, shapes: &Shapes) -> Option<&'a str> {
        let mut inputs = node.inputs.iter().map(String::as_str).filter(|value| self.from_image.contains(value));
        inputs.find(|value| shapes.get(*value).is_some_and(|shape| shape.len() == rank))
    }
}

/// Where rows that are no patches lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joined {
    Before,
    After,
}

impl PatchGrid {
    pub(super) fn describe(&self) -> String {
        format!("{}x{} by {}", self.rows, self.columns, self.operator)
    }
}

/// Which dimension of its input a `Transpose` puts here.
fn source_axis(node: &OnnxNode, axis: usize) -> Option<usize> {
    usize::try_from(*node.integers.get("perm")?.get(axis)?).ok()
}

/// Where a `Reshape` leaves a dimension; nothing when it is cut or merged.
fn moved(from: &[usize], to: &[usize], axis: usize) -> Option<usize> {
    let before = |shape: &[usize], axis: usize| shape.iter().take(axis).product::<usize>();
    let size = from.get(axis)?;
    (0..to.len()).find(|place| to.get(*place) == Some(size) && before(to, *place) == before(from, axis))
}
