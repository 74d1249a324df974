//! How hot the machine is, as Linux tells it, and whether it throttles.

use std::path::{Path, PathBuf};

use foresee_firmware_config::ThermalProfile;

/// Where Linux keeps its thermal zones.
pub const THERMAL_ZONES: &str = "/sys/class/thermal";

/// One zone's temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneTemperature {
    /// The zone's type, such as `cpu-thermal`.
    pub zone: String,
    /// Degrees Celsius.
    pub celsius: f64,
    /// From here on the machine is throttled; `None`: neither the profile nor the kernel says.
    pub limit_celsius: Option<f64>,
}

/// Looks at the temperatures, and remembers for the hysteresis.
#[derive(Debug)]
pub struct ThermalWatch {
    folder: PathBuf,
    profile: ThermalProfile,
    is_hot: bool,
}

impl ThermalWatch {
    /// A watch over the zones in `folder` ([`THERMAL_ZONES`]).
    pub fn new(folder: &Path, profile: ThermalProfile) -> Self {
        Self { folder: folder.to_owned(), profile, is_hot: false }
    }

    /// Reads every zone; empty where the system has none that can be read.
    pub fn look(&mut self) -> Vec<ZoneTemperature> {
        let folders = std::fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let mut zones: Vec<_> = folders.filter_map(|folder| self.zone(&folder.path())).collect();
        zones.sort_by(|a, b| a.zone.cmp(&b.zone));
        let margin = if self.is_hot { self.profile.hysteresis_celsius } else { 0.0 };
        self.is_hot = zones.iter().any(|zone| zone.limit_celsius.is_some_and(|limit| zone.celsius >= limit - margin));
        zones
    }

    /// Whether some zone was at its limit at the last look, and has not cooled by the hysteresis since.
    pub fn is_hot(&self) -> bool {
        self.is_hot
    }

    fn zone(&self, folder: &Path) -> Option<ZoneTemperature> {
        folder.file_name()?.to_str()?.strip_prefix("thermal_zone")?;
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned());
        let celsius = |name: &str| Some(text(name)?.parse::<f64>().ok()? / 1000.0);
        let zone = ZoneTemperature {
            zone: text("type").unwrap_or_default(),
            celsius: celsius("temp")?,
            limit_celsius: self.profile.degraded_above_celsius.or_else(|| {
                let passive =
                    (0..16).filter(|trip| text(&format!("trip_point_{trip}_type")).as_deref() == Some("passive"));
                let limits = passive.filter_map(|trip| celsius(&format!("trip_point_{trip}_temp")));
                // Disabled points are written as 0 or below.
                limits.filter(|limit| *limit > 0.0).reduce(f64::min)
            }),
        };
        Some(zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, zone: &str, files: &[(&str, &str)]) {
        let folder = folder.join(zone);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn the_kernels_throttling_point_counts_with_hysteresis() {
        let folder = tempfile::tempdir().unwrap();
        let trips = [
            ("type", "cpu-thermal"),
            ("temp", "70000"),
            ("trip_point_0_type", "critical"),
            ("trip_point_0_temp", "60000"),
            ("trip_point_1_type", "passive"),
            ("trip_point_1_temp", "99000"),
            ("trip_point_2_type", "passive"),
            ("trip_point_2_temp", "-1"),
        ];
        write(folder.path(), "thermal_zone0", &trips);
        write(folder.path(), "thermal_zone1", &[("type", "battery"), ("temp", "200000")]);
        write(folder.path(), "cooling_device0", &[("type", "fan"), ("temp", "1")]);
        let profile = ThermalProfile { degraded_above_celsius: None, hysteresis_celsius: 3.0, poll_millis: 1000 };
        let mut watch = ThermalWatch::new(folder.path(), profile);
        let zones = watch.look();
        assert_eq!(zones.len(), 2);
        assert_eq!(
            (zones[1].zone.as_str(), zones[1].celsius, zones[1].limit_celsius),
            ("cpu-thermal", 70.0, Some(99.0))
        );
        for (millis, is_hot) in [("98900", false), ("99000", true), ("96100", true), ("95900", false), ("98000", false)]
        {
            write(folder.path(), "thermal_zone0", &[("temp", millis)]);
            watch.look();
            assert_eq!(watch.is_hot(), is_hot, "{millis}");
        }
    }

    #[test]
    fn the_profiles_temperature_comes_first_and_no_zones_are_no_heat() {
        let folder = tempfile::tempdir().unwrap();
        let profile = ThermalProfile { degraded_above_celsius: Some(60.0), hysteresis_celsius: 3.0, poll_millis: 1000 };
        let mut watch = ThermalWatch::new(&folder.path().join("nowhere"), profile);
        assert_eq!((watch.look(), watch.is_hot()), (Vec::new(), false));
        write(folder.path(), "thermal_zone0", &[("type", "soc"), ("temp", "61000")]);
        let mut watch = ThermalWatch::new(folder.path(), profile);
        watch.look();
        assert!(watch.is_hot());
    }
}
