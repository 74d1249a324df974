//! An environment with the observations that were chosen: state, pixels, depth, segments, an encoder's features; each with a
//! stack of the latest frames.

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{Encoder, EncoderInput, Features, Frame, Preprocessor};

use crate::camera::{Camera, CameraOptions, Segment};
use crate::environment::{Environment, Transition};
use crate::error::SimError;
use crate::task::ActionSpec;

/// One thing to observe, and how it is called.
pub struct Channel {
    /// Such as `wrist`.
    pub name: String,
    /// What.
    pub sight: Sight,
}

/// What can be observed.
pub enum Sight {
    /// What the task observes; its parts are in [`crate::TaskSpec::observations`]. f64.
    State,
    /// `[height, width, 3]`, u8.
    Pixels(CameraOptions),
    /// `[height, width]`, metres, f32.
    Depth(CameraOptions),
    /// `[height, width, 2]`: object's number and type, i32; see [`Segment`].
    Segments(CameraOptions),
    /// `[tokens + 1, dim]`, f32: the class token, then the patch tokens, of what this camera sees.
    Features(CameraOptions, Box<dyn Encoder>),
}

/// What values are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 64-bit floats.
    F64,
    /// 32-bit floats.
    F32,
    /// Bytes.
    U8,
    /// 32-bit integers.
    I32,
}

/// What values a channel takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// The channel's.
    pub name: String,
    /// Of the whole: with a stack of more than 1 its number of frames comes first, the oldest frame first.
    pub shape: Vec<usize>,
    /// Of each value.
    pub element: Element,
    /// Lowest value.
    pub minimum: f64,
    /// Highest value.
    pub maximum: f64,
    /// SI, or `1`; `None` for a state, whose parts have their own.
    pub unit: Option<&'static str>,
}

/// The values of a channel, in the order of its space's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// Of a state.
    F64(&'a [f64]),
    /// Of depth or features.
    F32(&'a [f32]),
    /// Of pixels.
    U8(&'a [u8]),
    /// Of segments.
    I32(&'a [i32]),
}

/// An environment that shows itself through channels. It stays on the thread that made it where a channel has a camera.
///
/// As [`Environment`], it does not reset itself.
pub struct ObservedEnvironment {
    environment: Environment,
    cameras: Vec<Camera>,
    channels: Vec<Open>,
    spaces: Vec<Space>,
}

/// A channel with its buffers.
struct Open {
    view: View,
    /// Values of one frame.
    frame_length: usize,
    stack: Stack,
}

enum View {
    State,
    Pixels { camera: usize },
    Depth { camera: usize },
    Segments { camera: usize, scratch: Vec<Segment> },
    Features { camera: usize, eye: Box<Eye> },
}

/// From a frame to features, as the runtime does it.
struct Eye {
    encoder: Box<dyn Encoder>,
    preprocessor: Preprocessor,
    frame: Frame,
    input: EncoderInput,
    features: Features,
}

/// Frames of one channel, the oldest first.
enum Stack {
    F64(Vec<f64>),
    F32(Vec<f32>),
    U8(Vec<u8>),
    I32(Vec<i32>),
}

impl std::fmt::Debug for ObservedEnvironment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (environment, spaces) = (&self.environment, &self.spaces);
        formatter.debug_struct("ObservedEnvironment").field("environment", environment).field("spaces", spaces).finish()
    }
}

impl ObservedEnvironment {
    /// Opens the cameras that the channels name, one for all channels of the same options. Reset it first.
    ///
    /// # Errors
    /// [`SimError::Option`] for a stack of nothing, no channels or two of one name; as [`Camera::new`];
    /// [`SimError::Encoder`] when an encoder's card does not say how to preprocess.
    pub fn new(environment: Environment, channels: Vec<Channel>, frame_stack: usize) -> Result<Self, SimError> {
        if frame_stack == 0 {
            return Err(SimError::Option { name: "frame_stack", value: "0".to_string(), allowed: "at least 1" });
        }
        let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        if names.is_empty() || (1..names.len()).any(|index| names[..index].contains(&names[index])) {
            let value = format!("{names:?}");
            return Err(SimError::Option {
                name: "channels",
                value,
                allowed: "one or more, each with a name of its own",
            });
        }
        let mut opened = Self { environment, cameras: Vec::new(), channels: Vec::new(), spaces: Vec::new() };
        for Channel { name, sight } in channels {
            opened.open(name, sight, frame_stack)?;
        }
        Ok(opened)
    }

    /// What the channels give, in the order in which they were asked for.
    pub fn spaces(&self) -> &[Space] {
        &self.spaces
    }

    /// What an action is made of.
    pub fn actions(&self) -> &[ActionSpec] {
        &self.environment.spec().actions
    }

    /// The environment itself.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// As [`Environment::reset`]; every frame of a stack shows the first state.
    ///
    /// # Errors
    /// As [`Environment::reset`] and [`Camera::render`]; [`SimError::Encoder`].
    pub fn reset(&mut self, seed: u64) -> Result<(), SimError> {
        self.environment.reset(seed)?;
        self.begin()
    }

    /// As [`Environment::reset_again`].
    ///
    /// # Errors
    /// As [`Self::reset`].
    pub fn reset_again(&mut self) -> Result<(), SimError> {
        self.environment.reset_again()?;
        self.begin()
    }

    /// As [`Environment::step`], then looks.
    ///
    /// # Errors
    /// As [`Environment::step`] and [`Camera::render`]; [`SimError::Encoder`].
    pub fn step(&mut self, action: &[f64]) -> Result<Transition, SimError> {
        let transition = self.environment.step(action)?;
        self.channels.iter_mut().for_each(|channel| channel.stack.age(channel.frame_length));
        self.observe()?;
        Ok(transition)
    }

    /// The values of a channel.
    ///
    /// # Errors
    /// [`SimError::UnknownObservation`].
    pub fn values(&self, name: &str) -> Result<Values<'_>, SimError> {
        let index = self.spaces.iter().position(|space| space.name == name).ok_or_else(|| {
            let known = self.spaces.iter().map(|space| space.name.as_str()).collect::<Vec<_>>().join(", ");
            SimError::UnknownObservation { name: name.to_string(), known }
        })?;
        Ok(self.channels[index].stack.values())
    }

    fn open(&mut self, name: String, sight: Sight, frame_stack: usize) -> Result<(), SimError> {
        let infinite = (f64::NEG_INFINITY, f64::INFINITY);
        let (view, shape, element, (minimum, maximum), unit) = match sight {
            Sight::State => {
                let shape = vec![self.environment.spec().num_observations()];
                (View::State, shape, Element::F64, infinite, None)
            }
            Sight::Pixels(options) => {
                let (camera, [height, width]) = self.camera(&options)?;
                (View::Pixels { camera }, vec![height, width, 3], Element::U8, (0.0, 255.0), Some("1"))
            }
            Sight::Depth(options) => {
                let (camera, [height, width]) = self.camera(&options)?;
                (View::Depth { camera }, vec![height, width], Element::F32, (0.0, f64::INFINITY), Some("m"))
            }
            Sight::Segments(options) => {
                let (camera, [height, width]) = self.camera(&options)?;
                let scratch = vec![Segment::BACKGROUND; height * width];
                let highest = f64::from(i32::MAX);
                (View::Segments { camera, scratch }, vec![height, width, 2], Element::I32, (-1.0, highest), Some("1"))
            }
            Sight::Features(options, encoder) => {
                let (camera, _) = self.camera(&options)?;
                let (eye, shape) = Eye::new(encoder, &options)?;
                (View::Features { camera, eye: Box::new(eye) }, shape, Element::F32, infinite, Some("1"))
            }
        };
        let frame_length: usize = shape.iter().product();
        let shape = if frame_stack > 1 { [vec![frame_stack], shape].concat() } else { shape };
        self.channels.push(Open { view, frame_length, stack: Stack::zeros(element, frame_length * frame_stack) });
        self.spaces.push(Space { name, shape, element, minimum, maximum, unit });
        Ok(())
    }

    /// The camera of these options, opened where it is not yet, and `[height, width]`.
    fn camera(&mut self, options: &CameraOptions) -> Result<(usize, [usize; 2]), SimError> {
        let size = [options.height as usize, options.width as usize];
        if let Some(index) = self.cameras.iter().position(|camera| camera.options() == options) {
            return Ok((index, size));
        }
        self.cameras.push(Camera::new(&self.environment, options)?);
        Ok((self.cameras.len() - 1, size))
    }

    /// Makes every frame of every channel the first.
    fn begin(&mut self) -> Result<(), SimError> {
        self.observe()?;
        self.channels.iter_mut().for_each(|channel| channel.stack.fill(channel.frame_length));
        Ok(())
    }

    /// Writes the newest frame of every channel.
    fn observe(&mut self) -> Result<(), SimError> {
        let Self { environment, cameras, channels, .. } = self;
        for Open { view, frame_length, stack } in channels {
            let length = *frame_length;
            match (view, stack) {
                (View::State, Stack::F64(values)) => newest(values, length).copy_from_slice(environment.observation()),
                (View::Pixels { camera }, Stack::U8(values)) => {
                    cameras[*camera].render(environment, newest(values, length))?;
                }
                (View::Depth { camera }, Stack::F32(values)) => {
                    cameras[*camera].render_depth(environment, newest(values, length))?;
                }
                (View::Segments { camera, scratch }, Stack::I32(values)) => {
                    cameras[*camera].render_segments(environment, scratch)?;
                    let (pairs, _) = newest(values, length).as_chunks_mut::<2>();
                    let objects = scratch.iter().map(|segment| [segment.object_id, segment.object_type]);
                    pairs.iter_mut().zip(objects).for_each(|(pair, object)| *pair = object);
                }
                (View::Features { camera, eye }, Stack::F32(values)) => {
                    eye.look(&mut cameras[*camera], environment, newest(values, length))?;
                }
                // Each view is opened with the stack of its element.
                _ => {}
            }
        }
        Ok(())
    }
}

impl Eye {
    fn new(encoder: Box<dyn Encoder>, options: &CameraOptions) -> Result<(Self, Vec<usize>), SimError> {
        let card = encoder.card();
        let failed = |problem: String| SimError::Encoder { model: card.name.clone(), problem };
        let preprocessing =
            card.preprocessing.as_ref().ok_or_else(|| failed("the card has no preprocessing".to_string()))?;
        let preprocessor = Preprocessor::new(preprocessing).map_err(|error| failed(error.to_string()))?;
        let tokens = card.outputs.iter().find(|output| output.name == "tokens").map(|output| output.shape.as_slice());
        let Some(&[_, num_tokens, dim]) = tokens else {
            return Err(failed("the card has no output `tokens` of [1, N, D]".to_string()));
        };
        let input = EncoderInput::zeros(preprocessing.height, preprocessing.width);
        let frame = Frame::black(options.width, options.height, PixelEncoding::Rgb8);
        let features = Features::zeros(num_tokens, dim);
        Ok((Self { encoder, preprocessor, frame, input, features }, vec![num_tokens + 1, dim]))
    }

    fn look(&mut self, camera: &mut Camera, environment: &mut Environment, values: &mut [f32]) -> Result<(), SimError> {
        camera.render_frame(environment, &mut self.frame)?;
        let encoded = self
            .preprocessor
            .run(&self.frame, &mut self.input)
            .and_then(|()| self.encoder.encode(&self.input, &mut self.features));
        encoded.map_err(|error| self.failed(error.to_string()))?;
        let Features { tokens, cls, .. } = &self.features;
        if cls.len() + tokens.len() != values.len() {
            let found = cls.len() + tokens.len();
            return Err(self.failed(format!("it gave {found} features, but its card says {}", values.len())));
        }
        let (class, patches) = values.split_at_mut(cls.len());
        class.copy_from_slice(cls);
        patches.copy_from_slice(tokens);
        Ok(())
    }

    fn failed(&self, problem: String) -> SimError {
        SimError::Encoder { model: self.encoder.card().name.clone(), problem }
    }
}

impl Stack {
    fn zeros(element: Element, num_values: usize) -> Self {
        match element {
            Element::F64 => Self::F64(vec![0.0; num_values]),
            Element::F32 => Self::F32(vec![0.0; num_values]),
            Element::U8 => Self::U8(vec![0; num_values]),
            Element::I32 => Self::I32(vec![0; num_values]),
        }
    }

    /// Drops the oldest frame; the newest is then in twice.
    fn age(&mut self, frame_length: usize) {
        match self {
            Self::F64(values) => values.copy_within(frame_length.., 0),
            Self::F32(values) => values.copy_within(frame_length.., 0),
            Self::U8(values) => values.copy_within(frame_length.., 0),
            Self::I32(values) => values.copy_within(frame_length.., 0),
        }
    }

    /// Makes every frame the newest.
    fn fill(&mut self, frame_length: usize) {
        match self {
            Self::F64(values) => repeat_newest(values, frame_length),
            Self::F32(values) => repeat_newest(values, frame_length),
            Self::U8(values) => repeat_newest(values, frame_length),
            Self::I32(values) => repeat_newest(values, frame_length),
        }
    }

    fn values(&self) -> Values<'_> {
        match self {
            Self::F64(values) => Values::F64(values),
            Self::F32(values) => Values::F32(values),
            Self::U8(values) => Values::U8(values),
            Self::I32(values) => Values::I32(values),
        }
    }
}

fn newest<T>(values: &mut [T], frame_length: usize) -> &mut [T] {
    let start = values.len() - frame_length;
    &mut values[start..]
}

fn repeat_newest<T: Copy>(values: &mut [T], frame_length: usize) {
    let (older, newest) = values.split_at_mut(values.len() - frame_length);
    older.chunks_exact_mut(frame_length.max(1)).for_each(|frame| frame.copy_from_slice(newest));
}
