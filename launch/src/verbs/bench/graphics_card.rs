//! A graphics card as `nvidia-smi` tells it.

use std::process::Command;

/// Dense peaks of NVIDIA's data sheets in TFLOP/s: part of the name, f32 outside the tensor cores, bf16 in them. The first that fits counts.
const PEAKS: &[(&str, f64, f64)] = &[
    ("B200", 75.0, 2250.0),
    ("H200", 67.0, 989.0),
    ("H100 PCIe", 51.0, 756.0),
    ("H100 NVL", 60.0, 835.0),
    ("H100", 67.0, 989.0),
    ("A100", 19.5, 312.0),
    ("L40S", 91.6, 362.0),
    ("L4", 30.3, 121.0),
    ("RTX 4090", 82.6, 165.2),
];

/// One card.
pub(super) struct GraphicsCard {
    idx: usize,
    pub(super) name: String,
}

impl GraphicsCard {
    /// Card `idx`, if `nvidia-smi` knows it.
    pub(super) fn find(idx: usize) -> Option<Self> {
        Some(Self { idx, name: query(idx, "name")? })
    }

    /// Memory in use by all processes.
    pub(super) fn used_mib(&self) -> Option<f64> {
        query(self.idx, "memory.used")?.parse().ok()
    }

    /// What it can do at most in these numbers, TFLOP/s.
    pub(super) fn peak_tflops(&self, is_bf16: bool) -> Option<f64> {
        peak_of(&self.name, is_bf16)
    }
}

fn peak_of(name: &str, is_bf16: bool) -> Option<f64> {
    let (_, f32_peak, bf16_peak) = PEAKS.iter().find(|(part, ..)| name.contains(part))?;
    Some(if is_bf16 { *bf16_peak } else { *f32_peak })
}

fn query(idx: usize, field: &str) -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.args([&format!("--id={idx}"), &format!("--query-gpu={field}"), "--format=csv,noheader,nounits"]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_go_by_the_most_telling_part_of_the_name() {
        assert_eq!(peak_of("NVIDIA H100 80GB HBM3", true), Some(989.0));
        assert_eq!(peak_of("NVIDIA H100 PCIe", false), Some(51.0));
        assert_eq!(peak_of("NVIDIA L40S", true), Some(362.0));
        assert_eq!(peak_of("NVIDIA L4", true), Some(121.0));
        assert_eq!(peak_of("Matrox G400", true), None);
    }
}
