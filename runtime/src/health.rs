//! The health page: `/healthz`, `/readyz` and Prometheus' `/metrics`, for this machine alone. It reads counters; the loop never waits for it.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::control_loop::Stage;
use crate::encoder::EngineReport;
use crate::error::RuntimeError;
use crate::safety::Hold;
use crate::stamps::stamp_fault;
use crate::thermal::ZoneTemperature;
use crate::time::{Clock, Stamp};
use crate::vitals::{CameraVitals, VITAL_EDGES_MICROS, VitalHistogram, VitalState, Vitals};

/// A request is a line and some headers; more is none of ours.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// A client has this long for its request, and for taking the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

/// What the page knows beside the counters.
#[derive(Clone, Debug, Default)]
pub struct HealthFacts {
    /// The robot's name.
    pub robot: String,
    /// The profile's name.
    pub profile: String,
    /// Revision of the code.
    pub git_revision: String,
    /// What really runs at the start, by role (`encoder`, `policy`).
    pub engines: Vec<(String, EngineReport)>,
    /// A loop that was not heard of for longer is not healthy.
    pub patience: Duration,
    /// Frames and joint states become as old as this; `None`: their stamps are of simulated time, and have no age.
    pub max_age: Option<Duration>,
}

/// The page as a thread of its own; dropping it ends it.
#[derive(Debug)]
pub struct HealthServer {
    address: SocketAddr,
    shown: Arc<Mutex<Shown>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What changes and is no counter.
#[derive(Debug)]
struct Shown {
    temperatures: Vec<ZoneTemperature>,
    engines: Vec<(String, EngineReport)>,
    outside: Vec<String>,
}

type CameraCounter = (&'static str, &'static str, fn(&CameraVitals) -> &AtomicU64);

/// What is counted of each camera.
const CAMERA_COUNTERS: [CameraCounter; 4] = [
    ("foresee_camera_frames_total", "Frames of the camera that were encoded.", |camera| &camera.num_frames),
    ("foresee_camera_passed_over_total", "Frames that another one overtook.", |camera| &camera.num_passed_over),
    ("foresee_camera_refused_total", "Ticks held because of the camera.", |camera| &camera.num_refused),
    ("foresee_camera_over_budget_total", "Ticks over the camera's budget.", |camera| &camera.num_over_budget),
];

impl HealthServer {
    /// Listens on a loopback address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`RuntimeError::End`] when the address is not of this machine alone, or is taken.
    pub fn start(address: SocketAddr, facts: HealthFacts, vitals: Arc<Vitals>) -> Result<Self, RuntimeError> {
        let fail = |problem: String| RuntimeError::End { name: format!("health page on {address}"), problem };
        if !address.ip().is_loopback() {
            return Err(fail("the page has no password; give a loopback address, such as 127.0.0.1:9464".to_owned()));
        }
        let listener = TcpListener::bind(address).map_err(|error| {
            fail(format!("{error}; is it in use? give another port in the profile's [health] listen, or with --health"))
        })?;
        let address = listener.local_addr().map_err(|error| fail(error.to_string()))?;
        let engines = facts.engines.clone();
        let shown = Arc::new(Mutex::new(Shown { temperatures: Vec::new(), engines, outside: Vec::new() }));
        let stop = Arc::new(AtomicBool::new(false));
        let page = Page { facts, vitals, shown: Arc::clone(&shown) };
        let ended = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("foresee-health".to_owned())
            .spawn(move || serve(&listener, &page, &ended))
            .map_err(|error| fail(format!("no thread: {error}")))?;
        Ok(Self { address, shown, stop, thread: Some(thread) })
    }

    /// Where the page is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the next request for metrics is told of the temperatures.
    pub fn set_temperatures(&self, temperatures: Vec<ZoneTemperature>) {
        lock(&self.shown).temperatures = temperatures;
    }

    /// The joints outside their range, in words, for the next request.
    pub fn set_outside(&self, outside: Vec<String>) {
        lock(&self.shown).outside = outside;
    }

    /// What the next request is told of what runs the models, by role: they were swapped.
    pub fn set_engines(&self, engines: Vec<(String, EngineReport)>) {
        lock(&self.shown).engines = engines;
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread; when nobody can connect any more, it is not there to be woken.
        let _ = TcpStream::connect_timeout(&self.address, CLIENT_TIMEOUT);
        // The thread does not panic; if it did, there is nothing left to end.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Page {
    facts: HealthFacts,
    vitals: Arc<Vitals>,
    shown: Arc<Mutex<Shown>>,
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client after the other: nobody can make the page take more than one thread or one request's memory.
fn serve(listener: &TcpListener, page: &Page, stop: &AtomicBool) {
    for client in listener.incoming() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        match client {
            // A client that leaves early harms itself alone.
            Ok(client) => drop(answer(client, page)),
            // Out of file descriptors, say: not a reason to spin.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn answer(mut client: TcpStream, page: &Page) -> std::io::Result<()> {
    client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let Some(request) = read_request(&mut client)? else {
        return respond(&mut client, "413 Content Too Large", "the request is too long\n", true);
    };
    let mut words = request.split(|byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let with_body = method != b"HEAD";
    if method != b"GET" && with_body {
        return respond(&mut client, "405 Method Not Allowed", "only GET and HEAD\n", true);
    }
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, body) = match path {
        b"/healthz" => verdict(page.unhealthy()),
        b"/readyz" => page.readiness(),
        b"/metrics" => ("200 OK", page.metrics()),
        _ => ("404 Not Found", "there are /healthz, /readyz and /metrics\n".to_owned()),
    };
    respond(&mut client, status, &body, with_body)
}

/// Up to the empty line; `None` when it is longer than allowed. A client that is too slow is an error.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + CLIENT_TIMEOUT;
    let (mut request, mut piece) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && !request.windows(2).any(|end| end == b"\n\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        client.set_read_timeout(Some(left))?;
        match client.read(&mut piece)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            num_bytes => request.extend_from_slice(piece.get(..num_bytes).unwrap_or_default()),
        }
        if request.len() > MAX_REQUEST_BYTES {
            return Ok(None);
        }
    }
    Ok(Some(request))
}

fn verdict(problem: Option<String>) -> (&'static str, String) {
    match problem {
        None => ("200 OK", "ok\n".to_owned()),
        Some(problem) => ("503 Service Unavailable", format!("{problem}\n")),
    }
}

fn respond(client: &mut TcpStream, status: &str, body: &str, with_body: bool) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(if with_body { body.as_bytes() } else { b"" })
}

impl Page {
    fn unhealthy(&self) -> Option<String> {
        let silence = self.vitals.silence().unwrap_or_default();
        let seconds = silence.as_secs_f64();
        (silence > self.facts.patience).then(|| format!("the loop was not heard of for {seconds:.1} s"))
    }

    fn unready(&self) -> Option<String> {
        let state = self.vitals.state();
        let is_ready = matches!(state, VitalState::Normal | VitalState::Degraded);
        let hold = self.vitals.hold().filter(|_| state == VitalState::Holding);
        let why = hold.map_or_else(String::new, |why| format!(": {}", why.words()));
        self.unhealthy().or_else(|| (!is_ready).then(|| format!("the loop is {}{why}", state.name())))
    }

    /// The verdict, and a line for each stream and each joint outside its range.
    fn readiness(&self) -> (&'static str, String) {
        let (status, mut body) = verdict(self.unready());
        for (stream, stamp) in self.streams() {
            let line = match (stamp, self.facts.max_age) {
                (None, _) => format!("{stream}: none came yet"),
                (Some(stamp), Some(max_age)) => stamp_fault(stream, stamp, Clock::Wall.now(), max_age)
                    .unwrap_or_else(|| format!("{stream}: {:.3} s old", age_seconds(stamp))),
                (Some(_), None) => continue,
            };
            let _ = writeln!(body, "{line}");
        }
        for outside in &lock(&self.shown).outside {
            let _ = writeln!(body, "{outside}: outside its range");
        }
        (status, body)
    }

    fn streams(&self) -> [(&'static str, Option<Stamp>); 2] {
        [("camera/image", self.vitals.frame_stamp()), ("joint_states", self.vitals.joints_stamp())]
    }

    fn ages(&self, text: &mut Metrics) {
        let Some(_) = self.facts.max_age else { return };
        text.head("foresee_stream_age_seconds", "gauge", "Age of the newest frame and joint state, by their stamps.");
        for (stream, stamp) in self.streams() {
            let label = labels([("stream".to_owned(), stream.to_owned())]);
            stamp.into_iter().for_each(|stamp| text.value("foresee_stream_age_seconds", &label, age_seconds(stamp)));
        }
    }

    /// Prometheus' text format, 0.0.4.
    fn metrics(&self) -> String {
        let (facts, vitals, shown) = (&self.facts, &self.vitals, lock(&self.shown));
        let mut text = Metrics::default();
        let names = [("robot", &facts.robot), ("profile", &facts.profile), ("git_revision", &facts.git_revision)];
        text.head("foresee_info", "gauge", "What runs.");
        text.value("foresee_info", &labels(names.map(|(name, value)| (name.to_owned(), value.clone()))), 1.0);
        text.head("foresee_engine_info", "gauge", "What really runs each model: provider, engine, and why.");
        for (role, report) in &shown.engines {
            text.value("foresee_engine_info", &labels(engine_labels(role, report)), 1.0);
        }
        text.head("foresee_state", "gauge", "What the loop does: 1 for the state that it is in.");
        for state in VitalState::ALL {
            let label = labels([("state".to_owned(), state.name().to_owned())]);
            text.value("foresee_state", &label, f64::from(u8::from(state == vitals.state())));
        }
        text.head("foresee_hold", "gauge", "Why the joints are held: 1 for the reason, 0 for every other.");
        for why in Hold::ALL {
            let label = labels([("reason".to_owned(), why.name().to_owned())]);
            text.value("foresee_hold", &label, f64::from(u8::from(vitals.hold() == Some(why))));
        }
        self.ages(&mut text);
        for (name, help, counter) in [
            ("foresee_ticks_total", "Frames answered.", &vitals.num_ticks),
            ("foresee_frames_dropped_total", "Frames lost before the loop.", &vitals.num_dropped),
            ("foresee_messages_unreadable_total", "Messages that could not be read.", &vitals.num_unreadable),
            ("foresee_streams_restarted_total", "Sequences that went back.", &vitals.num_restarts),
            ("foresee_stage_failures_total", "Ticks in which a stage failed.", &vitals.num_failures),
            ("foresee_commands_clamped_total", "Commands moved into the range.", &vitals.num_clamped),
            ("foresee_commands_rate_limited_total", "Commands slowed to the rate.", &vitals.num_rate_limited),
            ("foresee_commands_held_total", "Commands held.", &vitals.num_held),
        ] {
            text.head(name, "counter", help);
            text.value(name, "", AtomicU64::load(counter, Ordering::Relaxed) as f64);
        }
        for (name, help, counter) in CAMERA_COUNTERS {
            text.head(name, "counter", help);
            for camera in &vitals.cameras {
                let label = labels([("camera".to_owned(), camera.name.clone())]);
                text.value(name, &label, counter(camera).load(Ordering::Relaxed) as f64);
            }
        }
        text.head("foresee_tick_seconds", "histogram", "Frame in memory to command in memory.");
        text.histogram("foresee_tick_seconds", "", &vitals.tick);
        text.head("foresee_stage_seconds", "histogram", "The stages of a tick.");
        for (stage, histogram) in Stage::ALL.into_iter().zip(&vitals.stages) {
            text.histogram("foresee_stage_seconds", &format!("stage=\"{}\"", stage.name()), histogram);
        }
        text.head("foresee_silence_seconds", "gauge", "Since the loop was last heard of.");
        text.value("foresee_silence_seconds", "", vitals.silence().unwrap_or_default().as_secs_f64());
        text.head("foresee_uptime_seconds", "gauge", "Since the account began.");
        text.value("foresee_uptime_seconds", "", vitals.age().as_secs_f64());
        if let Some(bytes) = resident_bytes() {
            text.head("foresee_resident_bytes", "gauge", "Resident memory of the process.");
            text.value("foresee_resident_bytes", "", bytes);
        }
        text.head("foresee_throttled", "gauge", "1 while the machine is at its thermal limit.");
        text.value("foresee_throttled", "", f64::from(u8::from(vitals.is_hot())));
        text.head("foresee_temperature_celsius", "gauge", "The kernel's thermal zones.");
        for zone in &shown.temperatures {
            let label = labels([("zone".to_owned(), zone.zone.clone())]);
            text.value("foresee_temperature_celsius", &label, zone.celsius);
        }
        text.0
    }
}

/// Since the stamp, by this machine's clock; negative where it is ahead.
fn age_seconds(stamp: Stamp) -> f64 {
    let now = Clock::Wall.now();
    now.since(stamp).as_secs_f64() - stamp.since(now).as_secs_f64()
}

#[derive(Default)]
struct Metrics(String);

impl Metrics {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: f64) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &VitalHistogram) {
        let cumulative = histogram.cumulative();
        let separator = if labels.is_empty() { "" } else { "," };
        let edges = VITAL_EDGES_MICROS.map(|micros| (micros as f64 * 1e-6).to_string());
        let edges = edges.iter().map(String::as_str).chain(["+Inf"]);
        for (edge, count) in edges.zip(cumulative) {
            self.value(&format!("{name}_bucket"), &format!("{labels}{separator}le=\"{edge}\""), count as f64);
        }
        self.value(&format!("{name}_sum"), labels, histogram.sum_nanos() as f64 * 1e-9);
        self.value(&format!("{name}_count"), labels, cumulative.last().copied().unwrap_or_default() as f64);
    }
}

/// Every plain fact of a report becomes a label, one level deep: a report that grows is shown whole.
fn engine_labels(role: &str, report: &EngineReport) -> Vec<(String, String)> {
    let mut labels = vec![("role".to_owned(), role.to_owned())];
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let Ok(Value::Object(fields)) = serde_json::to_value(report) else { return labels };
    for (name, value) in fields {
        if let Some(text) = text(&value) {
            labels.push((name, text));
        } else if let Value::Object(inner) = value {
            labels.extend(
                inner.into_iter().filter_map(|(inner, value)| Some((format!("{name}_{inner}"), text(&value)?))),
            );
        }
    }
    labels
}

fn labels(pairs: impl IntoIterator<Item = (String, String)>) -> String {
    let mut written = Vec::new();
    for (name, value) in pairs {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        written.push(format!("{name}=\"{value}\""));
    }
    written.join(",")
}

/// Linux's account of this process.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?;
    Some(kibibytes.parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_loop::TickReport;
    use crate::encoder::Encoder;

    fn server(patience: Duration) -> (HealthServer, Arc<Vitals>) {
        let vitals = Arc::new(Vitals::default());
        let facts = HealthFacts { robot: "a\"rm\n".to_owned(), patience, ..HealthFacts::default() };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        (HealthServer::start(address, facts, Arc::clone(&vitals)).unwrap(), vitals)
    }

    fn ask(server: &HealthServer, request: &[u8]) -> String {
        let mut client = TcpStream::connect(server.address()).unwrap();
        // The server may close before a request that is too long has been sent whole.
        let _ = client.write_all(request);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn get(server: &HealthServer, path: &str) -> String {
        ask(server, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    #[test]
    fn a_page_tells_a_loop_that_lives_from_one_that_does_not() {
        let (server, vitals) = server(Duration::from_secs(600));
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
        let unready = get(&server, "/readyz");
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("\r\n\r\nthe loop is starting\n"), "{unready}");
        vitals.record(&TickReport::default(), 0);
        vitals.set_state(VitalState::Normal);
        assert!(get(&server, "/readyz?verbose").starts_with("HTTP/1.1 200"));
        vitals.set_state(VitalState::Holding);
        assert!(get(&server, "/readyz").contains("holding"));
        drop(server);
        let (server, vitals) = self::server(Duration::ZERO);
        vitals.record(&TickReport::default(), 0);
        let silent = get(&server, "/healthz");
        assert!(silent.starts_with("HTTP/1.1 503") && silent.contains("not heard of"), "{silent}");
    }

    #[test]
    fn metrics_are_what_was_counted() {
        let (server, vitals) = server(Duration::from_secs(600));
        for _ in 0..3 {
            vitals.record(&TickReport { stage_nanos: [150_000, 4_000_000, 0, 0], ..TickReport::default() }, 5);
        }
        vitals.num_unreadable.store(7, Ordering::Relaxed);
        vitals.set_state(VitalState::Normal);
        server.set_temperatures(vec![ZoneTemperature { zone: "cpu".to_owned(), celsius: 51.5, limit_celsius: None }]);
        let models =
            crate::swap::PairReport { encoder: crate::raw_pixels::RawPixels::new(4, 4).report().clone(), policy: None };
        server.set_engines(models.by_role());
        let page = get(&server, "/metrics");
        assert!(page.contains("foresee_engine_info{role=\"encoder\""), "{page}");
        for line in [
            "foresee_info{robot=\"a\\\"rm\\n\",profile=\"\",git_revision=\"\"} 1",
            "foresee_ticks_total 3",
            "foresee_frames_dropped_total 5",
            "foresee_messages_unreadable_total 7",
            "foresee_state{state=\"normal\"} 1",
            "foresee_tick_seconds_bucket{le=\"0.005\"} 3",
            "foresee_tick_seconds_bucket{le=\"0.002\"} 0",
            "foresee_tick_seconds_count 3",
            "foresee_stage_seconds_bucket{stage=\"encode\",le=\"+Inf\"} 3",
            "foresee_temperature_celsius{zone=\"cpu\"} 51.5",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        let body = page.split_once("\r\n\r\n").unwrap().1;
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with("foresee_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn a_request_that_is_none_is_refused_and_a_silent_client_let_go() {
        let (server, _) = server(Duration::from_secs(600));
        let silent = TcpStream::connect(server.address()).unwrap();
        for (request, expected) in [
            (b"POST /healthz HTTP/1.1\r\n\r\n".to_vec(), "405"),
            (b"GET /secrets HTTP/1.1\r\n\r\n".to_vec(), "404"),
            (b"\xff\xfe\r\n\r\n".to_vec(), "405"),
            (b"HEAD /healthz HTTP/1.1\r\n\r\n".to_vec(), "200"),
        ] {
            let answer = ask(&server, &request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{request:?}: {answer}");
        }
        let endless = [b"GET /".to_vec(), vec![b'x'; 100_000]].concat();
        let answer = ask(&server, &endless);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
        drop(silent);
        assert!(get(&server, "/healthz").contains("200"));
    }

    #[test]
    fn an_address_in_use_or_open_to_others_is_refused() {
        let (first, _) = server(Duration::from_secs(1));
        let start =
            |address| HealthServer::start(address, HealthFacts::default(), Arc::default()).unwrap_err().to_string();
        let taken = start(first.address());
        assert!(taken.contains("in use") && taken.contains(&first.address().to_string()), "{taken}");
        assert!(start("0.0.0.0:0".parse().unwrap()).contains("loopback"));
    }
}
