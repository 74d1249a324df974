//! Finds image and features in a foreign graph: by number and size of dimensions first, by usual names where several fit.

use super::explore::Exploration;
use super::trace::{Shapes, Trace};
use super::{AdmitOptions, ClassTokenChoice};
use crate::card::{ClassToken, ElementType, EncoderInterface, ImageLayout, PreprocessingCard, TensorCard, TokenLayout};
use crate::onnx::{OnnxAxis, OnnxSummary, OnnxTensor, type_name};

/// `TensorProto.DataType` of the inputs that are understood.
const DATA_FLOAT: i32 = 1;
const DATA_FLOAT16: i32 = 10;

/// The one input, which must be an image.
pub(super) fn image_of(summary: &OnnxSummary) -> Result<&OnnxTensor, String> {
    let names = || summary.inputs.iter().map(|input| format!("`{}`", input.name)).collect::<Vec<_>>().join(", ");
    let [image] = summary.inputs.as_slice() else {
        return Err(format!(
            "has {} inputs ({}) where an encoder has one, the image; export it with the others fixed",
            summary.inputs.len(),
            names()
        ));
    };
    if ![DATA_FLOAT, DATA_FLOAT16].contains(&image.data_type) {
        let (name, found) = (&image.name, type_name(image.data_type));
        return Err(format!("input `{name}` is {found}, and f32 and f16 are understood; export it with a float input"));
    }
    match &image.shape {
        Some(axes) if axes.len() != 4 => {
            let (name, count) = (&image.name, axes.len());
            Err(format!("input `{name}` has {count} dimensions where an image has 4: [1, 3, H, W] or [1, H, W, 3]"))
        }
        _ => Ok(image),
    }
}

/// Height and width, where the graph has both.
pub(super) fn sizes_of(summary: &OnnxSummary, image: &OnnxTensor) -> Result<Option<(usize, usize)>, String> {
    let fixed = |axis: usize| match image.shape.as_ref().and_then(|axes| axes.get(axis)) {
        Some(OnnxAxis::Fixed(size)) => Some(*size),
        _ => None,
    };
    Ok(match layout_of(summary, image, None)? {
        ImageLayout::Nchw => fixed(2).zip(fixed(3)),
        ImageLayout::Nhwc => fixed(1).zip(fixed(2)),
    })
}

/// The order of the image's dimensions: by the 3 channels that the graph declares, else by its first convolution.
///
/// # Errors
/// When the input is no image of 3 channels, or the graph leaves the order open.
pub(super) fn layout_of(
    summary: &OnnxSummary,
    image: &OnnxTensor,
    wanted: Option<ImageLayout>,
) -> Result<ImageLayout, String> {
    let channels = |axis: usize| match image.shape.as_ref().and_then(|axes| axes.get(axis)) {
        Some(OnnxAxis::Fixed(size)) => Some(*size),
        _ => None,
    };
    let can = |axis: usize| channels(axis).is_none_or(|size| size == 3);
    let possible: Vec<(ImageLayout, usize)> = [(ImageLayout::Nchw, 1), (ImageLayout::Nhwc, 3)]
        .into_iter()
        .filter(|(possible, axis)| can(*axis) && wanted.is_none_or(|wanted| wanted == *possible))
        .collect();
    // A graph that fixes 3 channels in one place means that one.
    let sure: Vec<ImageLayout> =
        possible.iter().filter(|(_, axis)| channels(*axis) == Some(3)).map(|(layout, _)| *layout).collect();
    match (sure.as_slice(), possible.as_slice()) {
        (_, []) => {
            let wanted =
                wanted.map_or_else(String::new, |layout| format!(" as {}", format!("{layout:?}").to_uppercase()));
            Err(format!("input `{}` {} is no image of 3 channels{wanted}", image.name, describe_shape(image)))
        }
        ([only], _) | ([], [(only, _)]) => Ok(*only),
        _ => {
            let axis = Trace::new(summary, &image.name).channels_of_image();
            let derived = possible.iter().find(|(_, channels)| axis == Some(*channels));
            derived.map(|(layout, _)| *layout).ok_or_else(|| {
                format!(
                    "input `{}` {} leaves open which dimension holds the channels, and no convolution tells; give --layout nchw or --layout nhwc",
                    image.name,
                    describe_shape(image)
                )
            })
        }
    }
}

pub(super) fn image_card(
    image: &OnnxTensor,
    layout: ImageLayout,
    options: &AdmitOptions,
) -> Result<TensorCard, String> {
    let PreprocessingCard { width, height, .. } = options.preprocessing;
    let shape = match layout {
        ImageLayout::Nchw => [1, 3, height, width],
        ImageLayout::Nhwc => [1, height, width, 3],
    };
    for (axis, size) in image.shape.iter().flatten().zip(shape) {
        match axis {
            OnnxAxis::Fixed(fixed) if *fixed != size => {
                return Err(format!(
                    "input `{}` is {}, and an image of {width}x{height} would be {shape:?}; give --image HEIGHTxWIDTH as the graph has it, or export it with batch 1 or open dimensions",
                    image.name,
                    describe_shape(image)
                ));
            }
            _ => {}
        }
    }
    let element = if image.data_type == DATA_FLOAT16 { ElementType::F16 } else { ElementType::F32 };
    Ok(TensorCard { element, ..TensorCard::f32(&image.name, &shape) })
}

fn describe_shape(tensor: &OnnxTensor) -> String {
    let Some(axes) = &tensor.shape else { return "of unknown shape".to_owned() };
    let axis = |axis: &OnnxAxis| match axis {
        OnnxAxis::Fixed(size) => size.to_string(),
        OnnxAxis::Dynamic(name) if name.is_empty() => "?".to_owned(),
        OnnxAxis::Dynamic(name) => name.clone(),
    };
    format!("[{}]", axes.iter().map(axis).collect::<Vec<_>>().join(", "))
}

pub(super) fn describe_input(image: &OnnxTensor, layout: ImageLayout) -> String {
    let order = if layout == ImageLayout::Nchw { "NCHW" } else { "NHWC" };
    format!("image: input `{}` {} {}, {order}", image.name, describe_shape(image), type_name(image.data_type))
}

/// What the features are found in.
pub(super) struct Found<'a> {
    pub(super) exploration: &'a Exploration,
    pub(super) trace: &'a Trace<'a>,
    pub(super) options: &'a AdmitOptions,
}

/// Rows of tokens: how they lie, how many come before the patches', and the patches' grid as far as it is known.
struct TokenRows {
    layout: TokenLayout,
    num_rows: usize,
    dim: usize,
    num_prefix_tokens: usize,
    grid: Option<[usize; 2]>,
    /// For people.
    source: String,
}

/// Which outputs are the features.
pub(super) fn interface_of(
    (image, layout): (&OnnxTensor, ImageLayout),
    found: &Found<'_>,
    shapes_of: impl FnOnce(&str) -> Shapes,
    notes: &mut Vec<String>,
) -> Result<EncoderInterface, String> {
    let tokens = tokens_of(found.exploration, found.options)?;
    // What is wrong with the output itself comes before what cannot be read off its shape.
    found.exploration.judge(&[&tokens.name], found.trace.summary())?;
    let shapes = shapes_of(&tokens.name);
    let rows = token_rows(tokens, found, &shapes)?;
    let TokenRows { num_prefix_tokens, num_rows, dim, .. } = rows;
    let is_first = num_prefix_tokens > 0 || rows.layout == TokenLayout::Pooled;
    let cls = class_token(found.exploration, &found.options.cls, (tokens, dim), is_first)?;
    notes.push(format!(
        "tokens: output `{}` {:?}: {} patches of {dim} values behind {num_prefix_tokens} other tokens{}",
        tokens.name,
        tokens.shape,
        num_rows - num_prefix_tokens.min(num_rows),
        rows.source
    ));
    notes.push(match &cls {
        ClassToken::Row(row) => format!("class token: row {row} of `{}`", tokens.name),
        ClassToken::Output(name) => format!("class token: output `{name}`"),
        ClassToken::Mean => "class token: none; the mean over the tokens stands for it".to_owned(),
    });
    notes.extend(found.exploration.passed_over(&tokens.name, &cls));
    let (image, tokens) = (image.name.clone(), tokens.name.clone());
    let (token_layout, grid) = (rows.layout, rows.grid);
    Ok(EncoderInterface { image, layout, tokens, token_layout, num_prefix_tokens, grid, cls })
}

fn token_rows(tokens: &TensorCard, found: &Found<'_>, shapes: &Shapes) -> Result<TokenRows, String> {
    let (trace, options, name) = (found.trace, found.options, tokens.name.as_str());
    let map = |layout, [rows, columns, dim]: [usize; 3]| TokenRows {
        layout,
        num_rows: rows * columns,
        dim,
        num_prefix_tokens: 0,
        grid: Some([rows, columns]),
        source: format!(", a map of {rows}x{columns}"),
    };
    match *tokens.shape.as_slice() {
        [1, num_rows, dim] => {
            if trace.channels_of(name, shapes) == Some(1) {
                return Err(format!(
                    "output `{name}` {:?} has its channels before its rows; export it transposed, as [1, rows, channels]",
                    tokens.shape
                ));
            }
            let (num_prefix_tokens, grid) = match options.num_prefix_tokens {
                Some(given) => (given, trace.grid_of(name, num_rows.saturating_sub(given), shapes)),
                None => {
                    let (prefix, grid) = trace.prefix_of(name, num_rows, shapes)?;
                    (prefix, Some(grid))
                }
            };
            let source = match (&grid, options.num_prefix_tokens) {
                (Some(grid), _) => format!(", {}", grid.describe()),
                (None, Some(_)) => ", as --prefix-tokens gives it".to_owned(),
                (None, None) => String::new(),
            };
            let grid = grid.map(|grid| [grid.rows, grid.columns]);
            Ok(TokenRows { layout: TokenLayout::Rows, num_rows, dim, num_prefix_tokens, grid, source })
        }
        [1, first, second, third] => match (options.token_layout, trace.channels_of(name, shapes)) {
            (Some(TokenLayout::ChannelsFirst), _) | (None, Some(1)) => {
                Ok(map(TokenLayout::ChannelsFirst, [second, third, first]))
            }
            (Some(TokenLayout::ChannelsLast), _) | (None, Some(3)) => {
                Ok(map(TokenLayout::ChannelsLast, [first, second, third]))
            }
            _ => Err(format!(
                "output `{name}` {:?} is a map, and the graph does not tell which dimension holds its channels; give --map channels-first ([1, D, h, w]) or --map channels-last ([1, h, w, D])",
                tokens.shape
            )),
        },
        [1, dim] => Ok(TokenRows {
            layout: TokenLayout::Pooled,
            num_rows: 1,
            dim,
            num_prefix_tokens: 0,
            grid: Some([1, 1]),
            source: ", pooled".to_owned(),
        }),
        _ => Err(format!("output `{name}` {:?} is neither tokens nor a feature map; give --tokens NAME", tokens.shape)),
    }
}

/// Where the class token is; `is_first` when the first row is none of the patches'.
fn class_token(
    found: &Exploration,
    choice: &ClassTokenChoice,
    (tokens, dim): (&TensorCard, usize),
    is_first: bool,
) -> Result<ClassToken, String> {
    // What is not named must be usable.
    let pooled = |name: Option<&str>| {
        let outputs = found.outputs.iter().filter(|output| name.is_some() || output.problem().is_none());
        outputs.map(|output| &output.card).find(|card| {
            card.shape == [1, dim] && card.name != tokens.name && name.is_none_or(|name| card.name == name)
        })
    };
    Ok(match (choice, pooled(None)) {
        (ClassTokenChoice::Output(name), _) => match pooled(Some(name)) {
            Some(card) => ClassToken::Output(card.name.clone()),
            None => {
                return Err(format!(
                    "has no output `{name}` of shape [1, {dim}] for the class token; outputs: {}",
                    found.describe()
                ));
            }
        },
        (ClassTokenChoice::First, _) => ClassToken::Row(0),
        (ClassTokenChoice::Mean, _) => ClassToken::Mean,
        (ClassTokenChoice::Found, Some(card)) => ClassToken::Output(card.name.clone()),
        (ClassTokenChoice::Found, None) if is_first => ClassToken::Row(0),
        (ClassTokenChoice::Found, None) => ClassToken::Mean,
    })
}

/// The output that holds the tokens: the named one, else the only usable one with most structure (rows, feature map, pooled).
fn tokens_of<'a>(found: &'a Exploration, options: &AdmitOptions) -> Result<&'a TensorCard, String> {
    if let Some(name) = &options.tokens {
        let named = found.outputs.iter().find(|output| output.card.name == *name);
        return named
            .map(|output| &output.card)
            .ok_or_else(|| format!("has no floating output `{name}`; outputs: {}", found.describe()));
    }
    for rank in [3, 4, 2] {
        // What is the same for two images holds no features.
        let of_rank = || found.outputs.iter().filter(|output| output.card.shape.len() == rank && !output.is_constant);
        let usable: Vec<&TensorCard> =
            of_rank().filter(|output| output.problem().is_none()).map(|output| &output.card).collect();
        match usable.as_slice() {
            [] => {
                // Its problem is the one to report.
                if let Some(broken) = of_rank().next() {
                    return Ok(&broken.card);
                }
            }
            [only] => return Ok(only),
            // The names of our own exports and of the libraries that most encoders come from.
            several => {
                let usual = ["tokens", "last_hidden_state", "x_norm_patchtokens", "patch_tokens", "features"];
                let named = usual.iter().find_map(|name| several.iter().find(|card| card.name == *name));
                return named.copied().ok_or_else(|| {
                    format!("has several outputs that could be the tokens; give --tokens NAME: {}", found.describe())
                });
            }
        }
    }
    let constant = found.outputs.iter().find(|output| output.is_constant);
    match constant {
        Some(output) => Err(format!(
            "gives the same `{}` for two images: it does not depend on them; export the encoder again",
            output.card.name
        )),
        None => Err(format!("has no output that could be tokens; outputs: {}", found.describe())),
    }
}
