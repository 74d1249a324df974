//! Where training runs, and in which numbers its matrix products are computed.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, FloatDType};

use crate::error::ModelsError;

/// What `--device` may name.
const KNOWN: &str = "flex (this CPU), tch:cpu, tch:N (the N-th CUDA card through PyTorch's libtorch) or vulkan:N";

/// A device by name. Every build has `flex`; the features `tch` and `vulkan` of this crate add the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainingDevice {
    /// This CPU, by the framework's own kernels and ours: the same numbers on every run.
    #[default]
    Flex,
    /// This CPU, by libtorch.
    TchCpu,
    /// A CUDA card, by libtorch.
    Tch(usize),
    /// A graphics card, by Vulkan.
    Vulkan(usize),
}

/// In which numbers matrix products are computed. Weights, moments, norms, softmax and losses are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// As the weights are.
    #[default]
    F32,
    /// Factors are rounded to bf16 first, gradients' factors too (what PyTorch calls autocast); its range is that of f32, so nothing is
    /// scaled.
    Bf16,
}

/// What a training step runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compute {
    /// Where the shards of a batch run, dealt in turn; at least one.
    pub devices: Vec<TrainingDevice>,
    /// Of the matrix products.
    pub arithmetic: Arithmetic,
}

impl Default for Compute {
    /// This CPU, in f32.
    fn default() -> Self {
        Self { devices: vec![TrainingDevice::Flex], arithmetic: Arithmetic::F32 }
    }
}

impl Compute {
    /// Opens the devices, recording gradients.
    pub(crate) fn open(&self) -> Result<Vec<Device>, ModelsError> {
        if self.devices.is_empty() {
            return Err(ModelsError::Training("there is no device to train on; name one, such as flex".to_string()));
        }
        self.devices.iter().map(|device| device.open(self.arithmetic)).collect()
    }
}

impl FromStr for TrainingDevice {
    type Err = ModelsError;

    fn from_str(name: &str) -> Result<Self, ModelsError> {
        let unknown = || ModelsError::Device { name: name.to_string(), problem: format!("is unknown; give {KNOWN}") };
        match name.split_once(':') {
            None if name == "flex" => Ok(Self::Flex),
            Some(("tch", "cpu")) => Ok(Self::TchCpu),
            Some(("tch", number)) => number.parse().map(Self::Tch).map_err(|_| unknown()),
            Some(("vulkan", number)) => number.parse().map(Self::Vulkan).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for TrainingDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::TchCpu => f.write_str("tch:cpu"),
            Self::Tch(number) => write!(f, "tch:{number}"),
            Self::Vulkan(number) => write!(f, "vulkan:{number}"),
        }
    }
}

impl FromStr for Arithmetic {
    type Err = ModelsError;

    fn from_str(name: &str) -> Result<Self, ModelsError> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(ModelsError::Training(format!("arithmetic {name} is unknown; give f32 or bf16"))),
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl TrainingDevice {
    /// Whether a shard is a thread of this CPU; elsewhere it is a device.
    pub fn is_flex(self) -> bool {
        self == Self::Flex
    }

    /// Opens the device, recording gradients.
    fn open(self, arithmetic: Arithmetic) -> Result<Device, ModelsError> {
        let device = match self {
            Self::Flex => Device::flex(),
            Self::TchCpu => tch(None).map_err(|problem| self.fail(problem))?,
            Self::Tch(number) => tch(Some(number)).map_err(|problem| self.fail(problem))?,
            Self::Vulkan(number) => vulkan(number).map_err(|problem| self.fail(problem))?,
        };
        // The CPU device stores bf16 and computes it value by value: slower than f32, and our kernels read f32 alone.
        if arithmetic == Arithmetic::Bf16 && (self.is_flex() || !device.supports_dtype(FloatDType::BF16)) {
            return Err(self.fail("computes no bf16; train in f32 there".to_string()));
        }
        Ok(device.autodiff())
    }

    fn fail(self, problem: String) -> ModelsError {
        ModelsError::Device { name: self.to_string(), problem }
    }
}

#[cfg(feature = "tch")]
#[expect(
    deprecated,
    reason = "the one way to a CUDA card that builds without a download; burn says no date for its end"
)]
fn tch(number: Option<usize>) -> Result<Device, String> {
    use burn::tensor::DeviceType;

    let Some(number) = number else { return Ok(Device::libtorch()) };
    let count = Device::enumerate(DeviceType::LibTorch).len();
    if number < count {
        return Ok(Device::libtorch_cuda(number));
    }
    Err(format!(
        "libtorch finds {count} CUDA cards; nvidia-smi lists this machine's, and libtorch_cuda.so must be loaded with the program \
        (launch/gpu/pretrain does it)"
    ))
}

#[cfg(not(feature = "tch"))]
fn tch(_: Option<usize>) -> Result<Device, String> {
    Err(lacks("tch"))
}

#[cfg(feature = "vulkan")]
fn vulkan(number: usize) -> Result<Device, String> {
    use burn::tensor::DeviceType;

    let devices: Vec<Device> = Device::enumerate(DeviceType::Vulkan).into_iter().collect();
    let count = devices.len();
    let no_such = || format!("Vulkan finds {count} devices; vulkaninfo --summary lists this machine's");
    devices.into_iter().nth(number).ok_or_else(no_such)
}

#[cfg(not(feature = "vulkan"))]
fn vulkan(_: usize) -> Result<Device, String> {
    Err(lacks("vulkan"))
}

#[cfg(not(all(feature = "tch", feature = "vulkan")))]
fn lacks(feature: &str) -> String {
    format!(
        "this build has no {feature}; build with the feature {feature}, see launch/doc/training.md, or train on flex"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_round_trip_and_bad_ones_are_told() {
        for name in ["flex", "tch:cpu", "tch:0", "tch:13", "vulkan:1"] {
            assert_eq!(name.parse::<TrainingDevice>().map(|device| device.to_string()).ok().as_deref(), Some(name));
        }
        for name in ["", "cuda", "flex:0", "tch", "tch:", "tch:-1", "tch:x", "vulkan:cpu", "tch:0:1"] {
            let problem = name.parse::<TrainingDevice>().map_err(|error| error.to_string());
            assert!(problem.is_err_and(|line| line.contains("is unknown; give flex")), "{name}");
        }
    }

    #[test]
    fn what_a_build_or_machine_lacks_is_an_error_that_says_so() {
        let problem = |device: TrainingDevice, arithmetic| device.open(arithmetic).err().map(|error| error.to_string());
        assert!(problem(TrainingDevice::Flex, Arithmetic::F32).is_none());
        let bf16 = problem(TrainingDevice::Flex, Arithmetic::Bf16).unwrap_or_default();
        assert!(bf16.contains("device flex: computes no bf16"), "{bf16}");
        let wanted = if cfg!(feature = "tch") { "CUDA cards" } else { "this build has no tch" };
        let tch = problem(TrainingDevice::Tch(999), Arithmetic::F32).unwrap_or_default();
        assert!(tch.contains(wanted), "{tch}");
    }
}
