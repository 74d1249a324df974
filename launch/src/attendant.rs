//! Attends a running loop from a thread of its own: keeps the health page, reads the temperatures, and tells systemd how it goes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{
    EngineReport, HealthFacts, HealthServer, LoopEvent, THERMAL_ZONES, ThermalWatch, VitalState, Vitals,
};

use crate::systemd::Systemd;
use crate::words::say;
use crate::{machine, places};

/// It looks at least this often whether the loop has begun or ended.
const LONGEST_LOOK: Duration = Duration::from_millis(200);
/// Shorter silences are no illness.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);

/// The handle; dropping it tells systemd that the service stops and ends page and thread.
pub(crate) struct Attendant {
    vitals: Arc<Vitals>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Attendant {
    /// Starts what the profile and the environment ask for. `health` overrides the profile's address.
    ///
    /// # Errors
    /// One line: the page's address is taken or not of this machine alone, or `NOTIFY_SOCKET` is none.
    pub(crate) fn start(
        profile: &DeviceProfile,
        engines: Vec<(String, EngineReport)>,
        health: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let systemd = Systemd::connect(&places::service())?;
        Self::attend(profile, engines, health, systemd)
    }

    fn attend(
        profile: &DeviceProfile,
        engines: Vec<(String, EngineReport)>,
        health: Option<SocketAddr>,
        systemd: Option<Systemd>,
    ) -> anyhow::Result<Self> {
        let others = profile.extra_cameras.iter().map(|extra| extra.camera.name.as_str());
        let vitals = Arc::new(Vitals::of(std::iter::once(profile.camera.name.as_str()).chain(others)));
        let patience = Duration::from_millis(10 * profile.watchdog.action_timeout_millis).max(SHORTEST_PATIENCE);
        let facts = HealthFacts {
            robot: profile.robot.clone(),
            profile: profile.name.clone(),
            git_revision: machine::GIT_REVISION.to_owned(),
            engines,
            patience,
        };
        let page = health
            .or(profile.health)
            .map(|address| HealthServer::start(address, facts, Arc::clone(&vitals)))
            .transpose()?;
        if let Some(page) = &page {
            say(&format!("health page on http://{}/healthz, /readyz, /metrics", page.address()));
        }
        let thermal = profile.thermal.map(|thermal| ThermalWatch::new(Path::new(THERMAL_ZONES), thermal));
        let poll = Duration::from_millis(profile.thermal.map_or(1000, |thermal| thermal.poll_millis));
        let (end, ended) = channel();
        let round = Round { vitals: Arc::clone(&vitals), page, thermal, poll, systemd, patience };
        let thread = std::thread::Builder::new()
            .name("foresee-attend".to_owned())
            .spawn(move || round.attend(&ended))
            .context("no thread for the health page")?;
        Ok(Self { vitals, end: Some(end), thread: Some(thread) })
    }

    /// Counts what the loop tells; waits for nobody.
    pub(crate) fn observe(&self, event: &LoopEvent<'_>) {
        match event {
            LoopEvent::Ticked { report, num_dropped, cameras, .. } => {
                self.vitals.record_cameras(cameras);
                self.vitals.record(report, *num_dropped);
            }
            _ => self.vitals.hear(),
        }
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.vitals.set_state(VitalState::Stopped);
        self.end = None;
        // The thread does not panic; if it did, there is nothing left to end.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Round {
    vitals: Arc<Vitals>,
    page: Option<HealthServer>,
    thermal: Option<ThermalWatch>,
    poll: Duration,
    systemd: Option<Systemd>,
    patience: Duration,
}

impl Round {
    fn attend(mut self, ended: &Receiver<()>) {
        let watchdog = self.systemd.as_ref().and_then(Systemd::watchdog);
        let look = watchdog.map_or(LONGEST_LOOK, |watchdog| LONGEST_LOOK.min(watchdog / 4)).min(self.poll);
        let (mut is_ready, mut looked, mut state) = (false, None::<Instant>, VitalState::Starting);
        while ended.recv_timeout(look) == Err(RecvTimeoutError::Timeout) {
            if looked.is_none_or(|looked| looked.elapsed() >= self.poll) {
                looked = Some(Instant::now());
                self.look_at_temperatures();
            }
            let Some(silence) = self.vitals.silence() else { continue };
            if !is_ready {
                is_ready = true;
                self.tell("READY=1");
            }
            // A loop that is not heard of is not spoken for: systemd then ends it and starts another.
            if silence <= self.patience {
                self.tell("WATCHDOG=1");
            }
            if self.vitals.state() != state {
                state = self.vitals.state();
                let num_ticks = self.vitals.num_ticks.load(Ordering::Relaxed);
                self.tell(&format!("STATUS={} after {num_ticks} ticks", state.name()));
            }
        }
        self.tell("STOPPING=1");
    }

    fn look_at_temperatures(&mut self) {
        let Some(thermal) = &mut self.thermal else { return };
        let zones = thermal.look();
        let was_hot = self.vitals.is_hot();
        self.vitals.set_hot(thermal.is_hot());
        if thermal.is_hot() != was_hot {
            let at_limit: Vec<String> = zones
                .iter()
                .filter_map(|zone| Some(format!("{} {:.1} of {:.1} C", zone.zone, zone.celsius, zone.limit_celsius?)))
                .collect();
            let what = if thermal.is_hot() { "the machine throttles: degraded" } else { "the machine has cooled" };
            say(&format!("{what} ({})", at_limit.join(", ")));
        }
        if let Some(page) = &self.page {
            page.set_temperatures(zones);
        }
    }

    /// A systemd that does not listen costs its own restart, not the robot's loop.
    fn tell(&self, state: &str) {
        let _ = self.systemd.as_ref().map(|systemd| systemd.tell(state));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::systemd::ServiceEnvironment;

    #[test]
    fn systemd_is_told_that_the_loop_is_ready_lives_and_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let receive = || {
            let mut buffer = [0; 256];
            let num_bytes = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..num_bytes].to_vec()).unwrap()
        };
        let environment =
            ServiceEnvironment { notify_socket: Some(path.into_os_string()), watchdog_micros: Some(40_000) };
        let systemd = Systemd::connect(&environment).unwrap();
        let profile = foresee_firmware_config::load("desktop-cpu").unwrap();
        let attendant = Attendant::attend(&profile, Vec::new(), None, systemd).unwrap();
        attendant.observe(&LoopEvent::Waiting { held: None });
        assert_eq!(receive(), "READY=1");
        assert_eq!(receive(), "WATCHDOG=1");
        assert_eq!(receive(), "WATCHDOG=1");
        attendant.vitals.set_state(VitalState::Holding);
        let mut said = receive();
        while said == "WATCHDOG=1" {
            said = receive();
        }
        assert_eq!(said, "STATUS=holding after 0 ticks");
        drop(attendant);
        while said != "STOPPING=1" {
            said = receive();
        }
    }
}
